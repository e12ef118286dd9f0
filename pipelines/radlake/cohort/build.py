"""Count a cohort while it is written, and build it: files whose bytes follow from definition and snapshot.

A cohort lies in the restricted zone, because who is in it tells of true dates: `restricted/cohorts/<id>/`. What leaves
it is a release (`radlake.cohort.release`). The versions of the tables that it was built from are pinned.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq

from radlake.cohort.definition import READS, Cohort, Known, cohort_from_yaml
from radlake.cohort.select import members_of, narrow
from radlake.commit_points import reached
from radlake.epidemiology.counting import Step
from radlake.epidemiology.fields import nearest
from radlake.epidemiology.release import coarsened
from radlake.errors import ConfigInvalid, SourceMissing
from radlake.lake import Lake, duck
from radlake.lake.store import make_folder, storage_errors, sweep
from radlake.lake.tables import LONGEST_BATCH
from radlake.machine import fsync
from radlake.sqlrun.date_offsets import register_date_offsets
from radlake.stats.policy import Policy

__all__ = ["Built", "build_cohort", "built_cohorts", "count_cohort", "known_of", "open_built", "rebuild_cohort",
           "snapshot_of"]  # fmt: skip

_DOCUMENT = "cohort.json"

DateOffsets = AbstractContextManager[Callable[[np.ndarray], np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Built:
    """A cohort that was built.

    Attributes
    ----------
    snapshot : mapping of str to int
        Versions of the tables that it was built from.
    steps : tuple of Step
        Exact counts.
    digests : mapping of str to str
        SHA-256 of each file.
    """

    cohort_id: str
    cohort: Cohort
    folder: Path
    snapshot: Mapping[str, int]
    steps: tuple[Step, ...]
    digests: Mapping[str, str]

    def table(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"


def known_of(lake: Lake, hospitals: Collection[str]) -> Known:
    """What a definition may name in a lake: versions, hospitals (those given are registered) and regions."""
    latest = {name: version for name in READS if (version := lake.tables.version(name)) is not None}
    codes = {"hospital": set(hospitals), "region": set[str]()}
    if "core.exam" in latest:
        with duck.connect(lake, tables=["core.exam", "ref.region"]) as connection:
            exams = connection.execute("SELECT DISTINCT hospital_id, region_code FROM core.exam").fetchall()
            regions = connection.execute("SELECT region_code FROM ref.region").fetchall()
        codes["hospital"] |= {hospital for hospital, _ in exams}
        codes["region"] |= {region for _, region in exams if region} | {region for (region,) in regions}
    return Known(latest, codes)


def snapshot_of(lake: Lake, given: Mapping[str, int] | None = None) -> dict[str, int]:
    """Latest versions of the tables that cohorts are built from, or the given ones.

    Raises
    ------
    ConfigInvalid
        If a version is given that is not there, or of a table that cohorts do not read.
    """
    given, problems = dict(given or {}), []
    for name in sorted(set(given) - set(READS)):
        problems.append(f"{name} is no table that a cohort is built from.{nearest(name, READS)}")
    found = {}
    for name in READS:
        latest = lake.tables.version(name)
        if latest is None:
            if name in given:
                problems.append(f"{name} does not exist in this lake")
            continue
        found[name] = given.get(name, latest)
        if not 0 <= found[name] <= latest:
            problems.append(f"{name} has no version {found[name]}; its latest is {latest}")
    if "core.exam" not in found:
        problems.append("core.exam does not exist: harvest, then `radlake build`")
    if problems:
        raise ConfigInvalid(path="The snapshot", problems=problems)
    return found


def count_cohort(
    lake: Lake,
    cohort: Cohort,
    *,
    date_offsets: DateOffsets,
    policy: Policy,
    snapshot: Mapping[str, int] | None = None,
) -> list[tuple[Step, int | None, int | None]]:
    """What each step of a definition leaves, coarse as a measure's: (step, exams, persons); None is a small number."""
    seen = snapshot_of(lake, {**cohort.snapshot, **(snapshot or {})})
    with _reading(lake, seen, date_offsets) as connection:
        return coarsened(narrow(connection, cohort), policy=policy)


