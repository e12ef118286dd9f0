from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from radlake.errors import ConfigInvalid
from radlake.synth.datasets import instances_of, pydicom_test_files, write_archive
from radlake.synth.holdings import LEVELS, Holdings, dataset_from
from radlake.synth.province import Exam, Province, make_province
from radlake.synth.quirks import Quirks, quirks_from_json

HOSPITAL = "jsa-provincial"


@pytest.fixture(scope="module")
def province() -> Province:
    return make_province(seed=21, n_exams=12)


@pytest.fixture(scope="module")
def archive(province: Province, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_archive(province, HOSPITAL, folder)
    return folder


@pytest.fixture(scope="module")
def holdings(archive: Path) -> Holdings:
    return Holdings(archive)


@pytest.fixture
def exam(province: Province) -> Exam:
    return max(province.exams_of(HOSPITAL), key=lambda exam: exam.n_instances)


def found(holdings: Holdings, **query: str) -> list[str]:
    return [answer["StudyInstanceUID"] for answer in holdings.find("STUDY", query)]


def test_everything_is_held_and_counted(holdings: Holdings, province: Province) -> None:
    exams = province.exams_of(HOSPITAL)
    assert len(holdings.by_uid) == sum(exam.n_instances for exam in exams)
    answers = {answer["StudyInstanceUID"]: answer for answer in holdings.find("STUDY", {})}
    assert set(answers) == {study.study_instance_uid for exam in exams for study in exam.studies}
    for exam in exams:
        for study in exam.studies:
            answer = answers[study.study_instance_uid]
            assert answer["NumberOfStudyRelatedSeries"] == str(len(study.series))
            assert answer["NumberOfStudyRelatedInstances"] == str(sum(s.n_instances for s in study.series))
            assert answer["AccessionNumber"] == exam.accession_number


def test_keys_match_as_the_standard_says(holdings: Holdings, exam: Exam) -> None:
    uid = exam.studies[0].study_instance_uid
    day = f"{exam.day:%Y%m%d}"
    family = exam.person.name.partition("=")[2][0]
    matching = [
        {"StudyInstanceUID": uid},
        {"StudyInstanceUID": f"1.2.3\\{uid}"},
        {"StudyDate": day},
        {"StudyDate": f"{day}-{day}"},
        {"StudyDate": f"{day}-"},
        {"StudyDate": f"-{day}"},
        {"PatientID": exam.patient_id},
        {"PatientID": f"?{exam.patient_id[1:-1]}*"},
        {"PatientName": f"{family}*"},
        {"PatientName": exam.person.name_spelled.upper()},
        {"PatientName": exam.person.name},
        {"PatientName": "*"},
        {"PatientName": ""},
        {"ModalitiesInStudy": exam.protocol.modality},
        {"AccessionNumber": exam.accession_number, "StudyDate": day},
        {"NoSuchKey": "anything"},
    ]
    for query in matching:
        assert uid in found(holdings, **query), query
    differing = [
        {"StudyInstanceUID": "1.2.3"},
        {"StudyInstanceUID": uid[:-1]},
        {"StudyDate": "20200101-20200131"},
        {"PatientID": exam.patient_id[:-1]},
        {"PatientName": exam.person.name_spelled[:2]},
        {"PatientName": f"[{family}]*"},
        {"ModalitiesInStudy": "XA"},
        {"AccessionNumber": exam.accession_number, "StudyDate": "20200101"},
    ]
    for query in differing:
        assert uid not in found(holdings, **query), query


def test_levels_below_carry_the_keys_of_the_levels_above(holdings: Holdings, exam: Exam) -> None:
    study = exam.studies[0]
    series = list(holdings.find("SERIES", {"StudyInstanceUID": study.study_instance_uid}))
    assert [answer["SeriesInstanceUID"] for answer in series] == [s.series_instance_uid for s in study.series]
    assert [answer["NumberOfSeriesRelatedInstances"] for answer in series] == [str(s.n_instances) for s in study.series]
    assert {answer["PatientID"] for answer in series} == {exam.patient_id}
    images = list(holdings.find("IMAGE", {"SeriesInstanceUID": study.series[-1].series_instance_uid}))
    assert len(images) == study.series[-1].n_instances
    assert set(images[0]) == {key for keys in LEVELS.values() for key in keys}


def test_retrieval_looks_at_uids_only(holdings: Holdings, exam: Exam, province: Province) -> None:
    wanted = {i.sop_instance_uid for i in instances_of(province, exam)}
    uids = "\\".join(study.study_instance_uid for study in exam.studies)
    held = holdings.instances({"StudyInstanceUID": uids, "PatientID": "somebody else"})
    assert {one.sop_instance_uid for one in held} == wanted
    assert all(one.content()[128:132] == b"DICM" for one in held)
    assert holdings.instances({"StudyInstanceUID": "1.2.3"}) == []


def test_what_a_pacs_would_refuse_is_not_held(archive: Path, tmp_path: Path, exam: Exam) -> None:
    source = next(archive.rglob(f"{exam.studies[0].study_instance_uid}/*/*.dcm"))
    shutil.copyfile(source, tmp_path / "b.dcm")
    shutil.copyfile(source, tmp_path / "again.dcm")
    (tmp_path / "truncated.dcm").write_bytes(source.read_bytes()[:300])
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "notes.txt").write_text("not DICOM")
    holdings = Holdings(tmp_path)
    assert [held.sop_instance_uid for held in holdings.instances({})] == [source.stem]


def test_odd_files_of_real_machines_do_not_stop_it(recwarn: pytest.WarningsRecorder) -> None:
    """The pydicom wheel's test files: broken ones are left out, an invalid value is empty, one UID is held once."""
    holdings = Holdings(pydicom_test_files()[0].parent)
    recwarn.clear()  # pydicom warns of what is wrong with them
    assert len(holdings.by_uid) > 40
    for level in LEVELS:
        for answer in holdings.find(level, {}):
            assert dataset_from(answer).to_json_dict()
    counts = [int(answer["NumberOfStudyRelatedInstances"]) for answer in holdings.find("STUDY", {})]
    assert sum(counts) == len(holdings.by_uid) == len(holdings.instances({}))


def test_quirks_are_read_by_name() -> None:
    assert quirks_from_json("{}") == Quirks()
    assert quirks_from_json('{"fail_instances": ["1.2"], "drop_after_n": 3}') == Quirks(
        fail_instances=("1.2",), drop_after_n=3
    )


@pytest.mark.parametrize("text", ['{"typo": 1}', "{"])
def test_an_unknown_quirk_is_refused(text: str) -> None:
    with pytest.raises(ConfigInvalid):
        quirks_from_json(text)
