"""How long people waited for pixels that a hospital keeps: an entry for each wish, without the study."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import RETRIEVAL

__all__ = ["Retrieval", "enter_retrieval", "retrievals"]


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """A wish for series of a study, and what became of it.

    Attributes
    ----------
    asked_at : datetime
        UTC.
    seconds : float
        Until the pixels were here, or it was known that they would not come.
    outcome : str
        `here`, `fetched`, or why not.
    """

    hospital_id: str
    asked_at: datetime
    seconds: float
    n_objects: int
    n_bytes: int
    outcome: str


def enter_retrieval(ledger: Ledger, one: Retrieval) -> None:
    with ledger.writing() as connection:
        connection.execute(RETRIEVAL.insert().values(**asdict(one)))


def retrievals(ledger: Ledger, *, since: datetime) -> list[dict[str, Any]]:
    """Entries since then, oldest first."""
    query = sa.select(RETRIEVAL).where(RETRIEVAL.c.asked_at >= since).order_by(RETRIEVAL.c.retrieval_id)
    with ledger.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
