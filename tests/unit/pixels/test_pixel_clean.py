"""Burned-in text goes from every kind of image, and nothing else changes: judged by the detector and by every pixel."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space
from pydicom.sequence import Sequence

from radlake.deidentify import Deidentifier, identify_person
from radlake.dicom.part10 import encode_instance, read_bytes
from radlake.errors import QuarantineError
from radlake.pixels import DecisionKind, PixelDecision, Region
from radlake.pixels.clean import NeedsPerson, clean_pixels, propose_regions
from radlake.pixels.frames import Array, layout_of, read_frames
from radlake.pixels.pictures import picture_of, preview_png
from radlake.pixels.text import find_text
from support.deid import HOSPITAL, KEYS, default_profile, deidentified, deidentified_bytes, read_output
from support.dicom import dicom_bytes, image_study

ROWS, COLUMNS = 240, 320
NAME_BOX = (8, 6, 210, 52)  # left, top, right, bottom of what is written
_MASK = PixelDecision(DecisionKind.MASK, (Region(*NAME_BOX),))
NATIVE = "1.2.840.10008.1.2.1"
JPEG, JPEG_LS, J2K, HTJ2K, RLE = (
    f"1.2.840.10008.1.2.{end}" for end in ("4.50", "4.80", "4.90", "4.201", "5")
)  # baseline; the others without loss


def _written(seed: int = 0) -> Array:
    """A grey picture of 8 bits like ultrasound, with a name and numbers in its corner."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:ROWS, :COLUMNS]
    tissue = 110 * np.exp(-(((across - 180) / 80) ** 2) - ((down - 150) / 55) ** 2) + rng.rayleigh(6, (ROWS, COLUMNS))
    picture = Image.fromarray(tissue.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    draw.text((10, 8), "LIU ZHIQIANG M 45", font=ImageFont.load_default(18), fill=250)
    draw.text((10, 30), "ID 68840618  2026-03-01", font=ImageFont.load_default(16), fill=250)
    return np.asarray(picture).copy()


def _image(photometric: str, *, frames: int = 1, syntax: str = NATIVE, bits: int = 8, planar: bool = False) -> Dataset:
    grey = np.stack([_written(seed) for seed in range(frames)])
    ds = image_study("US", rows=ROWS, columns=COLUMNS, frames=frames if frames > 1 else None)[0]
    for keyword in ("SequenceOfUltrasoundRegions", "PlanarConfiguration"):
        if keyword in ds:
            delattr(ds, keyword)
    ds.PhotometricInterpretation = photometric
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = (16 if bits > 8 else 8), bits, bits - 1, 0
    ds.SamplesPerPixel = 1
    values = grey if bits == 8 else grey.astype(np.uint16) << (bits - 8)
    if photometric == "MONOCHROME1":
        values = (2**bits - 1) - values
    elif photometric == "PALETTE COLOR":
        values = 255 - values  # the palette runs from white to black
        for colour in ("Red", "Green", "Blue"):
            setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
            lut = (np.arange(255, -1, -1, dtype=np.uint16) * 257).astype("<u2").tobytes()
            setattr(ds, f"{colour}PaletteColorLookupTableData", lut)
    elif photometric != "MONOCHROME2":
        ds.SamplesPerPixel = 3
        ds.PlanarConfiguration = int(planar)
        values = np.stack([grey, grey, grey], axis=-1)
        values[..., 200:, 0] //= 2
        if photometric.startswith("YBR"):
            values = convert_color_space(values, "RGB", "YBR_FULL")
    data = values
    if photometric == "YBR_FULL_422" and syntax == NATIVE:
        pairs = values.reshape(frames, ROWS, COLUMNS // 2, 2, 3)
        data = np.stack([pairs[..., 0, 0], pairs[..., 1, 0], pairs[..., 0, 1], pairs[..., 0, 2]], axis=-1)
    elif planar:
        data = np.moveaxis(values, -1, 1)
    ds.PixelData = np.ascontiguousarray(data).tobytes()
    ds.file_meta.TransferSyntaxUID = NATIVE
    return ds if syntax == NATIVE else _compressed(ds, values, syntax)


def _compressed(ds: Dataset, values: Array, syntax: str) -> Dataset:
    import imagecodecs

    if syntax in (JPEG, HTJ2K):
        encode: Callable[..., Any] = imagecodecs.jpeg8_encode if syntax == JPEG else imagecodecs.htj2k_encode
        if syntax == JPEG and ds.SamplesPerPixel == 3:
            ds.PhotometricInterpretation = "YBR_FULL_422"
        ds.PixelData = encapsulate([bytes(encode(np.ascontiguousarray(frame))) for frame in values])
        ds["PixelData"].VR = "OB"
        ds.file_meta.TransferSyntaxUID = syntax
        return ds
    twin = pydicom.dcmread(io.BytesIO(dicom_bytes(ds)))
    if syntax == J2K and twin.SamplesPerPixel == 3:
        twin.PhotometricInterpretation = "YBR_RCT"
    twin.compress(syntax, values if len(values) > 1 else values[0], generate_instance_uid=False)
    return twin


def _frames(ds: Dataset) -> tuple[list[Array], list[Array]]:
    """Stored values, and pictures, of every frame."""
    layout, frames = read_frames(ds, layout_of(ds))
    values = list(frames)
    return values, [picture_of(frame, layout, ds) for frame in values]


def _decided(ds: Dataset, decision: PixelDecision) -> Dataset:
    if "notes" not in vars(ds):
        ds = read_bytes(dicom_bytes(ds))
    person = identify_person([ds], hospital_id=HOSPITAL, keys=KEYS)
    return Deidentifier(default_profile(), KEYS).deidentify(ds, person=person, hospital_id=HOSPITAL, decision=decision)


_SYNTAXES = {"native": NATIVE, "JPEG-LS": JPEG_LS, "J2K": J2K, "RLE": RLE, "HTJ2K": HTJ2K, "JPEG": JPEG}
_NOT_IN = {  # what no encoder writes: PS3.5 8.2 and table 8.2
    "YBR_FULL_422": {"JPEG-LS", "J2K", "RLE", "HTJ2K"},
    "YBR_FULL": {"J2K", "HTJ2K", "JPEG"},
    "PALETTE COLOR": {"JPEG"},  # an index does not survive loss
}
_KINDS = [
    pytest.param(photometric, syntax, frames, id=f"{photometric}-{name}-{frames}")
    for frames in (1, 3)
    for photometric in ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR")
    for name, syntax in _SYNTAXES.items()
    if name not in _NOT_IN.get(photometric, ())
]
_SOME_KINDS = [kind for kind in _KINDS if kind.values[2] == 1 and (kind.values[1] == NATIVE or kind.values[0] == "RGB")]


@pytest.mark.parametrize(("photometric", "syntax", "frames"), _KINDS)
def test_a_mask_is_black_and_the_rest_bit_identical(photometric: str, syntax: str, frames: int) -> None:
    ds = read_bytes(dicom_bytes(_image(photometric, frames=frames, syntax=syntax)))
    left, top, right, bottom = NAME_BOX
    after = _decided(ds, _MASK)
    after = read_bytes(encode_instance(after))
    old, _ = _frames(ds)
    new, pictures = _frames(after)
    assert len(old) == len(new) == frames
    for before, now, picture in zip(old, new, pictures, strict=True):
        assert picture[top:bottom, left:right].max() < 10
        now[top:bottom, left:right] = before[top:bottom, left:right]
        assert np.array_equal(before, now)
    assert after.file_meta.TransferSyntaxUID == (NATIVE if syntax == JPEG else syntax)
    if syntax == JPEG:
        assert after.LossyImageCompression == "01"
        assert float(after.LossyImageCompressionRatio) > 1
        assert after.PhotometricInterpretation == ("RGB" if photometric == "YBR_FULL_422" else photometric)
    assert pydicom.dcmread(io.BytesIO(encode_instance(after))).pixel_array.size


@pytest.mark.parametrize(("photometric", "syntax", "frames"), _SOME_KINDS)
def test_names_are_found_and_the_tissue_stays(photometric: str, syntax: str, frames: int) -> None:
    sent = dicom_bytes(_image(photometric, frames=frames, syntax=syntax))
    ds, after = read_bytes(sent), read_bytes(deidentified_bytes(sent))
    (before,), _ = _frames(ds)
    (now,), (picture,) = _frames(after)
    changed = (before != now) if before.ndim == 2 else (before != now).any(axis=2)
    left, top, right, bottom = NAME_BOX
    assert changed[top:bottom, left:right].any()
    assert not changed[bottom + 12 :].any(), "the tissue is bit-identical"
    assert not changed[:, right + 30 :].any()
    assert picture[top:bottom, left:right].max() < 60, "nothing of the writing is left"
    assert find_text(picture) == []
    assert after.BurnedInAnnotation == "NO"
    assert {"113100", "113101"} <= {code.CodeValue for code in after.DeidentificationMethodCodeSequence}


def test_a_loop_is_searched_as_a_whole() -> None:
    ds = _image("MONOCHROME2", frames=9)
    frames = np.frombuffer(ds.PixelData, np.uint8).reshape(9, ROWS, COLUMNS).copy()
    name = frames[:, :60].copy()
    frames[:, :60] = 0
    frames[2:4, :60] = name[2:4]  # in neither the first, the middle nor the last frame
    ds.PixelData = frames.tobytes()
    assert max(values[:60].max() for values in _frames(deidentified(ds))[0]) < 120


@pytest.mark.parametrize("flag", [None, "NO", "YES"])
def test_the_flag_is_not_believed_either_way(flag: str | None) -> None:
    ds = _image("MONOCHROME2")
    ds.BurnedInAnnotation = flag
    after = deidentified(ds)
    assert after.BurnedInAnnotation == "NO"
    assert find_text(_frames(after)[1][0]) == []


def test_planes_and_deep_grey_values_stay_what_they_are() -> None:
    for ds in (_image("RGB", planar=True, frames=2), _image("MONOCHROME2", bits=12), _image("MONOCHROME1", bits=16)):
        after = read_output(encode_instance(_decided(ds, _MASK)))
        assert after.get("PlanarConfiguration") == ds.get("PlanarConfiguration")
        assert (after.BitsStored, len(after.PixelData)) == (ds.BitsStored, len(ds.PixelData))
        old, new = _frames(ds)[0][0], _frames(after)[0][0]
        assert np.array_equal(old[80:], new[80:])
        assert not np.array_equal(old[:60], new[:60])


def test_an_image_without_text_keeps_its_bytes() -> None:
    ds = _image("RGB", syntax=J2K)
    clean = _decided(ds, _MASK)
    again = deidentified_bytes(encode_instance(clean))
    assert read_output(again).PixelData == clean[0x7FE00010].value
    again = read_output(again)
    assert "113101" in [code.CodeValue for code in again.DeidentificationMethodCodeSequence]


def test_detector_images_are_not_looked_at() -> None:
    after = deidentified(image_study("CT")[0])
    assert "113101" not in [code.CodeValue for code in after.DeidentificationMethodCodeSequence]


def test_outside_of_the_ultrasound_regions_everything_is_black() -> None:
    ds = _image("RGB", frames=2)
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 60, 80
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 299, 219
    ds.SequenceOfUltrasoundRegions = Sequence([region])
    old, new = _frames(ds)[0][1], _frames(deidentified(ds))[0][1]
    assert np.array_equal(old[80:220, 60:300], new[80:220, 60:300])
    new[80:220, 60:300] = 0
    assert not new.any()


def test_embedded_overlay_is_zero() -> None:
    ds = image_study("CT", rows=64, columns=64)[0]
    values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 4096
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.add_new(0x60000100, "US", 16)
    ds.add_new(0x60000102, "US", 15)
    ds.PixelData = (values | ((values % 7 == 0).astype(np.uint16) << 15)).tobytes()
    assert np.array_equal(deidentified(ds).pixel_array, values)


def test_faint_writing_is_found() -> None:
    ds = _image("MONOCHROME2")
    plain = np.random.default_rng(3).normal(100, 4, (ROWS, COLUMNS))
    writing = Image.new("L", (COLUMNS, ROWS))
    ImageDraw.Draw(writing).text((20, 40), "LIU ZHIQIANG 68840618", font=ImageFont.load_default(18), fill=1)
    ds.PixelData = (plain + 16 * np.asarray(writing)).clip(0, 255).astype(np.uint8).tobytes()
    [now], _ = _frames(deidentified(ds))
    assert (now[np.asarray(writing) == 1] == now.min()).all()


def test_pixels_beyond_the_frames_go() -> None:
    ds = _image("MONOCHROME2")
    ds.PixelData += _written(seed=1).tobytes()
    assert len(deidentified(ds).PixelData) == ROWS * COLUMNS


def test_text_in_one_page_of_many_is_found() -> None:
    ds = _image("MONOCHROME2", frames=4)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7.2"
    pages = np.frombuffer(ds.PixelData, np.uint8).reshape(4, ROWS, COLUMNS).copy()
    pages[[0, 2, 3], :60] = 0
    ds.PixelData = pages.tobytes()
    assert find_text(_frames(deidentified(ds))[1][1]) == []


def test_a_person_has_the_last_word() -> None:
    ds = _image("MONOCHROME2", frames=3)
    accepted = _decided(ds, PixelDecision(DecisionKind.ACCEPT))
    assert accepted[0x7FE00010].value == ds.PixelData
    assert accepted.BurnedInAnnotation == "NO"

    regions = (Region(0, 0, 50, 20), Region(100, 100, 400, 120, first_frame=2, last_frame=2))
    old, new = _frames(ds)[0], _frames(_decided(ds, PixelDecision(DecisionKind.MASK, regions)))[0]
    for frame, (before, now) in enumerate(zip(old, new, strict=True), start=1):
        expected = before.copy()
        expected[0:20, 0:50] = old[0].min()
        if frame == 2:
            expected[100:120, 100:] = old[0].min()
        assert np.array_equal(now, expected)

    with pytest.raises(QuarantineError, match="rejected_by_reviewer"):
        _decided(ds, PixelDecision(DecisionKind.REJECT))


def test_a_photograph_that_a_person_accepted_passes() -> None:
    ds = _image("RGB")
    ds.Modality = "XC"
    with pytest.raises(QuarantineError, match="photograph"):
        deidentified(ds)
    assert _decided(ds, PixelDecision(DecisionKind.ACCEPT)).PatientIdentityRemoved == "YES"


def test_without_the_option_nothing_is_looked_at() -> None:
    options = tuple(option for option in default_profile().options if option != "clean_pixel_data")
    profile = replace(default_profile(), options=options)
    with pytest.raises(QuarantineError, match="pixel_risk"):
        deidentified_bytes(_image("MONOCHROME2"), profile=profile)


def test_what_cannot_be_decoded_waits_for_a_person() -> None:
    ds = _image("MONOCHROME2", syntax=J2K)
    ds.PixelData = encapsulate([b"\xff\x4f\xff\x51 no codestream"])
    with pytest.raises(NeedsPerson, match="cannot be decoded"):
        clean_pixels(read_bytes(dicom_bytes(ds)))
    assert propose_regions(ds) == ()


def test_a_screen_full_of_text_waits_for_a_person() -> None:
    ds = _image("MONOCHROME2")
    picture = Image.new("L", (COLUMNS, ROWS))
    draw = ImageDraw.Draw(picture)
    for line in range(12):
        draw.text(
            (4, 4 + 19 * line),
            f"DOSE REPORT {line} CTDIvol 12.{line} mGy DLP 4{line}7",
            font=ImageFont.load_default(15),
            fill=240,
        )
    ds.PixelData = np.asarray(picture).tobytes()
    with pytest.raises(QuarantineError, match="too much text"):
        deidentified(ds)


def test_a_missing_detector_fails_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    from radlake.pixels import clean
    from radlake.pixels.text import DetectorMissing

    def missing(*_: object, **__: object) -> list[Region]:
        raise DetectorMissing("ImportError")

    monkeypatch.setattr(clean, "find_text", missing)
    with pytest.raises(QuarantineError, match="detector does not start"):
        deidentified(_image("MONOCHROME2"))


def test_preview_shows_a_frame_with_regions() -> None:
    ds = _image("MONOCHROME1", frames=2)
    regions = propose_regions(ds)
    assert regions
    picture = Image.open(io.BytesIO(preview_png(ds, 2, regions=regions)))
    assert (picture.size, picture.mode) == ((COLUMNS, ROWS), "RGB")
    assert picture.getpixel((regions[0].left, regions[0].top)) == (255, 64, 64)
    assert np.asarray(picture)[150, 180].mean() > 60  # tissue is bright, whatever the stored values say
