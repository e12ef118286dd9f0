"""Dates and times: one constant of a person, whatever the form."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radlake.deidentify.dates import Shift, cap_age, time_tag_of
from support.deid import KEYS

SHIFT = Shift(-10, 30)
persons = st.integers(min_value=0, max_value=2**63 - 1)
moments = st.datetimes(min_value=datetime(1950, 1, 1), max_value=datetime(2100, 1, 1))


def _shift_of(patient_key: int) -> Shift:
    return Shift(KEYS.date_offset_days(patient_key), KEYS.clock_offset_seconds(patient_key))


@given(persons, moments, moments)
def test_intervals_survive_in_date_and_time(patient_key: int, one: datetime, two: datetime) -> None:
    shift = _shift_of(patient_key)

    def shifted(at: datetime) -> datetime:
        day, time = f"{at:%Y%m%d}", f"{at:%H%M%S.%f}"
        return datetime.strptime(f"{shift.of_date(day, time=time)}{shift.of_time(time)}", "%Y%m%d%H%M%S.%f")

    assert shifted(one) - shifted(two) == one - two
    assert shifted(one) == one + KEYS.offset(patient_key)
    assert timedelta(days=-365) <= shifted(one) - one < timedelta(0)


@given(persons, moments)
def test_dt_moves_as_da_with_tm(patient_key: int, at: datetime) -> None:
    shift = _shift_of(patient_key)
    day, time = f"{at:%Y%m%d}", f"{at:%H%M%S.%f}"
    assert shift.of_datetime(day + time) == f"{shift.of_date(day, time=time)}{shift.of_time(time)}"


@given(persons, moments)
def test_time_alone_keeps_its_distance(patient_key: int, at: datetime) -> None:
    # Radiopharmaceutical Start Time has no date of its own; SUV needs its distance from the scan.
    shift = _shift_of(patient_key)
    later = at + timedelta(minutes=75)
    start, scan = (
        datetime.strptime(str(shift.of_time(f"{moment:%H%M%S}")), "%H%M%S").replace(year=2000) for moment in (at, later)
    )
    assert (scan - start) % timedelta(days=1) == timedelta(minutes=75)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("20240311", "20240301"),
        ("2024.03.11", "20240301"),
        ("2024-03-11", "20240301"),
        ("20240310 ", "20240229"),
        ("20240101", "20231222"),
        ("00010105", None),
        ("20241301", None),
        ("20240230", None),
        ("20240300", None),
        ("2024.0311", None),
        ("***", None),
        ("20240101-20240201", None),
        ("240101", None),
        ("二零二四", None),
        ("", None),
    ],
)
def test_da(value: str, expected: str | None) -> None:
    assert SHIFT.of_date(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("083000", "083030"),
        ("083000.123456", "083030.123456"),
        ("08:30:00", "083030"),
        ("0830", "0830"),
        ("08", "08"),
        ("235959", "000029"),
        ("235960", "000029"),
        ("***140450.", None),
        ("140450.", None),
        ("246000", None),
        ("08300", None),
        ("083000.1234567", None),
    ],
)
def test_tm(value: str, expected: str | None) -> None:
    assert SHIFT.of_time(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("20240311083000.5+0800", "20240301083030.5+0800"),
        ("20240311235945", "20240302000015"),
        ("20240311", "20240301"),
        ("202403", "202402"),
        ("2024", "2023"),
        ("2024031108", "2024030108"),
        ("20240311 0830", None),
        ("20241311", None),
        ("2024031108300", None),
    ],
)
def test_dt(value: str, expected: str | None) -> None:
    assert SHIFT.of_datetime(value) == expected


def test_midnight_is_passed_by_date_and_time_together() -> None:
    assert (SHIFT.of_date("20240311", time="235945"), SHIFT.of_time("235945")) == ("20240302", "000015")
    assert SHIFT.of_date("20240311", time="***") == "20240301"


def test_times_belong_to_dates() -> None:
    assert time_tag_of(0x00080022) == 0x00080032
    assert time_tag_of(0x00181200) == 0x00181201  # Date of Last Calibration
    assert time_tag_of(0x00100030) == 0x00100032
    assert time_tag_of(0x001021D0) is None  # Last Menstrual Date


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("034Y", "034Y"),
        ("090Y", "090Y"),
        ("091Y", "090Y"),
        ("118Y", "090Y"),
        ("006M", "006M"),
        ("34", None),
        ("***", None),
    ],
)
def test_ages_above_ninety_are_ninety(value: str, expected: str | None) -> None:
    assert cap_age(value) == expected
