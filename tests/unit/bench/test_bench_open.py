"""Percentiles of the benchmark of opening."""

from __future__ import annotations

import pytest
from bench.open import rank


@pytest.mark.parametrize(("share", "expected"), [(0.5, 10.0), (0.95, 19.0), (1.0, 20.0)])
def test_a_percentile_is_a_time_that_was_measured(share: float, expected: float) -> None:
    assert rank([float(n) for n in range(20, 0, -1)], share) == expected
