"""The quantiles are those of scipy.stats to the last bit, which no verb that builds imports."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from radlake.stats.quantiles import f_sf, gamma_isf, gamma_ppf, normal_isf, t_isf

_DRAWN = np.random.default_rng(7)
TAILS = [*_DRAWN.uniform(0, 0.5, 20), 0.005, 0.025, 0.05, 1e-12]
SHAPES = [*10 ** _DRAWN.uniform(-6, 7, 40), 1.0, 2.0, 10.0, 1e6]


@pytest.mark.parametrize("tail", TAILS)
def test_they_are_those_of_scipy_stats(tail: float):
    assert normal_isf(tail) == stats.norm.isf(tail)
    assert [t_isf(tail, freedom) for freedom in SHAPES] == list(stats.t.isf(tail, SHAPES))
    shapes, scales = np.array(SHAPES), np.array(SHAPES[::-1])
    assert list(gamma_ppf(tail, shapes, scale=scales)) == list(stats.gamma.ppf(tail, shapes, scale=scales))
    assert list(gamma_isf(tail, shapes, scale=scales)) == list(stats.gamma.isf(tail, shapes, scale=scales))
    assert gamma_isf(tail, 3.5, scale=2.0) == stats.gamma.isf(tail, 3.5, scale=2.0)


def test_f_is_that_of_scipy_stats():
    given = [(value, above, below) for value in 10 ** _DRAWN.uniform(-3, 3, 40) for above, below in ((1, 9), (7, 2))]
    assert [f_sf(*one) for one in given] == [stats.f.sf(*one) for one in given]


def test_nothing_that_is_counted_needs_the_slow_import():
    program = (
        "import sys, radlake.stats, radlake.stats.rates, radlake.stats.trends, radlake.stats.smoothing,"
        " radlake.stats.benefit.effect, radlake.epidemiology, radlake.withdrawal;"
        " print('scipy.stats' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told == "False\n"
