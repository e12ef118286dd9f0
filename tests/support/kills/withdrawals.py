"""Withdrawal of a person from a lake with a cohort, a pin, a release, and results of research on it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from support.kills.scenario import Scenario, files_of, settings_in

__all__ = ["WITHDRAWALS"]


def _lake(folder: Path, given: Mapping[str, Any]) -> None:
    from support.cohorts import write_cts
    from support.results import take_all, write_results
    from support.withdrawal import lake_with_release

    settings, release = lake_with_release(folder, write_cts(folder / "in", exams=2, slices=2))
    take_all(settings, release.release_id, write_results(settings, release.release_id, folder / "home"))


def _withdraw(folder: Path, given: Mapping[str, Any]) -> None:
    from support.withdrawal import withdrawn_person

    withdrawn_person(settings_in(folder))


def _see(folder: Path) -> dict[str, Any]:
    from radlake.cohort.results.taken import taken_results
    from radlake.ingest.certify import verify
    from radlake.lake import Lake
    from radlake.lake.purge import reissued
    from radlake.vault.lake_key import lake_keys, open_ledger
    from radlake.withdrawal import report_problems, reports
    from support.lakes import leads_back, picture, states

    settings = settings_in(folder)
    cohorts = files_of(settings.restricted / "cohorts")  # what a killed build was writing is swept some day
    tables = Lake.from_settings(settings).tables
    with closing(open_ledger(settings)) as ledger:
        told = [report.content for report in reports(ledger)]
        wrong = list(report_problems(ledger, settings.restricted, lake_keys(settings).withdrawal_mac))
    return picture(settings) | {
        "states": states(settings),
        "leads back": leads_back(settings),
        "removed": [(content["removed"], content["remnants"], content["previous"]) for content in told],
        "wrong": wrong + [problem.told for problem in verify(settings)],
        "cohorts": {name: digest for name, digest in cohorts.items() if ".part/" not in name},
        "pins": {pin: reissued(tables, pin) for pin in tables.pins()},
        "releases": files_of(settings.restricted / "releases"),
        "results": (taken_results(Lake.from_settings(settings)), files_of(folder / "lake" / "results")),
        "held back": not any((settings.restricted / "offsets").rglob("*.sealed")),
    }


WITHDRAWALS: Mapping[str, Scenario] = {"withdraw": Scenario(_withdraw, _see, _lake)}
