"""A series object: what becomes of its instances, and that nothing else of them changes."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from radlake.errors import QuarantineError
from radlake.lake import Lake
from radlake.pixels.lossless import CODECS
from radlake.recompress import instance
from radlake.recompress.series import SeriesJob, SeriesOutcome, estimate_series, recompress_series
from support.dicom import compressed, dicom_bytes, image_study, sr_document
from support.recompress import members_of, pixels, stored_series

_MAY_CHANGE = {"PhotometricInterpretation", "PlanarConfiguration", "PixelData"}


def picture(rows: int = 64, columns: int = 48, samples: int = 1, bits: int = 12) -> np.ndarray[Any, Any]:
    noise = np.random.default_rng(3).integers(0, 4, (rows, columns, samples))
    slope = np.add.outer(np.arange(rows), np.arange(columns))[..., None]
    return (slope * np.arange(1, samples + 1) + noise) % (1 << bits)


def ct(**attributes: Any) -> Dataset:
    return image_study(
        "CT", rows=64, columns=48, BitsAllocated=16, BitsStored=12, HighBit=11, PixelRepresentation=0,
        PixelData=picture().astype("<u2").tobytes(), **attributes,
    )[0]  # fmt: skip


def rgb(planar: int = 0) -> Dataset:
    colours = (picture(samples=3, bits=8) // 32 * 32).astype("u1")
    ds = image_study("OT", rows=64, columns=48)[0]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", planar
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelData = (np.moveaxis(colours, -1, 0) if planar else colours).tobytes()
    return ds


def multiframe(n: int = 5) -> Dataset:
    frames = np.stack([(picture() + 7 * i) % 4096 for i in range(n)]).astype("<u2")
    ds = ct(NumberOfFrames=n)
    ds.PixelData = frames.tobytes()
    return ds


def done(job: SeriesJob) -> tuple[SeriesOutcome, list[bytes]]:
    outcome = recompress_series(job)
    return outcome, members_of(job.settings, outcome.new_path)


@pytest.mark.parametrize("codec", ["htj2k", "jpegls", "j2k", "rle"])
@pytest.mark.parametrize("make", [ct, rgb, lambda: rgb(planar=1), multiframe], ids=["ct", "rgb", "planes", "frames"])
def test_pydicom_reads_the_same_pixels_and_everything_else(make: Any, codec: str, tmp_path: Path):
    job = stored_series(tmp_path, make(), codec=codec)
    (before,) = members_of(job.settings, job.path)
    outcome, (after,) = done(job)
    assert (outcome.refused, len(outcome.sizes)) == ("", 1), outcome.left
    assert len(after) == outcome.members[0].instance_bytes < len(before)
    assert np.array_equal(pixels(after), pixels(before))
    old, new = (pydicom.dcmread(io.BytesIO(data)) for data in (before, after))
    assert new.file_meta.TransferSyntaxUID == CODECS[codec].transfer_syntax_uid
    assert {element.keyword for element in new} == {element.keyword for element in old}
    assert [element for element in new if element.keyword not in _MAY_CHANGE] == [
        element for element in old if element.keyword not in _MAY_CHANGE
    ]
    assert after[outcome.members[0].pixel_offset :][:4] == b"\xfe\xff\x00\xe0"


def test_an_offset_table_leads_to_every_frame(tmp_path: Path):
    outcome, (after,) = done(stored_series(tmp_path, multiframe(5)))
    value = io.BytesIO(after[outcome.members[0].pixel_offset :])
    offsets = pydicom.encaps.parse_basic_offsets(value)
    assert len(offsets) == 5
    assert [after[(outcome.members[0].pixel_offset or 0) + 8 + 20 + offset :][:4] for offset in offsets] == [
        b"\xfe\xff\x00\xe0"
    ] * 5


def test_fragments_beyond_32_bits_get_an_extended_offset_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(instance, "_MAX_BASIC_OFFSET", 100)
    job = stored_series(tmp_path, multiframe(3))
    outcome, (after,) = done(job)
    ds = pydicom.dcmread(io.BytesIO(after))
    assert (len(ds.ExtendedOffsetTable), len(ds.ExtendedOffsetTableLengths)) == (24, 24)
    assert np.array_equal(pixels(after), pixels(members_of(job.settings, job.path)[0]))
    assert not outcome.refused


def test_frames_pass_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(instance, "_BATCH_BYTES", 7000)
    monkeypatch.setattr(instance, "_IN_MEMORY", 500)
    job = stored_series(tmp_path, multiframe(5), ct(InstanceNumber=2))
    before = members_of(job.settings, job.path)
    _, after = done(job)
    assert [np.array_equal(pixels(a), pixels(b)) for a, b in zip(after, before, strict=True)] == [True, True]
    assert not list(Lake.from_settings(job.settings).scratch.iterdir())


def high_bits() -> Dataset:
    ds = ct()
    values = np.frombuffer(ds.PixelData, "<u2").copy()
    values[5] |= 0x8000
    ds.PixelData = values.tobytes()
    return ds


def bits_32() -> Dataset:
    ds = ct()
    ds.BitsAllocated = ds.BitsStored = 32
    ds.HighBit = 31
    ds.PixelData = picture().astype("<u4").tobytes()
    return ds


def noise() -> Dataset:
    ds = ct()
    ds.BitsStored, ds.HighBit = 16, 15
    ds.PixelData = np.random.default_rng(1).bytes(64 * 48 * 2)
    return ds


def floats() -> Dataset:
    ds = bits_32()
    del ds.PixelData
    ds.FloatPixelData = picture().astype("<f4").tobytes()
    return ds


def one_bit() -> Dataset:
    ds = ct()
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = 0
    ds.PixelData = bytes(64 * 48 // 8)
    return ds


def longer() -> Dataset:
    ds = ct()
    ds.PixelData = ds.PixelData + b"\0\0\0\0"
    return ds


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (high_bits, "high_bits"),
        (bits_32, "bits_allocated"),
        (floats, "bits_allocated"),
        (one_bit, "one_bit"),
        (noise, "not_smaller"),
        (longer, "pixel_length"),
        (lambda: compressed(ct()), "compressed"),
        (sr_document, "no_pixels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_left_alone_keeps_its_object(make: Any, reason: str, tmp_path: Path):
    job = stored_series(tmp_path, make())
    outcome = recompress_series(job)
    assert (outcome.new_path, outcome.refused, dict(outcome.left)) == ("", "", {reason: 1})
    assert list(Lake.from_settings(job.settings).objects.list()) == [job.path]


def test_what_is_left_alone_is_copied_bit_by_bit_beside_what_is_not(tmp_path: Path):
    job = stored_series(tmp_path, ct(), high_bits(), sr_document())
    before = members_of(job.settings, job.path)
    outcome, after = done(job)
    assert dict(outcome.left) == {"high_bits": 1, "no_pixels": 1}
    assert after[1:] == before[1:]
    assert [member.digest for member in outcome.members[1:]] == [member.digest for member in job.members[1:]]
    assert len(after[0]) < len(before[0])


@pytest.mark.parametrize("wrong", ["flipped", "truncated", "other"])
def test_an_encoder_that_lies_is_refused_and_the_old_object_stays(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    job = stored_series(tmp_path, ct(), ct(InstanceNumber=2))
    honest = instance.encode_frame

    def lying(frame: Any, **kwargs: Any) -> bytes:
        if wrong == "other":
            frame = np.maximum(np.frombuffer(frame, "<u2"), 9).tobytes()  # black becomes nearly black
        stream = bytearray(honest(frame, **kwargs) or b"")
        if wrong == "flipped":
            stream[-40] ^= 0x10
        return bytes(stream[:-100] if wrong == "truncated" else stream)

    monkeypatch.setattr(instance, "encode_frame", lying)
    outcome = recompress_series(job)
    assert (outcome.refused, outcome.new_path, outcome.sizes) == ("decode_differs", "", [])
    assert list(Lake.from_settings(job.settings).objects.list()) == [job.path]


@pytest.mark.parametrize("which", [0, 1], ids=["encoded", "copied"])
def test_a_damaged_source_is_not_made_look_whole(which: int, tmp_path: Path):
    job = stored_series(tmp_path, ct(), sr_document())
    members = list(job.members)
    members[which] = replace(members[which], digest="0" * 32)
    outcome = recompress_series(replace(job, members=tuple(members)))
    assert (outcome.refused, outcome.new_path) == ("source_damaged", "")
    assert list(Lake.from_settings(job.settings).objects.list()) == [job.path]


def test_doing_it_twice_writes_the_same_object(tmp_path: Path):
    job = stored_series(tmp_path, ct(), rgb())
    assert recompress_series(job) == recompress_series(job)


def test_an_estimate_writes_nothing_and_tells_the_sizes(tmp_path: Path):
    job = stored_series(tmp_path, ct(), noise())
    estimated = estimate_series(job)
    assert list(Lake.from_settings(job.settings).objects.list()) == [job.path]
    assert estimated.sizes == recompress_series(job).sizes
    assert dict(estimated.left) == {"not_smaller": 1}


def _native_images(corpus: Path, *, most: int = 4) -> list[Path]:
    """Real files with native pixels: some of each kind."""
    kinds: dict[Any, list[Path]] = {}
    with (corpus / "MANIFEST.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["bytes"]) < 3_000_000]
    for row in rows:
        try:
            ds = pydicom.dcmread(corpus / row["path"], defer_size=1024)
            if "PixelData" not in ds or ds.file_meta.TransferSyntaxUID.is_encapsulated:
                continue
        except (InvalidDicomError, AttributeError, OSError, EOFError, ValueError):
            continue
        kind = [ds.get(name) for name in ("Modality", "BitsStored", "PixelRepresentation", "PhotometricInterpretation")]
        kinds.setdefault(str([*kind, ds.get("PlanarConfiguration")]), []).append(corpus / row["path"])
    return [path for paths in kinds.values() for path in paths[:most]]


@pytest.mark.corpus
@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, about the oddities of real files
@pytest.mark.parametrize("codec", ["htj2k", "jpegls", "j2k", "rle", "jxl"])
def test_real_files_of_every_modality(codec: str, corpus: Path, tmp_path: Path):
    """All native images of the corpus: encoded and equal, or left with a reason."""
    n_encoded: dict[str, int] = {}
    for number, path in enumerate(_native_images(corpus)):
        try:
            job = stored_series(tmp_path / str(number), path.read_bytes(), codec=codec)
        except QuarantineError:  # a broken file is not what this test is about
            continue
        (before,) = members_of(job.settings, job.path)
        outcome = recompress_series(job)
        assert not outcome.refused, path.name
        if outcome.new_path:
            (after,) = members_of(job.settings, outcome.new_path)
            if codec != "jxl":  # pydicom does not read JPEG XL
                assert np.array_equal(pixels(after), pixels(before)), path.name
            modality = job.members[0].modality
            n_encoded[modality] = n_encoded.get(modality, 0) + 1
    wanted = {"MR", "US"} if codec == "jxl" else {"CT", "MR", "DX", "US"}
    assert wanted <= n_encoded.keys(), n_encoded


def test_only_bytes_that_must_change_do(tmp_path: Path):
    """The head of the new file is the old one's with another transfer syntax; the tail follows the last fragment."""
    ds = ct()
    ds.add_new(0xFFFAFFFA, "SQ", [])
    job = stored_series(tmp_path, dicom_bytes(ds))
    (before,) = members_of(job.settings, job.path)
    outcome, (after,) = done(job)
    offset, new_offset = job.members[0].pixel_offset or 0, outcome.members[0].pixel_offset or 0
    meta_end = 144 + int.from_bytes(before[140:144], "little")
    new_meta_end = 144 + int.from_bytes(after[140:144], "little")
    assert after[new_meta_end : new_offset - 12] == before[meta_end : offset - 12]
    assert after[:140] == before[:140]
    n_pixels = int.from_bytes(before[offset - 4 : offset], "little")
    assert after.endswith(b"\xfe\xff\xdd\xe0\0\0\0\0" + before[offset + n_pixels :])
    assert before[offset + n_pixels :], "the test has a tail"
