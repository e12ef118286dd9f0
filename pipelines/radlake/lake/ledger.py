"""The ledger: what was asked, got, stored and set aside, per hospital and study.

One row per (hospital, study), in exactly one state. It lies in the restricted zone because it knows original UIDs.
Deciding a state is a pure function in `evidence`; bytes that were set aside are in `quarantine`.
"""

from __future__ import annotations

import fcntl
import threading
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError

from radlake.commit_points import reached
from radlake.config import resolve_secret
from radlake.errors import ConfigInvalid, LedgerBusy, PermanentError, StoreFull, StoreUnavailable
from radlake.lake.chain import Head, HeadFile
from radlake.lake.events import Mac, erased_name, has_erased, lock_chains
from radlake.lake.evidence import Settlement, StudyEntry, StudyState
from radlake.lake.ledger_tables import CERTIFICATE, QUARANTINE, STUDY, STUDY_EVENT
from radlake.lake.migration import adopt_old_rows, create_missing
from radlake.lake.pushed import unverified_of, vouch_by_list
from radlake.lake.retention import enter_evidence
from radlake.lake.statements import in_parts
from radlake.lake.study_changes import Changes, Listed, begun, discovered, settled
from radlake.lake.study_rows import entry_from_row, new_row
from radlake.lake.vault import enter_sealed

__all__ = ["Claim", "Ledger", "LedgerLocked", "LedgerMissing", "LedgerUnusable", "Listed", "head_file"]

_WRITES = {"radlake_write": True}
_RESTORE = (
    "Stop what uses it, keep the file, and put its newest backup in its place; "
    "`radlake ledger verify` then tells what the backup does not know."
)
_PERMANENT = {  # what SQLite says that no second try mends
    "malformed": _RESTORE,
    "not a database": _RESTORE,
    "readonly": "Let this user write to the file and its folder.",
}
_FIRST_ADVISORY_KEY = 7253


class Claim(Enum):
    """What processes claim of a hospital; how live harvests and backfills use them is in `turns`."""

    HARVEST = "lock"  # the one harvest of this moment
    WISH = "wish"  # a live harvest waits
    BACKFILL = "backfill"  # the harvest of this moment is a backfill's
    RUNNER = "runner"  # the one process that works on the plan of a backfill
    VISIT = "visit"  # a study is fetched from its node beside the harvest of this moment
    BUILD = "build"  # of the whole lake: builds share it, a withdrawal has it alone


class LedgerMissing(PermanentError):
    sentence = (
        "The ledger {path} is missing; {heads} has the ends of its histories, so there was one.\n"
        "Put its newest backup there, or point RADLAKE_LEDGER at it; `radlake ledger verify` then tells what the "
        "backup does not know.\nIf it is lost for good, `radlake key verify --adopt` begins another one; "
        "it will know nothing of what is stored."
    )


class LedgerUnusable(PermanentError):
    sentence = "The ledger cannot be used ({reason}). {advice}"


class LedgerLocked(PermanentError):
    sentence = (
        "This ledger was opened without its key, so what happens to a study cannot be entered in its history.\n"
        "Open it with `radlake.vault.lake_key.open_ledger(settings)`."
    )


