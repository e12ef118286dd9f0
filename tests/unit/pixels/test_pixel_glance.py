"""Names that somebody wrote into an image of a detector, whose header says nothing or the contrary of it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset
from pydicom.encaps import encapsulate

from radlake.cli.hospitals import hospital_of_files
from radlake.errors import QuarantineError
from radlake.ingest import harvest_folder
from radlake.pixels import Verdict, judge
from radlake.pixels.glance import may_be_written_on
from support.deid import deidentified, read_output
from support.dicom import compressed, image_study, write
from support.lakes import settings_of

ROWS = COLUMNS = 320
NAME_BOX = slice(6, 34), slice(8, 240)  # of what is written


def _tissue(seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:ROWS, :COLUMNS]
    body = 1800 * np.exp(-(((across - 160) / 110) ** 4) - ((down - 170) / 120) ** 4)
    bones = 900 * (np.hypot(across - 120, down - 200) < 18) + 1200 * (np.hypot(across - 200, down - 140) < 9)
    return body + bones + rng.normal(200, 25, (ROWS, COLUMNS))


def _image(modality: str, *, written: bool = True, frames: int = 1, dark: bool = False, **attributes: Any) -> Dataset:
    """A detector's image of 12 bits; of several frames only the second is written on."""
    ds = image_study(modality, frames=frames if frames > 1 else None, **attributes)[0]
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = ROWS, COLUMNS, 16, 12, 11
    ds.PixelRepresentation, ds.SamplesPerPixel = 0, 1
    values = np.stack([_tissue(seed) for seed in range(frames)]).clip(0, 3500)
    text = Image.new("1", (COLUMNS, ROWS))
    ImageDraw.Draw(text).text((10, 8), "LIU ZHIQIANG 68840618", font=ImageFont.load_default(18), fill=1)
    if written:
        values[min(1, frames - 1)][np.asarray(text)] = 0 if dark else 4000
    ds.PixelData = values.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def _corner(ds: Dataset) -> np.ndarray[Any, Any]:
    return ds.pixel_array[(..., *NAME_BOX)]


@pytest.mark.parametrize("flag", [None, "NO"])
@pytest.mark.parametrize(("modality", "frames"), [("DX", 1), ("MG", 1), ("XA", 3), ("CT", 1), ("MR", 1), ("PT", 1)])
def test_a_name_on_an_image_that_its_header_clears_goes(modality: str, frames: int, flag: str | None) -> None:
    sent = _image(modality, frames=frames, BurnedInAnnotation=flag)
    assert judge(sent).verdict is Verdict.CLEAN
    out = deidentified(sent)
    assert _corner(sent).max() == 4000
    assert _corner(out).max() < 1000
    assert "113101" in [code.CodeValue for code in out.DeidentificationMethodCodeSequence]
    assert (out.pixel_array == sent.pixel_array).mean() > 0.8


@pytest.mark.parametrize("height", [16, 24])
@pytest.mark.parametrize("left", [101, 106])
def test_a_name_where_nothing_was_exposed_goes(height: int, left: int) -> None:
    ds = _image("DX", BurnedInAnnotation="NO")
    ds.Rows = ds.Columns = 1024
    text = Image.new("1", (1024, 1024))
    ImageDraw.Draw(text).text((left, 203), "WANG XIULAN", font=ImageFont.load_default(height), fill=1)
    ds.PixelData = (np.asarray(text) * 3000).astype("<u2").tobytes()
    assert ds.pixel_array.max() == 3000
    assert deidentified(ds).pixel_array.max() == 0


def test_a_radiograph_that_no_decoder_reads_is_for_a_person() -> None:
    sent = compressed(_image("DX", BurnedInAnnotation="NO"))
    sent.PixelData = encapsulate([b"no image at all"])
    with pytest.raises(QuarantineError, match="pixel_risk"):
        deidentified(sent)


