"""The gate against an exact oracle, on random small measures: linear programs say what is shown can tell, at most.

The oracle adds up persons by their exams; of the gate it knows the answer only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from radlake.stats import worlds
from radlake.stats.gate import Fact, Row, withheld_rows
from radlake.stats.policy import Policy

Cell = tuple[str, str]  # year and region
Pattern = Mapping[Cell, int]  # exams of a person by cell
Groups = Sequence[tuple[Pattern, int]]  # and how many such persons there are

POLICY = Policy(threshold=5)
CELLS: list[Cell] = [(year, region) for year in ("2024", "2025") for region in ("r1", "r2", "r3")]


@dataclass(frozen=True)
class Released:
    """Exams and persons by year and region with all totals, and what the gate withholds of them."""

    groups: Groups
    keys: list[Cell]
    withheld: set[int]

    @property
    def sizes(self) -> np.ndarray:
        return np.array([size for _, size in self.groups], dtype=float)

    def told(self, withheld: set[int] | None = None) -> list[str]:
        """What follows of small rows, and of small groups of persons in the same cells."""
        hidden = self.withheld if withheld is None else withheld
        exams, times, members = (np.array([of(self.groups, key) for key in self.keys]) for of in (n_exams, n_times, n_persons))  # fmt: skip  # noqa: E501
        shown = [i for i in range(len(self.keys)) if i not in hidden]
        matrix = np.vstack([exams[shown], times[shown]])
        sums = members @ self.sizes
        known = {"A_eq": matrix if shown else None, "b_eq": matrix @ self.sizes if shown else None,
                 "A_ub": -members[sums > 0], "b_ub": -np.ones((sums > 0).sum())}  # fmt: skip
        kinds: dict[frozenset[Cell], list[int]] = {}
        for i, (pattern, _) in enumerate(self.groups):
            kinds.setdefault(frozenset(pattern), []).append(i)
        nothing = {name: known[name] for name in ("A_ub", "b_ub")}  # but that every row holds somebody
        found = []
        for kind, groups in kinds.items():
            target = np.isin(np.arange(len(self.groups)), groups).astype(float)
            if POLICY.is_small(float(target @ self.sizes)) and most(target, known) < POLICY.threshold:
                found.append(f"{sorted(kind)} of {target @ self.sizes:.0f}")
        for key, target, size in zip(self.keys, members, sums, strict=True):
            if POLICY.is_small(size) and most(target, known) < POLICY.threshold - 1:
                found.append(f"{key} of {size:.0f} is not larger")
            if POLICY.is_small(size) and most(-target, known) < min(-1.0, most(-target, nothing)):
                found.append(f"{key} of {size:.0f} is not smaller")
        return found


def most(target: np.ndarray, known: dict) -> float:
    found = linprog(-target, bounds=(0, None), **known)
    return np.inf if found.status == 3 else round(-found.fun, 5)


def cells_in(pattern: Pattern, key: Cell) -> list[Cell]:
    return [cell for cell in pattern if all(a in ("all", b) for a, b in zip(key, cell, strict=True))]


def n_exams(groups: Groups, key: Cell) -> list[float]:
    return [float(sum(pattern[cell] for cell in cells_in(pattern, key))) for pattern, _ in groups]


def n_times(groups: Groups, key: Cell) -> list[float]:
    return [float(len({year for year, _ in cells_in(pattern, key)})) for pattern, _ in groups]


def n_persons(groups: Groups, key: Cell) -> list[float]:
    return [float(bool(cells_in(pattern, key))) for pattern, _ in groups]


def released(groups: Groups) -> Released:
    groups = [(pattern, size) for pattern, size in groups if pattern]
    years, regions = ([*sorted({cell[d] for pattern, _ in groups for cell in pattern}), "all"] for d in (0, 1))
    keys = [key for key in product(years, regions) if sum(n_persons(groups, key))]

    def fact(of, key: Cell) -> Fact:
        return Fact(sums={i: n for i, n in enumerate(of(groups, key)) if n})

    rows = []
    for key in keys:
        size = round(sum(n * size for n, (_, size) in zip(n_persons(groups, key), groups, strict=True)))
        worth = (1 + size) * 30.0 ** key.count("all")
        rows.append(
            Row(persons=fact(n_persons, key), facts=[fact(n_exams, key), fact(n_times, key)],
                is_small=POLICY.is_small(size), worth=worth)
        )  # fmt: skip
    cells = [{i for i, key in enumerate(keys) if cells_in(pattern, key)} for pattern, _ in groups]
    return Released(groups, keys, withheld_rows([size for _, size in groups], cells, rows, policy=POLICY))


def primary_of(found: Released) -> set[int]:
    """Rows of few persons."""
    sizes = [np.dot(n_persons(found.groups, key), found.sizes) for key in found.keys]
    return {i for i, size in enumerate(sizes) if POLICY.is_small(size)}


patterns = st.dictionaries(st.sampled_from(CELLS), st.integers(1, 3), min_size=1, max_size=3)
measures = st.lists(st.tuples(patterns, st.one_of(st.integers(1, 6), st.integers(20, 200))), min_size=2, max_size=12)


@settings(max_examples=40, deadline=None)
@given(measures)
def test_nothing_that_is_shown_tells_of_few_persons(groups: Groups) -> None:
    found = released(groups)
    assert found.told() == []
    primary = primary_of(found)
    assert primary <= found.withheld
    if found.told(primary) == []:
        assert found.withheld == primary, "nothing is withheld that nobody needs withheld"


def sampled(seed: int) -> Groups:
    """Most persons in one cell, few in two, one cell with very few."""
    random, cells = Random(seed), CELLS[:2] + CELLS[3:5]
    groups: Groups = [({cell: 1}, size) for cell, size in zip(cells, (2, 30, 60, 200), strict=True)]
    return groups + [({a: 1, b: 2}, random.randrange(1, 9)) for a, b in random.sample(list(combinations(cells, 2)), 3)]


def test_hardly_more_is_withheld_than_must_be() -> None:
    """Against the best of all choices of further rows, over three measures."""
    ours = best = 0
    for seed in range(3):
        found = released(sampled(seed))
        primary = primary_of(found)
        others = [i for i in range(len(found.keys)) if i not in primary]
        n_more = len(found.withheld - primary)
        ours += n_more
        best += next(
            (n for n in range(n_more) if any(not found.told(primary | set(one)) for one in combinations(others, n))),
            n_more,
        )
    assert best > 2
    assert ours <= 1.5 * best


def test_persons_in_two_regions_cost_no_row() -> None:
    """Their like are few everywhere, but many together: what a group of them gains is taken from others."""
    regions = [f"r{i}" for i in range(8)]
    groups: Groups = [({("2024", region): 1}, 300) for region in regions]
    groups += [({("2024", a): 1, ("2024", b): 1}, 1 + i % 4) for i, (a, b) in enumerate(combinations(regions, 2))]
    assert released(groups).withheld == set()


def test_large_measures_need_no_linear_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a linear program")

    monkeypatch.setattr(worlds, "milp", refuse)
    alone: Groups = [({cell: n}, 400 // n) for cell in CELLS for n in (1, 2, 3)]
    pairs: Groups = [
        ({a: n, b: 1}, 1 + (i + n) % 60) for i, (a, b) in enumerate(combinations(CELLS, 2)) for n in (1, 2)
    ]
    found = released([*alone, *pairs])
    assert found.withheld == set()
    assert found.told() == []


def test_small_numbers_share_linear_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifteen groups of one person, each in two of six small cells: what one program withholds serves all."""
    programs, solve = [], worlds.milp
    monkeypatch.setattr(worlds, "milp", lambda *given, **named: programs.append(1) or solve(*given, **named))
    groups: Groups = [({cell: 1}, 10) for cell in CELLS] + [({a: 1, b: 1}, 1) for a, b in combinations(CELLS, 2)]
    found = released(groups)
    assert found.withheld
    assert found.told() == []
    assert len(programs) <= 3