class Ledger:
    """The ledger in a SQL database: SQLite by default, PostgreSQL by URL.

    Parameters
    ----------
    url : str
        SQLAlchemy URL, or where it is, since it may hold a password: `file:PATH`, `env:NAME`.
    mac : callable, optional
        `KeyRing.ledger_mac`: without it studies can be read, but not changed.
    heads : Path, optional
        Folder that the ends of the histories are kept in; default `heads` beside the file of SQLite.
    is_anew : bool
        Begin another one where the file is gone; a person said so.

    Raises
    ------
    LedgerMissing
        If the file is gone, and histories had ends.
    ConfigInvalid
    """

    def __init__(self, url: str, *, mac: Mac | None = None, heads: Path | None = None, is_anew: bool = False) -> None:
        if url.startswith(("file:", "env:")):
            url = resolve_secret(url)
        self._is_sqlite = url.startswith("sqlite")
        self._mac: Mac | None = None
        self._heads_folder = heads
        self._heads: dict[str, Head] = {}
        self._keeping = threading.Lock()
        if self._is_sqlite:
            self._path = Path(url.removeprefix("sqlite:///"))
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._heads_folder = heads or self._path.parent / "heads"
            if not (is_anew or self._path.exists()) and any(self._heads_folder.glob("*.head")):
                raise LedgerMissing(path=self._path, heads=self._heads_folder)
        try:
            # Hospitals are harvested at the same time; how many connections there may be is the server's to say.
            self.engine = sa.create_engine(url, pool_pre_ping=not self._is_sqlite, max_overflow=-1)
        except (ArgumentError, ImportError) as exc:  # the URL itself is not told: it may hold a password
            problems = ["must be a SQLAlchemy URL, as in postgresql+psycopg2://user@host/database"]
            raise ConfigInvalid(path="RADLAKE_LEDGER", problems=problems) from exc
        event.listen(self.engine, "handle_error", _tell)
        if self._is_sqlite:
            event.listen(self.engine, "connect", _sqlite_connected)
            event.listen(self.engine, "begin", _sqlite_begin)
        with self._alone(), self.writing() as connection:
            create_missing(connection)
        if mac is not None:
            self.unlock(mac)

    def unlock(self, mac: Mac) -> None:
        """Let studies be changed, their history sealed with this key."""
        with self._alone(), self.writing() as connection:
            self._heads = adopt_old_rows(connection, mac=mac)
        self._mac = mac

    def close(self) -> None:
        try:
            self._keep_heads()
        finally:
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
    def snapshot(self) -> Iterator[sa.Connection]:
        """Read, with all queries seeing one state; SQLite always does so."""
        with self.engine.connect() as connection:
            if not self._is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
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
        """What is known of a study; of an erased one, when the ledger was opened with its key, that it is withdrawn."""
        with self.reading() as connection:
            row = connection.execute(sa.select(STUDY).where(*_is(hospital_id, study_uid))).mappings().first()
            if row is None and self._mac is not None and has_erased(connection, hospital_id):
                name = erased_name(self._mac, hospital_id, study_uid)
                row = connection.execute(sa.select(STUDY).where(*_is(hospital_id, name))).mappings().first()
        return entry_from_row(row) if row else None

    def entries(self, hospital_id: str, study_uids: Iterable[str] | None = None) -> list[StudyEntry]:
        """Entries of a hospital, or only those of the given studies, in order of study UID."""
        with self.reading() as connection:
            query = sa.select(STUDY).where(STUDY.c.hospital_id == hospital_id).order_by(STUDY.c.study_uid)
            if study_uids is None:
                return [entry_from_row(row) for row in connection.execute(query).mappings()]
            wanted, found = sorted(set(study_uids)), []
            for part in in_parts(wanted):
                rows = connection.execute(query.where(STUDY.c.study_uid.in_(part))).mappings()
                found += [entry_from_row(row) for row in rows]
            return found

    def attempts(self, hospital_id: str, study_uids: Iterable[str]) -> dict[str, int]:
        """How often each study was opened for an attempt; those that never were are left out."""
        query = sa.select(STUDY.c.study_uid, STUDY.c.attempts)
        query = query.where(STUDY.c.hospital_id == hospital_id, STUDY.c.attempts > 0)
        with self.reading() as connection:
            parts = in_parts(sorted(set(study_uids)))
            return {uid: n for part in parts for uid, n in connection.execute(query.where(STUDY.c.study_uid.in_(part)))}

    def discover(
        self,
        hospital_id: str,
        study_uid: str,
        *,
        study_date: date | None,
        n_expected: int | None,
        now: datetime,
    ) -> StudyEntry:
        """Enter a study that the node lists, or what changed of a known one; see `discover_all`."""
        listed = Listed(study_uid, study_date, n_expected)
        return self.discover_all(hospital_id, [listed], now=now)[0]

    def discover_all(self, hospital_id: str, listed: Sequence[Listed], *, now: datetime) -> list[StudyEntry]:
        """Enter studies that the node lists, all in one transaction.

        Of a known one its count and date are brought up to date. A count that differs from the one that the node told
        last overrules its list, so that a complete study is open again; the same count as before says nothing new.
        """
        with self._changing([hospital_id]) as changes:
            known = changes.rows(hospital_id, [study.study_uid for study in listed])
            for study in listed:
                row = known.get(study.study_uid) or new_row(hospital_id, study.study_uid, now=now)
                known[study.study_uid] = changes.put(row, discovered(row, study), what="discover", now=now)
        reached("study.discovered")
        return [entry_from_row(known[study.study_uid]) for study in listed]

    def begin(
        self,
        hospital_id: str,
        study_uid: str,
        *,
        now: datetime,
        listed: frozenset[str] | None = None,
        found: frozenset[str] = frozenset(),
    ) -> StudyEntry:
        """Open a study for an attempt; one that needs none, because nothing new is expected, stays as it is.

        Parameters
        ----------
        listed : frozenset of str or None
            SOP Instance UIDs that the node says the study has; it overrules the node's count.
        found : frozenset of str
            SOP Instance UIDs that a folder holds: expected too, but no proof that there are no others.

        What was expected once stays expected: a list only ever grows.
        """
        with self._changing([hospital_id]) as changes:
            row = changes.rows(hospital_id, [study_uid])[study_uid]
            if listed is not None:
                have = entry_from_row(row).stored.keys() | found
                vouch_by_list(changes.connection, hospital_id, study_uid, listed=listed, have=have)
            doubt = {"unverified": unverified_of(changes.connection, hospital_id, study_uid)}
            row = changes.put(row, begun(row, listed=listed, found=found) | doubt, what="begin", now=now)
        reached("study.begun")
        return entry_from_row(row)

    def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> list[StudyEntry]:
        """Enter what was stored and set aside, and decide each study's state; all in one transaction."""
        done = []
        by_hospital: dict[str, list[str]] = {}
        for item in settlements:
            by_hospital.setdefault(item.hospital_id, []).append(item.study_uid)
        with self._changing(by_hospital) as changes:
            known = {hospital_id: changes.rows(hospital_id, uids) for hospital_id, uids in by_hospital.items()}
            for item in settlements:
                rows = known[item.hospital_id]
                row = rows[item.study_uid]
                if row["withdrawn"]:
                    done.append(entry_from_row(row))
                    continue
                doubt = {"unverified": unverified_of(changes.connection, item.hospital_id, item.study_uid)}
                rows[item.study_uid] = changes.put(row, settled(row, item) | doubt, what="settle", now=now)
                enter_sealed(changes.connection, item, now=now)
                enter_evidence(changes.connection, item)
                done.append(entry_from_row(rows[item.study_uid]))
        self._keep_heads()
        return done

    def withdraw(self, hospital_id: str, study_uid: str, *, why: str, now: datetime) -> StudyEntry:
        """Take a study out of what is expected and stored, for ever: it is not asked for again.

        Parameters
        ----------
        why : str
            A reason without an identifier.
        """
        with self._changing([hospital_id]) as changes:
            row = changes.rows(hospital_id, [study_uid])[study_uid]
            row = changes.put(row, {"withdrawn": why, "is_open": False}, what="withdraw", now=now)
        return entry_from_row(row)

    def erase(self, hospital_id: str, study_uid: str, *, why: str, now: datetime) -> StudyEntry:
        """Withdraw a study so that the ledger does not tell which it was: row and history bear a keyed name.

        It is known again by that name when the hospital sends it once more, also when it never came before.

        Parameters
        ----------
        why : str
            A reason without an identifier.
        """
        with self._changing([hospital_id]) as changes:
            if self._is_sqlite:
                changes.connection.exec_driver_sql("PRAGMA secure_delete = ON")
            return entry_from_row(changes.erase(hospital_id, study_uid, why=why, now=now))

    def erased(self, hospital_id: str, study_uids: Iterable[str]) -> set[str]:
        """Those of the studies that bear a keyed name."""
        if self._mac is None:
            return set()
        with self.reading() as connection:
            if not has_erased(connection, hospital_id):
                return set()
        names = {erased_name(self._mac, hospital_id, uid): uid for uid in study_uids}
        return {names[entry.study_uid] for entry in self.entries(hospital_id, names)}

    def study_of(self, hospital_id: str, lake_study_uid: str) -> str | None:
        """Original UID of a stored study."""
        query = sa.select(STUDY.c.study_uid).where(
            STUDY.c.hospital_id == hospital_id, STUDY.c.lake_study_uid == lake_study_uid
        )
        with self.reading() as connection:
            return connection.execute(query).scalar()

    @contextmanager
    def _changing(self, hospital_ids: Collection[str]) -> Iterator[Changes]:
        """A transaction that changes studies of these hospitals and enters each change in their history."""
        if self._mac is None:
            raise LedgerLocked
        with self.writing() as connection:
            lock_chains(connection, hospital_ids)
            changes = Changes(connection, mac=self._mac)
            yield changes
            changes.events.flush()
        with self._keeping:
            for hospital_id, head in changes.events.heads.items():  # another thread may have gone further
                self._heads[hospital_id] = max(head, self._heads.get(hospital_id, head))
        if changes.events.has_begun:
            self._keep_heads()

    def _keep_heads(self) -> None:
        """Write down how far the histories are that this process added to."""
        if self._heads_folder is None:
            return
        self._heads_folder.mkdir(parents=True, exist_ok=True)
        with self._keeping:
            while self._heads:
                hospital_id, head = self._heads.popitem()
                file = head_file(self._heads_folder, hospital_id)
                if head[0] > (file.read() or (0, ""))[0]:  # another process may have gone further
                    file.write(head)
                    reached("history.kept")

    def check_whole(self) -> None:
        """Let SQLite look at every page of its file; a server looks after its own.

        Raises
        ------
        LedgerUnusable
        """
        if self._is_sqlite:
            with self.reading() as connection:
                told = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
            if told != "ok":
                raise LedgerUnusable(reason=str(told).replace("\n", " "), advice=_RESTORE)

    def hospital_ids(self) -> list[str]:
        """Hospitals that have a study in the ledger, or a history of one."""
        with self.reading() as connection:
            columns = (STUDY.c.hospital_id, STUDY_EVENT.c.hospital_id, CERTIFICATE.c.hospital_id)
            return sorted({name for column in columns for name in connection.scalars(sa.select(column).distinct())})

    def completeness(self, hospital_ids: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Per hospital: studies by state, instances expected, stored and set aside (ops.completeness).

        Parameters
        ----------
        hospital_ids : sequence of str, optional
            Of these only; of all when left out.
        """
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
        if hospital_ids is not None:
            studies = studies.where(STUDY.c.hospital_id.in_(hospital_ids))
        held: Counter[str] = Counter()
        for hospital_id, _, n in self.held_by_reason(hospital_ids):
            held[hospital_id] += n
        with self.reading() as connection:
            rows = [
                {key: value if key == "hospital_id" else int(value) for key, value in row.items()}
                for row in connection.execute(studies.order_by(STUDY.c.hospital_id)).mappings()
            ]
        for row in rows:
            row["n_instances_quarantined"] = held[str(row["hospital_id"])]
        return rows

    def held_by_reason(self, hospital_ids: Sequence[str] | None = None) -> list[tuple[str, str, int]]:
        """(hospital, reason, instances) that lie in quarantine now (ops.quarantine)."""
        query = (
            sa.select(QUARANTINE.c.hospital_id, QUARANTINE.c.reason, sa.func.count())
            .where(QUARANTINE.c.replayed_at.is_(None))
            .group_by(QUARANTINE.c.hospital_id, QUARANTINE.c.reason)
            .order_by(QUARANTINE.c.hospital_id, QUARANTINE.c.reason)
        )
        if hospital_ids is not None:
            query = query.where(QUARANTINE.c.hospital_id.in_(hospital_ids))
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


def head_file(folder: Path, hospital_id: str) -> HeadFile:
    """The file that the end of a hospital's history is kept in."""
    return HeadFile(folder / f"{hospital_id}.head")


def _int32(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value


def _tell(context: sa.ExceptionContext) -> None:
    """Errors of the database, not of a statement, in our own words."""
    if context.is_pre_ping or type(context.sqlalchemy_exception) not in (DatabaseError, OperationalError):
        return
    reason = str(context.original_exception).partition("\n")[0]
    if "full" in reason:  # SQLite: "database or disk is full"
        raise StoreFull(path="The ledger", reason=reason) from context.original_exception
    for words, advice in _PERMANENT.items():
        if words in reason:
            raise LedgerUnusable(reason=reason, advice=advice) from context.original_exception
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
