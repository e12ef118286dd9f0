"""Clean Pixel Data (PS3.15 E.3.1): find what is written in the pixels, black it out in every frame, leave the rest.

Outside of the mask the stored values stay as they are. Whatever cannot be done ends with `NeedsPerson`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.encaps import parse_fragments
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from radlake.dicom.values import number, texts
from radlake.pixels.frames import Array, Layout, NotDecodable, encode_frames, layout_of, read_frames, syntax_of
from radlake.pixels.judge import has_embedded_overlay, load_risk_rules
from radlake.pixels.pictures import Look, Looks, darkest_entry
from radlake.pixels.regions import DecisionKind, PixelDecision, Region, regions_of_frame
from radlake.pixels.rules import known_mask
from radlake.pixels.text import DetectorMissing, find_text

__all__ = ["Cleaned", "NeedsPerson", "clean_pixels", "propose_regions"]

_SOP_CLASS, _MODALITY = 0x00080016, 0x00080060
_PHOTOMETRIC, _PLANAR, _HIGH_BIT = 0x00280004, 0x00280006, 0x00280102
_BURNED_IN, _LOSSY, _LOSSY_RATIO, _LOSSY_METHOD = 0x00280301, 0x00282110, 0x00282112, 0x00282114
_PIXEL_DATA, _OFFSETS = 0x7FE00010, (0x7FE00001, 0x7FE00002)
_OVERLAY_BIT = 0x60000102
_METHODS = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
}
_ROUNDS = 3  # of detection, masking and looking again

Masks = Callable[[int], Array | None]  # by frame number: the pixels that go


class NeedsPerson(Exception):
    """What was found cannot be cleaned without a person; the text names the cause, never a value."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What changes in the data set.

    Attributes
    ----------
    elements : mapping of tag to (VR, value) or None
        None takes the attribute out.
    syntax : str
        Transfer syntax UID of the pixels as they are now.
    n_masked : int
        Pixels of a frame that were blackened, of the frame with most of them.
    """

    elements: Mapping[int, tuple[str, bytes] | None]
    syntax: str
    n_masked: int = 0


def clean_pixels(ds: Dataset, *, decision: PixelDecision | None = None) -> Cleaned:
    """Look for text and mask it, or do what a person decided (accept or mask); embedded overlays go in any case.

    Raises
    ------
    NeedsPerson
        The pixels cannot be decoded, the text detector is missing, there is too much text or some stays.
    """
    if decision is not None and decision.kind is DecisionKind.ACCEPT and not has_embedded_overlay(ds):
        return Cleaned({_BURNED_IN: ("CS", b"NO")}, syntax_of(ds))
    try:
        layout = layout_of(ds)
        overlay_bits = _overlay_bits(ds, layout)
        if decision is None:
            found = _text_mask(ds, layout)
            masks: Masks = lambda _: found if found.any() else None  # noqa: E731
        else:
            masks = _decided_masks(decision, layout)
        is_masked = any(masks(frame) is not None for frame in range(1, layout.frames + 1))
        if not (is_masked or overlay_bits or _has_more(ds, layout)):
            return Cleaned({_BURNED_IN: ("CS", b"NO")}, layout.syntax)
        return _masked(ds, layout, masks, overlay_bits)
    except NotDecodable as exc:
        raise NeedsPerson(str(exc)) from None
    except DetectorMissing as exc:
        raise NeedsPerson(f"the text detector does not start ({exc})") from None


def propose_regions(ds: Dataset) -> tuple[Region, ...]:
    """Regions of text in all frames, for a person to start from; empty when nothing can be found or decoded."""
    try:
        layout = layout_of(ds)
        _, regions = _found_text(ds, layout, known_mask(ds, layout))
    except (NotDecodable, NeedsPerson, DetectorMissing):
        return ()
    return tuple(sorted(regions))


def _text_mask(ds: Dataset, layout: Layout) -> Array:
    """The pixels that go in every frame: what is known to hold names, and what text was found."""
    limits = load_risk_rules()["limits"]
    known = known_mask(ds, layout)
    found, regions = _found_text(ds, layout, known)
    if len(regions) > limits["most_lines"] or found.mean() > limits["most_text_share"]:
        raise NeedsPerson("too much text for a picture")
    return known | found


def _found_text(ds: Dataset, layout: Layout, known: Array) -> tuple[Array, set[Region]]:
    """Text outside of the mask that is known: as pixels, and as regions."""
    rules = load_risk_rules()
    is_cine = "".join(texts(ds, _SOP_CLASS)) not in rules["page_classes"]
    safe = rules["safe_markers"] if "".join(texts(ds, _MODALITY)) in rules["marker_modalities"] else frozenset()
    mask = np.zeros_like(known)
    regions: set[Region] = set()

    def search(looks: Iterator[Look]) -> None:
        for look in looks:
            picture = look.picture  # a patch with edges of its own would look like writing: it gets the usual colour
            plain = [np.median(picture[..., colour]) for colour in range(3)]
            picture[known | mask] = plain
            for _ in range(_ROUNDS):
                lines = find_text(picture, safe=safe, must_be_read=look.is_faint)
                if not lines:
                    break
                regions.update(lines)
                for line in lines:
                    mask[line.top : line.bottom, line.left : line.right] = True
                picture[mask] = plain
            else:
                if find_text(picture, safe=safe, must_be_read=look.is_faint):
                    raise NeedsPerson("text is still found after masking")

    decoded, frames = read_frames(ds, layout)
    looked_at = Looks(decoded, ds, is_cine=is_cine)
    for number_of_frame, values in enumerate(frames, start=1):
        search(looked_at.of_frame(number_of_frame, values))
    search(looked_at.of_all())
    return mask, regions


def _decided_masks(decision: PixelDecision, layout: Layout) -> Masks:
    def mask_of(frame: int) -> Array | None:
        regions = regions_of_frame(decision.regions, frame, rows=layout.rows, columns=layout.columns)
        if not regions:
            return None
        mask = np.zeros((layout.rows, layout.columns), bool)
        for region in regions:
            mask[region.top : region.bottom, region.left : region.right] = True
        return mask

    return mask_of


def _masked(ds: Dataset, layout: Layout, masks: Masks, overlay_bits: int) -> Cleaned:
    """Pixel Data with black in place of the masks, and the attributes that tell how it is stored now."""
    decoded, _ = read_frames(ds, layout)
    n_masked = 0

    def frames() -> Iterator[Array]:
        nonlocal n_masked
        black: Any = None
        for frame, values in enumerate(read_frames(ds, layout)[1], start=1):
            if overlay_bits:
                values &= values.dtype.type(np.array(~overlay_bits).astype(values.dtype))
            black = _black(values, decoded, ds) if black is None else black
            mask = masks(frame)
            if mask is not None:
                if decoded.is_subsampled:  # two pixels share their colour
                    mask = np.repeat(mask.reshape(layout.rows, -1, 2).any(axis=2), 2, axis=1)
                n_masked = max(n_masked, int(mask.sum()))
                values[mask] = black
            yield values

    encoded = encode_frames(frames, decoded)
    now = encoded.layout
    elements: dict[int, tuple[str, bytes] | None] = {
        _BURNED_IN: ("CS", b"NO"),
        _PHOTOMETRIC: ("CS", now.photometric.encode()),
        _PIXEL_DATA: ("OW" if now.is_native and now.bits_allocated > 8 else "OB", encoded.data),
        **dict.fromkeys(_OFFSETS),
    }
    if now.samples > 1:
        elements[_PLANAR] = ("US", int(now.is_planar).to_bytes(2, "little"))
    if not layout.is_native:
        elements[_HIGH_BIT] = ("US", (now.bits_stored - 1).to_bytes(2, "little"))
        elements |= _lossy_elements(ds, layout)
    return Cleaned(elements, now.syntax, n_masked)


def _lossy_elements(ds: Dataset, layout: Layout) -> dict[int, tuple[str, bytes] | None]:
    """Lossy Image Compression, once lost always lost (PS3.3 C.7.6.1.1.5); what the header tells already stays."""
    method = _METHODS.get(layout.syntax)  # pyright: ignore[reportCallIssue, reportArgumentType]
    if method is None or "".join(texts(ds, _LOSSY)) == "01":
        return {}
    ratio = layout.frame_bits * layout.frames / 8 / max(1, len(ds[_PIXEL_DATA].value))
    return {
        _LOSSY: ("CS", b"01"),
        _LOSSY_RATIO: ("DS", f"{ratio:.2f}".encode()),
        _LOSSY_METHOD: ("CS", method.encode()),
    }


def _black(values: Array, layout: Layout, ds: Dataset) -> Any:
    """The stored value, or values of the samples, that looks black."""
    if layout.photometric == "MONOCHROME2":
        return values.min()
    if layout.photometric == "MONOCHROME1":
        return values.max()
    if layout.photometric == "PALETTE COLOR":
        return darkest_entry(ds)
    if layout.photometric.startswith("YBR_FULL"):
        grey = 1 << (layout.bits_stored - 1)
        return np.array([0, grey, grey], values.dtype)
    return 0


def _overlay_bits(ds: Dataset, layout: Layout) -> int:
    """Bits of each pixel that are an overlay (PS3.5 8.1.2, retired)."""
    bits = 0
    for group in range(16):
        tag = _OVERLAY_BIT + (group << 17)
        try:
            position = (number(ds, tag) or 0) if tag in ds else 0
            high = number(ds, _HIGH_BIT)
        except ValueError:
            raise NotDecodable("the position of an overlay is not a number") from None
        if position:
            high = layout.bits_stored - 1 if high is None else high
            if high - layout.bits_stored < position <= high or position >= layout.bits_allocated:
                raise NotDecodable("an overlay lies within the bits of the pixels")
            bits |= 1 << position
    return bits


def _has_more(ds: Dataset, layout: Layout) -> bool:
    """Whether there are pixels beyond the frames, which nobody has looked at."""
    data = ds[_PIXEL_DATA].value
    if layout.is_native:
        n_bytes = (layout.frame_bits * layout.frames + 7) // 8
        return len(data) > n_bytes + n_bytes % 2
    n_fragments, _ = parse_fragments(bytes(data))
    return n_fragments - 1 > layout.frames  # the first is the offset table
