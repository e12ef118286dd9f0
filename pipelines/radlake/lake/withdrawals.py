"""What was withdrawn, in the ledger's database: reports in a chain, and by keyed digest who may not come back.

Whom an open withdrawal is about lies sealed in its row, and is erased when nothing is left of them. What is removed,
how it is searched for and what a report says is `radlake.withdrawal`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from radlake.config import Settings
from radlake.errors import TransientError
from radlake.lake.chain import canonical
from radlake.lake.events import Mac
from radlake.lake.ledger import Claim, Ledger
from radlake.lake.ledger_tables import WITHDRAWAL, WITHDRAWN_PERSON

__all__ = ["LAKE", "TURNED_AWAY", "LakeBusy", "Withdrawal", "WithdrawalRows", "sharing_lake", "withdrawn_digest"]

LAKE = "_lake"  # what builds and withdrawals claim, instead of a hospital
TURNED_AWAY = "the person withdrew before it came"


class LakeBusy(TransientError):
    sentence = "Somebody's data are being withdrawn from this lake, or it is being built. Try again in a few minutes."


@contextmanager
def sharing_lake(settings: Settings) -> Iterator[None]:
    """Nobody is withdrawn meanwhile: what is written from what was read before has nobody who is gone by then.

    Raises
    ------
    LakeBusy
        If somebody is being withdrawn.
    """
    with closing(Ledger(settings.ledger)) as ledger, ledger.claim(LAKE, Claim.BUILD, shared=True) as is_held:
        if not is_held:
            raise LakeBusy
        yield


@dataclass(frozen=True)
class Withdrawal:
    """One withdrawal.

    Attributes
    ----------
    subject : str
        Keyed digest of whom or what it is about.
    sealed : bytes or None
        Whom it is about, encrypted; None when it is finished.
    document : str
        Its report; empty while it is open.
    """

    number: int
    subject: str
    begun_at: datetime
    finished_at: datetime | None
    sealed: bytes | None
    document: str


def withdrawn_digest(mac: Mac, patient_key: int) -> str:
    """By what a person who withdrew is known again; `mac` is `KeyRing.withdrawal_mac`."""
    return mac("person" + canonical({"patient_key": patient_key}))


class WithdrawalRows:
    """The tables `withdrawal` and `withdrawn_person`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def persons(self) -> frozenset[str]:
        """Digests of everybody who withdrew."""
        with self._ledger.reading() as connection:
            return frozenset(connection.scalars(sa.select(WITHDRAWN_PERSON.c.digest)))

    def all(self) -> list[Withdrawal]:
        """Every withdrawal, the oldest first."""
        with self._ledger.reading() as connection:
            rows = connection.execute(sa.select(WITHDRAWAL).order_by(WITHDRAWAL.c.number)).mappings()
            return [Withdrawal(**row) for row in rows]

    def begin(self, *, subject: str, sealed: bytes, persons: Iterable[str], now: datetime) -> Withdrawal:
        """Enter a withdrawal: from here on it is carried out whatever happens, and nobody of it comes back.

        The open one of the same subject, when another process entered it meanwhile.
        """
        with self._ledger.writing() as connection:
            if connection.dialect.name == "postgresql":  # SQLite has one writer anyway
                connection.execute(sa.text("LOCK TABLE withdrawal IN EXCLUSIVE MODE"))
            is_same = WITHDRAWAL.c.subject == subject, WITHDRAWAL.c.finished_at.is_(None)
            if (known := connection.execute(sa.select(WITHDRAWAL).where(*is_same)).mappings().first()) is not None:
                return Withdrawal(**known)
            number = (connection.execute(sa.select(sa.func.max(WITHDRAWAL.c.number))).scalar() or 0) + 1
            row = Withdrawal(number, subject, now, None, sealed, "")
            connection.execute(WITHDRAWAL.insert().values(**vars(row)))
            known = set(connection.scalars(sa.select(WITHDRAWN_PERSON.c.digest)))
            for digest in sorted(set(persons) - known):
                connection.execute(WITHDRAWN_PERSON.insert().values(digest=digest, number=number))
        return row

    def keep(self, number: int, *, sealed: bytes) -> None:
        """Whom an open withdrawal is about, when more of them was found."""
        with self._ledger.writing() as connection:
            connection.execute(WITHDRAWAL.update().where(WITHDRAWAL.c.number == number).values(sealed=sealed))

    def finish(self, number: int, *, document: str, now: datetime) -> None:
        """Enter the report, and erase whom it was about."""
        where = WITHDRAWAL.c.number == number
        with self._ledger.writing() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA secure_delete = ON")
            connection.execute(WITHDRAWAL.update().where(where).values(document=document, sealed=None, finished_at=now))
