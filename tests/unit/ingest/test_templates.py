"""Instances by template and instances that went the full way: the same objects, rows and reasons, byte for byte."""

from __future__ import annotations

import copy
import io
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import UID, ImplicitVRLittleEndian

from radlake.cli.hospitals import hospital_of_files
from radlake.dicom.part10 import read_header
from radlake.errors import QuarantineError
from radlake.ingest import harvest_folder
from radlake.ingest.job import IngestJob, SourceFile, StudyOutcome
from radlake.ingest.study import ingest_study
from support.dicom import compressed, ct_study, image_study, mr_study, uid, write
from support.lakes import settings_of

_BY_TEMPLATE = "by template"


def both_ways(folder: Path, files: list[Path]) -> StudyOutcome:
    """Ingest the files by template and in full, and compare everything that came of it."""
    sources: dict[str, list[SourceFile]] = {}
    for path in files:
        try:
            header = read_header(path)
        except QuarantineError:
            continue
        sources.setdefault(header.study_instance_uid, []).append(SourceFile(path, "test", header.sop_instance_uid))
    outcomes = []
    for use_templates in (True, False):
        lake = settings_of(folder / f"lake-{use_templates}")
        outcomes.append(
            [
                ingest_study(IngestJob(lake, "h1", study, tuple(found)), use_templates=use_templates)
                for study, found in sorted(sources.items())
            ]
        )
    for fast, full in zip(*outcomes, strict=True):
        assert fast.study == full.study
        assert fast.series == full.series
        assert fast.instances == full.instances
        assert fast.stored == full.stored
        assert reasons(fast) == reasons(full)
        assert [file.path for file in fast.resends] == [file.path for file in full.resends]
    objects = [
        {path.relative_to(lake): path.read_bytes() for path in sorted(lake.rglob("*.zip"))}
        for lake in (folder / "lake-True" / "objects", folder / "lake-False" / "objects")
    ]
    assert objects[0] == objects[1]
    return outcomes[0][0]


def n_accounted(outcome: StudyOutcome) -> int:
    """Files that were stored, were resends, or were set aside."""
    return len(outcome.instances) + len(outcome.resends) + len(outcome.refused)


def reasons(outcome: StudyOutcome) -> Counter[tuple[str, str, str]]:
    return Counter((item.sop_uid, item.error.reason, item.error.detail) for item in outcome.refused)


def written(folder: Path, instances: list[Dataset]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}.dcm" for number in range(len(instances))]
    for ds, path in zip(instances, paths, strict=True):
        write(ds, path)
    return paths


def slices(n: int = 6, **options: Any) -> list[Dataset]:
    """A CT series in which something varies as it does in real ones."""
    instances = ct_study(n=n, **options)
    for number, ds in enumerate(instances):
        ds.ImagePositionPatient = ["-180.0", "-180.0", f"{-300 + number * 1.25:.3f}"]
        ds.SliceLocation = f"{-300 + number * 1.25:.3f}"
        ds.AcquisitionDate = ds.ContentDate = ds.StudyDate
        ds.AcquisitionTime = ds.ContentTime = f"2359{50 + number:02d}.{number * 25_000:06d}"
        ds.CTDIvol = 7.5 + number / 100
        reference = Dataset()
        reference.ReferencedSOPClassUID = ds.SOPClassUID
        reference.ReferencedSOPInstanceUID = uid("reference", number)
        ds.ReferencedImageSequence = Sequence([reference])
    return instances


@pytest.mark.parametrize(
    "instances",
    [
        pytest.param(slices(), id="explicit"),
        pytest.param([compressed(ds) for ds in mr_study(n=5)], id="encapsulated"),
        pytest.param(image_study("CT", n=3, series=3), id="three series"),
        pytest.param(slices(charset="GB18030", patient="李雷"), id="text that is recoded"),
    ],
)
def test_most_of_a_series_goes_by_template(tmp_path: Path, instances: list[Dataset]) -> None:
    outcome = both_ways(tmp_path, written(tmp_path / "in", instances))
    assert len(outcome.instances) == len(instances)
    n_series = len({ds.SeriesInstanceUID for ds in instances})
    assert outcome.ways == {_BY_TEMPLATE: len(instances) - n_series, "read in full": n_series}


