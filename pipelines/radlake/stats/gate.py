"""The gate of results that were not foreseen: everything published so far and something new, as one set of equations.

Statistics of fixed tables are masked by `release`. A measure is defined by whoever asks, so two of them may differ by a
handful of persons. Here persons who are in the same cells of everything published are one group. What is shown are
equations over the sizes of the groups: exactly of a count, within its rounding of a rate. A world is another set of
sizes that fits all of them. The gate withholds rows until there is a world in which each small row is just below the
threshold, one in which it is a single person, and one in which each small group is not small. By the duality of linear
programming no combination of what is shown, with any factors, then tells more.

Worlds are looked for in `worlds`, the cheapest way first. Only what no world is found for costs a row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from radlake.stats.policy import Policy
from radlake.stats.worlds import Aim, Worlds

__all__ = ["Fact", "Row", "withheld_rows"]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A number of a row that would be shown, as a sum over groups of persons.

    Attributes
    ----------
    sums : mapping of int to float
        Group -> what each person of it adds.
    tolerance : float
        How far the true number may be from the shown one.
    """

    sums: Mapping[int, float]
    tolerance: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a result.

    Attributes
    ----------
    persons, facts
        The number of persons of the row, and all that the row would show.
    is_small : bool
        It holds a count that policy withholds.
    is_out : bool
        It was shown before and cannot be taken back.
    was_withheld : bool
        It was withheld before and stays so.
    worth : float
        Rows of little worth are withheld first.
    """

    persons: Fact
    facts: Sequence[Fact]
    is_small: bool
    is_out: bool = False
    was_withheld: bool = False
    worth: float = 1.0


def withheld_rows(
    sizes: Sequence[int], cells: Sequence[Collection[object]], rows: Sequence[Row], *, policy: Policy
) -> set[int]:
    """Positions of rows to withhold.

    Parameters
    ----------
    sizes : sequence of int
        Persons of every group.
    cells : sequence of collection
        Of every group: the published cells that it is in; groups of equal cells are told apart by nobody.
    """
    withheld = {i for i, row in enumerate(rows) if row.was_withheld or (row.is_small and not row.is_out)}
    if not policy.complementary or not rows:
        return withheld
    kinds: dict[frozenset[object], list[int]] = {}
    for group, where in enumerate(cells):
        kinds.setdefault(frozenset(where), []).append(group)
    small_kinds = [
        members for where, members in kinds.items() if where and policy.is_small(sum(sizes[i] for i in members))
    ]
    # A withheld row is known to be small; a group that nobody asked for must not even be that.
    aims = [Aim(members, policy.threshold) for members in sorted(small_kinds)]
    small = [sorted(row.persons.sums) for row in rows if row.is_small]
    aims += [Aim(groups, level) for groups in small for level in (policy.threshold - 1, 1)]
    facts = [(i, fact) for i, row in enumerate(rows) for fact in row.facts]
    worlds = Worlds(
        sizes,
        aims,
        facts=[fact.sums for _, fact in facts],
        tolerances=[fact.tolerance for _, fact in facts],
        row_of=[i for i, _ in facts],
        persons=[row.persons.sums for row in rows],
        worth=[row.worth for row in rows],
        is_out=[row.is_out for row in rows],
    )
    return worlds.withheld_for_all(withheld)
