"""What is known of a study, and the one state that follows from it: pure values, no database.

Nothing else may call a study complete. Keeping the values is the business of `ledger`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

__all__ = [
    "OFFLINE",
    "SealedRecord",
    "SetAside",
    "Settlement",
    "StoredInstance",
    "StudyEntry",
    "StudyState",
    "state_from_evidence",
]


class StudyState(StrEnum):
    """The one state of a study."""

    DISCOVERED = "discovered"
    RETRIEVING = "retrieving"
    COMPLETE = "complete"
    PARTIAL = "partial"
    QUARANTINED = "quarantined"
    OFFLINE = "offline"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class StoredInstance:
    """What the ledger keeps of a stored instance, to tell an exact resend from a conflict.

    Attributes
    ----------
    digest, source_digest : str
        XXH3-128 of the Part-10 bytes as they were first stored (recompression changes the stored ones, not this) and
        of the bytes as they were received.
    """

    digest: str
    source_digest: str


@dataclass(frozen=True)
class SetAside:
    """One object of a study that lies in quarantine."""

    quarantine_id: str
    sop_uid: str
    reason: str


@dataclass(frozen=True)
class SealedRecord:
    """What leads back from one stored study, encrypted (`radlake.vault`), and the pseudonyms that it is found by.

    Attributes
    ----------
    blob : str
        The sealed bytes in base64: a batch is staged with JSON.
    aliases : tuple of str
        Pseudonyms of the numbers that the hospital calls the patient by.
    """

    blob: str
    key_version: int
    patient_key: int
    exam_pseudo_id: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyEntry:
    """A study as the ledger knows it.

    `expected` is None while nobody gave a list; then `n_expected` (the node's count) decides alone, and without a
    count the study cannot be called complete.
    """

    hospital_id: str
    study_uid: str
    state: StudyState
    reason: str = ""
    study_date: date | None = None
    n_expected: int | None = None
    expected: frozenset[str] | None = None
    stored: Mapping[str, StoredInstance] = field(default_factory=dict)
    set_aside: tuple[SetAside, ...] = ()
    attempts: int = 0
    patient_key: int | None = None
    lake_study_uid: str = ""
    lake_month: int | None = None
    discovered_at: datetime | None = None
    completed_at: datetime | None = None

    @property
    def missing(self) -> frozenset[str] | None:
        """Expected SOP Instance UIDs that are neither stored nor set aside; None when the node gave no list."""
        if self.expected is None:
            return None
        return self.expected - self.stored.keys() - {item.sop_uid for item in self.set_aside}

    @property
    def is_settled(self) -> bool:
        """Nothing is left to fetch: every expected instance is stored or set aside."""
        return self.n_missing == 0

    @property
    def n_missing(self) -> int | None:
        """How many instances are still to come, by the list and by the count; None when there is neither."""
        have = len(self.stored.keys() | {item.sop_uid for item in self.set_aside if item.sop_uid})
        by_count = None if self.n_expected is None else max(0, self.n_expected - have)
        if self.missing is None:
            return by_count
        return max(len(self.missing), by_count or 0)


@dataclass(frozen=True)
class Settlement:
    """What one ingest of a study brought: entered in the ledger after its rows are in the lake."""

    hospital_id: str
    study_uid: str
    stored: Mapping[str, StoredInstance]
    set_aside: tuple[SetAside, ...] = ()
    resolved: tuple[str, ...] = ()  # quarantine ids that are stored now
    trouble: str = ""  # why the node did not send the rest
    patient_key: int | None = None
    lake_study_uid: str = ""
    lake_month: int | None = None
    sealed: SealedRecord | None = None  # of what is stored by this ingest


OFFLINE = "offline: "  # how the trouble of a study begins whose instances the node has to bring first


def state_from_evidence(entry: StudyEntry, *, trouble: str = "", unverified: str = "") -> tuple[StudyState, str]:
    """Decide the state of a study and its reason from expected, stored and set-aside instances.

    Complete means: every expected SOP Instance UID is stored (or, where the node gives no list, its count is) and
    nothing of the study is set aside. And somebody vouches that nothing else will come: `unverified` says why nobody
    does, of a study that was pushed to us. Offline: something is missing that the node says is not at hand now.
    """
    reasons = [f"unverified: {unverified}"] if unverified else []
    if entry.n_missing is None and not unverified:
        reasons.append("unverifiable: the node gives neither a list nor a count" + (f": {trouble}" if trouble else ""))
    elif entry.n_missing:
        reasons.append(f"missing {entry.n_missing} of {entry.n_expected}" + (f": {trouble}" if trouble else ""))
    if entry.set_aside:
        counts: dict[str, int] = {}
        for item in entry.set_aside:
            counts[item.reason] = counts.get(item.reason, 0) + 1
        reasons.append("set aside: " + ", ".join(f"{reason} x{n}" for reason, n in sorted(counts.items())))
    if not reasons:
        return StudyState.COMPLETE, ""
    if entry.n_missing == 0 and not entry.stored:
        return StudyState.QUARANTINED, "; ".join(reasons)
    if entry.n_missing != 0 and trouble.startswith(OFFLINE):
        return StudyState.OFFLINE, "; ".join(reasons)
    return StudyState.PARTIAL, "; ".join(reasons)