def test_implicit_vr_goes_by_template(tmp_path: Path) -> None:
    paths = []
    for number, ds in enumerate(slices()):
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        path = tmp_path / f"{number}.dcm"
        ds.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=True)
        paths.append(path)
    assert both_ways(tmp_path, paths).ways[_BY_TEMPLATE] == 5


def _name_in_image_type(ds: Dataset) -> None:
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LILEI"]


def _id_as_a_number(ds: Dataset) -> None:
    ds.SliceLocation = "20010001"


def _own_uid_in_a_text(ds: Dataset) -> None:
    ds.SeriesDescription = f"chest {ds.SOPInstanceUID}"[:64]


def _another_person(ds: Dataset) -> None:
    ds.PatientName = "韩梅梅"


def _garbled_time(ds: Dataset) -> None:
    ds.ContentTime = "***140450."


def _chinese_comment(ds: Dataset) -> None:
    ds.ImageComments = "李雷 的图像"


def _private_sequence(ds: Dataset) -> None:
    item = Dataset()
    item.PatientID = "P0001"
    block = ds.private_block(0x0099, "VENDOR", create=True)
    block.add_new(1, "SQ", Sequence([item]))
    block.add_new(2, "LO", "李雷")


def _name_in_a_code(ds: Dataset) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "T1", "99HIS", "扫描 李雷"
    ds.AnatomicRegionSequence = Sequence([code])


def _no_time(ds: Dataset) -> None:
    ds.AcquisitionTime = ""


def _other_window(ds: Dataset) -> None:
    ds.WindowCenter = [" 40 ", "-600"]


def _invalid_number(ds: Dataset) -> None:
    ds.XRayTubeCurrent = "13800138000"


def _more_rows(ds: Dataset) -> None:
    ds.Rows, ds.Columns = 8, 32


def _burned_in(ds: Dataset) -> None:
    ds.BurnedInAnnotation = "YES"


def _cut_pixels(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData[:-2]


def _more_pixels(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData + ds.PixelData


def _same_uid(ds: Dataset) -> None:
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(uid("twin"))


def _overlay(ds: Dataset) -> None:
    ds.add_new(0x60000010, "US", 16)
    ds.add_new(0x60003000, "OW", bytes(32))


ODD: list[Callable[[Dataset], None]] = [
    _name_in_image_type,
    _id_as_a_number,
    _own_uid_in_a_text,
    _another_person,
    _garbled_time,
    _chinese_comment,
    _private_sequence,
    _name_in_a_code,
    _no_time,
    _other_window,
    _invalid_number,
    _more_rows,
    _burned_in,
    _cut_pixels,
    _more_pixels,
    _same_uid,
    _overlay,
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.__name__[1:])
@pytest.mark.filterwarnings("ignore")
def test_an_odd_instance_among_others_comes_out_as_in_full(tmp_path: Path, odd: Callable[[Dataset], None]) -> None:
    instances = slices(n=7, patient_id="20010001")
    odd(instances[4])
    odd(instances[5])
    assert n_accounted(both_ways(tmp_path, written(tmp_path / "in", instances))) == 7


@pytest.mark.parametrize("damage", ["fragment", "tail", "end"])
def test_encapsulated_pixels_are_checked_in_every_instance(tmp_path: Path, damage: str) -> None:
    paths = written(tmp_path / "in", [compressed(ds) for ds in mr_study(n=5)])
    data = paths[3].read_bytes()
    match damage:
        case "fragment":
            table = data.index(b"\xfe\xff\x00\xe0", data.rindex(b"\xe0\x7f\x10\x00"))
            at = table + 8 + int.from_bytes(data[table + 4 : table + 8], "little")  # behind the offset table
            data = data[:at] + b"\xff" + data[at + 1 :]
        case "tail":
            data += b"\0" * 64
        case "end":
            data = data[:-8]
    paths[3].write_bytes(data)
    outcome = both_ways(tmp_path, paths)
    assert n_accounted(outcome) == 5
    assert outcome.ways[_BY_TEMPLATE] < 4


def test_text_beside_the_pixels_of_any_instance_goes(tmp_path: Path) -> None:
    """A comment within a compressed frame, and bytes behind native pixels."""
    packed = [compressed(ds) for ds in mr_study(n=5)]
    plain = slices()
    for number in (0, 3):
        text = f"WANG^XIULAN {number}320503193911050017".encode()
        (frame,) = generate_frames(packed[number].PixelData, number_of_frames=1)
        comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
        at = 2 if frame.startswith(b"\xff\xd8") else 4 + int.from_bytes(frame[4:6], "big")
        comment = comment if at == 2 else b"\xff\x64" + (len(text) + 4).to_bytes(2, "big") + b"\0\1" + text
        packed[number].PixelData = encapsulate([frame[:at] + comment + frame[at:]])
        plain[number].PixelData += text
    outcome = both_ways(tmp_path, written(tmp_path / "in", [*packed, *plain]))
    assert len(outcome.instances) == 11
    for path in (tmp_path / "lake-True" / "objects").rglob("*.zip"):
        assert b"WANG" not in path.read_bytes()


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(ODD)), max_size=8))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore")
def test_any_mixture_comes_out_as_in_full(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, Callable[[Dataset], None]]]
) -> None:
    folder = tmp_path_factory.mktemp("mixture")
    instances = slices(patient_id="20010001")
    for number, odd in changes:
        odd(instances[number])
    assert n_accounted(both_ways(folder, written(folder / "in", instances))) == len(instances)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15)
