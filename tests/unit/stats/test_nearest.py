"""Bounds of the nearest move: the gate believes them without writing the world down."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from radlake.stats.nearest import Nearest

seeds = st.integers(0, 2**31)


def random_numbers(seed: int) -> tuple[Nearest, np.random.Generator]:
    """Counts and rates over groups, some of them sums of others, some shown coarsely, some groups empty."""
    random = np.random.default_rng(seed)
    n_groups, n_facts = int(random.integers(3, 30)), int(random.integers(2, 20))
    facts = (random.random((n_facts, n_groups)) < 0.4) * random.choice([1.0, 0.25, 0.7], (n_facts, n_groups))
    facts[-1] = facts[0] + facts[n_facts // 2]
    within = random.choice([0.0, 0.3, 2.0], n_facts)
    weights = random.choice([0.0, 1.0, 3.0, 50.0], n_groups)
    return Nearest(csr_matrix(facts), within, weights), random


def random_steps(near: Nearest, random: np.random.Generator, *, n: int) -> csr_matrix:
    steps = np.zeros((n, len(near.weights)))
    steps[np.arange(n), random.integers(0, len(near.weights), n)] = random.choice([-2.0, 1.0, 4.0], n)
    return csr_matrix(steps)


@settings(max_examples=200, deadline=None)
@given(seeds)
def test_no_group_and_no_number_changes_by_more_than_is_said(seed: int) -> None:
    near, random = random_numbers(seed)
    steps = random_steps(near, random, n=5)
    answers, changes, unmet = near.answers(steps)
    moves = near.made_up(steps, answers)
    made_up = moves - steps.toarray().T
    assert (np.abs(made_up) <= np.sqrt(near.weights)[:, None] * changes + 1e-6).all()
    assert (np.abs(near.facts @ moves) <= near.within[:, None] * changes + unmet + 1e-6).all()
    for groups in random.random((20, len(near.weights))) < 0.5:
        assert (np.abs(made_up[groups].sum(axis=0)) <= np.sqrt(near.weights[groups].sum()) * changes + 1e-6).all()
    sums = random_steps(near, random, n=5)
    gained = sums.multiply(moves.T).sum(axis=1) - sums.multiply(steps).sum(axis=1)
    np.testing.assert_allclose(-np.asarray(gained).ravel(), near.given(sums, answers), atol=1e-6)


@settings(max_examples=200, deadline=None)
@given(seeds)
def test_what_is_held_is_held_and_the_rest_makes_up_for_it(seed: int) -> None:
    near, random = random_numbers(seed)
    step, sums = random_steps(near, random, n=1), random_steps(near, random, n=2)
    targets = random.choice([-1.0, 0.0, 2.0], 2)
    move = near.held(step, sums, targets)
    unmet = near.answers(step)[2]
    if move is not None:
        np.testing.assert_allclose(sums @ move, targets, atol=1e-5)
        if unmet.max() < 1e-6:
            assert (np.abs(near.facts @ move)[near.within == 0] <= 1e-5).all()


def test_numbers_that_are_not_shown_need_no_making_up() -> None:
    facts = csr_matrix([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    near, step = Nearest(facts, np.zeros(2), np.array([1.0, 1.0, 0.0])), csr_matrix([[0.0, 0.0, 1.0]])
    np.testing.assert_allclose(near.made_up(step, near.answers(step)[0])[:, 0], [1, -1, 1])
    fewer = near.without(np.array([False, True]))
    np.testing.assert_allclose(fewer.made_up(step, fewer.answers(step)[0])[:, 0], [0, 0, 1])
