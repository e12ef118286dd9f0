"""Reviews: what people decided about objects in quarantine, who, when and why.

Rows are only added, so the table is its own audit log: of a row only the time of its undoing and of its replay are
entered later, once. The newest row of an object that is not undone is in force.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from radlake.commit_points import reached
from radlake.errors import PermanentError
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import REVIEW
from radlake.lake.statements import in_parts

__all__ = ["Review", "ReviewRefused", "Reviews"]


class ReviewRefused(PermanentError):
    """A decision that cannot be entered or undone; `code` names why, for the pages."""

    sentence = "{what}: {reason}."


@dataclass(frozen=True)
class Review:
    """One decision about one object.

    Attributes
    ----------
    decision : str
        accept, mask or reject.
    regions : tuple of str
        What a mask covers, each as `X0,Y0,X1,Y1[@F0-F1]`.
    replayed_at : datetime or None
        UTC. When a replay took it up: from then on it cannot be undone, only followed by another one.
    """

    review_id: int
    quarantine_id: str
    decision: str
    regions: tuple[str, ...]
    by: str
    why: str
    at: datetime
    undone_at: datetime | None = None
    undone_by: str | None = None
    replayed_at: datetime | None = None


class Reviews:
    """The table `review` of the ledger's database."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def record(
        self,
        quarantine_ids: Collection[str],
        *,
        decision: str,
        regions: Sequence[str] = (),
        by: str,
        why: str,
        now: datetime,
    ) -> None:
        """Enter the same decision for these objects; all or none."""
        told = {"decision": decision, "regions": json.dumps(list(regions)), "by": by, "why": why, "at": now}
        with self._ledger.writing() as connection:
            connection.execute(REVIEW.insert(), [{"quarantine_id": name} | told for name in quarantine_ids])
        reached("review.recorded")

    def undo(self, quarantine_ids: Collection[str], *, by: str, now: datetime) -> None:
        """Undo the decision in force of each of these objects, so that the one before holds again, if there is any.

        Raises
        ------
        ReviewRefused
            If one has none, or it was replayed. Nothing is undone then.
        """
        with self._ledger.writing() as connection:
            in_force = _in_force(connection, quarantine_ids)
            for name in quarantine_ids:
                review = in_force.get(name)
                if review is None:
                    raise ReviewRefused(code="none", what=name, reason="there is no decision to undo")
                if review.replayed_at:
                    raise ReviewRefused(
                        code="replayed", what=name, reason="its decision was replayed; decide again to change it"
                    )
                where = REVIEW.c.review_id == review.review_id
                connection.execute(REVIEW.update().where(where).values(undone_at=now, undone_by=by))
        reached("review.undone")

    def in_force(self, quarantine_ids: Collection[str]) -> dict[str, Review]:
        """The decision that holds, by object; an object without one is not there."""
        with self._ledger.reading() as connection:
            return _in_force(connection, quarantine_ids)

    def take_up(self, quarantine_ids: Collection[str], *, now: datetime) -> dict[str, Review]:
        """The decisions in force, for a replay that begins now: none of them can be undone from here on."""
        with self._ledger.writing() as connection:
            in_force = _in_force(connection, quarantine_ids)
            for review in in_force.values():
                where = REVIEW.c.review_id == review.review_id, REVIEW.c.replayed_at.is_(None)
                connection.execute(REVIEW.update().where(*where).values(replayed_at=now))
        reached("review.taken_up")
        return in_force

    def log(self) -> list[Review]:
        """Every decision ever made, oldest first."""
        with self._ledger.reading() as connection:
            return [
                _review(row) for row in connection.execute(sa.select(REVIEW).order_by(REVIEW.c.review_id)).mappings()
            ]


def _in_force(connection: sa.Connection, quarantine_ids: Collection[str]) -> dict[str, Review]:
    query = sa.select(REVIEW).where(REVIEW.c.undone_at.is_(None)).order_by(REVIEW.c.review_id)
    found: dict[str, Review] = {}
    for part in in_parts(list(quarantine_ids)):
        rows = connection.execute(query.where(REVIEW.c.quarantine_id.in_(part))).mappings()
        found |= {row["quarantine_id"]: _review(row) for row in rows}
    return found


def _review(row: Mapping[str, Any] | sa.RowMapping) -> Review:
    return Review(**{**row, "regions": tuple(json.loads(row["regions"]))})
