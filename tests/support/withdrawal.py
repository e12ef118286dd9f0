"""A lake of several persons with a cohort and a release, and one of them withdrawn from it."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path

from radlake.cohort.candidate import Candidate
from radlake.config import Settings
from radlake.lake import Lake
from radlake.vault.lake_key import lake_keys, open_ledger
from radlake.vault.trail import Reason
from radlake.withdrawal import Subject, Withdrawn, subject_of_person, subject_of_study, withdraw
from support.cohorts import approved, built_everybody, lake_of_cts, released, write_cts

__all__ = ["NOW", "PATIENT", "REASON", "WHY", "lake_with_release", "of_person", "of_study", "withdrawn_person"]

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


def archive_of(folder: Path) -> Path:
    """Eight persons of two exams each."""
    return write_cts(folder, exams=2, slices=2)
