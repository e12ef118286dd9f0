"""What a run publishes about itself: ref.hospital, ops.harvest_run, ops.completeness, ops.quarantine.

Counts only: the ledger itself, which knows original UIDs, stays in the restricted zone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from radlake.commit_points import reached
from radlake.contracts import load_table
from radlake.contracts.rows import arrow_rows
from radlake.harvest.board import HISTORY_DAYS, Board, board_of
from radlake.ingest.summary import HarvestSummary
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.lake.study_times import study_times
from radlake.lake.tables import TableRows
from radlake.net import Hospital

__all__ = ["OPS_TABLES", "Finished", "boards_of", "publish_lag", "publish_ops"]

OPS_TABLES = ("ref.hospital", "ops.completeness", "ops.quarantine", "ops.harvest_run")  # of each run


@dataclass(frozen=True)
class Finished:
    """A run that has ended."""

    hospital: Hospital
    summary: HarvestSummary
    started_at: datetime


def publish_ops(lake: Lake, ledger: Ledger, finished: Sequence[Finished], *, now: datetime) -> None:
    """Publish runs, each of another hospital, and the hospitals' present state, whose rows are replaced."""
    ids = [one.hospital.hospital_id for one in finished]
    batch_id = finished[0].summary.run_id
    completeness = [row | {"updated_at": now} for row in ledger.completeness(ids)]
    held = [
        {"hospital_id": hospital_id, "reason": reason, "n_instances": n, "updated_at": now}
        for hospital_id, reason, n in ledger.held_by_reason(ids)
    ]
    runs = [_run_row(one.summary, started_at=one.started_at, now=now) for one in finished]
    parts = [
        _of_hospitals(ids, "ref.hospital", [_hospital_row(one.hospital) for one in finished]),
        _of_hospitals(ids, "ops.completeness", completeness),
        _of_hospitals(ids, "ops.quarantine", held),
        TableRows("ops.harvest_run", arrow_rows(load_table("ops.harvest_run"), runs)),
    ]
    for name in lake.tables.commit_batches(parts, batch_id=batch_id):
        reached(f"ops.{name}")


def _hospital_row(hospital: Hospital) -> dict[str, Any]:
    return {
        "hospital_id": hospital.hospital_id,
        "name_zh": hospital.name_zh,
        "name_en": hospital.name_en,
        "region_code": hospital.region_code,
        "hospital_level": hospital.level,
        "storage_policy": hospital.storage_policy,
    }


def boards_of(ledger: Ledger, registered: Iterable[str], *, now: datetime, days: int = 7) -> list[Board]:
    """A line for each hospital that is registered or has studies, most behind first."""
    known = study_times(ledger, since=now - timedelta(days=HISTORY_DAYS))
    boards = [board_of(name, known.get(name, []), now=now, days=days) for name in {*registered, *known}]
    return sorted(boards, key=lambda line: (not line.is_dark, -(line.oldest_waiting_hours or 0), line.hospital_id))


def publish_lag(lake: Lake, boards: Iterable[Board], *, now: datetime) -> None:
    """Publish how far behind hospitals are; their rows are replaced."""
    rows = {board.hospital_id: asdict(board) | {"updated_at": now} for board in boards}
    part = _of_hospitals([*rows], "ops.lag", [*rows.values()])
    for name in lake.tables.commit_batches([part], batch_id=f"lag-{now:%Y%m%dT%H%M%S%f}"):
        reached(f"ops.{name}")


def _of_hospitals(hospital_ids: list[str], name: str, rows: list[dict[str, Any]]) -> TableRows:
    """Rows that replace all that a table has of these hospitals."""
    return TableRows(name, arrow_rows(load_table(name), rows), replace=pa.table({"hospital_id": hospital_ids}))


def _run_row(summary: HarvestSummary, *, started_at: datetime, now: datetime) -> dict[str, Any]:
    return {
        "run_id": summary.run_id,
        "hospital_id": summary.hospital_id,
        "retrieve_kind": summary.retrieve_kind,
        "started_at": started_at,
        "finished_at": now,
        "n_studies_found": summary.studies_found,
        "n_studies_complete": summary.studies_complete,
        "n_studies_partial": summary.studies_partial,
        "n_instances_stored": summary.instances_stored,
        "n_instances_quarantined": summary.instances_quarantined,
        "n_instances_duplicate": summary.instances_duplicate,
        "stored_bytes": summary.stored_bytes,
        "deidentified_by": json.dumps(dict(sorted(summary.deidentified_by.items()))),
        "error_class": summary.error_class or None,
        "error_text": summary.error or None,
    }
