"""What a harvest run did, in numbers that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["HarvestSummary", "total"]


@dataclass
class HarvestSummary:
    """Counts of one run. Instances: received = stored + quarantined + duplicate; nothing else can happen to one.

    `studies_complete` and `studies_partial` count the studies that this run looked at, by their state at its end.
    `unreadable` names the files whose bytes could not be had: a scratched CD. A name may tell a patient: it is for the
    person who has the disc, and is not published.
    """

    hospital_id: str
    run_id: str
    retrieve_kind: str
    studies_found: int = 0
    studies_complete: int = 0
    studies_partial: int = 0
    studies_quarantined: int = 0
    instances_stored: int = 0
    instances_quarantined: int = 0
    instances_duplicate: int = 0
    files_not_dicom: int = 0
    stored_bytes: int = 0
    seconds: float = 0.0
    quarantine_by_reason: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)
    error: str = ""
    error_class: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"quarantine_by_reason": dict(sorted(self.quarantine_by_reason.items()))}


def total(summaries: Iterable[HarvestSummary]) -> dict[str, Any]:
    """Sum of the counts of several runs."""
    result: dict[str, Any] = {}
    reasons: Counter[str] = Counter()
    for summary in summaries:
        reasons += summary.quarantine_by_reason
        for key, value in asdict(summary).items():
            if isinstance(value, int):
                result[key] = result.get(key, 0) + value
    return result | {"quarantine_by_reason": dict(sorted(reasons.items()))}
