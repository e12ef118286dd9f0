"""Rows of the table `study`: packed lists to and from values, and the state that follows from a row."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from radlake.lake.evidence import SetAside, StoredInstance, StudyEntry, StudyState, state_from_evidence
from radlake.lake.ledger_tables import STUDY

__all__ = ["decided", "entry_from_row", "expected_column", "new_row", "set_aside_columns", "stored_columns"]


def new_row(hospital_id: str, study_uid: str, *, now: datetime) -> dict[str, Any]:
    """A study of which nothing is known yet."""
    given = {"hospital_id": hospital_id, "study_uid": study_uid, "discovered_at": now, "updated_at": now}
    defaults = {c.name: c.default.arg if c.default is not None else None for c in STUDY.c}  # pyright: ignore[reportAttributeAccessIssue]
    return defaults | given | {"state": "", "reason": ""}


def decided(row: Mapping[str, Any], *, now: datetime) -> dict[str, Any]:
    """The row with the state and reason that follow from everything else in it."""
    entry = entry_from_row(row)
    state, reason = state_from_evidence(entry)
    is_complete = state is StudyState.COMPLETE
    completed_at = (row["completed_at"] or now) if is_complete else None
    return {**row, "state": state.value, "reason": reason, "completed_at": completed_at}


def expected_column(uids: Iterable[str]) -> bytes:
    return _pack(sorted(uids))


def stored_columns(stored: Mapping[str, StoredInstance]) -> dict[str, Any]:
    told = {uid: [s.digest, s.source_digest, *([s.recoded] if s.recoded else [])] for uid, s in sorted(stored.items())}
    return {"stored": _pack(told), "n_stored": len(told)}


def set_aside_columns(items: Iterable[SetAside]) -> dict[str, Any]:
    told = [[a.quarantine_id, a.sop_uid, a.reason] for a in sorted(items, key=lambda item: item.quarantine_id)]
    return {"set_aside": _pack(told), "n_set_aside": len(told)}


def entry_from_row(row: Mapping[Any, Any]) -> StudyEntry:
    expected = _unpack(row["expected"])
    return StudyEntry(
        hospital_id=row["hospital_id"],
        study_uid=row["study_uid"],
        state=StudyState(row["state"] or StudyState.DISCOVERED),
        reason=row["reason"],
        study_date=row["study_date"],
        n_expected=row["n_expected"],
        expected=None if expected is None else frozenset(expected),
        stored={uid: StoredInstance(*digests) for uid, digests in (_unpack(row["stored"]) or {}).items()},
        set_aside=tuple(SetAside(*item) for item in _unpack(row["set_aside"]) or ()),
        attempts=row["attempts"],
        is_open=row["is_open"],
        n_told=row["n_told"],
        trouble=row["trouble"],
        unverified=row["unverified"],
        withdrawn=row["withdrawn"],
        patient_key=row["patient_key"],
        lake_study_uid=row["lake_study_uid"],
        lake_month=row["lake_month"],
        discovered_at=row["discovered_at"],
        completed_at=row["completed_at"],
    )


def _pack(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 6)


def _unpack(blob: bytes | None) -> Any:
    return json.loads(zlib.decompress(blob)) if blob else None
