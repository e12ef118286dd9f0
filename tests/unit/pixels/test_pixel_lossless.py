"""Single frames: what a codec takes comes back bit by bit, and what it cannot keep it does not take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from radlake.pixels.lossless import CODECS, PixelFormat, decode_frame, encode_frame

BASE = PixelFormat(
    rows=41, columns=37, samples=1, bits_allocated=16, bits_stored=12, high_bit=11,
    is_signed=False, photometric="MONOCHROME2", is_by_plane=False,
)  # fmt: skip


def form(bits_allocated: int, bits_stored: int, *, signed: bool = False, photometric: str = "MONOCHROME2",
         by_plane: bool = False) -> PixelFormat:  # fmt: skip
    samples = 3 if photometric in ("RGB", "YBR_FULL") else 1
    return replace(
        BASE, bits_allocated=bits_allocated, bits_stored=bits_stored, high_bit=bits_stored - 1, is_signed=signed,
        photometric=photometric, samples=samples, is_by_plane=by_plane,
    )  # fmt: skip


FORMS = {
    "16 of 16": form(16, 16),
    "16 of 16 signed": form(16, 16, signed=True),
    "12 of 16": form(16, 12),
    "12 of 16 signed": form(16, 12, signed=True),
    "9 of 16 inverted": form(16, 9, photometric="MONOCHROME1"),
    "8": form(8, 8),
    "8 signed": form(8, 8, signed=True),
    "7 of 8": form(8, 7),
    "palette": form(8, 8, photometric="PALETTE COLOR"),
    "rgb": form(8, 8, photometric="RGB"),
    "rgb by plane": form(8, 8, photometric="RGB", by_plane=True),
    "rgb 10 of 16": form(16, 10, photometric="RGB"),
    "ybr full": form(8, 8, photometric="YBR_FULL"),
}


def frame_of(form: PixelFormat) -> bytes:
    """A picture with a slope, noise, and both ends of the range."""
    rng = np.random.default_rng(7)
    slope = np.add.outer(np.arange(form.rows), np.arange(form.columns))[..., None] * np.arange(1, form.samples + 1)
    values = (slope * 5 + rng.integers(0, 9, slope.shape)) % (1 << form.bits_stored)
    values.flat[:2] = 0, (1 << form.bits_stored) - 1
    if form.is_signed:
        values = values - (1 << (form.bits_stored - 1))
    array = values.astype(f"<{'i' if form.is_signed else 'u'}{form.bits_allocated // 8}")
    return form.frame(array if form.samples > 1 else array[..., 0])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", FORMS)
def test_a_frame_comes_back_as_it_was(name: str, codec: str):
    wanted = FORMS[name]
    chosen = CODECS[codec]
    reason = chosen.reason_against(wanted)
    if reason:
        assert (codec, reason) in {("jpegls", "signed"), ("jxl", "signed"), ("jxl", "photometric_interpretation")}
        return
    frame = frame_of(wanted)
    stream = encode_frame(frame, form=wanted, codec=chosen)
    assert stream is not None
    assert decode_frame(stream, form=wanted, codec=chosen) == frame


@pytest.mark.parametrize("signed", [False, True])
def test_htj2k_tells_the_precision_and_sign_of_bits_stored(signed: bool):
    stream = encode_frame(
        frame_of(form(16, 12, signed=signed)), form=form(16, 12, signed=signed), codec=CODECS["htj2k"]
    )
    assert stream is not None
    assert stream[42] == (11 | (0x80 if signed else 0)), "Ssiz, ISO/IEC 15444-1 A.5.1"


@pytest.mark.parametrize("codec", ["htj2k", "jpegls", "j2k", "jxl"])
def test_bits_above_bits_stored_are_not_taken(codec: str):
    values = np.frombuffer(frame_of(BASE), "<u2").copy()
    values[100] |= 0x1000  # an overlay in the unused bits
    assert encode_frame(values.tobytes(), form=BASE, codec=CODECS[codec]) is None


def test_rle_packs_bytes_and_keeps_bits_above_bits_stored():
    values = np.frombuffer(frame_of(BASE), "<u2").copy()
    values[100] |= 0xF000
    stream = encode_frame(values.tobytes(), form=BASE, codec=CODECS["rle"])
    assert stream is not None
    assert decode_frame(stream, form=BASE, codec=CODECS["rle"]) == values.tobytes()


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (form(1, 1), "one_bit"),
        (form(32, 32), "bits_allocated"),
        (form(16, 8), "bits_stored"),
        (replace(BASE, high_bit=15), "bits_stored"),
        (replace(BASE, bits_stored=0, high_bit=0), "bits_stored"),
        (replace(form(8, 8), photometric="YBR_FULL_422", samples=3), "photometric_interpretation"),
        (replace(form(8, 8), photometric="RGB", samples=1), "photometric_interpretation"),
        (replace(form(8, 8), photometric="ARGB", samples=4), "photometric_interpretation"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_code_stream_cannot_say_is_left_alone(wanted: PixelFormat, reason: str):
    assert CODECS["htj2k"].reason_against(wanted) == reason


def test_photometric_interpretation_follows_the_encoder():
    rgb, ybr = FORMS["rgb"], FORMS["ybr full"]
    assert {name: codec.photometric(rgb) for name, codec in CODECS.items()} == {
        "htj2k": "YBR_RCT", "j2k": "YBR_RCT", "jpegls": "RGB", "rle": "RGB", "jxl": "RGB",
    }  # fmt: skip
    assert CODECS["htj2k"].photometric(ybr) == "YBR_FULL"
    for codec, has_transform in (("htj2k", True), ("j2k", True)):
        stream = encode_frame(frame_of(rgb), form=rgb, codec=CODECS[codec]) or b""
        cod = stream.index(b"\xff\x52")
        assert stream[cod + 8] == has_transform, "SGcod, multiple component transformation"
