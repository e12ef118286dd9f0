"""Attack results that were not foreseen: many queries with free filters over the same persons.

The attacker asks what the gate shows, knows every filter, and knows nothing of the code under test: it subtracts sets,
and solves the equations of all that is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from random import Random

import numpy as np
import pytest
from scipy.optimize import linprog

from radlake.stats.gate import Fact, Row, withheld_rows
from radlake.stats.policy import Policy

POLICY = Policy(threshold=5)


@dataclass(frozen=True)
class Release:
    """Queries over persons: the persons of each row, and the positions of rows that are not shown."""

    rows: list[frozenset[int]]
    withheld: set[int]

    @property
    def shown(self) -> list[frozenset[int]]:
        return [row for i, row in enumerate(self.rows) if i not in self.withheld]


def released(rows: list[frozenset[int]], *, policy: Policy = POLICY, n_out: int = 0, out: set[int] = frozenset()):
    """Send the rows through the gate; the first `n_out` have been shown before, but for those in `out`."""
    patterns: dict[frozenset[int], int] = {}
    for person in set().union(*rows):
        where = frozenset(i for i, row in enumerate(rows) if person in row)
        patterns[where] = patterns.get(where, 0) + 1
    groups = sorted(patterns, key=sorted)

    def row(i: int, persons: frozenset[int]) -> Row:
        count = Fact(sums={g: 1.0 for g, where in enumerate(groups) if i in where})
        is_small = policy.is_small(len(persons))
        return Row(persons=count, facts=[count], is_small=is_small, is_out=i < n_out and i not in out, worth=len(persons) + 1)  # fmt: skip  # noqa: E501

    made = [row(i, persons) for i, persons in enumerate(rows)]
    return Release(rows, out | withheld_rows([patterns[g] for g in groups], groups, made, policy=policy))


def queries(seed: int, *, n_persons: int, n_queries: int) -> list[frozenset[int]]:
    """Rows of random queries: every filter is an age limit, a place or both, some grouped by sex with a total."""
    random = Random(seed)
    people = [(random.randrange(90), random.choice("ABC"), random.choice("FM")) for _ in range(n_persons)]
    rows: list[frozenset[int]] = []
    for _ in range(n_queries):
        oldest, places = random.randrange(20, 91), random.choice(["A", "AB", "ABC", "BC", "C"])
        chosen = [i for i, (age, place, _) in enumerate(people) if age <= oldest and place in places]
        rows.append(frozenset(chosen))
        if random.random() < 0.5:
            rows += [frozenset(i for i in chosen if people[i][2] == sex) for sex in "FM"]
    return [row for row in rows if row]


def pairs_that_tell(release: Release) -> list[int]:
    """Sizes of small sets of persons that are the difference of two shown rows."""
    sizes = [len(more - less) for more, less in permutations(set(release.shown), 2) if less < more]
    return [size for size in sizes if POLICY.is_small(size)]


def told_by_equations(release: Release) -> list[str]:
    """What any combination of shown rows, with any factors, tells of small rows and of small groups of persons."""
    persons = sorted(set().union(*release.rows))
    kinds = sorted({frozenset(i for i, row in enumerate(release.rows) if p in row) for p in persons}, key=sorted)
    kind_of = [frozenset(i for i, row in enumerate(release.rows) if p in row) for p in persons]
    sizes = np.array([kind_of.count(kind) for kind in kinds], dtype=float)
    matrix = np.array([[float(i in kind) for kind in kinds] for i in range(len(release.rows))])
    shown = [i for i in range(len(release.rows)) if i not in release.withheld]
    known = {"A_eq": matrix[shown], "b_eq": matrix[shown] @ sizes, "bounds": [(0, None)] * len(kinds)}
    told = []
    for k, size in enumerate(sizes):
        if POLICY.is_small(size):
            most = linprog(-np.eye(len(kinds))[k], **known)
            if most.status == 0 and -most.fun < POLICY.threshold - 1e-6:
                told.append(f"a group of {size:.0f} is at most {-most.fun:.1f}")
    for i, row in enumerate(release.rows):
        if POLICY.is_small(len(row)):
            most, least = linprog(-matrix[i], **known), linprog(matrix[i], **known)
            if most.status == 0 and -most.fun < POLICY.threshold - 1 - 1e-6:
                told.append(f"row {i} of {len(row)} is at most {-most.fun:.1f}")
            if least.fun > 1 + 1e-6:
                told.append(f"row {i} of {len(row)} is at least {least.fun:.1f}")
    return told


@pytest.mark.parametrize("seed", range(6))
def test_no_pair_and_no_combination_of_permitted_queries_tells_of_few(seed: int) -> None:
    release = released(queries(seed, n_persons=160, n_queries=9))
    assert pairs_that_tell(release) == []
    assert told_by_equations(release) == []
    assert release.shown, "something is shown"


def test_the_attack_succeeds_where_small_rows_alone_are_withheld() -> None:
    weak = Policy(threshold=5, complementary=False)
    found = [released(queries(seed, n_persons=160, n_queries=9), policy=weak) for seed in range(6)]
    assert sum(len(pairs_that_tell(release)) for release in found) > 3
    assert sum(len(told_by_equations(release)) for release in found) > 5


def test_what_is_out_stays_and_the_new_query_yields() -> None:
    """Everybody is out; everybody but three persons must not follow."""
    everybody = frozenset(range(100))
    first = released([everybody])
    assert first.withheld == set()
    second = released([everybody, frozenset(range(97)), frozenset(range(50))], n_out=1)
    assert second.withheld == {1}


def test_a_new_query_that_says_too_much_beside_withheld_rows_yields() -> None:
    """Of 3 and 60 persons the 3 are withheld, and the total with them; the 63 come back as another query."""
    rows = [frozenset(range(3)), frozenset(range(3, 63)), frozenset(range(63))]
    first = released(rows)
    assert 0 in first.withheld
    assert first.withheld & {1, 2}
    again = [*rows, frozenset(range(63)), frozenset(range(3, 63))]
    second = released(again, n_out=3, out=first.withheld)
    assert told_by_equations(second) == []


def test_large_rows_alone_are_all_shown() -> None:
    assert released([frozenset(range(50)), frozenset(range(50, 100)), frozenset(range(100))]).withheld == set()


def test_a_rate_of_many_digits_is_a_count_in_disguise() -> None:
    """Two strata of 3 and 40 events: the rate weighs them differently, so total and exact rate give both."""
    count = Fact(sums={0: 1.0, 1: 1.0})
    small = Row(persons=Fact(sums={0: 1.0}), facts=[Fact(sums={0: 1.0})], is_small=True)

    def shown(tolerance: float) -> set[int]:
        rate = Row(persons=count, facts=[Fact(sums={0: 0.7, 1: 0.2}, tolerance=tolerance)], is_small=False)
        total = Row(persons=count, facts=[count], is_small=False, worth=9.0)
        return withheld_rows([3, 40], [{"young"}, {"old"}], [small, rate, total], policy=POLICY) - {0}

    assert shown(1e-9) == {1}
    assert shown(2.0) == set()
