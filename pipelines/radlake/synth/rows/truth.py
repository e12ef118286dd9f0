"""What statistics of repeated exams must say of drawn exams, told by comparing the exams of each course one by one.

Exams of different courses never concern each other, so an exam has at most its course to look back at. The rules are
those of the packs; nothing of how the lake finds repeats is used here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa

from radlake.stats.duplicates.packs import RulePack
from radlake.synth.rows.exams import LEFT, NOT_STATED, RIGHT, Exams, Period
from radlake.synth.rows.places import MODALITIES, PARTS, Places

__all__ = ["MEASURES", "Truth", "merged", "tell_truth", "truth_rows"]

MEASURES = (
    "n_exams", "n_unmatchable", "n_same_episode", "n_repeats", "n_follow_up", "n_justified", "n_potential",
    "n_repeats_across_hospitals", "n_potential_across_hospitals", "n_potential_across_cities",
    "n_potential_across_levels", "n_side_unknown", "n_supplementary", "n_indexed", "n_indexed_repeated",
    "n_indexed_potential",
)  # fmt: skip
_UNKNOWN = len(PARTS) - 1
_PAIRED_SIDES = (LEFT, RIGHT)


@dataclass(frozen=True)
class Truth:
    """Counts by pack and window: arrays of measure x month x hospital x modality; months since that of the start."""

    counts: Mapping[tuple[str, int], np.ndarray]
    n_months: int
    n_hospitals: int


@dataclass(frozen=True)
class _Pairs:
    """For each exam the latest earlier and the next later one of the same modality (-1 without one), and days since
    the latest earlier one of another modality."""

    earlier: np.ndarray
    later: np.ndarray
    other_days: np.ndarray


def tell_truth(exams: Exams, *, places: Places, period: Period, packs: Mapping[str, RulePack]) -> Truth:
    """Count everything that `MEASURES` names."""
    matchable = exams.is_dated & exams.is_known & (exams.part != _UNKNOWN) & ~exams.is_shared_number
    pairs = _pairs(exams, matchable)
    month_of_day = _months(period)
    n_months = int(month_of_day[-1]) + 1
    in_period = exams.is_dated & (exams.day >= 0)
    month = np.where(in_period, month_of_day[np.clip(exams.day, 0, period.n_days - 1)], 0)
    cell = (month * len(places) + exams.hospital) * len(MODALITIES) + exams.modality
    n_cells = n_months * len(places) * len(MODALITIES)

    has_earlier = pairs.earlier >= 0
    earlier, later = np.maximum(pairs.earlier, 0), np.maximum(pairs.later, 0)
    every = np.arange(len(exams))
    days, days_after = exams.day - exams.day[earlier], exams.day[later] - exams.day
    is_same_episode = has_earlier & _is_same_episode(exams, earlier, every)
    is_repeat = has_earlier & ~is_same_episode
    is_repeated = (pairs.later >= 0) & ~_is_same_episode(exams, every, later)
    levels = np.unique(places.level, return_inverse=True)[1]
    is_across = exams.hospital != exams.hospital[earlier]
    is_across_city = places.city[exams.hospital] != places.city[exams.hospital[earlier]]
    is_across_level = levels[exams.hospital] != levels[exams.hospital[earlier]]
    one, other = exams.side, exams.side[earlier]
    is_side_unknown = (np.isin(one, _PAIRED_SIDES) & (other == NOT_STATED)) | (
        np.isin(other, _PAIRED_SIDES) & (one == NOT_STATED)
    )
    counts: dict[tuple[str, int], np.ndarray] = {}
    for name, pack in packs.items():
        class_ = _classes(exams, earlier, every, pack)
        is_follow_up, is_justified = is_repeat & (class_ == 1), is_repeat & (class_ == 2)
        is_potential = is_repeat & (class_ == 0)
        is_repeated_potential = is_repeated & (_classes(exams, every, later, pack) == 0)
        for window in pack.windows.days:
            seen = in_period & (exams.day >= window)
            near = seen & has_earlier & (days <= window)
            ahead = in_period & (exams.day <= period.n_days - 1 - window)
            soon = ahead & (days_after <= window)
            has_other = (pairs.other_days >= 0) & (pairs.other_days <= window)
            measured = (
                seen, seen & ~matchable, near & is_same_episode, near & is_repeat, near & is_follow_up,
                near & is_justified, near & is_potential, near & is_repeat & is_across,
                near & is_potential & is_across, near & is_potential & is_across_city,
                near & is_potential & is_across_level, near & is_repeat & is_side_unknown,
                seen & has_other & ~near, ahead, soon & is_repeated, soon & is_repeated_potential,
            )  # fmt: skip
            counts[name, window] = np.stack(
                [np.bincount(cell[is_one], minlength=n_cells).astype(np.int64) for is_one in measured]
            )
    return Truth(counts, n_months, len(places))


def merged(one: Truth | None, other: Truth) -> Truth:
    """Counts of both together."""
    if one is None:
        return other
    counts = {key: one.counts[key] + other.counts[key] for key in one.counts}
    return Truth(counts, other.n_months, other.n_hospitals)


def truth_rows(truth: Truth, *, places: Places, period: Period) -> pa.Table:
    """One row for each pack, window, month, hospital and modality with exams."""
    first = period.start.year * 12 + period.start.month - 1
    parts = []
    for (pack, window), counts in sorted(truth.counts.items()):
        shown = np.flatnonzero(counts.any(axis=0))
        rest, modality = np.divmod(shown, len(MODALITIES))
        month, hospital = np.divmod(rest, truth.n_hospitals)
        parts.append(
            pa.table(
                {
                    "rule_pack": pa.array([pack] * len(shown)),
                    "window_days": pa.array(np.full(len(shown), window), pa.int16()),
                    "exam_month": pa.array((first + month) // 12 * 100 + (first + month) % 12 + 1, pa.int32()),
                    "hospital_id": pa.array(np.array(places.hospital_id)[hospital]),
                    "modality_group": pa.array(np.array(MODALITIES)[modality]),
                }
                | {name: pa.array(counts[number][shown]) for number, name in enumerate(MEASURES)}
            )
        )
    return pa.concat_tables(parts)


def _pairs(exams: Exams, matchable: np.ndarray) -> _Pairs:
    """Compare every exam with those before it in its course, the nearest first."""
    n = len(exams)
    earlier, after, other_days = np.full(n, -1), np.full(n, -1), np.full(n, -1)
    at = exams.day.astype(np.int64) * 86_400 + exams.second
    is_left, is_right = exams.side == LEFT, exams.side == RIGHT
    later = np.flatnonzero(matchable & (exams.position > 0))
    distance = 1
    while len(later):
        before = later - distance
        same_person = matchable[before] & (exams.person[before] == exams.person[later]) & (at[before] < at[later])
        fits = same_person & ~((is_left[before] & is_right[later]) | (is_right[before] & is_left[later]))
        same = fits & (exams.modality[before] == exams.modality[later])
        found = same & (earlier[later] < 0)
        earlier[later[found]] = before[found]
        found = same & (after[before] < 0)
        after[before[found]] = later[found]
        found = fits & ~same & (other_days[later] < 0)
        other_days[later[found]] = exams.day[later[found]] - exams.day[before[found]]
        distance += 1
        later = later[exams.position[later] >= distance]
    return _Pairs(earlier, after, other_days)


def _is_same_episode(exams: Exams, earlier: np.ndarray, later: np.ndarray) -> np.ndarray:
    same_stay = (exams.encounter[later] >= 0) & (exams.encounter[later] == exams.encounter[earlier])
    return same_stay | (exams.day[later] == exams.day[earlier])


def _classes(exams: Exams, earlier: np.ndarray, later: np.ndarray, pack: RulePack) -> np.ndarray:
    """0 no ground, 1 follow-up, 2 justified: by the first exclusion that applies."""
    class_ = np.zeros(len(exams), np.int8)
    for exclusion in pack.exclusions:
        told_by = later if exclusion.ground.of == "later" else earlier
        applies = exams.ground_bits[told_by] & (1 << exclusion.ground.bit) != 0
        if exclusion.operation_within_days is not None:
            days = exams.operation_days[later]
            applies |= (days >= 0) & (days <= exclusion.operation_within_days)
        class_[applies & (class_ == 0)] = 1 if exclusion.class_ == "follow_up" else 2
    return class_


def _months(period: Period) -> np.ndarray:
    """Months since that of the start, of each day."""
    first = period.start.year * 12 + period.start.month
    days = (period.start + timedelta(days=number) for number in range(period.n_days))
    return np.array([day.year * 12 + day.month - first for day in days])