def build_cohort(
    lake: Lake, cohort: Cohort, *, date_offsets: DateOffsets, snapshot: Mapping[str, int] | None = None
) -> Built:
    """Build a cohort and pin its snapshot. Of one that was built before it is the same. The caller holds
    `radlake.lake.withdrawals.sharing_lake`, or withdraws somebody.

    Raises
    ------
    ConfigInvalid
        If the snapshot is none.
    StoreFull
    KeyMissing, KeyMismatch
    """
    seen = snapshot_of(lake, {**cohort.snapshot, **(snapshot or {})})
    cohort_id = cohort.cohort_id(seen)
    folder = _root(lake) / cohort_id
    if not (folder / _DOCUMENT).exists():
        with _reading(lake, seen, date_offsets) as connection:
            steps = narrow(connection, cohort)
            tables = members_of(connection, cohort)
        part = _root(lake) / f".{cohort_id}.{uuid.uuid4().hex}.part"
        with storage_errors(str(_root(lake))):
            make_folder(_root(lake))
            sweep(_root(lake), older_than=LONGEST_BATCH, pattern=".*.part")
            part.mkdir(mode=0o700)
            try:
                for name, table in tables.items():
                    pq.write_table(table, part / f"{name}.parquet", compression="zstd", store_schema=False)
                (part / _DOCUMENT).write_text(_document(cohort_id, cohort, seen, steps, part), encoding="utf-8")
                for file in part.iterdir():
                    fsync(file)
                reached("cohort.written")
                if not folder.exists():
                    part.rename(folder)
                    fsync(folder.parent)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    lake.tables.pin(_pin(cohort_id), seen)
    reached("cohort.built")
    return open_built(lake, cohort_id)


def rebuild_cohort(lake: Lake, cohort_id: str, *, date_offsets: DateOffsets) -> Built | None:
    """Build a cohort again from its own versions, out of which somebody was withdrawn; None when there is none.

    The folder of before waits beside it until the new one is there, so that a kill loses nothing.
    """
    folder, before = _root(lake) / cohort_id, _root(lake) / f".{cohort_id}.before"
    if not before.exists():
        if not folder.exists():
            return None
        folder.rename(before)
    elif not (before / _DOCUMENT).exists():  # the new one is there: a kill hit the removal below
        shutil.rmtree(before)
        return open_built(lake, cohort_id)
    found = json.loads((before / _DOCUMENT).read_text(encoding="utf-8"))
    cohort = cohort_from_yaml(json.dumps(found["definition"]), path=cohort_id)
    built = build_cohort(lake, cohort, date_offsets=date_offsets, snapshot=found["snapshot"])
    shutil.rmtree(before)
    return built


def open_built(lake: Lake, cohort_id: str) -> Built:
    """A cohort that was built before.

    Raises
    ------
    SourceMissing
    ConfigInvalid
        If one of its files is not what was written.
    """
    folder = _root(lake) / cohort_id
    try:
        found = json.loads((folder / _DOCUMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        known = ", ".join(built_cohorts(lake)) or "none"
        raise SourceMissing(path=f"The cohort {cohort_id} (built ones: {known})") from exc
    changed = [name for name, digest in found["digests"].items() if _sha256(folder / name) != digest]
    if changed:
        raise ConfigInvalid(path=folder, problems=[f"{name} is not what was built" for name in changed])
    return Built(
        cohort_id=cohort_id,
        cohort=cohort_from_yaml(json.dumps(found["definition"]), path=cohort_id),
        folder=folder,
        snapshot=found["snapshot"],
        steps=tuple(Step(**step) for step in found["steps"]),
        digests=found["digests"],
    )


def built_cohorts(lake: Lake) -> list[str]:
    """Ids of the cohorts that were built."""
    return sorted(path.parent.name for path in _root(lake).glob(f"[!.]*/{_DOCUMENT}"))


@contextmanager
def _reading(lake: Lake, snapshot: Mapping[str, int], date_offsets: DateOffsets) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to one snapshot with the true calendar."""
    with duck.connect(lake, snapshot=snapshot, tables=["dicom", "core", "ref"]) as connection:
        with date_offsets as offsets:
            register_date_offsets(connection, offsets)
        yield connection


def _document(cohort_id: str, cohort: Cohort, snapshot: Mapping[str, int], steps: list[Step], folder: Path) -> str:
    content: dict[str, Any] = {
        "cohort_id": cohort_id,
        "definition": dict(cohort.content),
        "snapshot": dict(snapshot),
        "steps": [vars(step) for step in steps],
        "digests": {path.name: _sha256(path) for path in sorted(folder.glob("*.parquet"))},
    }
    return json.dumps(content, sort_keys=True, ensure_ascii=False, indent=1) + "\n"


def _sha256(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _root(lake: Lake) -> Path:
    return lake.restricted / "cohorts"


def _pin(cohort_id: str) -> str:
    return f"cohort-{cohort_id}"
