"""Publish what the reminder's journal holds: ops.reminder and ops.reminder_order, exact; core.reminder, pseudonymous.

A lake that no reminder service ever ran for gets none of them: no reminders yet are no zero.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from radlake.config import Settings
from radlake.contracts import load_table
from radlake.contracts.rows import arrow_rows
from radlake.deidentify import KeyRing
from radlake.lake import Lake
from radlake.lake.reminders import ReminderJournal, ShownReminder
from radlake.machine import SHANGHAI

__all__ = ["ANSWER_TIME", "publish_reminders"]

DAYS = 400  # as of uploads
ANSWER_TIME = timedelta(days=1)  # after which no answer is one


def publish_reminders(settings: Settings, *, keys: KeyRing, now: datetime) -> int | None:
    """Publish the reminders of the last `DAYS`; returns how many, None without a journal.

    Parameters
    ----------
    now : datetime
        UTC.
    """
    journal = ReminderJournal.existing(settings)
    if journal is None:
        return None
    lake, now = Lake.from_settings(settings), now.replace(tzinfo=None)
    with closing(journal):
        kept = list(journal.reminders(since=now - timedelta(days=DAYS)))
        orders = journal.orders()
    answers = {one.reminder_id: _answer(one, now) for one in kept}
    exact = [
        {
            "reminder_pseudo_id": keys.pseudo_id("reminder", one.reminder_id),
            "hospital_id": one.hospital_id,
            "shown_at": one.shown_at,
            "is_muted": one.is_muted,
            "modality_group": one.modality_group,
            "earlier_days": one.earlier_days,
            "policy_version": one.policy_version,
            "answer_code": answers[one.reminder_id],
            "ground_code": one.ground_code or None,
            "answered_at": one.answered_at,
            "opened_at": one.opened_at,
            "opened_by": one.opened_by or None,
        }
        for one in kept
    ]
    _overwrite(lake, "ops.reminder", exact, now)
    _overwrite(lake, "ops.reminder_order", [{**row, "n_orders": row.pop("n")} for row in orders], now)
    shown = [_core_row(one, answers[one.reminder_id], keys) for one in kept if not one.is_muted]
    shown = [row for row in shown if row["answer_code"] != "OPEN"]
    if shown:
        _overwrite(lake, "core.reminder", shown, now)
    return len(kept)


def _answer(one: ShownReminder, now: datetime) -> str:
    return one.answer_code or ("OPEN" if now - one.shown_at < ANSWER_TIME else "IGNORED")


def _core_row(one: ShownReminder, answer: str, keys: KeyRing) -> dict[str, Any]:
    local = one.shown_at.replace(tzinfo=UTC).astimezone(SHANGHAI).replace(tzinfo=None)
    moved = local + keys.offset(one.patient_key)
    return {
        "hospital_id": one.hospital_id,
        "reminder_pseudo_id": keys.pseudo_id("reminder", one.reminder_id),
        "patient_key": one.patient_key,
        "shown_month": moved.year * 100 + moved.month,
        "shown_at": moved,
        "modality_group": one.modality_group,
        "body_part_code": one.body_part_code,
        "laterality_code": one.laterality_code,
        "earlier_hospital_id": one.earlier_hospital_id,
        "earlier_exam_pseudo_id": one.earlier_exam_pseudo_id,
        "answer_code": answer,
        "ground_code": one.ground_code or None,
    }


def _overwrite(lake: Lake, name: str, given: list[dict[str, Any]], now: datetime) -> None:
    table = load_table(name)
    store = lake.tables if table.zone == "lake" else lake.restricted_tables
    batch_id = f"reminder-{now:%Y%m%dT%H%M%S%f}-{store.version(table)}"
    store.overwrite(table, arrow_rows(table, given), batch_id=batch_id)
