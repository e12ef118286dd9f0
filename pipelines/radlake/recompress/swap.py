"""Swap: the rows of proven series objects, in one staged commit. Called under the hospital's lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import xxhash

from radlake.contracts import load_table
from radlake.contracts.rows import arrow_rows
from radlake.errors import SourceMissing
from radlake.ingest.batch import CHILDREN_FIRST, commit, stage_rows
from radlake.lake import Lake
from radlake.lake.evidence import Settlement
from radlake.lake.ledger import Ledger
from radlake.machine import utc_now
from radlake.recompress.catalogue import instances_by_path, rows_of
from radlake.recompress.series import SeriesOutcome

__all__ = ["swap"]

_KEYS = {
    "dicom.instance": ("hospital_id", "study_month", "object_path"),
    "dicom.series": ("hospital_id", "study_month", "object_path"),
    "dicom.study": ("hospital_id", "study_month", "study_instance_uid"),
}


def swap(lake: Lake, ledger: Ledger, hospital_id: str, outcomes: Sequence[SeriesOutcome]) -> list[SeriesOutcome]:
    """Let the lake's rows point to the new objects; those whose rows are not the ones that were read stay as they are.

    Returns
    -------
    list of SeriesOutcome
        Those that were swapped.
    """
    months = [outcome.job.month for outcome in outcomes]
    paths = [outcome.job.path for outcome in outcomes]
    instances = instances_by_path(lake, hospital_id, paths=paths, months=months)
    series = {
        row["object_path"]: row
        for row in rows_of(lake, "dicom.series", hospital_id, column="object_path", wanted=paths, months=months)
    }
    swapped = [
        outcome
        for outcome in outcomes
        if outcome.job.path in series
        and _is_unchanged(outcome, instances.get(outcome.job.path, []))
        and _is_there(lake, outcome)
    ]
    if not swapped:
        return []
    gained: Counter[str] = Counter()
    recoded: dict[str, dict[str, str]] = {}
    old: dict[str, list[dict[str, Any]]] = {name: [] for name in CHILDREN_FIRST}
    new: dict[str, list[dict[str, Any]]] = {name: [] for name in CHILDREN_FIRST}
    for outcome in swapped:
        before = instances[outcome.job.path]
        moved = {"object_path": outcome.new_path}
        after = [row | moved | asdict(member) for row, member in zip(before, outcome.members, strict=True)]
        n_bytes = sum(member.instance_bytes for member in outcome.members)
        row = series[outcome.job.path]
        gained[row["study_instance_uid"]] += n_bytes - sum(item["instance_bytes"] for item in before)
        digests = {item["digest"]: member.digest for item, member in zip(before, outcome.members, strict=True)}
        recoded.setdefault(row["study_instance_uid"], {}).update(digests)
        old["dicom.instance"].append(before[0])
        new["dicom.instance"] += after
        old["dicom.series"].append(row)
        new["dicom.series"].append(row | moved | {"series_bytes": n_bytes, "object_bytes": outcome.object_bytes})
    studies = rows_of(lake, "dicom.study", hospital_id, column="study_instance_uid", wanted=list(gained), months=months)
    old["dicom.study"] = studies
    new["dicom.study"] = [
        row | {"study_bytes": row["study_bytes"] + gained[row["study_instance_uid"]]} for row in studies
    ]
    tables = {name: arrow_rows(load_table(name), rows) for name, rows in new.items()}
    tables |= {f"replace.{name}": _keys(name, rows) for name, rows in old.items()}
    tables["ops.quality"] = load_table("ops.quality").arrow_schema().empty_table()
    batch = stage_rows(
        lake,
        hospital_id=hospital_id,
        batch_id=_batch_id(lake, swapped),
        tables=tables,
        settlements=_settlements(ledger, hospital_id, recoded),
    )
    commit(lake, ledger, batch, now=utc_now())
    return swapped


def _settlements(ledger: Ledger, hospital_id: str, recoded: dict[str, dict[str, str]]) -> list[Settlement]:
    """What the ledger must know of each study: the digests that its instances have in the lake from now on."""
    return [
        Settlement(hospital_id, study_uid, stored={}, recoded=digests)
        for lake_uid, digests in recoded.items()
        if (study_uid := ledger.study_of(hospital_id, lake_uid))
    ]


def _is_unchanged(outcome: SeriesOutcome, rows: Sequence[dict[str, Any]]) -> bool:
    read = [(member.sop_instance_uid, member.offset, member.digest) for member in outcome.job.members]
    return read == [(row["sop_instance_uid"], row["object_offset"], row["digest"]) for row in rows]


def _is_there(lake: Lake, outcome: SeriesOutcome) -> bool:
    """An object that lay there from an earlier run may have been tidied away meanwhile."""
    try:
        return lake.objects.size(outcome.new_path) == outcome.object_bytes
    except SourceMissing:
        return False


def _keys(table: str, rows: Sequence[dict[str, Any]]) -> pa.Table:
    schema = load_table(table).arrow_schema()
    wanted = pa.schema([schema.field(name) for name in _KEYS[table]])
    return pa.Table.from_pylist([{name: row[name] for name in _KEYS[table]} for row in rows], schema=wanted)


def _batch_id(lake: Lake, swapped: Sequence[SeriesOutcome]) -> str:
    """Of the content and of the table that it changes: rows that came back some day are swapped again."""
    words = [str(lake.tables.version("dicom.instance")), *(f"{one.job.path}>{one.new_path}" for one in swapped)]
    return f"recompress-{xxhash.xxh3_128_hexdigest('|'.join(words).encode())}"
