"""How long a study is kept, as a table that a health commission can read."""

from __future__ import annotations

from datetime import date

import pytest
from pydicom import Dataset

from radlake.retention import RetentionClass, Rule, class_of_headers, load_schedule

CLASSES = """
    what the headers say                                   | class      | years
    nothing                                                | unknown    | 30
    RequestingService=门诊内科                             | outpatient | 15
    RequestingService=急诊科                               | outpatient | 15
    CurrentPatientLocation=Outpatient clinic 3             | outpatient | 15
    CurrentPatientLocation=心内科病区 12床                 | inpatient  | 30
    AdmissionID=ZY2026003                                  | inpatient  | 30
    AdmissionID=                                           | unknown    | 30
    AdmittingDate=20260301                                 | inpatient  | 30
    VisitStatusID=DISCHARGED                               | inpatient  | 30
    VisitStatusID=SCHEDULED                                | unknown    | 30
    RequestingService=门诊, AdmissionID=7                  | mixed      | 30
    RequestingService=放射科                               | unknown    | 30
"""
DAYS = """
    study date | class      | retain until | still there on | may go on
    2010-03-05 | outpatient | 2025-03-05   | 2025-12-31     | 2026-01-01
    2010-03-05 | inpatient  | 2040-03-05   | 2040-12-31     | 2041-01-01
    2010-03-05 | mixed      | 2040-03-05   | 2040-12-31     | 2041-01-01
    2010-03-05 | unknown    | 2040-03-05   | 2040-12-31     | 2041-01-01
    2012-02-29 | outpatient | 2027-03-01   | 2027-12-31     | 2028-01-01
    2010-12-31 | outpatient | 2025-12-31   | 2025-12-31     | 2026-01-01
"""


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()[1:]]


@pytest.mark.parametrize(("said", "wanted", "years"), rows(CLASSES))
def test_class_of_a_study(said: str, wanted: str, years: str) -> None:
    schedule, header = load_schedule(), Dataset()
    for item in () if said == "nothing" else said.split(", "):
        keyword, _, value = item.partition("=")
        setattr(header, keyword, value)
    found = class_of_headers([header], rules=schedule.rules)
    assert (found, schedule.years[found]) == (wanted, int(years))


def test_a_hospital_adds_rules_of_its_own() -> None:
    header = Dataset()
    header.AccessionNumber = "MZ20260301"
    own = Rule("AccessionNumber", "MZ.*", RetentionClass.OUTPATIENT)
    assert class_of_headers([header], rules=(*load_schedule().rules, own)) is RetentionClass.OUTPATIENT


@pytest.mark.parametrize(("study_date", "kind", "until", "stays", "goes"), rows(DAYS))
def test_last_day_and_first_day_without(study_date: str, kind: str, until: str, stays: str, goes: str) -> None:
    schedule, day, retention_class = load_schedule(), date.fromisoformat(study_date), RetentionClass(kind)
    assert schedule.retain_until(day, retention_class) == date.fromisoformat(until)
    assert not schedule.is_due(day, retention_class, today=date.fromisoformat(stays))
    assert schedule.is_due(day, retention_class, today=date.fromisoformat(goes))
