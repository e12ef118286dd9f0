"""How well a linkage does: counts of its records, and precision and recall where the truth is known. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Mapping
from typing import Any

from radlake.linkage.records import Record

__all__ = ["measured", "scored"]


def measured(records: Collection[Record], persons: Mapping[int, int]) -> dict[str, Any]:
    """Counts and the linkage rate (columns of ops.linkage).

    Parameters
    ----------
    persons : mapping
        Person of each linked pseudonym.
    """
    keys = {record.patient_key for record in records}
    linked = keys & persons.keys()
    n_roots = len({persons[key] for key in linked})
    identified = sum(bool(record.national_id) or record.patient_key in linked for record in records)
    return {
        "n_keys": len(records),
        "n_national_keys": sum(bool(record.national_id) for record in records),
        "n_compared_keys": sum(record.is_comparable for record in records),
        "n_contradictory_keys": sum(record.is_contradictory for record in records),
        "n_linked_keys": len(linked),
        "n_persons": len(records) - len(linked) + n_roots,
        "linkage_share": identified / len(records) if records else None,
    }


def scored(truth: Mapping[int, Hashable], persons: Mapping[int, int]) -> dict[str, float | None]:
    """Precision and recall over pairs of pseudonyms.

    >>> scored({1: "a", 2: "a", 3: "b", 4: "a"}, {1: 1, 2: 1, 3: 1})
    {'precision_share': 0.3333333333333333, 'recall_share': 0.3333333333333333}
    """
    groups: dict[int, Counter[Hashable]] = defaultdict(Counter)
    for key, person in persons.items():
        groups[person][truth[key]] += 1
    n_found = sum(_pairs(group.total()) for group in groups.values())
    n_right = sum(_pairs(n) for group in groups.values() for n in group.values())
    n_true = sum(map(_pairs, Counter(truth.values()).values()))
    return {
        "precision_share": n_right / n_found if n_found else None,
        "recall_share": n_right / n_true if n_true else None,
    }


def _pairs(n: int) -> int:
    return n * (n - 1) // 2
