"""The nearest way in which groups make up for a change of a few, so that what is shown stays: weighted least squares.

Of all moves that make up for a step, the nearest one has the least sum of (what else a group changes)^2 / its weight
and (error of a number / its tolerance)^2. One factorisation of (numbers shown)^2 serves all steps.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_solve
from scipy.linalg.lapack import dpstrf  # pyright: ignore[reportAttributeAccessIssue]
from scipy.sparse import csr_matrix

__all__ = ["Nearest"]

_TINY = 1e-6


class Nearest:
    """Numbers that are shown, as equations over groups.

    Parameters
    ----------
    facts : csr_matrix
        Of each number: what a person of each group adds.
    within : ndarray
        How far each number may be off.
    weights : ndarray
        Of each group; one of weight 0 makes up for nothing.
    """

    def __init__(self, facts: csr_matrix, within: np.ndarray, weights: np.ndarray) -> None:
        whole = _product(csr_matrix(facts.multiply(weights)), csr_matrix(facts.T))
        whole[np.diag_indices(len(whole))] += within**2
        self._set(facts, within, weights, whole)

    def _set(self, facts: csr_matrix, within: np.ndarray, weights: np.ndarray, whole: np.ndarray) -> None:
        self.facts, self.within, self.weights = facts, within, weights
        self.by_group = csr_matrix(facts.T)
        self.whole = _Factored(whole)

    def without(self, is_gone: np.ndarray) -> Nearest:
        """The same when some of the numbers are not shown."""
        is_left = ~is_gone
        fewer = Nearest.__new__(Nearest)
        whole = self.whole.matrix[np.ix_(is_left, is_left)]
        fewer._set(csr_matrix(self.facts[is_left]), self.within[is_left], self.weights, whole)
        return fewer

    def answers(self, steps: csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How steps, one in each row, are made up for; `made_up` makes moves of the answers.

        Returns
        -------
        answers : ndarray
            For each step (column).
        changes : ndarray
            Root of the least sum. No number is off by more than this times its tolerance, and what groups change
            together besides the step is not more than this times the root of their weights (Cauchy-Schwarz).
        unmet : ndarray
            The largest error that no tolerance allows.
        """
        seen = _product(steps, self.by_group).T
        answers = self.whole.solve(seen)
        unmet = np.abs(self.whole.matrix @ answers - seen).max(axis=0, initial=0.0)
        return answers, np.sqrt(np.maximum((seen * answers).sum(axis=0), 0.0)), unmet

    def made_up(self, steps: csr_matrix, answers: np.ndarray) -> np.ndarray:
        """Moves, one in each column."""
        return steps.toarray().T - self.weights[:, None] * (self.by_group @ answers)

    def given(self, sums: csr_matrix, answers: np.ndarray) -> np.ndarray:
        """How much of a sum of groups, one in each row, is given to make up for a step."""
        weighed = csr_matrix(sums.multiply(self.weights))
        return (_product(weighed, self.by_group) * answers.T).sum(axis=1)

    def held(self, step: csr_matrix, sums: csr_matrix, targets: np.ndarray) -> np.ndarray | None:
        """The nearest move that makes up for a step and changes sums of groups by so much; None when there is none."""
        weighed = csr_matrix(sums.multiply(self.weights))
        both = _product(weighed, self.by_group).T
        answers = self.whole.solve(np.column_stack([both, _product(step, self.by_group).T]))
        left = _Factored(_product(weighed, csr_matrix(sums.T)) - both.T @ answers[:, :-1])
        wanted = targets - _product(sums, csr_matrix(step.T))[:, 0] + both.T @ answers[:, -1]
        pulls = left.solve(wanted)
        if np.abs(left.matrix @ pulls - wanted).max() > _TINY:
            return None
        return self.made_up(step, answers[:, -1:] + answers[:, :-1] @ pulls[:, None])[:, 0] + weighed.T @ pulls


class _Factored:
    """A matrix of products, factored (Cholesky with pivots); what depends on the rest is left out."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = matrix
        factor, order, rank, _ = dpstrf(matrix, tol=_TINY, lower=1)
        rank = rank if np.diagonal(matrix).max(initial=0.0) > _TINY else 0  # LAPACK takes any first pivot
        self.free = order[:rank] - 1
        self.factor = np.tril(factor[:rank, :rank])

    def solve(self, seen: np.ndarray) -> np.ndarray:
        answers = np.zeros_like(seen)
        if len(self.free):
            answers[self.free] = cho_solve((self.factor, True), seen[self.free])
        return answers


def _product(one: csr_matrix, other: csr_matrix) -> np.ndarray:
    return csr_matrix(one @ other).toarray()
