"""A lake of several persons with a cohort and a release, and one of them withdrawn from it."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq

from radlake.cohort.candidate import Candidate
from radlake.config import Settings
from radlake.lake import Lake, duck
from radlake.vault.lake_key import lake_keys, open_ledger
from radlake.vault.trail import Reason
from radlake.withdrawal import Subject, Withdrawn, subject_of_person, subject_of_study, withdraw
from support.cohorts import approved, built_everybody, lake_of_cts, released

__all__ = ["NOW", "PATIENT", "REASON", "WHY", "lake_with_release", "left_of", "names_of", "of_person", "of_study",
           "withdrawn_person"]  # fmt: skip

NOW = datetime(2026, 11, 23, 1)
PATIENT = "P0003"
WHY = "request 12 of 2026"
REASON = Reason("Data protection officer", WHY)


def lake_with_release(folder: Path, archive: Path, **given: object) -> tuple[Settings, Candidate]:
    settings = lake_of_cts(folder, archive, **given)
    candidate = released(settings, built_everybody(settings))
    approved(settings, candidate.release_id)
    return settings, candidate


def of_person(settings: Settings, patient_id: str = PATIENT) -> Subject:
    with closing(open_ledger(settings)) as ledger:
        lake = Lake.from_settings(settings)
        return subject_of_person(lake, ledger, lake_keys(settings), hospital_id="h1", patient_id=patient_id)


def of_study(settings: Settings, study_uid: str) -> Subject:
    with closing(open_ledger(settings)) as ledger:
        return subject_of_study(Lake.from_settings(settings), ledger, lake_keys(settings), study_uid=study_uid)


def withdrawn_person(settings: Settings, patient_id: str = PATIENT) -> Withdrawn:
    subject = of_person(settings, patient_id)
    with closing(open_ledger(settings)) as ledger:
        return withdraw(settings, ledger, subject, reason=REASON, now=NOW)


def names_of(settings: Settings) -> set[str]:
    """UIDs and pseudonyms of the person, before anything is removed; taken from the lake, not from the withdrawal."""
    keys = lake_keys(settings)
    subject = of_person(settings)
    (key,) = subject.patient_keys
    with duck.connect(Lake.from_settings(settings)) as connection:
        rows = connection.execute(
            "SELECT study_instance_uid, series_instance_uid, sop_instance_uid FROM dicom.instance"
            " WHERE patient_key = ?",
            [key],
        ).fetchall()
        exams = connection.execute("SELECT exam_pseudo_id FROM core.exam WHERE patient_key = ?", [key]).fetchall()
    assert len(rows) == 4
    assert len(exams) == 2
    original = [study.study_uid for study in subject.studies]
    assert {keys.uid(uid) for uid in original} <= {row[0] for row in rows}
    return {uid for row in rows for uid in row} | {exam for (exam,) in exams} | {f"{key:016x}", str(key), *original}


def left_of(settings: Settings, names: set[str]) -> set[tuple[str, str]]:
    """Files of the lake in whose name, bytes or columns one of the names stands: a search of its own."""
    found = set()
    for path in Path(settings.lake).rglob("*"):
        place = str(path.relative_to(settings.lake))
        found |= {(place, name) for name in names if name in place}
        if not path.is_file():
            continue
        if path.suffix == ".parquet":
            content = "\n".join(str(row) for row in pq.ParquetFile(path).read().to_pylist()).encode()
        else:
            content = path.read_bytes()
        found |= {(place, name) for name in names if name.encode() in content}
    return found
