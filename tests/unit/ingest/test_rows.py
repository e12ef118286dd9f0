"""Rows hold what the contract names and never a guess."""

from __future__ import annotations

from datetime import datetime

import pytest
from pydicom import Dataset

from radlake.ingest.rows import age_in_years, moment, month_of


def dataset(**values: object) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize(
    ("values", "years"),
    [
        ({"PatientAge": "043Y"}, 43),
        ({"PatientAge": "018M"}, 1),
        ({"PatientAge": "003D"}, 0),
        ({"PatientAge": "101Y"}, 90),
        ({"PatientBirthDate": "19800302", "StudyDate": "20260301"}, 45),
        ({"PatientBirthDate": "19800301", "StudyDate": "20260301"}, 46),
        ({"PatientBirthDate": "20270101", "StudyDate": "20260301"}, None),
        ({"PatientAge": "", "PatientBirthDate": ""}, None),
    ],
)
def test_age_is_in_completed_years_and_ninety_at_most(values: dict[str, str], years: int | None) -> None:
    assert age_in_years(dataset(**values)) == years


@pytest.mark.parametrize(
    ("day", "time", "at"),
    [
        ("20260301", "083015.5", datetime(2026, 3, 1, 8, 30, 15)),
        ("2026.03.01", "08:30:15", datetime(2026, 3, 1, 8, 30, 15)),
        ("20260301", "", datetime(2026, 3, 1)),
        ("20260301", "2575", datetime(2026, 3, 1)),
        ("20260301", "235960", datetime(2026, 3, 1, 23, 59, 59)),
        ("", "083015", None),
    ],
)
def test_moments_are_read_as_the_standard_and_old_scanners_write_them(day: str, time: str, at: datetime | None) -> None:
    ds = Dataset()
    ds.add_new("StudyDate", "LO", day)
    ds.add_new("StudyTime", "LO", time)
    assert moment(ds) == at


def test_a_study_without_a_date_has_a_partition_of_its_own() -> None:
    assert (month_of(None), month_of(datetime(2026, 3, 31))) == (190001, 202603)
