"""The order and the earlier exams of the month layout, beside what says the same in plain steps."""

from __future__ import annotations

import numpy as np
import pytest

from radlake.stats.duplicates.unsorted import earlier_exams, exam_order


@pytest.mark.parametrize("years", [3, 8_000], ids=["sane clocks", "a clock wrong by millennia"])
@pytest.mark.parametrize("is_sorted", [True, False], ids=["files in order of persons", "in any order"])
def test_exams_are_in_the_order_of_all_four(years, is_sorted):
    rng = np.random.default_rng(years)
    n = 20_000
    key, kind, tie = (rng.integers(0, high, n) for high in (2**62, 2**20, 40))
    key, kind = rng.choice(key[:300], n), rng.choice(kind[:5], n)
    key = np.sort(key) if is_sorted else key
    at = rng.integers(0, 60, n)
    at[0] = years * 366 * 86_400
    order = exam_order(key, kind, at, tie)
    rows = list(zip(key, kind, at, tie, strict=True))
    assert sorted(order) == list(range(n))
    assert [rows[place] for place in order] == sorted(rows)


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
