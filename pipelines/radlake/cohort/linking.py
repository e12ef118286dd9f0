"""The attack on two releases: does any value, or any one offset of dates, join the persons of one to the other's?

Nothing here knows which columns are meant to be identifiers: every pair of columns is tried. A value joins when it is
of one person in both tables; of dates, when one offset for all makes many of them coincide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["Joined", "common_offsets", "joined_values"]

_MOST_MOMENTS = 2000  # of a column: an offset that joins two releases joins any part of them


@dataclass(frozen=True)
class Joined:
    """A pair of columns with values that are of one person in each table, and whom they would join."""

    column: str
    other: str
    pairs: frozenset[tuple[Any, Any]] = field(repr=False)

    @property
    def n_values(self) -> int:
        return len(self.pairs)


def joined_values(
    tables: Mapping[str, pa.Table], others: Mapping[str, pa.Table], *, person: str = "person_pseudo_id"
) -> list[Joined]:
    """Every pair of columns of two releases that share a value which singles out one person in both.

    Tables without the column `person` count each row as a person.
    """
    ours, theirs = _singles(tables, person), _singles(others, person)
    found = []
    for column, values in ours.items():
        for other, known in theirs.items():
            if common := values.keys() & known.keys():
                found.append(Joined(column, other, frozenset((values[value], known[value]) for value in common)))
    return found


def _singles(tables: Mapping[str, pa.Table], person: str) -> dict[str, dict[str, Any]]:
    """Of every column the values, as text, that only one person has, and that person."""
    found: dict[str, dict[str, Any]] = {}
    for name, table in tables.items():
        persons: Iterable[Any] = table[person].to_pylist() if person in table.column_names else range(len(table))
        persons = list(persons)
        for column in table.column_names:
            owners: dict[str, Any] = {}
            shared: set[str] = set()
            for owner, value in zip(persons, table[column].to_pylist(), strict=True):
                if value is None:
                    continue
                text = str(value)
                if owners.setdefault(text, owner) != owner:
                    shared.add(text)
            found[f"{name}.{column}"] = {value: owner for value, owner in owners.items() if value not in shared}
    return found


def common_offsets(
    tables: Mapping[str, pa.Table], others: Mapping[str, pa.Table], *, least_share: float = 0.2, least: int = 5
) -> list[tuple[str, str, timedelta]]:
    """Offsets that make many dates of one release coincide with those of another: pairs of columns, and the offset.

    An offset counts when it makes `least_share` of the smaller column coincide, and `least` values at least.
    """
    ours, theirs = _moments(tables), _moments(others)
    found = []
    for column, moments in ours.items():
        for other, known in theirs.items():
            offsets, n_times = np.unique(np.subtract.outer(moments, known), return_counts=True)
            limit = max(least, least_share * min(len(moments), len(known)))
            found += [(column, other, timedelta(seconds=int(one))) for one in offsets[n_times >= limit]]
    return found


def _moments(tables: Mapping[str, pa.Table]) -> dict[str, np.ndarray]:
    """Distinct moments of every column of dates or times, in seconds."""
    found: dict[str, np.ndarray] = {}
    for name, table in tables.items():
        for one in table.schema:
            if pa.types.is_timestamp(one.type) or pa.types.is_date(one.type):
                moments = table[one.name].drop_null().cast(pa.timestamp("s"), safe=False).cast(pa.int64()).to_numpy()
                found[f"{name}.{one.name}"] = np.unique(moments)[:_MOST_MOMENTS]
    return found
