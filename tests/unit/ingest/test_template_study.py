"""What one instance decides for its whole study is known before the second pass, whichever way it was read."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from radlake.ingest.job import IngestJob, SourceFile, StudyOutcome
from radlake.ingest.study import ingest_study
from support.dicom import ct_study, write
from support.lakes import settings_of


def _both_ways(folder: Path, instances: list[Dataset]) -> tuple[StudyOutcome, StudyOutcome]:
    for number, ds in enumerate(instances):
        write(ds, folder / f"{number}.dcm")
    sources = tuple(
        SourceFile(folder / f"{number}.dcm", "test", ds.SOPInstanceUID) for number, ds in enumerate(instances)
    )
    study = instances[0].StudyInstanceUID
    fast, full = (
        ingest_study(
            IngestJob(settings_of(folder / f"lake-{use_templates}"), "h1", study, sources), use_templates=use_templates
        )
        for use_templates in (True, False)
    )
    assert (fast.study, fast.series, fast.instances) == (full.study, full.series, full.instances)
    return fast, full


def _with_item(instances: list[Dataset], sequence: str, keyword: str, values: dict[int, str]) -> None:
    """The same sequence in every instance; of some of them, an attribute in it has a value."""
    for number, ds in enumerate(instances):
        item = Dataset()
        setattr(item, keyword, values.get(number, ""))
        setattr(ds, sequence, Sequence([item]))


def test_a_number_told_in_a_sequence_is_searched_for_in_all_others(tmp_path: Path) -> None:
    instances = ct_study(n=6)
    _with_item(instances, "RequestAttributesSequence", "RequestedProcedureID", {3: "7654321"})
    for number, ds in enumerate(instances):
        ds.SliceLocation = "7654321" if number == 5 else f"{number}.5"
    fast, _ = _both_ways(tmp_path, instances)
    assert len(fast.instances) == 6
    assert fast.ways["by template"] >= 2
    assert not any(b"7654321" in path.read_bytes() for path in (tmp_path / "lake-True" / "objects").rglob("*.zip"))


def test_the_identity_number_of_a_later_instance_decides_who_the_person_is(tmp_path: Path) -> None:
    instances = ct_study(n=5)
    _with_item(
        instances,
        "OtherPatientIDsSequence",
        "PatientID",
        dict.fromkeys(range(1, 5), "11010519491231002X"),
    )
    fast, full = _both_ways(tmp_path, instances)
    assert fast.study
    assert full.study
    assert fast.study["patient_key"] == full.study["patient_key"]
    assert len(fast.instances) == 5


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("BodyPartExamined", "HEAD"), ("ImageLaterality", "R"), ("ContrastBolusAgent", "Iohexol")],
)
def test_the_exam_is_classified_by_the_first_instance_whichever_was_read_first(
    tmp_path: Path, keyword: str, value: str
) -> None:
    instances = ct_study(n=5, description="")
    for number, ds in enumerate(instances):
        ds.InstanceNumber = [3, 2, 1, 4, 5][number]
        setattr(ds, keyword, value if ds.InstanceNumber == 1 else "L" if keyword == "ImageLaterality" else "")
    fast, full = _both_ways(tmp_path, instances)
    assert fast.study
    assert full.study
    for column in ("body_part_code", "laterality_code", "has_contrast"):
        assert fast.study[column] == full.study[column]


def test_an_instance_number_of_two_values_has_its_place_by_the_first(tmp_path: Path) -> None:
    instances = ct_study(n=5)
    for ds, number in zip(instances, ["1", "5\\1", "4", "3\\2", "2"], strict=True):
        ds.InstanceNumber = number.split("\\") if "\\" in number else number
    fast, _ = _both_ways(tmp_path, instances)
    assert fast.ways["by template"] == 4


def test_a_derived_image_without_a_position_is_looked_at(tmp_path: Path) -> None:
    instances = ct_study(n=5)
    for number, ds in enumerate(instances):
        ds.ImageType = ["DERIVED", "PRIMARY"]
        ds.ImagePositionPatient = "" if number == 3 else ["1", "2", str(number)]
    fast, _ = _both_ways(tmp_path, instances)
    assert fast.ways["an image without a position"] == 1


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.50", "1.2.840.10008.5.1.4.1.1.2"])
def test_an_instance_with_a_uid_of_the_standard_is_set_aside_and_the_others_are_stored(
    tmp_path: Path, uid: str
) -> None:
    instances = ct_study(n=4)
    instances[2].SOPInstanceUID = instances[2].file_meta.MediaStorageSOPInstanceUID = UID(uid)
    for outcome in _both_ways(tmp_path, instances):
        assert [item.error.reason for item in outcome.refused] == ["uid_invalid"]
        assert len(outcome.instances) == 3


def test_a_uid_that_is_the_beginning_of_a_class_stops_nothing(tmp_path: Path) -> None:
    instances = ct_study(n=3)
    instances[1].SOPInstanceUID = instances[1].file_meta.MediaStorageSOPInstanceUID = UID("1.2.840.10008.5.1.4.1.1")
    for outcome in _both_ways(tmp_path, instances):
        assert len(outcome.instances) == 3
