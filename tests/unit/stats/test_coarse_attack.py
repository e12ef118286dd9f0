"""Attack the release of repeats by window: rounded counts and shares, added and subtracted, tell no small count.

The attacker knows the policy, what nothing excuses to be part of all repeats and those of all exams, that rows that
are left out have few exams, and exams of every year and modality exactly, as from stats.exam_volume. Integer
programming must find that every small count could be another number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_array, vstack

from radlake.stats.policy import Policy
from radlake.stats.release import mask
from support.rows import rows

NAME = "stats.repeat_window"
COUNTS = ("n_exams", "n_repeats", "n_potential", "n_potential_across_hospitals")
SHARES = {1: "repeat_share", 2: "potential_share", 3: "potential_across_share"}
LABELS = (("2025", "2026"), ("CT", "DX"), ("CHEST", "HEAD", "KNEE", "NECK"))
DIMENSIONS = ("exam_year", "modality_group", "body_part_code")
KEYS = list(product(*(("all", *labels) for labels in LABELS)))
Key = tuple[str, ...]
Cells = dict[Key, tuple[int, ...]]
POLICIES = Policy(threshold=5), Policy(threshold=10, scope="public", left_open="every")


def cells(seed: int) -> Cells:
    """Counts of each cell, each part of the one before it: many cells hold few."""
    random = Random(seed)
    found = {}
    for key in product(*LABELS):
        numbers = [random.choice((0, 1, 3, 7, 12, 40, 300)) if found else 5000]  # of the first a share is told
        for _ in COUNTS[1:]:
            numbers.append(round(numbers[-1] * random.choice((0.1, 0.4, 0.9))))
        found[key] = tuple(numbers)
    return found


def members(key: Key) -> list[Key]:
    return [one for one in product(*LABELS) if all(a in ("all", b) for a, b in zip(key, one, strict=True))]


@dataclass
class Known:
    """Sums over the counts of all cells, and between which two numbers each lies."""

    place: dict[tuple[Key, int], int]
    lines: list[tuple[dict[int, float], float, float]]

    def add(self, sums: Sequence[tuple[float, Key, int]], low: float, high: float) -> None:
        """Sums of counts over rows, each with a factor, lie between two numbers."""
        line: dict[int, float] = {}
        for factor, key, count in sums:
            for one in members(key):
                line[self.place[one, count]] = line.get(self.place[one, count], 0.0) + factor
        self.lines.append((line, low, high))


def known_of(exact: Cells, released: dict[Key, dict], *, policy: Policy) -> Known:
    known = Known({cell: n for n, cell in enumerate(product(exact, range(len(COUNTS))))}, [])
    step = 2 * policy.threshold
    for key in KEYS:
        if key[2] == "all" and (n_exams := total(exact, key)[0]) >= policy.threshold:
            known.add([(1, key, 0)], n_exams, n_exams)
        if key not in released:
            known.add([(1, key, 0)], 0, step - 1)
            continue
        known.add([(1, key, 0)], step, np.inf)
        for count, name in enumerate(COUNTS[1:], 1):
            rounded = released[key][name]
            known.add([(1, key, count)], max(rounded - step // 2, 0), rounded + step // 2 - 1)
            share = released[key].get(SHARES[count])
            if share is not None:
                unit = next(10**digits for digits in (2, 3, 4, 5, 6) if share == round(share, digits))
                twice = round(2 * unit * share)  # in whole numbers, which a solver does not round
                known.add([(2 * unit, key, count), (-twice - 1, key, 0)], -np.inf, 0)
                known.add([(2 * unit, key, count), (-twice + 1, key, 0)], 0, np.inf)
    for one, count in product(exact, range(len(COUNTS) - 1)):
        known.add([(1, one, count), (-1, one, count + 1)], 0, np.inf)  # the next is a part of it
    return known


def told(exact: Cells, known: Known, *, policy: Policy) -> tuple[int, list[tuple[Key, str, int]]]:
    """How many small counts there are, and those of them that cannot be another number."""
    low, high = (np.array([line[side] for line in known.lines]) for side in (1, 2))
    matrix = lil_array((len(known.lines), len(known.place)))
    for number, (line, _, _) in enumerate(known.lines):
        for at, factor in line.items():
            matrix[number, at] = factor
    truth = matrix.tocsr() @ np.array([exact[one][count] for one, count in known.place], dtype=float)
    assert ((truth >= low) & (truth <= high)).all(), "the attack adds up wrongly"

    def is_possible(key: Key, count: int, number: int) -> bool:
        asked = lil_array((1, len(known.place)))
        for one in members(key):
            asked[0, known.place[one, count]] = 1
        within = LinearConstraint(vstack([matrix, asked]).tocsr(), np.append(low, number), np.append(high, number))
        costs, whole = np.zeros(len(known.place)), np.ones(len(known.place))
        options = {"presolve": False}  # that of HiGHS calls some worlds impossible that are known
        return milp(costs, constraints=within, integrality=whole, bounds=Bounds(0, np.inf), options=options).status == 0

    small = [
        (key, count, number)
        for key in KEYS
        for count, number in enumerate(total(exact, key))
        if policy.is_small(number) and (count or key[2] != "all")  # stats.exam_volume guards exams of all parts
    ]
    found = [
        (key, COUNTS[count], number)
        for key, count, number in small
        if not any(other >= 1 and is_possible(key, count, other) for other in (number + 1, number - 1))
    ]
    return len(small), found


def total(exact: Cells, key: Key) -> tuple[int, ...]:
    return tuple(map(int, np.sum([exact[one] for one in members(key)], axis=0)))


def release(exact: Cells, *, policy: Policy) -> dict[Key, dict]:
    """Rows of the lake by their labels."""
    given = []
    for key in KEYS:
        n_exams, *counts = total(exact, key)
        if n_exams:
            shares = {SHARES[count]: n / n_exams for count, n in enumerate(counts, 1)}
            row = dict(zip(DIMENSIONS, key, strict=True)) | dict(zip(COUNTS, (n_exams, *counts), strict=True)) | shares
            given.append({"rule_pack": "clinical_v1", "window_days": 30, "is_masked": False} | row)
    shown = mask({NAME: rows(NAME, *given)}, policy=policy)[NAME].to_pylist()
    return {tuple(row[name] for name in DIMENSIONS): row for row in shown}


@pytest.mark.parametrize("policy", POLICIES, ids=["internal", "public"])
@pytest.mark.parametrize("seed", range(3))
def test_every_small_count_could_be_another_number(seed: int, policy: Policy) -> None:
    exact = cells(seed)
    released = release(exact, policy=policy)
    assert any(row["repeat_share"] is not None for row in released.values())
    n_small, found = told(exact, known_of(exact, released, policy=policy), policy=policy)
    assert n_small > 20
    assert found == []


def test_the_attack_succeeds_when_exams_of_a_cell_are_told_too() -> None:
    policy, exact = POLICIES[0], cells(0)
    released = release(exact, policy=policy)
    known = known_of(exact, released, policy=policy)
    for key in released:
        known.add([(1, key, 0)], n_exams := total(exact, key)[0], n_exams)
    assert told(exact, known, policy=policy)[1]
