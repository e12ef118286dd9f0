"""The board: how far behind each hospital is, and which one has fallen silent. Pure.

The lag of a study is the time from its exam until it is complete on the platform; of one that still waits, until now.
The exam's time is the hospital's word (study date and time); where it gave none, or one that lies in the future, the
lag begins when we first saw the study. Backfill is no lag: only studies count that were made within the days looked at.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from radlake.lake.study_times import StudyTimes
from radlake.machine import shanghai_day, utc_of_shanghai

__all__ = ["HISTORY_DAYS", "Board", "board_of", "poisson_tail"]

HISTORY_DAYS = 63  # nine weeks: eight of history beside the one that is looked at
_DUE_HOURS = 12.0
_SKEW = timedelta(minutes=5)  # clocks of modalities are that far apart
_DARK = 0.001  # so improbable is a silence that is told
_LEAST_WEEKS = 3


@dataclass(frozen=True)
class Board:
    """One hospital; hours are from the exam to complete.

    Attributes
    ----------
    n_studies, n_waiting, n_late : int
        Made in the days looked at; of these not complete; of all more than 12 hours behind, complete or not.
    in_time_share : float, optional
        Of what is due: complete within 12 hours.
    oldest_waiting_hours : float, optional
        Of the oldest study that is not complete.
    p50_hours, p95_hours, p99_hours, p100_hours : float, optional
        By nearest rank; a waiting study counts with its age.
    expected_studies, seen_studies : float, int
        Of the last whole day: by the mean of the same weekday before, and found.
    dark_probability : float, optional
        That a hospital with this mean sends so few by chance (lower tail of Poisson); None without enough history.
    is_dark : bool
        It is below one in a thousand.
    n_future, skew_minutes : int, float
        Studies that were made after we saw them, and how far the worst of them: its clock is wrong.
    """

    hospital_id: str
    n_studies: int
    n_waiting: int
    n_late: int
    in_time_share: float | None
    oldest_waiting_hours: float | None
    p50_hours: float | None
    p95_hours: float | None
    p99_hours: float | None
    p100_hours: float | None
    expected_studies: float | None
    seen_studies: int
    dark_probability: float | None
    is_dark: bool
    n_future: int
    skew_minutes: float


def board_of(hospital_id: str, studies: Sequence[StudyTimes], *, now: datetime, days: int) -> Board:
    """The line of one hospital; `now` is in UTC, and `studies` reach back `HISTORY_DAYS`."""
    since = now - timedelta(days=days)
    recent = [study for study in studies if _made_at(study) >= since]
    lags = sorted(_hours((study.completed_at or now) - _made_at(study)) for study in recent)
    waiting = [_hours(now - _made_at(study)) for study in recent if study.completed_at is None]
    n_late = sum(lag > _DUE_HOURS for lag in lags)
    n_due = sum(study.completed_at is not None or _hours(now - _made_at(study)) > _DUE_HOURS for study in recent)
    skews = [
        (study.studied_at - study.discovered_at).total_seconds() / 60
        for study in studies
        if study.studied_at is not None and study.studied_at > study.discovered_at + _SKEW
    ]
    expected, seen = _volume(studies, now=now)
    probability = None if expected is None else poisson_tail(seen, mean=expected)
    return Board(
        hospital_id=hospital_id,
        n_studies=len(recent),
        n_waiting=len(waiting),
        n_late=n_late,
        in_time_share=(n_due - n_late) / n_due if n_due else None,
        oldest_waiting_hours=max(waiting, default=None),
        p50_hours=_nearest_rank(lags, 0.50),
        p95_hours=_nearest_rank(lags, 0.95),
        p99_hours=_nearest_rank(lags, 0.99),
        p100_hours=_nearest_rank(lags, 1.0),
        expected_studies=expected,
        seen_studies=seen,
        dark_probability=probability,
        is_dark=probability is not None and probability < _DARK,
        n_future=len(skews),
        skew_minutes=max(skews, default=0.0),
    )


def poisson_tail(n: int, *, mean: float) -> float:
    """Probability of `n` or fewer when `mean` are expected.

    >>> round(poisson_tail(0, mean=7.0), 6)
    0.000912
    """
    if mean <= 0:
        return 1.0
    return min(1.0, math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(n + 1)))


def _volume(studies: Iterable[StudyTimes], *, now: datetime) -> tuple[float | None, int]:
    """Mean of the weekday of yesterday in the weeks before, and what yesterday had.

    A day before the first study of the hospital is no history; a week without any study is one with 0.
    """
    by_day = Counter(day for study in studies if (day := _day(study)) is not None)
    yesterday = shanghai_day(now) - timedelta(days=1)
    seen = by_day[yesterday]
    first = min(by_day, default=yesterday)
    weeks = [by_day[day] for n in range(1, 9) if (day := yesterday - timedelta(weeks=n)) >= first]
    return (sum(weeks) / len(weeks) if len(weeks) >= _LEAST_WEEKS else None), seen


def _day(study: StudyTimes) -> date | None:
    return study.study_date or (None if study.studied_at is None else shanghai_day(study.studied_at))


def _made_at(study: StudyTimes) -> datetime:
    """When the lag begins."""
    if study.studied_at is not None:
        return min(study.studied_at, study.discovered_at)
    if study.study_date is not None:  # of the day of the exam we know only that it had ended by the next midnight
        midnight = utc_of_shanghai(datetime.combine(study.study_date, time()))
        return min(midnight + timedelta(days=1), study.discovered_at)
    return study.discovered_at


def _nearest_rank(values: Sequence[float], share: float) -> float | None:
    return values[max(0, math.ceil(share * len(values)) - 1)] if values else None


def _hours(span: timedelta) -> float:
    return span.total_seconds() / 3600
