"""What a run publishes about itself: ref.hospital, ops.harvest_run, ops.completeness, ops.quarantine.

Counts only: the ledger itself, which knows original UIDs, stays in the restricted zone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa

from radlake.commit_points import reached
from radlake.contracts import load_table
from radlake.ingest.batch import arrow_rows
from radlake.ingest.summary import HarvestSummary
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.net import Hospital

__all__ = ["publish_ops"]


def publish_ops(
    lake: Lake, ledger: Ledger, hospital: Hospital, summary: HarvestSummary, *, started_at: datetime, now: datetime
) -> None:
    """Publish one run and the hospital's present state; rows of the hospital are replaced."""
    hospital_id = hospital.hospital_id
    completeness = [row | {"updated_at": now} for row in ledger.completeness() if row["hospital_id"] == hospital_id]
    held = [
        {"hospital_id": hospital_id, "reason": reason, "n_instances": n, "updated_at": now}
        for held_by, reason, n in ledger.held_by_reason()
        if held_by == hospital_id
    ]
    registered = {
        "hospital_id": hospital_id,
        "name_zh": hospital.name_zh,
        "name_en": hospital.name_en,
        "region_code": hospital.region_code,
        "hospital_level": hospital.level,
        "storage_policy": hospital.storage_policy,
    }
    _replace(lake, "ref.hospital", [registered], hospital_id=hospital_id, batch_id=summary.run_id)
    _replace(lake, "ops.completeness", completeness, hospital_id=hospital_id, batch_id=summary.run_id)
    _replace(lake, "ops.quarantine", held, hospital_id=hospital_id, batch_id=summary.run_id)
    run = load_table("ops.harvest_run")
    lake.tables.commit_batch(
        run, arrow_rows(run, [_run_row(summary, started_at=started_at, now=now)]), batch_id=summary.run_id
    )
    reached("ops.ops.harvest_run")


def _replace(lake: Lake, name: str, rows: list[dict[str, Any]], *, hospital_id: str, batch_id: str) -> None:
    table = load_table(name)
    keys = pa.table({"hospital_id": [hospital_id]})
    lake.tables.commit_batch(table, arrow_rows(table, rows), batch_id=batch_id, replace=keys)
    reached(f"ops.{name}")


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
        "error_class": summary.error_class or None,
        "error_text": summary.error or None,
    }
