"""Rates of repeats with their limits, added up from stats.repeat_rate along one dimension."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from radlake.contracts import load_table
from radlake.contracts.table import quoted
from radlake.errors import ContractBroken
from radlake.lake import Lake, parquet
from radlake.stats.duplicates.rates import RATES
from radlake.stats.intervals import Interval, wilson

__all__ = ["RepeatRate", "Share", "shares"]


@dataclass(frozen=True)
class Share:
    """A share with its 95 % limits (Wilson); without a value when nothing was counted."""

    n: int
    of: int
    share: float | None
    limits: Interval | None

    @classmethod
    def of_counts(cls, n: int, of: int) -> Share:
        return cls(n, of, n / of if of else None, wilson(n, of))

    def __str__(self) -> str:
        if self.share is None or self.limits is None:
            return "-"
        return f"{self.share:.2%} ({self.limits.low:.2%} to {self.limits.high:.2%})"


@dataclass(frozen=True)
class RepeatRate:
    """The triple of one rule pack, window and group, and the index rate.

    Attributes
    ----------
    repeats, potential, potential_across : Share
        Looking back: all repeats, those that nothing excuses, those of them across hospitals, of the same exams.
    indexed : Share
        Looking ahead: exams that are repeated within the window.
    """

    rule_pack: str
    window_days: int
    group: str
    n_exams: int
    repeats: Share
    potential: Share
    potential_across: Share
    indexed: Share


def shares(lake: Lake, *, by: str | None, windows: Collection[int]) -> list[RepeatRate]:
    """Rates of every rule pack, by a dimension of stats.repeat_rate or of all together.

    Raises
    ------
    ContractBroken
        If the statistics were not built.
    """
    table = load_table(RATES)
    files = lake.restricted_tables.files(table)
    if not files:
        raise ContractBroken(table=RATES, problems=["there is none; run `radlake duplicates build`"])
    group = f"{quoted(by)}::VARCHAR" if by else "'all'"
    query = f"""
        SELECT rule_pack, window_days, {group} AS dimension, sum(n_exams)::BIGINT, sum(n_repeats)::BIGINT,
            sum(n_potential)::BIGINT, sum(n_potential_across_hospitals)::BIGINT, sum(n_indexed)::BIGINT,
            sum(n_indexed_repeated)::BIGINT
        FROM {parquet.scan(table, files)}
        WHERE list_contains(?, window_days)
        GROUP BY ALL ORDER BY ALL
    """
    with parquet.new_connection() as connection:
        found = connection.execute(query, [list(windows)]).fetchall()
    return [
        RepeatRate(
            pack,
            window,
            name,
            n_exams,
            Share.of_counts(n_repeats, n_exams),
            Share.of_counts(n_potential, n_exams),
            Share.of_counts(n_across, n_exams),
            Share.of_counts(n_repeated, n_indexed),
        )
        for pack, window, name, n_exams, n_repeats, n_potential, n_across, n_indexed, n_repeated in found
    ]
