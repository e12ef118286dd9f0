"""stats.cumulative_dose: true time, linked persons, how far the lake goes back, and what is released."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from radlake.stats.policy import Policy
from radlake.stats.release import mask
from support.rows import rows
from support.statistics import Tables, exams, number_of, tables

NAME = "stats.cumulative_dose"
COUNTS = ("n_persons", "n_unestimated", "n_reached", "n_reached_low", "n_reached_high", "n_reached_reported")
AGES = ("18-39", "40-59", "60+")
# The second is no more than the first.
NESTED = (
    ("n_persons", "n_unestimated"),
    ("n_persons", "n_reached_high"),
    ("n_reached_high", "n_reached"),
    ("n_reached", "n_reached_low"),
    ("n_reached", "n_reached_reported"),
)


@pytest.fixture
def lake() -> Iterator[Tables]:
    """Person p1 is known by two pseudonyms, moved by different days."""
    given = exams("patient | date \n p1 | 2021-03-15 \n also | 2026-01-05 \n p2 | 2026-03-01").to_pylist()
    names = ("hospital_id", "exam_pseudo_id", "patient_key", "modality_group", "body_part_code")
    dose = {"effective_dose_method": "dlp", "is_adult": True} | {
        f"effective_dose_{end}msv": 60.0 for end in ("", "low_", "high_")
    }
    doses = [{name: row[name] for name in names} | dose for row in given]
    for row in given:
        row["patient_age_years"] = 50
    stored = {"core.exam": rows("core.exam", *given), "core.exam_dose": rows("core.exam_dose", *doses)}
    with tables(stored, offsets={number_of("p1"): -20, number_of("also"): 20}) as db:
        yield db


def test_five_years_are_of_the_true_calendar_and_the_linked_person(lake: Tables) -> None:
    """True days are 2021-04-04 and 2025-12-16, of one person by core.person_link."""
    lake.build(NAME)
    columns = "exam_year, n_persons, n_reached"
    query = f"SELECT {columns} FROM {NAME} WHERE age_group = 'all' ORDER BY 1"
    assert lake.rows(query) == [("2021", 1, 0), ("2025", 1, 0), ("2026", 1, 0)]
    person, other = number_of("p1"), number_of("also")
    lake.connection.execute(f"UPDATE restricted.date_offset SET person_key = {person} WHERE patient_key = {other}")
    lake.build(NAME)
    assert lake.rows(query) == [("2021", 1, 0), ("2025", 1, 1), ("2026", 1, 0)]


def test_days_that_are_known_before_a_year_ended_are_told(lake: Tables) -> None:
    lake.build(NAME)
    assert lake.rows(f"SELECT exam_year, n_lookback_days FROM {NAME} WHERE age_group = 'all' ORDER BY 1") == [
        ("2021", 1),
        ("2025", 1718),
        ("2026", 1793),
    ]


def cells(seed: int) -> dict[tuple[str, str], int]:
    """Counts of each age that are nested, few of them reaching it."""
    random = Random(seed)
    few = random.choice(((0, 1, 2, 4), (0, 1, 3, 9, 12), (1, 4, 5, 14, 60)))
    found = {}
    for age in AGES:
        low, reported = random.choice(few), random.choice(few)
        reached = max(low, reported) + random.choice(few)
        high = reached + random.choice(few)
        n = high + random.choice((12, 40, 3000))
        numbers = dict(zip(COUNTS, (n, min(n, random.choice(few)), reached, low, high, reported), strict=True))
        found |= {(age, count): number for count, number in numbers.items()}
    return found


def released(exact: dict[tuple[str, str], int], *, policy: Policy) -> dict[str, dict[str, object]]:
    ages = {age: {count: exact[age, count] for count in COUNTS} for age in AGES}
    ages["all"] = {count: sum(one[count] for one in ages.values()) for count in COUNTS}
    fixed = {"exam_year": "2026", "typical_dose_share": 0.31234, "effective_dose_msv": 1234.5, "n_lookback_days": 1826}
    given = [fixed | counts | {"age_group": age, "is_masked": False} for age, counts in ages.items()]
    return {row["age_group"]: row for row in mask({NAME: rows(NAME, *given)}, policy=policy)[NAME].to_pylist()}


@pytest.mark.parametrize("threshold", [5, 10])
@pytest.mark.parametrize("seed", range(12))
def test_every_small_count_that_is_released_could_be_another(seed: int, threshold: int) -> None:
    """The attacker knows what is part of what, how counts are rounded, and that rows that are left out have few."""
    exact, step = cells(seed), 2 * threshold
    shown = released(exact, policy=Policy(threshold=threshold))
    at = {cell: place for place, cell in enumerate(exact)}
    lines = []

    def know(cells_of: dict[tuple[str, str], float], low: float, high: float) -> None:
        line = np.zeros(len(at))
        for cell, factor in cells_of.items():
            line[at[cell]] = factor
        lines.append((line, low, high))

    for age in (*AGES, "all"):
        for count in COUNTS:
            parts = {(one, count): 1.0 for one in AGES if age in ("all", one)}
            if age in shown:
                number = shown[age][count]
                assert isinstance(number, int)
                know(parts, max(0, number - step // 2), number + step // 2 - 1)
        if age not in shown:
            know({(age, "n_persons"): 1.0}, 0, step - 1)
    for age in AGES:
        for whole, part in NESTED:
            know({(age, whole): 1.0, (age, part): -1.0}, 0, np.inf)
    matrix = np.array([line for line, _, _ in lines])
    low, high = (np.array([line[side] for line in lines]) for side in (1, 2))
    truth = np.array(list(exact.values()), float)
    assert ((matrix @ truth >= low) & (matrix @ truth <= high)).all(), "the attack adds up wrongly"
    for cell, number in exact.items():
        if not 0 < number < threshold:
            continue
        asked = np.zeros((1, len(at)))
        asked[0, at[cell]] = 1
        others = [
            milp(
                np.zeros(len(truth)),
                constraints=LinearConstraint(np.vstack([matrix, asked]), np.append(low, other), np.append(high, other)),
                integrality=np.ones(len(truth)),
                bounds=Bounds(0, np.inf),
            ).status
            for other in (number - 1, number + 1)
        ]
        assert 0 in others, (cell, number)


def test_the_dose_of_all_stays_in_the_restricted_zone_and_shares_have_few_digits() -> None:
    exact = {(age, count): 0 for age in AGES for count in COUNTS} | {
        ("18-39", "n_persons"): 9,
        ("40-59", "n_persons"): 999,
        ("60+", "n_persons"): 5000,
        ("60+", "n_reached"): 64,
    }
    shown = released(exact, policy=Policy(threshold=5))
    assert set(shown) == {"40-59", "60+", "all"}
    assert {row["effective_dose_msv"] for row in shown.values()} == {None}
    assert [(row["n_persons"], row["n_reached"], row["typical_dose_share"]) for row in shown.values()] == [
        (1000, 0, None), (5000, 60, 0.31), (6010, 60, 0.31)
    ]  # fmt: skip
