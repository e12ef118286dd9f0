"""Pictures of an image for eyes and for the text detector: 8 bits, red, green and blue.

A picture is windowed and never stored. Of a cine loop it is composites, where what stands still shows, and some frames.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from pydicom import Dataset

from radlake.pixels.frames import Array, Layout, NotDecodable, layout_of, read_frames
from radlake.pixels.regions import Region, regions_of_frame

__all__ = ["Look", "Looks", "darkest_entry", "picture_of", "preview_png"]

_LUT_DESCRIPTORS, _LUT_DATA = (0x00281101, 0x00281102, 0x00281103), (0x00281201, 0x00281202, 0x00281203)
_PERCENTILES = (0.5, 99.5)
_WIDER = 1.3  # the full range is looked at too when it is that much wider than the usual window
_MARK = (255, 64, 64)
_MAX_PREVIEW = 4096


def preview_png(ds: Dataset, frame: int = 1, *, regions: Iterable[Region] = ()) -> bytes:
    """A PNG of one frame (counted from 1), windowed, with the outlines of regions.

    Raises
    ------
    NotDecodable
        Also when there is no such frame.
    """
    from PIL import Image, ImageDraw

    layout, frames = read_frames(ds, layout_of(ds))
    for number, values in enumerate(frames, start=1):
        if number == frame:
            picture = Image.fromarray(picture_of(values, layout, ds))
            draw = ImageDraw.Draw(picture)
            for region in regions_of_frame(regions, frame, rows=layout.rows, columns=layout.columns):
                draw.rectangle((region.left, region.top, region.right - 1, region.bottom - 1), outline=_MARK)
            picture.thumbnail((_MAX_PREVIEW, _MAX_PREVIEW))
            out = io.BytesIO()
            picture.save(out, "PNG")
            return out.getvalue()
    raise NotDecodable("there is no such frame")


def picture_of(values: Array, layout: Layout, ds: Dataset) -> Array:
    """A frame as it looks, (rows, columns, 3); grey values between their usual extremes, as MONOCHROME1 says."""
    if layout.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return _coloured(values, layout, ds)
    grey = _windowed(values, *np.percentile(values, _PERCENTILES))
    return _rgb(255 - grey if layout.photometric == "MONOCHROME1" else grey)


class Look(NamedTuple):
    """A picture for the detector, to paint on; in a faint one much looks like writing, and only what can be read is."""

    picture: Array
    is_faint: bool = False


class Looks:
    """Gathers what the text detector must see of an image, one frame at a time, in bounded memory.

    Parameters
    ----------
    is_cine : bool
        Frames show one scene: composites and three frames are enough. Otherwise every frame is a picture.
    """

    def __init__(self, layout: Layout, ds: Dataset, *, is_cine: bool) -> None:
        self._layout = layout
        self._ds = ds
        self._is_cine = is_cine and layout.frames > 3
        self._lowest: Array | None = None
        self._highest: Array | None = None
        self._chosen = {1, (layout.frames + 1) // 2, layout.frames}

    def of_frame(self, number: int, values: Array) -> Iterator[Look]:
        """Pictures of a frame that must be looked at now; none of most frames of a loop."""
        if self._layout.photometric not in ("MONOCHROME1", "MONOCHROME2"):
            values = _coloured(values, self._layout, self._ds)
        if self._is_cine:
            self._lowest = values.copy() if self._lowest is None else np.minimum(self._lowest, values)
            self._highest = values.copy() if self._highest is None else np.maximum(self._highest, values)
        if not self._is_cine:
            yield from self._pictures(values)
        elif number in self._chosen:
            yield next(iter(self._pictures(values)))

    def of_all(self) -> Iterator[Look]:
        """Composites of the frames that were seen."""
        for composite in (self._lowest, self._highest):
            if composite is not None:
                yield from self._pictures(composite)

    def _pictures(self, values: Array) -> Iterator[Look]:
        """In its usual window first; in its full range when that is much wider; with faint edges brought out."""
        if values.ndim == 3:
            yield Look(values.copy())
            grey = values.mean(axis=2, dtype=np.float32).astype(np.uint8)
            yield Look(_rgb(_edges(grey)), is_faint=True)
            return
        low, high = (float(edge) for edge in np.percentile(values, _PERCENTILES))
        least, most = float(values.min()), float(values.max())
        grey = _windowed(values, low, high) if high > low else _windowed(values, least, most)
        yield Look(_rgb(grey))
        if high > low and most - least > (high - low) * _WIDER:
            yield Look(_rgb(_windowed(values, least, most)))
        yield Look(_rgb(_edges(grey)), is_faint=True)


def _coloured(values: Array, layout: Layout, ds: Dataset) -> Array:
    """Colours of a frame, 8 bits each."""
    if layout.photometric == "PALETTE COLOR":
        return _palette(ds)[np.clip(values.astype(np.int64) - _first_entry(ds), 0, len(_palette(ds)) - 1)]
    if layout.bits_stored > 8:
        values = values >> (layout.bits_stored - 8)
    values = values.astype(np.uint8)
    if layout.photometric.startswith("YBR_FULL"):
        from pydicom.pixels.processing import convert_color_space

        return convert_color_space(values, "YBR_FULL", "RGB")
    return values if values.ndim == 3 else _rgb(values)


def darkest_entry(ds: Dataset) -> int:
    """The stored value that a palette shows darkest."""
    return _first_entry(ds) + int(_palette(ds).astype(int).sum(axis=1).argmin())


def _first_entry(ds: Dataset) -> int:
    return int(ds[_LUT_DESCRIPTORS[0]].value[1])


def _palette(ds: Dataset) -> Array:
    """Colours by index (PS3.3 C.7.6.3.1.5), (entries, 3)."""
    colours: list[Any] = []
    for descriptor, data in zip(_LUT_DESCRIPTORS, _LUT_DATA, strict=True):
        if descriptor not in ds or data not in ds:
            raise NotDecodable("the palette is not explicit")
        entries, _, bits = (int(part) for part in ds[descriptor].value)
        raw = ds[data].value
        raw = raw if isinstance(raw, bytes) else np.atleast_1d(raw).astype("<u2").tobytes()
        entries = entries or 1 << 16
        values = np.frombuffer(raw, np.uint8 if bits == 8 and len(raw) < 2 * entries else "<u2")[:entries]
        if len(values) < entries:
            raise NotDecodable("the palette is too short")
        colours.append(values >> 8 if values.max() > 255 else values)
    return np.stack(colours, axis=-1).astype(np.uint8)


def _windowed(values: Array, low: float, high: float) -> Array:
    scaled = values.astype(np.float32)  # and in place from here on: a radiograph is 16 MB of it
    scaled -= low
    scaled *= 255.0 / max(high - low, 1.0)
    return scaled.clip(0, 255, out=scaled).astype(np.uint8)


def _edges(grey: Array) -> Array:
    """What differs from its surroundings, six times as much: writing that an eye can barely see."""
    import cv2

    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    edges = smooth.astype(np.int16)
    edges -= cv2.blur(grey, (41, 41))
    edges *= 6
    edges += 128
    return edges.clip(0, 255, out=edges).astype(np.uint8)


def _rgb(grey: Array) -> Array:
    return np.repeat(grey[..., None], 3, axis=2)
