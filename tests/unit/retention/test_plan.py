"""The cost curve: bytes age through the tiers, expire, and cost what the schedule says."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root
from radlake.retention import Cohort, RetentionClass, cost_curve, load_schedule
from radlake.retention.plan import province, total_yuan

GB = 1 << 30
SCHEDULE = schemas_root() / "retention" / "schedule.yaml"


def test_a_cohort_ages_through_the_tiers_and_expires() -> None:
    rows = cost_curve(
        [Cohort(2026, RetentionClass.OUTPATIENT, 100 * GB)], schedule=load_schedule(), first_year=2026, n_years=18
    )
    tiers = {row.year: row.tier for row in rows if row.n_bytes}
    assert [tiers.get(year) for year in range(2026, 2044)] == [
        "hot", "warm", "warm", *["cold"] * 4, *["archive"] * 9, None, None,
    ]  # fmt: skip
    assert rows[0].yuan == 144.0  # 100 GB x 0.12 yuan x 12
    assert total_yuan(rows) == round(144 + 2 * 96 + 4 * 39.6 + 9 * 18, 2)


def test_recompression_divides_bytes_and_yuan() -> None:
    cohorts = [Cohort(2026, RetentionClass.INPATIENT, 90 * GB)]
    plain = cost_curve(cohorts, schedule=load_schedule(), first_year=2026)
    third = cost_curve(cohorts, schedule=load_schedule(), first_year=2026, ratio=3)
    assert [3 * row.n_bytes for row in third] == [row.n_bytes for row in plain]
    assert total_yuan(third) == pytest.approx(total_yuan(plain) / 3, abs=1)


def test_a_province_holds_what_came_and_has_not_expired() -> None:
    schedule = load_schedule()
    rows = cost_curve(province(schedule, first_year=2026), schedule=schedule, first_year=2026)
    held = {year: sum(row.n_bytes for row in rows if row.year == year) for year in (2026, 2028, 2055)}
    assert held[2026] == 16 * 10**15
    assert held[2028] == 48 * 10**15
    assert held[2055] == 8 * 10**15 * (30 + 16)  # inpatients of 30 years, outpatients of 15 and the year that begins


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("years: 30\n    source: what cannot", "years: 15\n    source: what cannot", "classes.unknown.years"),
        ("AdmissionID", "PatientClass", "PatientClass is no DICOM keyword"),
        ("outpatient: 3,", "outpatient: 9,", "the ages of outpatient must begin with 0 and rise"),
        ("inpatient: 0.5", "inpatient: 0.6", "province.share must add up to 1"),
    ],
)
def test_a_schedule_that_cannot_be_right_is_refused(tmp_path: Path, before: str, after: str, problem: str) -> None:
    path = tmp_path / "schedule.yaml"
    text = SCHEDULE.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(ConfigInvalid, match=problem):
        load_schedule(path)
