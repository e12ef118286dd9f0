"""What is known of a study, and the one state that follows from it: pure values, no database.

Nothing else may call a study complete. Keeping the values is the business of `ledger`.
"""

from __future__ import annotations

from collections import Counter
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
    "UnreadPiece",
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
class UnreadPiece:
    """A piece of the description of one study that no rule of the vocabulary could read; `digest` is keyed."""

    digest: str
    text: str
    modality_group: str


@dataclass(frozen=True)
class StoredInstance:
    """What the ledger keeps of a stored instance, to tell an exact resend from a conflict.

    Attributes
    ----------
    digest, source_digest : str
        XXH3-128 of the Part-10 bytes as they were first stored and of the bytes as they were received.
    recoded : str
        XXH3-128 of the Part-10 bytes that lie in the lake now, when recompression changed them; else empty.
    """

    digest: str
    source_digest: str
    recoded: str = ""

    @property
    def lake_digest(self) -> str:
        """Digest of the bytes that lie in the lake now."""
        return self.recoded or self.digest


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

    Attributes
    ----------
    is_open : bool
        An attempt to fetch it was begun and is not settled.
    n_told : int or None
        The count that the node told last, whatever its list says.
    trouble : str
        Why the node did not send the rest.
    unverified : str
        Why nobody vouches that all of it came, of a study that was pushed to us.
    withdrawn : str
        Why it is none of ours any more.
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
    is_open: bool = False
    n_told: int | None = None
    trouble: str = ""
    unverified: str = ""
    withdrawn: str = ""
    patient_key: int | None = None
    lake_study_uid: str = ""
    lake_month: int | None = None
    discovered_at: datetime | None = None
    completed_at: datetime | None = None

    @property
    def missing(self) -> frozenset[str] | None:
        """Expected SOP Instance UIDs that are neither stored nor set aside; None when the node gave no list.

        An empty list is none: a study has instances (PS3.3 A.1.2).
        """
        if not self.expected:
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
        by_count = max(0, self.n_expected - have) if self.n_expected else None
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
    recoded: Mapping[str, str] = field(default_factory=dict)  # digest in the lake before -> since recompression
    patient_key: int | None = None
    lake_study_uid: str = ""
    lake_month: int | None = None
    sealed: SealedRecord | None = None  # of what is stored by this ingest
    retention: str = ""  # class that its headers tell


OFFLINE = "offline: "  # how the trouble of a study begins whose instances the node has to bring first


def state_from_evidence(entry: StudyEntry) -> tuple[StudyState, str]:
    """Decide the one state of a study, and its reason, from everything else that is known of it.

    Complete means: at least one instance is stored, every expected SOP Instance UID is (or, where the node gives no
    list, as many as it counts), and nothing of the study is set aside. Two objects of one SOP Instance UID with
    different bytes are both kept, the second one set aside: such a study is never complete. Nor is one that was pushed
    to us while nobody vouches that nothing else of it will come. Offline: something is missing that the node says is
    not at hand now.
    """
    if entry.withdrawn:
        return StudyState.WITHDRAWN, entry.withdrawn
    if entry.is_open:
        return StudyState.RETRIEVING, ""
    trouble = f": {entry.trouble}" if entry.trouble else ""
    if entry.attempts == 0 and not (entry.stored or entry.set_aside):
        return StudyState.DISCOVERED, ""
    reasons = [f"unverified: {entry.unverified}"] if entry.unverified else []
    if entry.n_missing is None and not entry.unverified:
        reasons.append(f"unverifiable: the node gives neither a list nor a count{trouble}")
    elif entry.n_missing:
        reasons.append(f"missing {entry.n_missing} of {entry.n_expected}{trouble}")
    if entry.set_aside:
        counts = Counter(item.reason for item in entry.set_aside)
        reasons.append("set aside: " + ", ".join(f"{reason} x{n}" for reason, n in sorted(counts.items())))
    if not reasons:
        return StudyState.COMPLETE, ""
    if entry.n_missing == 0 and not entry.stored:
        return StudyState.QUARANTINED, "; ".join(reasons)
    if entry.n_missing != 0 and entry.trouble.startswith(OFFLINE):
        return StudyState.OFFLINE, "; ".join(reasons)
    return StudyState.PARTIAL, "; ".join(reasons)
