"""stats.reminder: one reminder is one, muted ones are no alerts, and what is not answered yet is in no share."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from support.rows import rows
from support.statistics import tables

SHOWN = datetime(2026, 10, 31, 16, 0)  # midnight in Shanghai: November


def reminder(n: int, hospital: str, answer: str, *, ground: str | None = None, opened: int | None = None, muted=False):
    return {
        "reminder_pseudo_id": f"{n:016x}",
        "hospital_id": hospital,
        "shown_at": SHOWN,
        "is_muted": muted,
        "answer_code": answer,
        "ground_code": ground,
        "opened_at": None if opened is None else SHOWN + timedelta(seconds=opened),
    }


def orders(hospital: str, verdict: str, n: int, hook: str = "order-sign") -> dict:
    given = {"order_month": 202611, "hook": hook, "modality_group": "CT", "verdict": verdict, "n_orders": n}
    return {"hospital_id": hospital} | given


def test_shares_are_of_what_is_answered_and_orders_are_signed_ones() -> None:
    given = [
        reminder(1, "h1", "ACCEPTED", opened=30),
        reminder(2, "h1", "OVERRIDDEN", ground="emergency"),
        reminder(3, "h1", "OVERRIDDEN", ground="rapid_change", opened=90),
        reminder(4, "h1", "IGNORED"),
        reminder(5, "h1", "OPEN"),
        reminder(6, "h2", "IGNORED", muted=True),
    ]
    counted = [
        orders("h1", "SHOW", 5),
        orders("h1", "NO_PRIOR", 95),
        orders("h1", "NO_PRIOR", 50, hook="order-select"),
        orders("h1", "NOT_IMAGING", 1000),
        orders("h2", "MUTED", 1),
    ]
    with tables(
        {"ops.reminder": rows("ops.reminder", *given), "ops.reminder_order": rows("ops.reminder_order", *counted)}
    ) as db:
        db.build("stats.reminder")
        found = {
            hospital: row
            for hospital, *row in db.rows(
                "SELECT hospital_id, n_orders, n_shown, n_muted, n_accepted, n_overridden, n_ignored, n_opened,"
                " shown_share, accepted_share, emergency_share, p50_open_seconds"
                " FROM stats.reminder WHERE reminder_month = '2026-11'"
            )
        }
        assert db.problems("stats.reminder") == []
    assert found["h1"] == [100, 5, 0, 1, 2, 1, 2, 0.05, pytest.approx(0.25), 0.5, 30.0]
    assert found["h2"] == [1, 0, 1, 0, 0, 0, 0, 0.0, None, None, None]
    assert found["all"][:3] == [101, 5, 1]
