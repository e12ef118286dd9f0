"""The queue of a reviewer: which objects in quarantine wait for a person, and what may be decided about each.

A document is not a picture: nothing that a person sees on its pages tells what stands in its bytes, so it can only be
rejected; a profile that cleans documents takes it by an ordinary replay. A picture that cannot be shown has not been
judged either. Whatever is decided, headers are de-identified and searched as ever when it is replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from radlake.lake.ledger import Ledger
from radlake.lake.quarantine import Quarantine
from radlake.lake.reviews import Review, ReviewRefused, Reviews
from radlake.pixels import DecisionKind, PixelDecision, Region
from radlake.review.decisions import text_from_region
from radlake.review.facts import Facts, facts_of

__all__ = ["Item", "Queue"]

_PICTURE, _REJECTED = "pixel_risk", "rejected_by_reviewer"
_REVIEWED = (_PICTURE, "document_not_cleanable", _REJECTED)
_BY, _WHY = 100, 2000  # characters


@dataclass(frozen=True)
class Item:
    """One object in quarantine and the decision that is in force for it."""

    quarantine_id: str
    hospital_id: str
    reason: str
    detail: str
    n_bytes: int
    held_at: datetime
    study_uid: str
    path: Path
    review: Review | None
    record: dict[str, Any]  # of `Quarantine.held`

    @property
    def facts(self) -> Facts:
        return facts_of(self.path)

    @property
    def is_decided(self) -> bool:
        """Whether a decision waits for its replay."""
        return self.review is not None and self.review.replayed_at is None

    @property
    def choices(self) -> tuple[DecisionKind, ...]:
        """What may be decided, as far as the reason tells; see `Queue.decide`."""
        is_picture = self.reason in (_PICTURE, _REJECTED) and self.facts.has_picture
        return tuple(DecisionKind) if is_picture else (DecisionKind.REJECT,)


class Queue:
    """What waits, over a ledger and its quarantine.

    Parameters
    ----------
    can_show : callable
        Whether the picture of a file can be shown on this machine.
    """

    def __init__(self, ledger: Ledger, quarantine: Quarantine, *, can_show: Callable[[Path], bool]) -> None:
        self._quarantine = quarantine
        self._reviews = Reviews(ledger)
        self._can_show = can_show

    def items(self, *, hospital_id: str | None = None) -> list[Item]:
        """Everything that a person may judge: waiting, decided and rejected; series stay together."""
        return sorted(self._items(hospital_id=hospital_id), key=_order)

    def waiting(self, *, hospital_id: str | None = None) -> list[Item]:
        """Objects that nobody decided about, and those whose decision was tried and did not help."""
        items = self.items(hospital_id=hospital_id)
        return [item for item in items if not item.is_decided and item.reason != _REJECTED]

    def decided(self) -> list[Item]:
        """Objects whose decision waits for its replay."""
        return [item for item in self.items() if item.is_decided]

    def find(self, prefix: str) -> Item:
        """The one object whose id begins so.

        Raises
        ------
        ReviewRefused
            If there is none, or more than one.
        """
        found = [item for item in self._items() if item.quarantine_id.startswith(prefix)] if prefix else []
        if len(found) != 1:
            reason = (
                "more than one object has an id that begins so" if found else "nothing of this id is to be reviewed"
            )
            raise ReviewRefused(code="unknown", what=prefix or "id", reason=f"{reason}; see `radlake review list`")
        return found[0]

    def alike(self, item: Item) -> list[Item]:
        """The others of the same series that wait: of one device, with as many rows and columns."""
        return [
            other
            for other in self.waiting(hospital_id=item.hospital_id)
            if other.quarantine_id != item.quarantine_id and _kind(other) == _kind(item)
        ]

    def decide(
        self, items: Sequence[Item], *, kind: DecisionKind, regions: Iterable[Region], by: str, why: str, now: datetime
    ) -> None:
        """Enter one decision for these objects.

        Raises
        ------
        ReviewRefused
            If it is not to be had for one of them, its regions lie outside, or nobody signs or explains it.
        """
        regions = tuple(regions)
        by, why = by.strip(), why.strip()
        try:
            PixelDecision(kind, regions)
        except ValueError as exc:
            raise ReviewRefused(code="invalid", what="This decision", reason=str(exc)) from exc
        for name, text, most in (("by", by, _BY), ("why", why, _WHY)):
            if not 0 < len(text) <= most:
                raise ReviewRefused(
                    code="sign", what=name, reason=f"write 1 to {most} characters: who decides and why is kept"
                )
        for item in items:
            self._refuse(item, kind, regions)
        self._reviews.record(
            [item.quarantine_id for item in items],
            decision=kind.value,
            regions=[text_from_region(region) for region in regions],
            by=by,
            why=why,
            now=now,
        )

    def undo(self, quarantine_ids: Collection[str], *, by: str, now: datetime) -> None:
        """Undo decisions that were not replayed yet; see `Reviews.undo`."""
        self._reviews.undo(quarantine_ids, by=by, now=now)

    def log(self) -> list[Review]:
        """Every decision ever made, oldest first."""
        return self._reviews.log()

    def _refuse(self, item: Item, kind: DecisionKind, regions: tuple[Region, ...]) -> None:
        facts = item.facts
        if kind not in item.choices:
            reason = "it is not a picture, so it can only be rejected; a profile that cleans it takes it by a replay"
            raise ReviewRefused(code="choice", what=item.quarantine_id, reason=reason)
        if kind is not DecisionKind.REJECT and not self._can_show(item.path):
            reason = "its picture cannot be shown, so nobody has judged it: only reject is possible"
            raise ReviewRefused(code="hidden", what=item.quarantine_id, reason=reason)
        for region in regions:
            if (
                region.clipped(rows=facts.rows, columns=facts.columns) != region
                or max(region.first_frame, region.last_frame or 1) > facts.n_frames
            ):
                size = f"{facts.columns} x {facts.rows} pixels, {facts.n_frames} frames"
                raise ReviewRefused(
                    code="outside", what=item.quarantine_id, reason=f"a region lies outside of the image ({size})"
                )

    def _items(self, *, hospital_id: str | None = None) -> list[Item]:
        held = [r for r in self._quarantine.held(hospital_id=hospital_id) if r["reason"] in _REVIEWED]
        reviews = self._reviews.in_force([record["quarantine_id"] for record in held])
        return [self._item(record, reviews.get(record["quarantine_id"])) for record in held]

    def _item(self, record: dict[str, Any], review: Review | None) -> Item:
        names = ("quarantine_id", "hospital_id", "reason", "detail", "n_bytes", "held_at", "study_uid")
        path = self._quarantine.path(record["quarantine_id"])
        return Item(**{name: record[name] for name in names}, path=path, review=review, record=record)


def _kind(item: Item) -> tuple[Any, ...]:
    facts = item.facts
    return item.study_uid, facts.series or item.quarantine_id, facts.device, facts.rows, facts.columns, item.choices


def _order(item: Item) -> tuple[Any, ...]:
    facts = item.facts
    return item.hospital_id, item.study_uid, facts.series, facts.instance_number, item.quarantine_id
