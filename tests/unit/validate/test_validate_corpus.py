"""Every public test file is read and checked, or has a reason; those that a good viewer shows pass."""

from __future__ import annotations

import csv
import io
from collections import Counter
from functools import cache
from pathlib import Path

import pydicom
import pytest

from radlake.contracts.reasons import reasons
from radlake.dicom.part10 import encode_instance, notes, read_bytes, read_instance
from radlake.errors import QuarantineError
from radlake.validate import check_instance
from support.dicom import encode_located

pytestmark = pytest.mark.corpus

# Many of them are test files of readers: images without pixels or without UIDs, directories, text with our suffix.
EXPECTED = {
    "pixel_data_missing": 56,
    "uid_missing": 19,
    "not_dicom": 10,
    "part10_missing": 9,
    "media_directory": 7,
    "part10_truncated": 5,
    "pixel_length_mismatch": 5,
    "uid_invalid": 3,
    "pixel_data_corrupt": 1,
    "transfer_syntax_mismatch": 1,
    "transfer_syntax_unknown": 1,
    "value_length_invalid": 1,
    "duplicate_element": 1,
}


@cache
def judged(root: Path) -> dict[str, str]:
    """Reason code of every file of the corpus, empty when it passed."""
    found = {}
    with (root / "MANIFEST.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path = root / row["path"]
            try:
                check_instance(read_instance(path), size=path.stat().st_size)
                found[row["path"]] = ""
            except QuarantineError as error:
                found[row["path"]] = error.reason
    return found


def passed(root: Path) -> list[Path]:
    return [root / path for path, reason in judged(root).items() if not reason]


def test_every_file_passes_or_has_a_known_reason(corpus: Path) -> None:
    found = Counter(judged(corpus).values())
    print({reason or "passed": n for reason, n in found.most_common()})

    assert set(found) - {""} <= set(reasons())
    assert {reason: n for reason, n in found.items() if reason} == EXPECTED
    assert found[""] == 312


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MR_truncated.dcm", "part10_truncated"),
        ("rtplan_truncated.dcm", "part10_truncated"),
        ("emri_small_jpeg_2k_lossless_too_short.dcm", "part10_truncated"),
        ("SC_rgb_jpeg.dcm", "transfer_syntax_mismatch"),
        ("badVR.dcm", "value_length_invalid"),
        ("rtstruct.dcm", "part10_missing"),
        ("meta_missing_tsyntax.dcm", "transfer_syntax_unknown"),
        ("mal_truncated_pixel/a.dcm", "part10_truncated"),
        ("mal_odd_length_dup_tag/a.dcm", "duplicate_element"),
        ("mal_no_preamble_no_meta/a.dcm", "part10_missing"),
        ("mal_missing_ids/a.dcm", "uid_missing"),
    ],
)
def test_files_made_to_be_broken_do_not_pass(corpus: Path, name: str, reason: str) -> None:
    found = {path: why for path, why in judged(corpus).items() if path.endswith(f"/{name}")}

    assert set(found.values()) == {reason}


def test_images_that_pydicom_decodes_are_set_aside_for_a_stated_cause_only(corpus: Path) -> None:
    """A tolerant reader shows them; we refuse only what cannot be placed, or holds other pixels than it says."""
    with (corpus / "MANIFEST.csv").open(encoding="utf-8") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    for path, reason in judged(corpus).items():
        if reason and rows[path]["transfer_syntax"] and "pixels no" not in rows[path]["notes"]:
            assert reason in EXPECTED, path
            assert reason not in ("vr_invalid", "dataset_unreadable", "elements_out_of_order", "charset_unknown"), path


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_canonical_form_of_every_file_that_passes(corpus: Path) -> None:
    """A fixed point; the same attributes as pydicom sees; decoding changes no byte; pixels bit-identical."""
    for path in passed(corpus):
        ds = read_instance(path)
        data, offset = encode_located(ds)
        again = read_bytes(data)
        assert encode_instance(again) == data, path
        for element in again.iterall():
            assert element.value is not NotImplemented
        assert encode_instance(again) == data, path

        source, written = pydicom.dcmread(path), pydicom.dcmread(io.BytesIO(data))
        layout = {0x00080001, 0x00080005, 0xFFFCFFFC, 0xFFFF0001}
        tags = {element.tag for element in source if element.tag.element} - layout
        assert tags == {element.tag for element in written} - layout, path
        if "PixelData" in source:
            pixels = ds.PixelData
            assert data[offset : offset + len(pixels)] == pixels  # pyright: ignore
            if source.file_meta.TransferSyntaxUID != pydicom.uid.ExplicitVRBigEndian:
                assert source.PixelData == pixels, path


def test_no_note_quotes_a_value(corpus: Path) -> None:
    for path in passed(corpus):
        ds = read_instance(path)
        check_instance(ds, size=path.stat().st_size)
        secrets = {str(ds.get(keyword, "")) for keyword in ("PatientName", "PatientID", "StudyInstanceUID")}
        for secret in secrets:
            assert len(secret) < 4 or secret not in " ".join(notes(ds)), path
