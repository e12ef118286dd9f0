"""Pixels of synthetic images: ellipses in the place of organs, noise, and text burned in where machines burn it in.

Everything is integer arithmetic on a noise that SHAKE-256 spells out, so that the same text gives the same pixels
with every version of numpy.
"""

from __future__ import annotations

import functools
import hashlib
import math
import zlib

import numpy as np
import numpy.typing as npt

__all__ = ["SIDE", "pixels_8bit", "pixels_12bit"]

SIDE = 96

# Ellipses as centre x, y, half axes (parts of the side) and value (parts of white), painted in order.
_BODY = (0.5, 0.5, 0.44, 0.34, 0.26)
_SPINE = (0.5, 0.72, 0.06, 0.07, 0.5)
_ORGANS: dict[str, tuple[tuple[float, float, float, float, float], ...]] = {
    "CHEST": (
        _BODY,
        (0.32, 0.47, 0.14, 0.22, 0.05),
        (0.68, 0.47, 0.14, 0.22, 0.05),
        (0.54, 0.5, 0.1, 0.1, 0.28),
        _SPINE,
    ),
    "ABDOMEN": (_BODY, (0.36, 0.44, 0.18, 0.15, 0.3), (0.66, 0.42, 0.09, 0.1, 0.29), _SPINE),
    "HEAD": ((0.5, 0.5, 0.34, 0.42, 0.55), (0.5, 0.5, 0.3, 0.38, 0.27), (0.5, 0.48, 0.06, 0.12, 0.24)),
    "BREAST": ((0.1, 0.5, 0.6, 0.4, 0.2), (0.25, 0.5, 0.3, 0.22, 0.4)),
    "PELVIS": (_BODY, (0.3, 0.55, 0.12, 0.16, 0.5), (0.7, 0.55, 0.12, 0.16, 0.5), _SPINE),
    "LSPINE": (_BODY, (0.5, 0.35, 0.1, 0.12, 0.6), (0.5, 0.6, 0.1, 0.12, 0.6)),
}
_LIMB = ((0.5, 0.5, 0.22, 0.46, 0.25), (0.5, 0.25, 0.1, 0.22, 0.6), (0.5, 0.75, 0.09, 0.2, 0.58))

# 3 x 6 dots of the digits, row by row.
_DIGITS = ("755557", "262227", "717477", "717117", "557111", "747117", "747557", "711111", "757557", "757117")


@functools.cache
def _noise() -> npt.NDArray[np.uint8]:
    return np.frombuffer(hashlib.shake_256(b"radlake phantom").digest(1 << 20), np.uint8)


@functools.cache
def _anatomy(body_part: str, height: int) -> npt.NDArray[np.uint16]:
    """12-bit picture of a body part; `height` in -8..8 moves through it."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    picture = np.zeros((SIDE, SIDE))
    for x, y, half_x, half_y, value in _ORGANS.get(body_part, _LIMB):
        shrink = 1 - abs(height) / 24
        picture[((columns - x) / (half_x * shrink)) ** 2 + ((rows - y) / (half_y * shrink)) ** 2 <= 1] = value
    return (picture * 4000).astype(np.uint16)


def pixels_12bit(body_part: str, *, position: float, text: str) -> bytes:
    """Little-endian 16-bit pixels; `text` makes them unlike those of any other instance."""
    where = zlib.crc32(text.encode())
    noise, size = _noise(), SIDE * SIDE
    first, second = where % (len(noise) - size), (where >> 12) % (len(noise) - size)
    grain = noise[first : first + size].astype(np.uint16) + noise[second : second + size]
    picture = _anatomy(body_part, round(8 * math.sin(position))).ravel() + (grain >> 3)
    return picture.astype("<u2").tobytes()


def pixels_8bit(body_part: str, *, position: float, text: str, burned_in: str) -> bytes:
    """8-bit pixels with the digits of `burned_in` across the top, as an ultrasound machine prints them."""
    wide = np.frombuffer(pixels_12bit(body_part, position=position, text=text), "<u2").reshape(SIDE, SIDE)
    picture = (wide >> 4).astype(np.uint8)
    for place, digit in enumerate(filter(str.isdigit, burned_in)):
        dots = np.array([[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in _DIGITS[int(digit)]], np.uint8)
        left = 2 + place * 8
        if left + 6 <= SIDE:
            picture[2:14, left : left + 6] = np.kron(dots, np.full((2, 2), 255, np.uint8))
    return picture.tobytes()