@pytest.mark.filterwarnings("ignore")
def test_bytes_that_were_changed_come_out_as_in_full(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("mutated")
    paths = written(folder / "in", slices())
    chance = random.Random(seed)
    for path in chance.sample(paths, 3):
        data = bytearray(path.read_bytes())
        for _ in range(chance.choice((1, 1, 2, 8))):
            data[chance.randrange(128, len(data) - 400)] = chance.choice(
                (0, 0x20, 0x31, 0x5C, 0xFF, chance.randrange(256))
            )
        path.write_bytes(data)
    assert n_accounted(both_ways(folder, paths)) >= 1  # of the first study: its UID may have been changed


@pytest.mark.corpus
@pytest.mark.filterwarnings("ignore")
def test_series_made_of_public_files_come_out_as_in_full(corpus: Path, tmp_path: Path) -> None:
    """Each file five times, with what differs between the slices of a scanner."""
    n_by_template = 0
    small = [path for path in sorted((corpus / "real").rglob("*")) if path.is_file() and path.stat().st_size < 150_000]
    for place, path in enumerate(random.Random(7).sample(small, 16)):
        copies = _copies(path)
        if copies:
            folder = tmp_path / str(place)
            outcome = both_ways(folder, written_bytes(folder / "in", copies))
            n_by_template += outcome.ways.get(_BY_TEMPLATE, 0)
    assert n_by_template >= 15


def _copies(path: Path) -> list[bytes]:
    try:
        original = pydicom.dcmread(path)
        copies = []
        for number in range(5):
            ds = copy.deepcopy(original)
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(uid("copy", number))
            ds.InstanceNumber = number + 1
            ds.SliceLocation = f"{number * 1.5:.2f}"
            ds.ContentTime = f"10{number:02d}30.5"
            buffer = io.BytesIO()
            ds.save_as(buffer)
            copies.append(buffer.getvalue())
    except Exception:  # not all of them can be read and written by pydicom
        return []
    return copies


def written_bytes(folder: Path, contents: list[bytes]) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{number}.dcm" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def test_a_harvest_counts_which_way_its_instances_went(tmp_path: Path) -> None:
    written(tmp_path / "in", slices(n=5))
    lake = settings_of(tmp_path / "lake")
    summary = harvest_folder(lake, tmp_path / "in", hospital=hospital_of_files(lake, "h1"))
    assert summary.to_json()["deidentified_by"] == {_BY_TEMPLATE: 4, "read in full": 1}
