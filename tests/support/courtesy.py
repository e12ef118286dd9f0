"""What tests of nodes share: the archive of one hospital, and a calendar by which nobody may disturb it today."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from radlake.machine import SHANGHAI
from radlake.synth.datasets import write_archive
from radlake.synth.province import make_province

__all__ = ["do_not_disturb", "hospital_archive"]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def hospital_archive(folder: Path, *, n_exams: int, start: date, end: date) -> Path:
    province = make_province(seed=5, hospitals=1, n_exams=n_exams, start=start, end=end)
    write_archive(province, province.hospitals[0].hospital_id, folder)
    return folder


def do_not_disturb() -> list[dict[str, Any]]:
    """A calendar that allows nothing on any day but one, which is neither today nor tomorrow."""
    open_day = (datetime.now(SHANGHAI) + timedelta(days=3)).weekday()
    return [{"days": ",".join(day for n, day in enumerate(_DAYS) if n != open_day), "associations": 0}]
