"""What accepted reminders saved: orders that were given up, if no such exam was done within the window after all.

A kind of its own beside potential and causal (`repeats`), and never added to them: it is what clinicians said they did,
checked by what was done. Without rows of core.reminder there is no answer, which is not zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from itertools import groupby
from operator import itemgetter

from radlake.lake import Lake, duck
from radlake.sqlrun.date_offsets import DateOffsets, register_offsets
from radlake.stats.prices import load_exam_prices

__all__ = ["AcceptedReminders", "accepted_reminders"]


@dataclass(frozen=True)
class AcceptedReminders:
    """Reminders of one modality and what became of them.

    Attributes
    ----------
    n_open : int
        Accepted ones whose window is not over; they may still be followed by an exam and are in none of the next.
    n_done_anyway : int
        Accepted ones after which such an exam of the person was done within the window, in whatever hospital.
    n_avoided, n_unpriced, cost_fen : int
        The others; those of a month for which ref.price has no `exam` of their body part or modality; the price of the
        rest.
    """

    modality_group: str
    n_shown: int
    n_accepted: int
    n_open: int
    n_done_anyway: int
    n_avoided: int
    n_unpriced: int
    cost_fen: int


def accepted_reminders(
    lake: Lake, *, date_offsets: DateOffsets, window_days: int, last_day: date
) -> list[AcceptedReminders] | None:
    """Reminders by modality; None when the lake has none.

    Parameters
    ----------
    date_offsets : callable
        Seconds by which the times of each person (patient_key) were moved.
    last_day : date
        True day until which exams are known: what was accepted less than a window before is open.
    """
    prices = load_exam_prices(lake)
    with duck.connect(lake, tables={"core.exam", "core.reminder"}) as connection:
        register_offsets(connection, date_offsets, persons="core.reminder")
        found = connection.execute(_SAVED, {"window_days": window_days, "last_day": last_day}).fetchall()
    answers = []
    for modality, of_modality in groupby(found, key=itemgetter(0)):
        rows = list(of_modality)
        n_shown, n_accepted, n_open, n_done_anyway, n_avoided = (
            sum(column) for column in list(zip(*rows, strict=True))[3:]
        )
        avoided = [(prices.of_exam(modality, part, day=month), n) for _, part, month, *_, n in rows]
        answers.append(
            AcceptedReminders(
                modality_group=modality,
                n_shown=n_shown,
                n_accepted=n_accepted,
                n_open=n_open,
                n_done_anyway=n_done_anyway,
                n_avoided=n_avoided,
                n_unpriced=sum(n for price, n in avoided if price is None),
                cost_fen=sum(price.price_fen * n for price, n in avoided if price),
            )
        )
    return answers or None


# Linked pseudonyms of a person have offsets of their own and cannot be compared in moved time:
# only exams under the pseudonym that the reminder names are looked at.
_SAVED = """
WITH reminders AS (
    SELECT reminder.*, row_number() OVER () AS number, shown_at - to_seconds(seconds) AS true_at
    FROM core.reminder AS reminder INNER JOIN offsets USING (patient_key)
),
followed AS (
    SELECT DISTINCT reminders.number
    FROM reminders
    INNER JOIN core.exam AS exam USING (patient_key, modality_group, body_part_code)
    WHERE exam.study_at > reminders.shown_at
        AND exam.study_at <= reminders.shown_at + to_days($window_days::INTEGER)
        AND exam.laterality_code || reminders.laterality_code NOT IN ('LR', 'RL')
),
judged AS (
    SELECT
        reminders.modality_group,
        reminders.body_part_code,
        date_trunc('month', true_at)::DATE AS month,
        answer_code = 'ACCEPTED' AS is_accepted,
        is_accepted AND followed.number IS NULL AND true_at::DATE > $last_day::DATE - $window_days::INTEGER AS is_open,
        is_accepted AND followed.number IS NOT NULL AS is_done_anyway,
        is_accepted AND followed.number IS NULL AND NOT is_open AS is_avoided
    FROM reminders
    LEFT JOIN followed USING (number)
)
SELECT
    modality_group,
    body_part_code,
    month,
    count(*),
    count(*) FILTER (WHERE is_accepted),
    count(*) FILTER (WHERE is_open),
    count(*) FILTER (WHERE is_done_anyway),
    count(*) FILTER (WHERE is_avoided)
FROM judged
GROUP BY modality_group, body_part_code, month
ORDER BY modality_group, body_part_code, month
"""
