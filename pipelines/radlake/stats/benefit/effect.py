"""What a roll-out caused: group-time effects of staggered adoption (Callaway and Sant'Anna 2021, J Econom 225:200).

Hospitals begin at different times, so a regression with two fixed effects compares late hospitals with early ones whose
effect is still growing, and can even have the wrong sign. Here each group of hospitals that begin together is compared
only with hospitals that have not begun yet: the change since the period before the beginning, less the same change of
those. Identified when, without the roll-out, both would have changed alike; periods before tell whether they did.

Limits are clustered by hospital, by the influence of each hospital; groups and their sizes are taken as given, as in a
stepped-wedge roll-out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np

from radlake.stats.quantiles import f_sf, t_isf

__all__ = ["Adoption", "Effect", "Panel", "RollOutEffect", "roll_out_effect"]


@dataclass(frozen=True)
class Adoption:
    """Outcomes of one hospital in every period, and the place of the period in which it began; None for never."""

    hospital_id: str
    began: int | None
    outcomes: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """Hospitals with outcomes in all periods.

    Raises
    ------
    ValueError
        If a hospital lacks a period.
    """

    periods: Sequence[str]
    hospitals: Sequence[Adoption]

    def __post_init__(self) -> None:
        short = [one.hospital_id for one in self.hospitals if len(one.outcomes) != len(self.periods)]
        if short:
            raise ValueError(f"hospitals without an outcome in every period: {', '.join(short)}")


@dataclass(frozen=True)
class Effect:
    """An effect with its 95 % limits; NaN limits when one group of hospitals is too small to tell.

    Attributes
    ----------
    n_hospitals : int
        Hospitals that had begun (or begin later) and are in it.
    """

    estimate: float
    standard_error: float
    low: float
    high: float
    n_hospitals: int


@dataclass(frozen=True)
class RollOutEffect:
    """Effects of a roll-out.

    Attributes
    ----------
    overall : Effect or None
        Mean over all periods after the beginning and all groups, by their size; None when nothing can be compared.
    by_event_time : mapping of int to Effect
        Periods since the beginning, from 0; negative ones are before it, and -1 is what all are compared with.
    parallel_p : float
        P value of "all effects before the beginning are zero" (Hotelling's T-squared, Ann Math Stat 1931;2:360: with
        chi-squared, two dozen hospitals alike would be objected to in one of five); NaN when there is no such period,
        or fewer hospitals than it takes.
    n_cells, n_left_out : int
        Groups and periods that were compared, and those for which fewer than two hospitals were on one side.
    """

    overall: Effect | None
    by_event_time: Mapping[int, Effect]
    parallel_p: float
    n_cells: int
    n_left_out: int


@dataclass(frozen=True)
class _Cell:
    """Effect of one group in one period, and what each hospital adds to its error."""

    group: int
    period: int
    estimate: float
    influence: np.ndarray
    size: int


def roll_out_effect(panel: Panel, *, level: float = 0.95) -> RollOutEffect:
    """Estimate the effect of beginning, with hospitals that have not begun as controls.

    Hospitals that began in the first period are left out: nothing is known of them before.
    """
    outcomes = np.array([one.outcomes for one in panel.hospitals], dtype=float)
    never = len(panel.periods)
    began = np.array([never if one.began is None else one.began for one in panel.hospitals])
    cells: list[_Cell] = []
    n_left_out = 0
    for group in sorted({int(g) for g in began if 0 < g < never}):
        for period in range(never):
            if period == group - 1:
                continue
            cell = _cell(outcomes, began, group, period)
            if cell is None:
                n_left_out += 1
            else:
                cells.append(cell)
    after = [cell for cell in cells if cell.period >= cell.group]
    times = sorted({cell.period - cell.group for cell in cells})
    at = {time: [cell for cell in cells if cell.period - cell.group == time] for time in times}
    return RollOutEffect(
        overall=_mean(after, level) if after else None,
        by_event_time={time: _mean(at[time], level) for time in times},
        parallel_p=_parallel_p([at[time] for time in times if time < 0], began),
        n_cells=len(cells),
        n_left_out=n_left_out,
    )


def _cell(outcomes: np.ndarray, began: np.ndarray, group: int, period: int) -> _Cell | None:
    """Change from the period before the beginning, of the group less that of hospitals that begin later than both."""
    treated = began == group
    controls = began > max(period, group)
    n_treated, n_controls = int(treated.sum()), int(controls.sum())
    if n_treated < 2 or n_controls < 2:
        return None
    change = outcomes[:, period] - outcomes[:, group - 1]
    means = change[treated].mean(), change[controls].mean()
    influence = np.zeros(len(began))
    for members, n, mean, sign in ((treated, n_treated, means[0], 1), (controls, n_controls, means[1], -1)):
        influence[members] = sign * (change[members] - mean) / sqrt(n * (n - 1))
    return _Cell(group, period, float(means[0] - means[1]), influence, n_treated)


def _combined(cells: Sequence[_Cell]) -> tuple[float, np.ndarray]:
    weights = np.array([cell.size for cell in cells], dtype=float)
    weights /= weights.sum()
    estimate = float(weights @ np.array([cell.estimate for cell in cells]))
    return estimate, weights @ np.array([cell.influence for cell in cells])


def _mean(cells: Sequence[_Cell], level: float) -> Effect:
    estimate, influence = _combined(cells)
    error = float(np.sqrt(influence @ influence))
    n_clusters = int((influence != 0).sum())
    sizes = {cell.group: cell.size for cell in cells}
    if n_clusters < 3:
        return Effect(estimate, nan, nan, nan, sum(sizes.values()))
    reach = t_isf((1 - level) / 2, n_clusters - 2) * error
    return Effect(estimate, error, estimate - reach, estimate + reach, sum(sizes.values()))


def _parallel_p(before: Sequence[Sequence[_Cell]], began: np.ndarray) -> float:
    if not before:
        return nan
    found = [_combined(cells) for cells in before]
    estimates = np.array([estimate for estimate, _ in found])
    influence = np.array([one for _, one in found])
    covariance = influence @ influence.T
    rank = int(np.linalg.matrix_rank(covariance))
    if rank == 0:
        return nan
    # The covariance is estimated from hospitals, less one for the mean of each group of them.
    groups = began[(influence != 0).any(axis=0)]
    freedom = len(groups) - len(np.unique(groups))
    if len(found) > freedom:
        return nan
    below = freedom - rank + 1
    squared = float(estimates @ np.linalg.pinv(covariance) @ estimates)
    return f_sf(squared * below / (freedom * rank), rank, below)
