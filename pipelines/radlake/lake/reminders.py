"""The journal of the reminder service: what was asked, shown, answered and opened; single-use values that are spent.

A database of its own in the restricted zone, because the ledger is written in whole batches and a doctor does not wait
for one; when the ledger lies in PostgreSQL, whose writers do not wait for each other, it lies there too, so that
services on several machines spend the same values. It holds pseudonyms and digests, never an identifier of a patient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from radlake.config import Settings, resolve_secret

__all__ = ["JOURNAL", "Asked", "ReminderJournal", "ShownReminder"]

_FILE = "reminder.db"

JOURNAL = sa.MetaData()
REMINDER = sa.Table(
    "reminder",
    JOURNAL,
    sa.Column("reminder_id", sa.String, primary_key=True),
    sa.Column("hospital_id", sa.String, nullable=False),
    sa.Column("patient_key", sa.BigInteger, nullable=False),  # the pseudonym that the earlier exam is of
    sa.Column("shown_at", sa.DateTime, nullable=False, index=True),
    sa.Column("is_muted", sa.Boolean, nullable=False),  # would have been shown, in a hospital that has not begun
    sa.Column("modality_group", sa.String, nullable=False),
    sa.Column("body_part_code", sa.String, nullable=False),
    sa.Column("laterality_code", sa.String, nullable=False),
    sa.Column("earlier_hospital_id", sa.String, nullable=False),
    sa.Column("earlier_exam_pseudo_id", sa.String, nullable=False),
    sa.Column("earlier_days", sa.Integer, nullable=False),
    sa.Column("policy_version", sa.Integer, nullable=False),
    sa.Column("asked_by", sa.String, nullable=False),  # pseudonym of the caller's user
    sa.Column("linked_at", sa.DateTime, nullable=False),  # when its card was given out last
    sa.Column("answer_code", sa.String, nullable=False, default=""),  # ACCEPTED|OVERRIDDEN
    sa.Column("ground_code", sa.String, nullable=False, default=""),
    sa.Column("answered_at", sa.DateTime),
    sa.Column("opened_at", sa.DateTime),
    sa.Column("opened_by", sa.String, nullable=False, default=""),  # kind of consent
    sa.Index("ix_reminder_exam", "patient_key", "earlier_exam_pseudo_id", "shown_at"),
)
REMINDER_ORDER = sa.Table(  # imaging orders that were asked about, by what was decided
    "reminder_order",
    JOURNAL,
    sa.Column("hospital_id", sa.String, primary_key=True),
    sa.Column("order_month", sa.Integer, primary_key=True, autoincrement=False),  # yyyymm in Asia/Shanghai
    sa.Column("hook", sa.String, primary_key=True),
    sa.Column("modality_group", sa.String, primary_key=True),
    sa.Column("verdict", sa.String, primary_key=True),
    sa.Column("n", sa.BigInteger, nullable=False),
)
SPENT = sa.Table(  # values that work once, as digests: ids of tokens
    "reminder_spent",
    JOURNAL,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("expires_at", sa.DateTime, nullable=False, index=True),
)
WISH = sa.Table(  # a patient was asked for consent
    "reminder_wish",
    JOURNAL,
    sa.Column("consent_id", sa.String, primary_key=True),
    sa.Column("reminder_id", sa.String, nullable=False, index=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("kept", sa.String, nullable=False),  # what judges the answer: a keyed digest
    sa.Column("expires_at", sa.DateTime, nullable=False),
    sa.Column("n_tried", sa.Integer, nullable=False, default=0),
    sa.Column("state", sa.String, nullable=False, default="asked"),  # asked|granted|denied|burnt
)
LINK = sa.Table(  # a link that works once, by the digest of its token
    "reminder_link",
    JOURNAL,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("reminder_id", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("expires_at", sa.DateTime, nullable=False),
    sa.Column("is_used", sa.Boolean, nullable=False, default=False),
)


@dataclass(frozen=True)
class ShownReminder:
    """A reminder as it is kept; times are UTC."""

    reminder_id: str
    hospital_id: str
    patient_key: int
    shown_at: datetime
    is_muted: bool
    modality_group: str
    body_part_code: str
    laterality_code: str
    earlier_hospital_id: str
    earlier_exam_pseudo_id: str
    earlier_days: int
    policy_version: int
    asked_by: str
    linked_at: datetime
    answer_code: str = ""
    ground_code: str = ""
    answered_at: datetime | None = None
    opened_at: datetime | None = None
    opened_by: str = ""


@dataclass(frozen=True)
class Asked:
    """One order that was asked about; what is counted of it."""

    hospital_id: str
    order_month: int
    hook: str
    modality_group: str
    verdict: str


class ReminderJournal:
    """The journal in its database.

    Parameters
    ----------
    url : str
        SQLAlchemy URL of SQLite or PostgreSQL.
    """

    def __init__(self, url: str) -> None:
        self._is_sqlite = url.startswith("sqlite")
        self.engine = sa.create_engine(url, pool_pre_ping=not self._is_sqlite, max_overflow=-1)
        if self._is_sqlite:
            event.listen(self.engine, "connect", _connected)
            event.listen(self.engine, "begin", _begin)
        JOURNAL.create_all(self.engine)

    @classmethod
    def from_settings(cls, settings: Settings) -> ReminderJournal:
        """The journal of a lake, made when it is not there."""
        url = _server(settings)
        if url:
            return cls(url)
        path = settings.prepare_restricted() / _FILE
        path.touch(mode=0o600)
        return cls(f"sqlite:///{path}")

    @classmethod
    def existing(cls, settings: Settings) -> ReminderJournal | None:
        """The journal of a lake; None when no reminder service ever ran for it."""
        url = _server(settings) or f"sqlite:///{settings.restricted / _FILE}"
        if url.startswith("sqlite") and not (settings.restricted / _FILE).exists():
            return None
        engine = sa.create_engine(url)
        try:
            is_there = sa.inspect(engine).has_table(REMINDER.name)
        finally:
            engine.dispose()
        return cls(url) if is_there else None

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        with self.engine.connect().execution_options(radlake_write=True) as connection, connection.begin():
            yield connection

    def spend(self, digest: str, *, expires_at: datetime, now: datetime) -> bool:
        """Use a value up; False when it was used before. It may be forgotten once it has expired."""
        try:
            with self.writing() as connection:
                connection.execute(SPENT.insert().values(digest=digest, expires_at=expires_at))
        except IntegrityError:
            return False
        if digest.startswith("00"):  # one in 256 sweeps
            with self.writing() as connection:
                connection.execute(SPENT.delete().where(SPENT.c.expires_at < now))
        return True

    def enter(self, asked: Sequence[Asked], shown: Sequence[ShownReminder], *, since: datetime) -> list[str]:
        """Count orders, and keep reminders; all in one transaction.

        Parameters
        ----------
        since : datetime
            A reminder of the same exam, hospital and kind that was shown after this and not answered is the same one.

        Returns
        -------
        list of str
            Id of each reminder: its own, or that of the one that it is.
        """
        with self.writing() as connection:
            for one, n in Counter(asked).items():
                _count(connection, one, n)
            return [_keep(connection, one, since=since) for one in shown]

    def answer(self, reminder_id: str, hospital_id: str, *, answer_code: str, ground_code: str, at: datetime) -> bool:
        """Enter what the doctor did; the last answer counts. False when that hospital was shown no such reminder."""
        where = (
            REMINDER.c.reminder_id == reminder_id,
            REMINDER.c.hospital_id == hospital_id,
            REMINDER.c.is_muted.is_(False),
        )
        values = {"answer_code": answer_code, "ground_code": ground_code, "answered_at": at}
        with self.writing() as connection:
            return connection.execute(REMINDER.update().where(*where).values(**values)).rowcount == 1

    def open(self, reminder_id: str, *, by: str, at: datetime) -> None:
        """Enter that the earlier images were opened; the first time counts."""
        where = (REMINDER.c.reminder_id == reminder_id, REMINDER.c.opened_at.is_(None))
        with self.writing() as connection:
            connection.execute(REMINDER.update().where(*where).values(opened_at=at, opened_by=by))

    def find(self, reminder_id: str) -> ShownReminder | None:
        with self.engine.connect() as connection:
            row = (
                connection.execute(sa.select(REMINDER).where(REMINDER.c.reminder_id == reminder_id)).mappings().first()
            )
        return ShownReminder(**row) if row else None

    def enter_wish(self, consent_id: str, reminder_id: str, kind: str, *, kept: str, expires_at: datetime) -> None:
        """Enter that a patient was asked for consent."""
        values = {"consent_id": consent_id, "reminder_id": reminder_id, "kind": kind}
        with self.writing() as connection:
            connection.execute(WISH.insert().values(**values, kept=kept, expires_at=expires_at))

    def wish(self, consent_id: str) -> dict[str, Any] | None:
        with self.engine.connect() as connection:
            row = connection.execute(sa.select(WISH).where(WISH.c.consent_id == consent_id)).mappings().first()
        return dict(row) if row else None

    def n_wishes(self, reminder_id: str) -> int:
        """How often consent was asked for a reminder."""
        query = sa.select(sa.func.count()).where(WISH.c.reminder_id == reminder_id)
        with self.engine.connect() as connection:
            return connection.execute(query).scalar_one()

    def try_wish(self, consent_id: str, *, is_over: bool, most: int) -> int:
        """Count a wrong answer; the wish is over after `most` of them, or at once. Returns how many there were."""
        is_this = WISH.c.consent_id == consent_id
        with self.writing() as connection:
            connection.execute(WISH.update().where(is_this).values(n_tried=WISH.c.n_tried + 1))
            n_tried = connection.execute(sa.select(WISH.c.n_tried).where(is_this)).scalar_one()
            if is_over or n_tried >= most:
                connection.execute(WISH.update().where(is_this).values(state="denied" if is_over else "burnt"))
        return n_tried

    def grant_wish(self, consent_id: str, *, link: str, expires_at: datetime) -> bool:
        """Enter that consent was given, with the digest of the link that it gives; False when it was settled before."""
        where = (WISH.c.consent_id == consent_id, WISH.c.state == "asked")
        with self.writing() as connection:
            if connection.execute(WISH.update().where(*where).values(state="granted")).rowcount != 1:
                return False
            wish = connection.execute(sa.select(WISH).where(WISH.c.consent_id == consent_id)).mappings().one()
            values = {"digest": link, "reminder_id": wish["reminder_id"], "kind": wish["kind"]}
            connection.execute(LINK.insert().values(**values, expires_at=expires_at))
        return True

    def take_link(self, digest: str) -> tuple[str, str, datetime] | None:
        """Use a link up: its reminder, kind of consent and end; None when there is none or it was used."""
        where = (LINK.c.digest == digest, LINK.c.is_used.is_(False))
        with self.writing() as connection:
            if connection.execute(LINK.update().where(*where).values(is_used=True)).rowcount != 1:
                return None
            row = connection.execute(sa.select(LINK).where(LINK.c.digest == digest)).mappings().one()
        return row["reminder_id"], row["kind"], row["expires_at"]

    def overridden(
        self, hospital_id: str, patient_keys: Collection[int], exams: Collection[str], *, since: datetime
    ) -> dict[str, datetime]:
        """When reminders of these earlier exams were last overridden in a hospital since then."""
        query = (
            sa.select(REMINDER.c.earlier_exam_pseudo_id, sa.func.max(REMINDER.c.answered_at))
            .where(
                REMINDER.c.patient_key.in_(patient_keys),
                REMINDER.c.earlier_exam_pseudo_id.in_(exams),
                REMINDER.c.hospital_id == hospital_id,
                REMINDER.c.answer_code == "OVERRIDDEN",
                REMINDER.c.answered_at >= since,
            )
            .group_by(REMINDER.c.earlier_exam_pseudo_id)
        )
        with self.engine.connect() as connection:
            return {exam: at for exam, at in connection.execute(query).all()}  # noqa: C416

    def reminders(self, *, since: datetime) -> Iterator[ShownReminder]:
        """Reminders since then, the oldest first, those that were muted too."""
        query = sa.select(REMINDER).where(REMINDER.c.shown_at >= since).order_by(REMINDER.c.shown_at)
        with self.engine.connect() as connection:
            for row in connection.execute(query.execution_options(yield_per=5000)).mappings():
                yield ShownReminder(**row)

    def orders(self) -> list[dict[str, Any]]:
        """How many orders were asked about, by month, hook, modality and verdict."""
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.select(REMINDER_ORDER)).mappings()]


def _count(connection: sa.Connection, one: Asked, n: int) -> None:
    where = [REMINDER_ORDER.c[name] == value for name, value in asdict(one).items()]
    update = REMINDER_ORDER.update().where(*where).values(n=REMINDER_ORDER.c.n + n)
    if connection.execute(update).rowcount:
        return
    try:
        with connection.begin_nested():
            connection.execute(REMINDER_ORDER.insert().values(**asdict(one), n=n))
    except IntegrityError:  # somebody else counted the first one
        connection.execute(update)


def _keep(connection: sa.Connection, one: ShownReminder, *, since: datetime) -> str:
    same = ("hospital_id", "patient_key", "earlier_exam_pseudo_id", "modality_group", "body_part_code", "is_muted")
    query = sa.select(REMINDER.c.reminder_id).where(
        *(REMINDER.c[name] == getattr(one, name) for name in same),
        REMINDER.c.shown_at >= since,
        REMINDER.c.answer_code == "",
    )
    if known := connection.execute(query).scalar():
        again = REMINDER.update().where(REMINDER.c.reminder_id == known)
        connection.execute(again.values(linked_at=one.linked_at, asked_by=one.asked_by))
        return known
    connection.execute(REMINDER.insert().values(**asdict(one)))
    return one.reminder_id


def _server(settings: Settings) -> str:
    """URL of the ledger's database when it is a server; empty for SQLite."""
    url = resolve_secret(settings.ledger) if settings.ledger.startswith(("file:", "env:")) else settings.ledger
    return "" if url.startswith("sqlite") else url


def _begin(connection: sa.Connection) -> None:
    is_write = connection.get_execution_options().get("radlake_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def _connected(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    cursor = connection.cursor()
    # NORMAL: the death of this process loses nothing, a loss of power the last instants: no sync while a doctor waits.
    for pragma in ("busy_timeout=5000", "journal_mode=WAL", "synchronous=NORMAL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
