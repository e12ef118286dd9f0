"""Accepted reminders count when no such exam followed and the window is over; no reminders at all are no zero."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from radlake.lake import Lake
from radlake.stats.benefit.reminders import AcceptedReminders, accepted_reminders
from support.rows import rows

MOVED = timedelta(days=-40, seconds=17)


def offsets(keys: np.ndarray) -> np.ndarray:
    return np.full(len(keys), int(MOVED.total_seconds()))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")


def put(lake: Lake, table: str, *given: dict) -> None:
    lake.tables.commit_batch(table, rows(table, *given), batch_id=f"{table}-rows")


def asked(lake: Lake) -> list[AcceptedReminders] | None:
    return accepted_reminders(lake, date_offsets=offsets, window_days=30, last_day=date(2026, 6, 30))


def reminder(person: int, day: date, answer: str = "ACCEPTED", side: str = "NONE") -> dict:
    at = datetime.combine(day, datetime.min.time()) + timedelta(hours=9) + MOVED
    return {
        "hospital_id": "h1",
        "reminder_pseudo_id": f"r{person}",
        "patient_key": person,
        "shown_month": at.year * 100 + at.month,
        "shown_at": at,
        "modality_group": "CT",
        "body_part_code": "KNEE",
        "laterality_code": side,
        "answer_code": answer,
    }


def exam(person: int, day: date, **given: str) -> dict:
    at = datetime.combine(day, datetime.min.time()) + timedelta(hours=15) + MOVED
    fixed = {"modality_group": "CT", "body_part_code": "KNEE", "laterality_code": "NONE"} | given
    ids = {"hospital_id": "h2", "exam_pseudo_id": f"e{person}", "patient_key": person}
    return ids | {"study_month": at.year * 100 + at.month, "study_at": at} | fixed


def test_a_lake_without_reminders_has_no_answer(lake: Lake) -> None:
    put(lake, "core.exam", exam(1, date(2026, 3, 1)))
    assert asked(lake) is None


def test_what_was_given_up_and_done_elsewhere_is_not_saved(lake: Lake) -> None:
    day = date(2026, 4, 1)
    put(
        lake,
        "core.reminder",
        reminder(1, day),
        reminder(2, day),  # done anyway on the 30th day
        reminder(3, day),  # done a day too late to be the same wish
        reminder(4, day),  # another body part
        reminder(5, day, side="L"),  # the other side
        reminder(6, day, "OVERRIDDEN"),
        reminder(7, date(2026, 6, 1)),  # its window is not over
        reminder(8, date(2026, 5, 31)),  # nor by a day
        reminder(10, date(2026, 3, 1)),  # before the price of knees
        reminder(9, date(2026, 2, 27)),  # nobody knows what it cost: true February, before the price
    )
    put(
        lake,
        "core.exam",
        exam(1, date(2026, 3, 20)),  # the earlier one
        exam(2, day + timedelta(days=29)),
        exam(3, day + timedelta(days=31)),
        exam(4, day + timedelta(days=5), body_part_code="HIP"),
        exam(5, day + timedelta(days=5), laterality_code="R"),
        exam(6, day),
    )
    price = {"item": "exam", "modality_group": "CT", "valid_from": date(2026, 3, 1), "price_fen": 20_000}
    of_knees = price | {"body_part_code": "KNEE", "valid_from": date(2026, 4, 1), "price_fen": 30_000}
    put(lake, "ref.price", price, of_knees)
    assert asked(lake) == [
        AcceptedReminders(
            modality_group="CT",
            n_shown=10,
            n_accepted=9,
            n_open=1,
            n_done_anyway=1,
            n_avoided=7,
            n_unpriced=1,
            cost_fen=5 * 30_000 + 20_000,
        )
    ]
