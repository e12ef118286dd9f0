"""Frames as pictures for eyes: windowed, 8 bits, JPEG or PNG (PS3.18 8.3.5)."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut

from radlake.pixels.frames import Array, NotDecodable
from radlake.pixels.pictures import picture_of
from radlake.web.dicomweb.catalogue import Instance
from radlake.web.dicomweb.frames import frames_of, stored_frame
from radlake.web.dicomweb.metadata import head_of
from radlake.web.dicomweb.pixels import Pixels
from radlake.web.dicomweb.refusals import BadRequest, NotAcceptable
from radlake.web.dicomweb.transcode import DECODING, UNDECODABLE, decoded_frame, has_codec, is_frame_decodable

__all__ = ["PICTURES", "Look", "can_be_shown", "look_from_query", "picture", "pictures"]

PICTURES = {"image/jpeg": "JPEG", "image/png": "PNG"}
_NUMBER = r"-?\d{1,9}(?:\.\d{1,6})?"
_WINDOW = re.compile(rf"({_NUMBER}),({_NUMBER})(?:,(linear|linear-exact|sigmoid))?")
_VIEWPORT = re.compile(r"(\d{1,5}),(\d{1,5})(?:,(\d{0,5}),(\d{0,5}),(\d{0,5}),(\d{0,5}))?")
_MOST_PIXELS = 8192
_MOST_ENLARGED = 2048  # pixels a side; a viewer enlarges by itself
_FUNCTIONS = {"LINEAR_EXACT": "linear-exact", "SIGMOID": "sigmoid"}


@dataclass(frozen=True)
class Look:
    """How a picture shall look.

    Attributes
    ----------
    window : (centre, width, function) or None
        In units after the modality LUT; None for what the header says.
    viewport : tuple of int or None
        Width and height that it must fit in.
    region : (left, top, width, height) or None
        Pixels of the source; 0 of a width or height for all the rest.
    """

    window: tuple[float, float, str] | None = None
    viewport: tuple[int, int] | None = None
    region: tuple[int, int, int, int] | None = None
    quality: int = 90


def look_from_query(given: Mapping[str, str]) -> Look:
    """Read window, viewport and quality.

    Raises
    ------
    BadRequest
    """
    window = viewport = region = None
    if told := given.get("window"):
        found = _WINDOW.fullmatch(told)
        if not found or float(found[2]) <= 0:
            raise BadRequest("window: give centre,width,function with linear, linear-exact or sigmoid")
        window = (float(found[1]), float(found[2]), found[3] or "linear")
    if told := given.get("viewport"):
        found = _VIEWPORT.fullmatch(told)
        if not found or not all(0 < int(found[n]) <= _MOST_PIXELS for n in (1, 2)):
            raise BadRequest(f"viewport: give width,height or width,height,x,y,width,height up to {_MOST_PIXELS}")
        viewport = (int(found[1]), int(found[2]))
        if found[3] is not None:
            left, top, width, height = (int(found[n] or 0) for n in (3, 4, 5, 6))
            region = (left, top, width, height)
    quality = given.get("quality", "90")
    if not re.fullmatch(r"[0-9]{1,3}", quality) or not 1 <= int(quality) <= 100:
        raise BadRequest("quality: give a number from 1 to 100")
    return Look(window, viewport, region, int(quality))


def can_be_shown(instance: Instance) -> bool:
    """Whether there is a codec for its frames, and one is not too large; what its bytes are is only known by trying."""
    return has_codec(instance.syntax) and is_frame_decodable(instance)


def pictures(instances: Sequence[Instance], show: Callable[[Instance, int], bytes]) -> Iterator[bytes]:
    """Every frame that can be shown: a damaged one does not keep the others from being seen.

    Raises
    ------
    NotAcceptable
        If none can.
    """
    refused, n_shown = NotAcceptable(UNDECODABLE), 0
    for instance in instances:
        for number in frames_of(instance):
            try:
                yield show(instance, number)
                n_shown += 1
            except NotAcceptable as exc:
                refused = exc
    if not n_shown:
        raise refused


def picture(pixels: Pixels, instance: Instance, number: int, *, look: Look, media_type: str) -> bytes:
    """One frame as a file of that media type; few at once.

    Raises
    ------
    NotAcceptable
        If the pixels cannot be decoded.
    """
    if not is_frame_decodable(instance):
        raise NotAcceptable("This image is too large to be shown. Ask for it as it is stored: transfer-syntax=*.")
    with DECODING:
        return _picture(pixels, instance, number, look=look, media_type=media_type)


def _picture(pixels: Pixels, instance: Instance, number: int, *, look: Look, media_type: str) -> bytes:
    from PIL import Image

    head = head_of(pixels, instance)
    values, layout = decoded_frame(head, stored_frame(pixels, instance, number), instance)
    window = look.window or _window_of(head)
    if layout.photometric in ("MONOCHROME1", "MONOCHROME2") and window:
        grey = _windowed(apply_modality_lut(values, head), *window)
        shown = Image.fromarray(255 - grey if layout.photometric == "MONOCHROME1" else grey)
    else:
        try:
            shown = Image.fromarray(picture_of(values, layout, head))
        except NotDecodable as exc:
            raise NotAcceptable("This image cannot be shown: its palette cannot be read.") from exc
    if look.region:
        left, top, width, height = look.region
        right = min(left + width if width else shown.width, shown.width)
        bottom = min(top + height if height else shown.height, shown.height)
        if left >= right or top >= bottom:
            raise BadRequest(f"viewport: the region is outside of {shown.width} x {shown.height} pixels")
        shown = shown.crop((left, top, right, bottom))
    if look.viewport:
        scale = min(look.viewport[0] / shown.width, look.viewport[1] / shown.height)
        scale = min(scale, max(1.0, _MOST_ENLARGED / max(shown.size)))
        size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
        shown = shown.resize(size, Image.Resampling.BILINEAR)
    out = io.BytesIO()
    shown.save(out, PICTURES[media_type], **({"quality": look.quality} if media_type == "image/jpeg" else {}))
    return out.getvalue()


def _window_of(head: Dataset) -> tuple[float, float, str] | None:
    """The first window of the header."""
    centre, width = (_first(head.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None or width <= 0:
        return None
    return centre, width, _FUNCTIONS.get(str(head.get("VOILUTFunction", "")), "linear")


def _first(value: Any) -> float | None:
    values = np.atleast_1d(np.array(value if value not in (None, "") else [], dtype=float))
    return float(values[0]) if values.size else None


def _windowed(values: Array, centre: float, width: float, function: str) -> Array:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, to 0..255."""
    values = values.astype(np.float32)
    if function == "sigmoid":
        shown = 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -80, 80)))
    elif function == "linear-exact":
        shown = (values - centre) / width + 0.5
    else:
        shown = (values - (centre - 0.5)) / max(width - 1, 1e-6) + 0.5
    return np.clip(np.rint(shown * 255), 0, 255).astype(np.uint8)
