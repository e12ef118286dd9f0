"""The ledger: what was asked, got, stored and set aside, per hospital and study.

One row per (hospital, study), in exactly one state. It lies in the restricted zone because it knows original UIDs.
Deciding a state is a pure function in `evidence`; bytes that were set aside are in `quarantine`.
"""

from __future__ import annotations

import fcntl
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError

from radlake.commit_points import reached
from radlake.errors import ConfigInvalid, LedgerBusy, StoreFull, StoreUnavailable
from radlake.lake.evidence import SetAside, Settlement, StoredInstance, StudyEntry, StudyState, state_from_evidence
from radlake.lake.ledger_tables import METADATA, QUARANTINE, STUDY
from radlake.lake.pushed import unverified_of, vouch_by_list
from radlake.lake.vault import enter_sealed

__all__ = ["Claim", "Ledger"]


_WRITES = {"radlake_write": True}
_FIRST_ADVISORY_KEY = 7253


class Claim(Enum):
    """What processes claim of a hospital; how live harvests and backfills use them is in `turns`."""

    HARVEST = "lock"  # the one harvest of this moment
    WISH = "wish"  # a live harvest waits
    BACKFILL = "backfill"  # the harvest of this moment is a backfill's
    RUNNER = "runner"  # the one process that works on the plan of a backfill


