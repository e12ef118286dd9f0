"""Attack repeats that are released in rounded counts with stats.duplicate_exam, exact where nothing is withheld.

The worst case: no encounters and one guard, so that both count the same repeats, in a lake so small that few worlds are
left. Integer programming must find that every small count could be another number, and finds what a city by year tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from random import Random

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, lil_array, vstack

from radlake.stats.policy import Policy
from radlake.stats.release import mask
from support.rows import rows

NAME = "stats.duplicate_exam"
HOSPITALS = {"h1": ("320100", "3A"), "h2": ("320100", "2A"), "h3": ("320200", "3A"), "h4": ("320200", "2A"),
             "h5": ("320300", "3A"), "h6": ("320300", "2A")}  # fmt: skip
LABELS = (("2025-10", "2025-11", "2025-12", "2026-01", "2026-02", "2026-03"), tuple(HOSPITALS), ("CT", "DX"))
CELLS = list(product(*LABELS))
EXAMS, WITHIN, ACROSS = range(3)
SCOPES = {"any": (WITHIN, ACROSS), "within_hospital": (WITHIN,), "across_hospitals": (ACROSS,)}
POLICY = Policy(threshold=5)
CITIES = [("all", city, "all", "all") for city in ("320100", "320200", "320300")]
LEVELS = [("all", "all", level, "all") for level in ("2A", "3A")]
YEARS = [(year, "all", "all", modality) for year in ("all", "2025", "2026") for modality in ("all", "CT", "DX")]

Line = tuple[list[int], float, float]  # places whose sum lies between two numbers


def cells(seed: int) -> np.ndarray:
    """Exams, repeats within a hospital and across, of every month, hospital and modality."""
    random = Random(seed)
    few = random.choice(((0, 0, 1, 2, 3), (0, 1, 2, 4, 7, 15), (1, 3, 6, 12, 40)))
    found = []
    for _ in CELLS:
        within, across = random.choice(few), random.choice(few)
        found.append((within + across + random.choice((20, 60, 300)), within, across))
    return np.array(found)


def places(chosen: Sequence[bool], counts: Sequence[int]) -> list[int]:
    return [3 * at + count for at, is_in in enumerate(chosen) if is_in for count in counts]


def of_duplicates(exact: np.ndarray) -> tuple[list[Line], list[list[int]]]:
    """What the released table tells, and the places of every small count that it withholds."""
    given, wanted = [], []
    for labels, (scope, counts) in product(product(*(("all", *one) for one in LABELS)), SCOPES.items()):
        is_in = [all(a in ("all", b) for a, b in zip(labels, cell, strict=True)) for cell in CELLS]
        of = dict(zip(("exam_month", "hospital_id", "modality_group"), labels, strict=True))
        n_exams, n = (int(exact.ravel()[places(is_in, one)].sum()) for one in ((EXAMS,), counts))
        row = {"window_days": 30, "scope": scope, "n_exams": n_exams, "n_unmatchable": 0, "n_duplicates": n}
        given.append(row | of | {"duplicate_share": n / n_exams, "is_masked": False})
        wanted.append((scope, *labels, places(is_in, counts), places(is_in, (EXAMS,)), n, n_exams))
    of_label = {row[:4]: row[4:] for row in wanted}
    known, small = [], []
    for row in mask({NAME: rows(NAME, *given)}, policy=POLICY)[NAME].to_pylist():
        repeats, exams, n, n_exams = of_label[
            row["scope"], row["exam_month"], row["hospital_id"], row["modality_group"]
        ]
        if not row["is_masked"]:
            known += [(repeats, n, n), (exams, n_exams, n_exams)]
        elif POLICY.is_small(n):
            small.append(repeats)
    return known, small


def of_repeats(exact: np.ndarray, released: Sequence[tuple[str, str, str, str]]) -> list[Line]:
    """What rounded repeats of years, cities, levels and modalities tell: all, and those across hospitals."""
    step, found = 2 * POLICY.threshold, []
    for (year, city, level, modality), counts in product(released, ((WITHIN, ACROSS), (ACROSS,))):
        is_in = [
            year in ("all", month[:4])
            and city in ("all", HOSPITALS[hospital][0])
            and level in ("all", HOSPITALS[hospital][1])
            and modality in ("all", own)
            for month, hospital, own in CELLS
        ]
        at = places(is_in, counts)
        rounded = (exact.ravel()[at].sum() + step // 2) // step * step
        found.append((at, max(rounded - step // 2, 0), rounded + step // 2 - 1))
    return found


def n_told(exact: np.ndarray, known: Sequence[Line], small: Sequence[list[int]]) -> int:
    """How many small counts cannot be another number."""
    parts = [[at, at + 1, at + 2] for at in range(0, exact.size, 3)]  # no more repeats than exams
    matrix = vstack([matrix_of([line[0] for line in known]), matrix_of(parts, signs=(1, -1, -1))]).tocsr()
    low = np.array([*(line[1] for line in known), *(0 for _ in parts)], dtype=float)
    high = np.array([*(line[2] for line in known), *(np.inf for _ in parts)])
    asked, truth = matrix_of(small), exact.ravel().astype(float)
    assert ((matrix @ truth >= low) & (matrix @ truth <= high)).all(), "the attack adds up wrongly"
    numbers = asked @ truth
    is_open = np.zeros(len(small), dtype=bool)
    for at, other in ((at, number + by) for at, number in enumerate(numbers) for by in (1, -1)):
        if is_open[at] or other < 1:
            continue
        lines = vstack([matrix, asked[[at]]]).tocsr()
        within = LinearConstraint(lines, np.append(low, other), np.append(high, other))
        whole = np.ones(len(truth))
        found = milp(0 * whole, constraints=within, integrality=whole, bounds=Bounds(0), options={"presolve": False})
        if found.status == 0:  # a world: every other small count that differs in it is open too
            world = asked @ np.round(found.x)
            is_open |= (world != numbers) & (world >= 1)
    return int((~is_open).sum())


def matrix_of(lines: Sequence[Sequence[int]], *, signs: Sequence[int] = ()) -> csr_array:
    matrix = lil_array((len(lines), 3 * len(CELLS)))
    for number, line in enumerate(lines):
        for at, sign in zip(line, signs or [1] * len(line), strict=True):
            matrix[number, at] = sign
    return matrix.tocsr()


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_repeats_of_cities_levels_and_years_tell_nothing_that_is_withheld(seed: int) -> None:
    exact = cells(seed)
    known, small = of_duplicates(exact)
    assert len(small) > 50
    assert n_told(exact, [*known, *of_repeats(exact, [*CITIES, *LEVELS, *YEARS])], small) == 0


def test_the_attack_succeeds_when_cities_are_told_by_year_and_modality() -> None:
    exact = cells(0)
    known, small = of_duplicates(exact)
    by_year = list(
        product(("all", "2025", "2026"), ("all", *(city for _, city, _, _ in CITIES)), ["all"], ("CT", "DX"))
    )
    assert n_told(exact, known, small) == 0
    assert n_told(exact, [*known, *of_repeats(exact, by_year)], small) > 0
