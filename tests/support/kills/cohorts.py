"""Cohorts: built from a lake that stands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.kills.harvests import harvested
from support.kills.scenario import NOW, Scenario, files_of, settings_in

__all__ = ["COHORTS"]

_COHORT = "{cohort: everybody, version: 1, title: {zh: 全部, en: Everybody}, include: {}}"


def _exams(folder: Path, given: Mapping[str, Any]) -> None:
    from radlake.ingest.build import build_lake

    harvested(folder, given)
    build_lake(settings_in(folder), now=NOW, layers=["core"])


def _build(folder: Path, given: Mapping[str, Any]) -> None:
    from radlake.cohort.build import build_cohort
    from radlake.cohort.definition import cohort_from_yaml
    from radlake.ingest.offsets import date_offsets
    from radlake.lake import Lake

    settings = settings_in(folder)
    build_cohort(Lake.from_settings(settings), cohort_from_yaml(_COHORT), date_offsets=date_offsets(settings))


def _see_built(folder: Path) -> dict[str, Any]:
    from radlake.lake import Lake

    settings = settings_in(folder)
    files = files_of(settings.restricted / "cohorts")
    named = {name: digest for name, digest in files.items() if not name.startswith(".")}
    return {"files": named, "pins": Lake.from_settings(settings).tables.pins()}


def _built(folder: Path, given: Mapping[str, Any]) -> None:
    _exams(folder, given)
    _build(folder, given)


def _release(folder: Path, given: Mapping[str, Any]) -> None:
    """One is made and approved, another is made, approved and revoked."""
    from radlake.cohort.approval import revoke
    from radlake.cohort.build import built_cohorts
    from radlake.cohort.release import make_release
    from radlake.ingest.offsets import date_offsets
    from radlake.lake import Lake
    from radlake.stats.policy import Policy
    from support.cohorts import approved

    settings = settings_in(folder)
    [cohort_id] = built_cohorts(Lake.from_settings(settings))
    for project in ("one", "two"):
        made = make_release(
            settings,
            cohort_id,
            project=project,
            contact="office",
            date_offsets=date_offsets(settings),
            policy=Policy(threshold=1),
        )
        approved(settings, made.release_id, now=NOW)
    revoke(settings, made.release_id, by="committee", why="2026-18", now=NOW)


def _see_released(folder: Path) -> dict[str, Any]:
    from contextlib import closing

    from radlake.cohort.approval import decisions
    from radlake.lake.ledger import Ledger

    settings = settings_in(folder)
    with closing(Ledger(settings.ledger)) as ledger:
        decided = {(one.release_id, one.decision, one.why) for one in decisions(ledger)}
    made = files_of(settings.restricted / "releases")
    return {
        "decided": decided,
        # A review tells of all other releases that there are: run again, there are more.
        "made": {name: digest for name, digest in made.items() if "/work/" not in name and "/review/" not in name},
        "told": files_of(folder / "lake" / "releases"),
    }


_LAYOUTS = ("dicom", "zip", "webdataset")


def _released(folder: Path, given: Mapping[str, Any]) -> None:
    _built(folder, given)
    _release(folder, given)


def _pull(folder: Path, given: Mapping[str, Any]) -> None:
    """The release that stands, in every layout that needs no other program, a member a chunk."""
    from radlake.cohort.pull import Manifest, chunks, open_release, pull

    chunks._PIECE = 1500
    [path] = (folder / "lake" / "releases").glob("*.one")
    for layout in _LAYOUTS:
        release = open_release(settings_in(folder), path.name, today=NOW.date())
        pulled = pull(release, folder / layout, manifest=Manifest(path.name), layout=layout, workers=2)
        if pulled.ended_by is not None:
            raise pulled.ended_by
        assert pulled.is_complete


def _see_pulled(folder: Path) -> dict[str, Any]:
    return {
        layout: {name: digest for name, digest in files_of(folder / layout).items() if not name.startswith(".")}
        for layout in _LAYOUTS
    }


def _export(folder: Path, given: Mapping[str, Any]) -> None:
    """The release that stands, in tables of OMOP; run again, what is whole stays."""
    from radlake.cohort.omop import export_omop
    from radlake.cohort.pull import open_release

    [path] = (folder / "lake" / "releases").glob("*.one")
    if not (folder / "omop").exists():
        export_omop(open_release(settings_in(folder), path.name, today=NOW.date()), folder / "omop")


def _see_exported(folder: Path) -> dict[str, Any]:
    return files_of(folder / "omop")


def _with_results(folder: Path, given: Mapping[str, Any]) -> None:
    from support.results import write_results

    _released(folder, given)
    [path] = (folder / "lake" / "releases").glob("*.one")
    assert any(write_results(settings_in(folder), path.name, folder / "home").rglob("*.dcm"))


def _take(folder: Path, given: Mapping[str, Any]) -> None:
    from support.results import take_all

    [path] = (folder / "lake" / "releases").glob("*.one")
    assert not any(one.refused for one in take_all(settings_in(folder), path.name, folder / "home"))


def _see_taken(folder: Path) -> dict[str, Any]:
    from radlake.cohort.results.taken import taken_results
    from radlake.lake import Lake

    rows = taken_results(Lake.from_settings(settings_in(folder)))
    return {"rows": rows, "objects": files_of(folder / "lake" / "results")}


COHORTS: Mapping[str, Scenario] = {
    "cohort": Scenario(_build, _see_built, _exams),
    "release": Scenario(_release, _see_released, _built),
    "pull": Scenario(_pull, _see_pulled, _released),
    "export": Scenario(_export, _see_exported, _released),
    "results": Scenario(_take, _see_taken, _with_results),
}