class Ledger:
    """The ledger in a SQL database: SQLite by default, PostgreSQL by URL.

    Parameters
    ----------
    url : str
        SQLAlchemy URL.
    """

    def __init__(self, url: str) -> None:
        self._is_sqlite = url.startswith("sqlite")
        if self._is_sqlite:
            self._path = Path(url.removeprefix("sqlite:///"))
            self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.engine = sa.create_engine(url, pool_pre_ping=not self._is_sqlite)
        except (ArgumentError, ImportError) as exc:  # the URL itself is not told: it may hold a password
            problems = ["must be a SQLAlchemy URL, as in postgresql+psycopg://user@host/database"]
            raise ConfigInvalid(path="RADLAKE_LEDGER", problems=problems) from exc
        event.listen(self.engine, "handle_error", _tell)
        if self._is_sqlite:
            event.listen(self.engine, "connect", _sqlite_connected)
            event.listen(self.engine, "begin", _sqlite_begin)
        with self._alone(), self.writing() as connection:
            METADATA.create_all(connection)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Twins must not make the SQLite file at once: it refuses to change its journal then, without waiting."""
        if not self._is_sqlite:
            yield
            return
        with self._path.with_name(f"{self._path.name}.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        with self.engine.connect().execution_options(**_WRITES) as connection, connection.begin():
            yield connection

    @contextmanager
    def lock(self, hospital_id: str) -> Iterator[None]:
        """Hold the one harvest of this hospital.

        Raises
        ------
        LedgerBusy
            If another process harvests it now.
        """
        with self.claim(hospital_id) as is_held:
            if not is_held:
                raise LedgerBusy(hospital=hospital_id)
            yield

    @contextmanager
    def claim(self, hospital_id: str, kind: Claim = Claim.HARVEST, *, shared: bool = False) -> Iterator[bool]:
        """Try to hold a claim of a hospital, without waiting; tells whether it is held.

        It ends with the block, and with the process however that ends.

        Parameters
        ----------
        shared : bool
            Others may hold it too, when they share it.
        """
        if self._is_sqlite:
            folder = self._path.parent / "locks"
            folder.mkdir(exist_ok=True)
            with (folder / f"{zlib.crc32(hospital_id.encode()):08x}.{kind.value}").open("w") as handle:
                try:
                    fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                except OSError:
                    yield False
                    return
                yield True
            return
        keys = {"kind": _FIRST_ADVISORY_KEY + list(Claim).index(kind), "key": _int32(zlib.crc32(hospital_id.encode()))}
        suffix = "_shared" if shared else ""
        with self.engine.connect() as connection:
            is_held = connection.execute(sa.text(f"SELECT pg_try_advisory_lock{suffix}(:kind, :key)"), keys).scalar()
            connection.commit()
            try:
                yield bool(is_held)
            finally:
                if is_held:
                    connection.execute(sa.text(f"SELECT pg_advisory_unlock{suffix}(:kind, :key)"), keys)
                    connection.commit()

    def entry(self, hospital_id: str, study_uid: str) -> StudyEntry | None:
        with self.reading() as connection:
            row = connection.execute(sa.select(STUDY).where(*_is(hospital_id, study_uid))).mappings().first()
        return _entry(row) if row else None

    def entries(self, hospital_id: str, study_uids: Iterable[str] | None = None) -> list[StudyEntry]:
        """Entries of a hospital, or only those of the given studies, in order of study UID."""
        with self.reading() as connection:
            query = sa.select(STUDY).where(STUDY.c.hospital_id == hospital_id).order_by(STUDY.c.study_uid)
            if study_uids is None:
                return [_entry(row) for row in connection.execute(query).mappings()]
            wanted, found = sorted(set(study_uids)), []
            for start in range(0, len(wanted), 500):
                part = query.where(STUDY.c.study_uid.in_(wanted[start : start + 500]))
                found += [_entry(row) for row in connection.execute(part).mappings()]
            return found

    def discover(
        self, hospital_id: str, study_uid: str, *, study_date: date | None, n_expected: int | None, now: datetime
    ) -> StudyEntry:
        """Enter a study that the node lists; a known one keeps its state, its count and date are brought up to date."""
        with self.writing() as connection:
            row = connection.execute(sa.select(STUDY).where(*_is(hospital_id, study_uid))).mappings().first()
            if row is None:
                values = {
                    "hospital_id": hospital_id,
                    "study_uid": study_uid,
                    "state": StudyState.DISCOVERED,
                    "reason": "",
                    "study_date": study_date,
                    "n_expected": n_expected,
                    "discovered_at": now,
                    "updated_at": now,
                }
                connection.execute(STUDY.insert().values(**values))
            elif (n_expected is not None and n_expected != row["n_expected"]) or (
                study_date is not None and study_date != row["study_date"]
            ):
                changed = {"n_expected": n_expected or row["n_expected"], "study_date": study_date or row["study_date"]}
                connection.execute(STUDY.update().where(*_is(hospital_id, study_uid)).values(**changed, updated_at=now))
            row = connection.execute(sa.select(STUDY).where(*_is(hospital_id, study_uid))).mappings().one()
        reached("study.discovered")
        return _entry(row)

    def begin(
        self,
        hospital_id: str,
        study_uid: str,
        *,
        now: datetime,
        listed: frozenset[str] | None = None,
        found: frozenset[str] = frozenset(),
    ) -> StudyEntry:
        """Open a study for an attempt.

        Parameters
        ----------
        listed : frozenset of str or None
            SOP Instance UIDs that the node says the study has; it overrules the node's count.
        found : frozenset of str
            SOP Instance UIDs that a folder holds: expected too, but no proof that there are no others.

        What was expected once stays expected: a list only ever grows.
        """
        with self.writing() as connection:
            where = _is(hospital_id, study_uid)
            row = connection.execute(sa.select(STUDY).where(*where)).mappings().one()
            values: dict[str, Any] = {
                "state": StudyState.RETRIEVING,
                "attempts": row["attempts"] + 1,
                "updated_at": now,
            }
            if listed is not None or found:
                union = (listed or frozenset()) | found | frozenset(_unpack(row["expected"]) or ())
                count = 0 if listed is not None else row["n_expected"] or 0
                values |= {"expected": _pack(sorted(union)), "n_expected": max(count, len(union))}
            connection.execute(STUDY.update().where(*where).values(**values))
            row = connection.execute(sa.select(STUDY).where(*where)).mappings().one()
            if listed is not None:
                have = _entry(row).stored.keys() | found
                vouch_by_list(connection, hospital_id, study_uid, listed=listed, have=have)
        reached("study.begun")
        return _entry(row)

    def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> list[StudyEntry]:
        """Enter what was stored and set aside, and decide each study's state; all in one transaction."""
        settled = []
        with self.writing() as connection:
            for item in settlements:
                where = _is(item.hospital_id, item.study_uid)
                row = connection.execute(sa.select(STUDY).where(*where)).mappings().one()
                before = _entry(row)
                gone = set(item.resolved) | {aside.quarantine_id for aside in item.set_aside}
                kept = [aside for aside in before.set_aside if aside.quarantine_id not in gone]
                after = replace(
                    before,
                    stored={**before.stored, **item.stored},
                    set_aside=tuple(sorted([*kept, *item.set_aside], key=lambda aside: aside.quarantine_id)),
                )
                state, reason = state_from_evidence(
                    after,
                    trouble=item.trouble,
                    unverified=unverified_of(connection, item.hospital_id, item.study_uid),
                )
                values: dict[str, Any] = {
                    "state": state,
                    "reason": reason,
                    "stored": _pack({uid: [s.digest, s.source_digest] for uid, s in sorted(after.stored.items())}),
                    "set_aside": _pack([[a.quarantine_id, a.sop_uid, a.reason] for a in after.set_aside]),
                    "n_stored": len(after.stored),
                    "n_set_aside": len(after.set_aside),
                    "updated_at": now,
                }
                if state is StudyState.COMPLETE and before.completed_at is None:
                    values["completed_at"] = now
                if item.lake_study_uid:
                    values |= {
                        "patient_key": item.patient_key,
                        "lake_study_uid": item.lake_study_uid,
                        "lake_month": item.lake_month,
                    }
                connection.execute(STUDY.update().where(*where).values(**values))
                enter_sealed(connection, item, now=now)
                settled.append(_entry(connection.execute(sa.select(STUDY).where(*where)).mappings().one()))
        return settled

    def completeness(self) -> list[dict[str, Any]]:
        """Per hospital: studies by state, instances expected, stored and set aside (ops.completeness)."""
        studies = sa.select(
            STUDY.c.hospital_id,
            sa.func.count().label("n_studies"),
            *(
                sa.func.sum(sa.case((STUDY.c.state == state.value, 1), else_=0)).label(f"n_{state.value}")
                for state in StudyState
            ),
            sa.func.sum(sa.func.coalesce(STUDY.c.n_expected, STUDY.c.n_stored)).label("n_instances_expected"),
            sa.func.sum(STUDY.c.n_stored).label("n_instances_stored"),
        ).group_by(STUDY.c.hospital_id)
        held = self.held_by_reason()
        with self.reading() as connection:
            rows = [
                {key: value if key == "hospital_id" else int(value) for key, value in row.items()}
                for row in connection.execute(studies.order_by(STUDY.c.hospital_id)).mappings()
            ]
        for row in rows:
            row["n_instances_quarantined"] = sum(n for hospital, _, n in held if hospital == row["hospital_id"])
        return rows

    def held_by_reason(self) -> list[tuple[str, str, int]]:
        """(hospital, reason, instances) that lie in quarantine now (ops.quarantine)."""
        query = (
            sa.select(QUARANTINE.c.hospital_id, QUARANTINE.c.reason, sa.func.count())
            .where(QUARANTINE.c.replayed_at.is_(None))
            .group_by(QUARANTINE.c.hospital_id, QUARANTINE.c.reason)
            .order_by(QUARANTINE.c.hospital_id, QUARANTINE.c.reason)
        )
        with self.reading() as connection:
            return [(hospital, reason, int(n)) for hospital, reason, n in connection.execute(query)]

    def hold(self, record: Mapping[str, Any]) -> None:
        """Enter a quarantined object, or bring the reason of a known one up to date."""
        with self.writing() as connection:
            where = QUARANTINE.c.quarantine_id == record["quarantine_id"]
            if connection.execute(sa.select(QUARANTINE.c.quarantine_id).where(where)).first() is None:
                connection.execute(QUARANTINE.insert().values(**record))
            else:
                connection.execute(
                    QUARANTINE.update()
                    .where(where)
                    .values(reason=record["reason"], detail=record["detail"], replayed_at=None)
                )

    def release(self, quarantine_ids: Iterable[str], *, now: datetime) -> None:
        """Mark quarantined objects as stored after a replay."""
        with self.writing() as connection:
            for quarantine_id in quarantine_ids:
                where = QUARANTINE.c.quarantine_id == quarantine_id
                connection.execute(QUARANTINE.update().where(where).values(replayed_at=now))

    def held(self, *, hospital_id: str | None = None, reason: str | None = None) -> list[dict[str, Any]]:
        """Quarantined objects that are held now, oldest first."""
        query = sa.select(QUARANTINE).where(QUARANTINE.c.replayed_at.is_(None))
        if hospital_id:
            query = query.where(QUARANTINE.c.hospital_id == hospital_id)
        if reason:
            query = query.where(QUARANTINE.c.reason == reason)
        with self.reading() as connection:
            query = query.order_by(QUARANTINE.c.held_at, QUARANTINE.c.quarantine_id)
            return [dict(row) for row in connection.execute(query).mappings()]


