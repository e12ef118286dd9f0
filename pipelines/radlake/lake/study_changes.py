"""Changes of studies: what each thing that happens changes in a study's row, and the one way to enter it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from radlake.lake.events import (
    ALTERED,
    EventLog,
    Mac,
    erased_name,
    evidence_digest,
    has_erased,
    last_evidence,
    redact,
)
from radlake.lake.evidence import Settlement
from radlake.lake.ledger_tables import PUSH_NOTICE, PUSH_STUDY, RETENTION, STUDY, STUDY_TIME
from radlake.lake.statements import in_parts
from radlake.lake.study_rows import (
    decided,
    entry_from_row,
    expected_column,
    new_row,
    set_aside_columns,
    stored_columns,
)

__all__ = ["Changes", "Listed", "begun", "discovered", "settled"]

# Built once: making a statement of 27 columns takes SQLAlchemy longer than running it.
_ROWS = sa.select(STUDY, last_evidence()).where(
    STUDY.c.hospital_id == sa.bindparam("hospital"), STUDY.c.study_uid.in_(sa.bindparam("uids", expanding=True))
)
_INSERT = STUDY.insert()
_UPDATE = STUDY.update().where(
    STUDY.c.hospital_id == sa.bindparam("of_hospital"), STUDY.c.study_uid == sa.bindparam("of_study")
)
_BESIDE = (STUDY_TIME, PUSH_STUDY, PUSH_NOTICE, RETENTION)  # what else is told of a study under its UID


class Listed(NamedTuple):
    """What a node tells of a study; None where it does not."""

    study_uid: str
    study_date: date | None = None
    n_expected: int | None = None


def discovered(row: Mapping[str, Any], study: Listed) -> dict[str, Any]:
    """What a node's answer changes: a count that it did not tell before overrules its list, and opens the study."""
    if row["withdrawn"]:
        return {}
    values: dict[str, Any] = {"study_date": study.study_date or row["study_date"]}
    if study.n_expected and study.n_expected != row["n_told"]:
        n_listed = len(entry_from_row(row).expected or ())
        values |= {"n_told": study.n_expected, "n_expected": max(study.n_expected, n_listed)}
    return values


def begun(row: Mapping[str, Any], *, listed: frozenset[str] | None, found: frozenset[str]) -> dict[str, Any]:
    """What an attempt changes: what was expected stays expected, and the study is open if something is to come."""
    entry = entry_from_row(row)
    values: dict[str, Any] = {}
    if listed is not None or found:
        union = (listed or frozenset()) | found | (entry.expected or frozenset())
        count = 0 if listed else entry.n_expected or 0  # an empty list is no answer
        values = {"expected": expected_column(union), "n_expected": max(count, len(union)) or None}
    if entry.is_open or not entry_from_row({**row, **values}).is_settled:
        values |= {"is_open": True, "attempts": entry.attempts + 1}
    return {} if entry.withdrawn else values


def settled(row: Mapping[str, Any], item: Settlement) -> dict[str, Any]:
    """What a settlement changes in a study's row."""
    before = entry_from_row(row)
    if item.recoded:
        changed = {
            uid: replace(one, recoded=item.recoded.get(one.lake_digest, one.recoded))
            for uid, one in before.stored.items()
        }
        return stored_columns(changed)
    gone = set(item.resolved) | {aside.quarantine_id for aside in item.set_aside}
    kept = [aside for aside in before.set_aside if aside.quarantine_id not in gone]
    after = replace(before, stored={**before.stored, **item.stored}, set_aside=(*kept, *item.set_aside))
    values = {
        **stored_columns(after.stored),
        **set_aside_columns(after.set_aside),
        "trouble": item.trouble if after.n_missing != 0 else "",
        "is_open": False,
    }
    if item.lake_study_uid:
        values |= {name: getattr(item, name) for name in ("patient_key", "lake_study_uid", "lake_month")}
    return values


class Changes:
    """One transaction that changes rows of `study`, each change with its event."""

    def __init__(self, connection: sa.Connection, *, mac: Mac) -> None:
        self.connection = connection
        self.events = EventLog(connection, mac=mac)
        self._mac = mac
        self._evidence: dict[tuple[str, str], str] = {}  # of the last event of each study that was read

    def rows(self, hospital_id: str, study_uids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Rows of the studies that are known, by UID, also of those that bear a keyed name since they were erased."""
        wanted = set(study_uids)
        found = self._rows(hospital_id, wanted)
        if (missing := wanted - found.keys()) and has_erased(self.connection, hospital_id):
            names = {erased_name(self._mac, hospital_id, uid): uid for uid in missing}
            found |= {names[name]: row for name, row in self._rows(hospital_id, names).items()}
        return found

    def _rows(self, hospital_id: str, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        found = {}
        for part in in_parts(sorted(names)):
            which = {"hospital": hospital_id, "uids": part}
            for row in map(dict, self.connection.execute(_ROWS, which).mappings()):
                evidence = row.pop("evidence")
                self._evidence[hospital_id, row["study_uid"]] = evidence.hex() if evidence else ""
                found[row["study_uid"]] = row
        return found

    def erase(self, hospital_id: str, study_uid: str, *, why: str, now: datetime) -> dict[str, Any]:
        """Withdraw a study, known or not, and let its row and its history bear a keyed name and nothing else of it.

        What else is told under its UID goes.
        """
        name = erased_name(self._mac, hospital_id, study_uid)
        for table in _BESIDE:
            of_study = table.c.hospital_id == hospital_id, table.c.study_uid == study_uid
            self.connection.execute(table.delete().where(*of_study))
        before = self.rows(hospital_id, [study_uid]).get(study_uid)
        if before and before["study_uid"] == name:
            return before
        blank = new_row(hospital_id, name, now=now)
        kept = {"discovered_at": before["discovered_at"]} if before else {}
        after = self.put(before or blank, blank | kept | {"withdrawn": why}, what="withdraw", now=now)
        self.events.flush()
        redact(self.connection, hospital_id, study_uid, name=name, mac=self._mac)
        return after

    def put(self, row: dict[str, Any], values: Mapping[str, Any], *, what: str, now: datetime) -> dict[str, Any]:
        """The row with other values and the state that follows, entered with its event; nothing when it is the same.

        A row that is not as its last event left it was changed by somebody else: that is entered first, and
        `certificate_check` tells it for ever.
        """
        key, before = (row["hospital_id"], row["study_uid"]), evidence_digest(row)
        is_known = bool(row["state"])
        if is_known and self._evidence[key] != before:
            self.events.append(row, what=ALTERED, at=now)
            self._evidence[key] = before
        after = decided({**row, **values}, now=now)
        evidence = evidence_digest(after)
        if is_known and evidence == before:
            return row
        after["updated_at"] = now
        if is_known:
            changed = {name: value for name, value in after.items() if value != row[name]}
            self.connection.execute(_UPDATE, changed | {"of_hospital": key[0], "of_study": key[1]})
        else:
            self.connection.execute(_INSERT, after)
        self.events.append(after, what=what, at=now)
        self._evidence[key] = evidence
        return after
