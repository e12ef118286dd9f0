"""The order and the earlier exams of the month layout, beside what says the same in plain steps."""

from __future__ import annotations

import numpy as np
import pytest

from radlake.stats.duplicates.by_person import Exams
from radlake.stats.duplicates.unsorted import earlier_exams, in_order


@pytest.mark.parametrize("width", [2**20, 2**62], ids=["near pseudonyms", "pseudonyms that differ in few bits"])
@pytest.mark.parametrize("is_in_runs", [True, False], ids=["files of months", "in any order"])
def test_exams_are_in_the_order_of_person_kind_time_and_tie(width, is_in_runs):
    rng = np.random.default_rng(width)
    n = 20_000
    persons = rng.integers(0, width, 300)
    persons[150:] = persons[:150] + 1
    rows = np.column_stack(
        [rng.choice(persons, n), rng.integers(0, 60, n), rng.integers(0, 5, n), rng.integers(0, 40, n), np.arange(n)]
    )
    rows[0, 1] = 8_000 * 366 * 86_400  # a clock wrong by millennia
    if is_in_runs:
        rows = rows[np.lexsort((rows[:, 1], rows[:, 2], rows[:, 0], np.arange(n) % 20))]
    found = in_order(Exams(*rows.T))
    sorted_rows = sorted(map(tuple, rows.tolist()), key=lambda row: (row[0], row[2], row[1], row[3]))
    columns = (found.key, found.at, found.kind, found.tie)
    assert list(zip(*map(np.ndarray.tolist, columns), strict=True)) == [row[:4] for row in sorted_rows]
    assert sorted(found.place.tolist()) == list(range(n))
    assert (rows[np.argsort(rows[:, 4]), 0][found.place] == found.key).all()


def test_the_earlier_exam_is_the_latest_of_a_compatible_side():
    rng = np.random.default_rng(7)
    begins, side = rng.random(3_000) < 0.1, rng.choice(3, 3_000).astype(np.int8)
    begins[0] = True
    begins[1_000:2_000], side[1_000:1_500], side[1_500:2_000] = False, 1, 2
    expected = []
    for place, mine in enumerate(side):
        found = -1
        for earlier in range(place - 1, -1, -1):
            if begins[earlier + 1]:
                break
            if {mine, side[earlier]} != {1, 2}:
                found = earlier
                break
        expected.append(found)
    assert earlier_exams(begins, side).tolist() == expected