def test_a_compressed_image_is_decoded_for_it() -> None:
    out = deidentified(compressed(_image("DX", BurnedInAnnotation="NO")))
    assert _corner(out).max() < 1000


def test_dark_writing_on_a_radiograph_goes() -> None:
    sent = _image("DX", BurnedInAnnotation="NO")
    sent.PixelData = (4000 - sent.pixel_array).tobytes()
    within = slice(12, 24), slice(12, 200)
    assert len(np.unique(sent.pixel_array[within])) > 100
    assert np.unique(deidentified(sent).pixel_array[within]).tolist() == [0]


@pytest.mark.parametrize("modality", ["DX", "XA"])
def test_an_image_that_nobody_wrote_on_is_not_looked_at(modality: str) -> None:
    sent = _image(modality, written=False, BurnedInAnnotation="NO")
    out = deidentified(sent)
    assert out.PixelData == sent.PixelData
    assert "113101" not in [code.CodeValue for code in out.DeidentificationMethodCodeSequence]


@pytest.mark.parametrize("what", ["noise", "metal", "collimated", "padded", "few counts", "counts"])
def test_what_is_steep_in_images_is_no_writing(what: str) -> None:
    ds = _image("DX", written=False)
    values, rng = _tissue(1), np.random.default_rng(2)
    match what:
        case "noise":
            values = rng.normal(1000, 400, (ROWS, COLUMNS))
        case "metal":
            values[100:104, 50:250] = values[60:260, 100:130] = 4095
        case "collimated":
            values[:40], values[:, -30:] = 0, 4095
        case "padded":
            values[np.hypot(*(np.mgrid[:ROWS, :COLUMNS] - 160)) > 150] = 0
        case "few counts":
            values = rng.poisson(3, (ROWS, COLUMNS))
        case _:
            values = rng.poisson(100, (ROWS, COLUMNS))
    ds.PixelData = values.clip(0, 4095).astype("<u2").tobytes()
    assert not may_be_written_on(ds)


def test_surfaces_with_holes_on_a_slice_are_no_writing() -> None:
    """As in slices of a brain that something took the vessels out of."""
    ds, rng = _image("CT", written=False), np.random.default_rng(3)
    values = np.full((ROWS, COLUMNS), 1000)
    for down, across in rng.integers(10, ROWS - 10, (120, 2)):
        values[down : down + 9, across : across + 5] = 24
        values[down + 2 : down + 7, across + 2 : across + 4] = 1000
    ds.PixelData = values.astype("<u2").tobytes()
    assert may_be_written_on(ds)
    assert not may_be_written_on(ds, is_slice=True)


def test_a_slice_that_no_decoder_reads_is_stored_as_it_is() -> None:
    sent = compressed(_image("CT", BurnedInAnnotation="NO"))
    sent.PixelData = encapsulate([b"no image at all"])
    assert deidentified(sent).PixelData == sent.PixelData


@pytest.mark.parametrize(
    ("modality", "written"), [("DX", [False, True, False, True]), ("CT", [True, True, False, True])]
)
def test_a_name_on_images_of_a_series_goes(tmp_path: Path, modality: str, written: list[bool]) -> None:
    """On any radiograph; on slices when the first has it."""
    for number, is_written in enumerate(written):
        ds = _image(modality, written=is_written, BurnedInAnnotation="NO", seed=number)
        ds.InstanceNumber = number + 1
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{number}"
        write(ds, tmp_path / "in" / f"{number}.dcm")
    lake = settings_of(tmp_path / "lake")
    harvest_folder(lake, tmp_path / "in", hospital=hospital_of_files(lake, "h1"))
    (path,) = (tmp_path / "lake" / "objects").rglob("*.zip")
    with zipfile.ZipFile(path) as archive:
        stored = [read_output(archive.read(name)) for name in archive.namelist()]
    assert len(stored) == 4
    assert max(_corner(ds).max() for ds in stored) < 1000
