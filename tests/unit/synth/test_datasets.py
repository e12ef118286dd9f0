from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom import config, dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from radlake.synth.datasets import Instance, datasets_of, instances_of, pydicom_test_files, write_archive
from radlake.synth.province import Exam, Province, make_province
from radlake.vocab import decide, evidence_of
from support import need

# The kind of each hospital's objects, by SOP class.
KINDS = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.2": "MG",
    "1.2.840.10008.5.1.4.1.1.6.1": "US",
    "1.2.840.10008.5.1.4.1.1.7": "SC",
    "1.2.840.10008.5.1.4.1.1.88.67": "SR",
}


@pytest.fixture(scope="module")
def province() -> Province:
    return make_province(seed=9, n_exams=150)


@pytest.fixture(scope="module")
def samples(province: Province) -> dict[tuple[str, str], tuple[Exam, Instance]]:
    """The first instance of each kind in each hospital."""
    found: dict[tuple[str, str], tuple[Exam, Instance]] = {}
    for exam in province.exams:
        for instance in instances_of(province, exam):
            kind = KINDS[dcmread(BytesIO(instance.content), stop_before_pixels=True).SOPClassUID]
            found.setdefault((exam.hospital_id, kind), (exam, instance))
    return found


@pytest.fixture
def strict_reading() -> Iterator[None]:
    before = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.RAISE
    yield
    config.settings.reading_validation_mode = before


def test_every_hospital_has_its_kinds(samples: dict[tuple[str, str], tuple[Exam, Instance]]) -> None:
    assert {kind for hospital, kind in samples if hospital == "jsa-provincial"} >= {"CT", "MR", "DX", "US", "SR", "SC"}
    assert {kind for hospital, kind in samples if hospital == "xzb-county"} >= {"CT", "MR", "CR", "US", "SR"}
    assert {kind for _, kind in samples} == set(KINDS.values())


def test_values_are_valid_and_pixels_decode(
    samples: dict[tuple[str, str], tuple[Exam, Instance]], strict_reading: None
) -> None:
    for (_, kind), (_, instance) in samples.items():
        ds = dcmread(BytesIO(instance.content))
        assert [element.value for element in ds.iterall()]
        if kind != "SR":
            assert ds.pixel_array.shape == (96, 96)
            assert ds.pixel_array.max() < 1 << ds.BitsStored


def test_pydicom_writes_the_same_bytes(samples: dict[tuple[str, str], tuple[Exam, Instance]]) -> None:
    """Our encoder against pydicom's: what it reads, it writes back byte by byte."""
    for _, instance in samples.values():
        ds = dcmread(BytesIO(instance.content))
        assert [element.value for element in ds.iterall()]  # decode everything, so that everything is encoded anew
        buffer = BytesIO()
        dcmwrite(buffer, ds, enforce_file_format=True)
        assert buffer.getvalue() == instance.content


def test_dciodvfy_finds_no_error(samples: dict[tuple[str, str], tuple[Exam, Instance]], tmp_path: Path) -> None:
    """Nothing is excused: no object of any kind has an error."""
    program = need.program("dciodvfy", package="dicom3tools")
    path = tmp_path / "instance.dcm"
    for key, (_, instance) in samples.items():
        path.write_bytes(instance.content)
        run = subprocess.run([program, "-new", str(path)], capture_output=True, text=True, check=False)
        report = run.stdout + run.stderr
        assert "Error" not in report, f"{key}: {report}"
        assert re.search(r"^\w+(Image|SR|ForPresentation)", report, re.MULTILINE), f"{key}: not recognised: {report}"


def test_each_hospital_writes_names_in_its_own_charset(province: Province) -> None:
    expected = {"jsa-provincial": "GB18030", "sza-municipal": "ISO_IR 192", "xzb-county": "ISO_IR 100"}
    for hospital_id, charset in expected.items():
        for exam in province.exams_of(hospital_id)[:20]:
            ds = next(datasets_of(province, exam))
            assert ds.SpecificCharacterSet == charset
            if exam.patient_id:
                spelled_only = charset == "ISO_IR 100"
                assert str(ds.PatientName) == (exam.person.name_spelled if spelled_only else exam.person.name)
                if not spelled_only:
                    assert exam.person.name_zh in ds.PatientComments
                    assert ds.InstitutionName == province.hospital(hospital_id).name_zh


def test_identifiers_stand_where_real_ones_stand(province: Province) -> None:
    """In elements of their own, in comments, in sequences and in private elements."""
    for hospital in province.hospitals:
        exam = next(e for e in province.exams_of(hospital.hospital_id) if e.has_national_id)
        content = next(iter(instances_of(province, exam))).content
        ds = dcmread(BytesIO(content))
        assert content.count(exam.person.national_id.encode()) == 2
        assert content.count(exam.person.phone.encode()) == 2
        assert content.count(exam.accession_number.encode()) >= 4
        assert (0x0011, 0x1001) in ds
        assert ds.RequestAttributesSequence[0].RequestedProcedureID == exam.accession_number
        assert ds.PatientID == exam.patient_id


