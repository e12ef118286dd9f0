"""Lakes of real DICOM with cohorts and releases, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from radlake.cohort.approval import approve
from radlake.cohort.build import Built, build_cohort
from radlake.cohort.candidate import Candidate
from radlake.cohort.definition import cohort_from_yaml
from radlake.cohort.release import make_release
from radlake.config import Settings
from radlake.epidemiology.reports import code_delivery
from radlake.findings import load_rules
from radlake.ingest import harvest_folder
from radlake.ingest.build import build_lake
from radlake.ingest.offsets import date_offsets
from radlake.lake import Lake
from radlake.stats.policy import Policy
from radlake.vault.lake_key import lake_keys
from support.dicom import ct_study, write
from support.lakes import settings_of
from support.residency import the_hospital

__all__ = ["CONTACT", "NOW", "POLICY", "approved", "built_everybody", "lake_of_cts", "released",
           "with_findings", "write_cts"]  # fmt: skip

NOW = datetime(2026, 11, 22, 8)
POLICY = Policy(name="internal", threshold=5)
CONTACT = "data office, room 12"
_EVERYBODY = "{cohort: everybody, version: 1, title: {zh: 全部, en: Everybody}, include: {}}"


def write_cts(folder: Path, *, persons: int = 8, exams: int = 1, slices: int = 3, **options: Any) -> Path:
    """CT series of men of one age: nothing but their identity tells them apart."""
    for person in range(persons):
        for exam in range(exams):
            study = ct_study(
                n=slices,
                patient_id=f"P{person:04d}",
                patient=f"Wang^Number{person:04d}",
                study=exam,
                study_date=f"2026{1 + 3 * exam:02d}{1 + (7 * person + exam * (person + 1)) % 28:02d}",
                study_time=f"{8 + person % 9:02d}{(13 * person + 7) % 60:02d}{(17 * person + 5) % 60:02d}",
                accession=f"A{person:04d}{exam}",
                birth_date="19600101",
                seed=1000 * person + 10 * exam,
                **options,
            )
            for number, ds in enumerate(study):
                write(ds, folder / f"{person}-{exam}-{number}.dcm")
    return folder


def lake_of_cts(folder: Path, archive: Path, **given: Any) -> Settings:
    """A lake with core tables, harvested from a folder."""
    settings = settings_of(folder / "lake", **given)
    entry = f"hospital_id: h1, name_zh: 样例, name_en: Sample, node: {{kind: folder, path: '{archive}'}}"
    settings.hospitals.write_text(f"hospitals:\n  - {{{entry}}}\n")
    harvest_folder(settings, archive, hospital=the_hospital(settings))
    build_lake(settings, now=NOW, layers=["core"])
    return settings


def with_findings(settings: Settings, reports: Mapping[str, str]) -> None:
    """Code reports, given by accession number, into core.finding."""
    file = settings.restricted / "reports.csv"
    file.write_text("accession_number,report_text\n" + "".join(f"{key},{text}\n" for key, text in reports.items()))
    lake = Lake.from_settings(settings)
    code_delivery(lake, file, hospital_id="h1", keys=lake_keys(settings), rules=load_rules())


def built_everybody(settings: Settings, definition: str = _EVERYBODY) -> Built:
    lake = Lake.from_settings(settings)
    return build_cohort(lake, cohort_from_yaml(definition), date_offsets=date_offsets(settings))


def released(settings: Settings, built: Built, project: str = "alpha") -> Candidate:
    return make_release(
        settings,
        built.cohort_id,
        project=project,
        contact=CONTACT,
        date_offsets=date_offsets(settings),
        policy=POLICY,
    )


def approved(settings: Settings, release_id: str, *, expires_on: date = date(2027, 1, 1), now: datetime = NOW) -> None:
    approve(
        settings,
        release_id,
        purpose="lung nodules",
        holder="institute",
        expires_on=expires_on,
        by="committee",
        why="2026-17",
        licence="DUA 3",
        now=now,
    )