def _int32(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value


def _tell(context: sa.ExceptionContext) -> None:
    """Errors of the database, not of a statement, in our own words."""
    if context.is_pre_ping or type(context.sqlalchemy_exception) not in (DatabaseError, OperationalError):
        return
    reason = str(context.original_exception).partition("\n")[0]
    if "full" in reason:  # SQLite: "database or disk is full"
        raise StoreFull(path="The ledger", reason=reason) from context.original_exception
    raise StoreUnavailable(path="of the ledger", reason=reason) from context.original_exception


def _sqlite_begin(connection: sa.Connection) -> None:
    # A deferred transaction that reads and then writes cannot wait for another writer: take the lock at once.
    is_write = connection.get_execution_options().get("radlake_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def _sqlite_connected(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _is(hospital_id: str, study_uid: str) -> tuple[sa.ColumnElement[bool], ...]:
    return STUDY.c.hospital_id == hospital_id, STUDY.c.study_uid == study_uid


def _pack(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 6)


def _unpack(blob: bytes | None) -> Any:
    return json.loads(zlib.decompress(blob)) if blob else None


def _entry(row: sa.RowMapping) -> StudyEntry:
    expected = _unpack(row["expected"])
    return StudyEntry(
        hospital_id=row["hospital_id"],
        study_uid=row["study_uid"],
        state=StudyState(row["state"]),
        reason=row["reason"],
        study_date=row["study_date"],
        n_expected=row["n_expected"],
        expected=None if expected is None else frozenset(expected),
        stored={uid: StoredInstance(*digests) for uid, digests in (_unpack(row["stored"]) or {}).items()},
        set_aside=tuple(SetAside(*item) for item in _unpack(row["set_aside"]) or ()),
        attempts=row["attempts"],
        patient_key=row["patient_key"],
        lake_study_uid=row["lake_study_uid"],
        lake_month=row["lake_month"],
        discovered_at=row["discovered_at"],
        completed_at=row["completed_at"],
    )