def test_a_visit_without_the_national_identity_number_shows_it_nowhere(province: Province) -> None:
    exams = [exam for exam in province.exams if not exam.has_national_id]
    assert len(exams) > 10
    for exam in exams:
        assert all(exam.person.national_id.encode() not in i.content for i in instances_of(province, exam))


def test_a_patient_whom_nobody_knew_has_neither_name_nor_number() -> None:
    province = make_province(seed=1, n_exams=1000)
    exam = next(exam for exam in province.exams if not exam.patient_id)
    ds = next(datasets_of(province, exam))
    assert (ds.PatientID, ds.PatientBirthDate) == ("", "")
    assert exam.person.name_spelled not in str(ds)


def test_the_uids_of_the_data_set_are_those_of_the_province(province: Province) -> None:
    for exam in province.exams[:60]:
        expected = [
            (study.study_instance_uid, series.series_instance_uid, number)
            for study in exam.studies
            for series in study.series
            for number in range(1, series.n_instances + 1)
        ]
        found = list(datasets_of(province, exam))
        assert [(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.InstanceNumber) for ds in found] == expected
        assert all(ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID for ds in found)
        assert {ds.AccessionNumber for ds in found} == {exam.accession_number}
        assert len({ds.SOPInstanceUID for ds in found}) == len(found) == exam.n_instances


def test_no_two_images_have_the_same_pixels(province: Province) -> None:
    pixels = [ds.PixelData for exam in province.exams[:100] for ds in datasets_of(province, exam) if "PixelData" in ds]
    assert len(set(pixels)) == len(pixels)


def test_the_number_of_the_patient_is_burned_into_ultrasound(
    samples: dict[tuple[str, str], tuple[Exam, Instance]],
) -> None:
    _, instance = samples["jsa-provincial", "US"]
    ds = dcmread(BytesIO(instance.content))
    assert ds.BurnedInAnnotation == "YES"
    bright = ds.pixel_array == 255
    assert bright[:16].sum() > 100
    assert not bright[16:].any()


def test_the_vocabulary_recognises_every_exam_as_what_it_is(province: Province) -> None:
    """With and without Body Part Examined, in Chinese and in English: else truth and statistics could not agree."""
    for exam in province.exams[:150]:
        first_of_series = {ds.SeriesInstanceUID: ds for ds in reversed(list(datasets_of(province, exam)))}
        facts = decide(evidence_of(list(first_of_series.values())))
        protocol = exam.protocol
        assert (facts.modality_group, facts.body_part_code) == (protocol.modality, protocol.body_part)
        if exam.laterality:
            assert facts.laterality_code == exam.laterality
        image = next(ds for ds in first_of_series.values() if ds.Modality in ("CT", "CR", "DX", "MR", "MG", "US"))
        if image.Modality not in ("MG", "US"):
            assert (image.get("BodyPartExamined") or "") == (protocol.body_part if exam.has_body_part else "")


def test_the_archive_is_a_tree_of_days_studies_and_series(province: Province, tmp_path: Path) -> None:
    count = write_archive(province, "xzb-county", tmp_path, extra=pydicom_test_files())
    extra = sorted((tmp_path / "extra").iterdir())
    files = sorted(tmp_path.glob("[0-9]*/[0-9]*/[0-9]*/*/*/*.dcm"))
    assert count == len(extra) + len(files)
    assert [path.name for path in extra] == [path.name for path in pydicom_test_files()]
    exam = province.exams_of("xzb-county")[0]
    for instance in instances_of(province, exam):
        folder = tmp_path / f"{exam.day:%Y/%m/%d}" / instance.study_instance_uid / instance.series_instance_uid
        path = folder / f"{instance.sop_instance_uid}.dcm"
        assert path.read_bytes() == instance.content
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == ImplicitVRLittleEndian


def test_some_of_the_extra_files_are_broken() -> None:
    names = {path.name for path in pydicom_test_files()}
    assert {"CT_small.dcm", "rtplan_truncated.dcm", "no_meta.dcm"} <= names
    assert len(names) > 70


def test_a_dose_report_holds_its_total(samples: dict[tuple[str, str], tuple[Exam, Instance]]) -> None:
    report: Dataset = dcmread(BytesIO(samples["jsa-provincial", "SR"][1].content))
    dose = report.ContentSequence[1].ContentSequence[1]
    assert dose.ConceptNameCodeSequence[0].CodeValue == "113813"
    assert 150 <= dose.MeasuredValueSequence[0].NumericValue < 650
