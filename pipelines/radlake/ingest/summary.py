"""What a harvest run did, in numbers that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["HarvestSummary", "total"]

_COUNTERS = ("quarantine_by_reason", "deidentified_by")


@dataclass
class HarvestSummary:
    """Counts of one run. Instances: received = stored + quarantined + duplicate; nothing else can happen to one.

    `studies_complete` and `studies_partial` count the studies that this run looked at, by their state at its end.
    `studies_left` were found and not looked at, because the run made way or the node is left in peace.
    `deidentified_by` says how many instances went by series template, and why others went the full way.
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
    studies_left: int = 0
    instances_stored: int = 0
    instances_quarantined: int = 0
    instances_duplicate: int = 0
    files_not_dicom: int = 0
    stored_bytes: int = 0
    seconds: float = 0.0
    quarantine_by_reason: Counter[str] = field(default_factory=Counter)
    deidentified_by: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)
    error: str = ""
    error_class: str = ""

    def to_json(self) -> dict[str, Any]:
        counters = {name: dict(sorted(getattr(self, name).items())) for name in _COUNTERS}
        return asdict(self) | counters


def total(summaries: Iterable[HarvestSummary]) -> dict[str, Any]:
    """Sum of the counts of several runs."""
    result: dict[str, Any] = {}
    counters: dict[str, Counter[str]] = {name: Counter() for name in _COUNTERS}
    for summary in summaries:
        for name, counter in counters.items():
            counter.update(getattr(summary, name))
        for key, value in asdict(summary).items():
            if isinstance(value, int):
                result[key] = result.get(key, 0) + value
    return result | {name: dict(sorted(counter.items())) for name, counter in counters.items()}
