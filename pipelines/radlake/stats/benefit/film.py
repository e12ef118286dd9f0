"""Film in two periods: what was spent, and what was saved by three choices of the volume.

Money is whole fen. A saving between two periods mixes cloud film with the growth of the volume, so the answer is never
one number: as spent, at the volume of the later period, and at that of the earlier one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from radlake.lake import Lake, duck

__all__ = ["FilmPeriod", "FilmSaving", "film_period", "film_saving", "released_periods"]


@dataclass(frozen=True, kw_only=True)
class FilmPeriod:
    """Sums of stats.film_saving over the months of a period.

    Attributes
    ----------
    n_months, n_withheld : int
        Months with film exams or sheets, and those of them whose numbers disclosure control withheld: the sums lack
        them.
    """

    n_months: int
    n_withheld: int
    n_exams: int
    film_cost_fen: int
    cloud_cost_fen: int
    printed_cost_fen: int
    unclaimed_cost_fen: int

    @property
    def spent_fen(self) -> int:
        """Cloud film and printed sheets; unclaimed sheets are among the printed ones."""
        return self.cloud_cost_fen + self.printed_cost_fen

    @property
    def gross_saving_fen(self) -> int:
        """Film that was not bought, against printing for every exam of the period itself."""
        return self.film_cost_fen - self.printed_cost_fen

    @property
    def net_saving_fen(self) -> int:
        return self.gross_saving_fen - self.cloud_cost_fen

    @property
    def spent_per_exam_fen(self) -> Fraction | None:
        return Fraction(self.spent_fen, self.n_exams) if self.n_exams else None


@dataclass(frozen=True)
class FilmSaving:
    """What was saved from one period to another, in whole fen; None where a period has no exam.

    Attributes
    ----------
    as_spent_fen
        What was spent before, less what was spent after; growth of the volume hides a part of the saving.
    at_later_volume_fen
        What the exams of the later period would have cost as before, less what they did cost.
    at_earlier_volume_fen
        What the exams of the earlier period did cost, less what they would have cost as later.
    """

    before: FilmPeriod
    after: FilmPeriod
    as_spent_fen: int
    at_later_volume_fen: int | None
    at_earlier_volume_fen: int | None


def film_period(rows: Iterable[Mapping[str, Any]]) -> FilmPeriod:
    """Add up rows of stats.film_saving, one for each month."""
    found = list(rows)
    names = ("n_exams", "film_cost_fen", "cloud_cost_fen", "printed_cost_fen", "unclaimed_cost_fen")
    shown = [row for row in found if not row["is_masked"]]
    sums = {name: sum(row[name] for row in shown) for name in names}
    return FilmPeriod(n_months=len(found), n_withheld=len(found) - len(shown), **sums)


def released_periods(
    lake: Lake, periods: Sequence[tuple[str, str]], *, hospital_id: str = "all", modality_group: str = "all"
) -> list[FilmPeriod]:
    """Periods, each from a first to a last month (`2018-10`), from the released numbers of a lake."""
    query = """
        SELECT n_exams, film_cost_fen, cloud_cost_fen, printed_cost_fen, unclaimed_cost_fen, is_masked
        FROM stats.film_saving
        WHERE exam_month BETWEEN $first AND $last AND exam_month <> 'all'
            AND hospital_id = $hospital AND modality_group = $modality
    """
    given = {"hospital": hospital_id, "modality": modality_group}
    with duck.connect(lake, tables=["stats.film_saving"]) as connection:
        return [
            film_period(
                connection.sql(query, params=given | {"first": first, "last": last}).to_arrow_table().to_pylist()
            )
            for first, last in periods
        ]


def film_saving(before: FilmPeriod, after: FilmPeriod) -> FilmSaving:
    """Compare two periods; halves of a fen are rounded to even."""
    was, is_now = before.spent_per_exam_fen, after.spent_per_exam_fen
    as_spent_fen = before.spent_fen - after.spent_fen
    if was is None or is_now is None:
        return FilmSaving(before, after, as_spent_fen, None, None)
    at_later_fen = round(after.n_exams * was) - after.spent_fen
    at_earlier_fen = before.spent_fen - round(before.n_exams * is_now)
    return FilmSaving(before, after, as_spent_fen, at_later_fen, at_earlier_fen)
