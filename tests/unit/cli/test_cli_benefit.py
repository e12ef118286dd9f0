"""`radlake benefit`, as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radlake.contracts import load_table
from radlake.lake import Lake
from radlake.stats.duplicates.sequence import Observed, build_sequence
from support.rows import rows
from support.statistics import exams

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def lake(tmp_path: Path, run: Run) -> Lake:
    assert run("init")[0] == 0
    return Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "lake" / "restricted")


def test_the_paper_is_checked_without_a_lake(run: Run) -> None:
    code, told = run("benefit", "paper", "bishan_2021")
    assert code == 0
    assert "5 of 8 figures do not follow" in told
    assert "4,025,490" in told
    (claims,) = json.loads(run("benefit", "paper", "bishan_2021", "--json")[1])
    assert {figure["name"]: figure["verdict"] for figure in claims["figures"]}["storage_saved"] == "contradicts"


def test_two_periods_of_film_from_released_rows(lake: Lake, run: Run) -> None:
    def month(name: str, n_exams: int, cloud: int, printed: int) -> dict[str, Any]:
        counts = {"n_exams": n_exams, "film_cost_fen": n_exams * 5400, "cloud_cost_fen": cloud}
        counts |= {"printed_cost_fen": printed, "unclaimed_cost_fen": 0, "is_masked": False}
        return {"exam_month": name, "hospital_id": "all", "modality_group": "all"} | counts

    data = rows(
        "stats.film_saving",
        month("2018-09", 184_612, 0, 996_904_800),
        month("2018-10", 197_112, 394_224_000, 8_325_000),
        month("all", 381_724, 394_224_000, 1_005_229_800),
    )
    lake.tables.overwrite(load_table("stats.film_saving"), data, batch_id="film")
    code, told = run("benefit", "film", "--before", "2017-10..2018-09", "--after", "2018-10..2019-09")
    assert code == 0
    assert "saved as spent: 5,943,558.00 yuan" in told
    assert "saved at the later volume: 6,618,558.00 yuan" in told
    found = json.loads(
        run("benefit", "film", "--before", "2017-10..2018-09", "--after", "2018-10..2019-09", "--json")[1]
    )
    assert found["at_later_volume_fen"] == 661_855_800
    assert found["after"]["spent_per_exam_fen"] == pytest.approx(2042.23, abs=0.01)


def test_the_dose_of_repeats_is_told_by_what_it_is_from(lake: Lake, run: Run) -> None:
    cell = {"exam_year": "2026", "modality_group": "CT", "body_part_code": "CHEST", "is_masked": False}
    data = rows(
        "stats.repeat_dose",
        cell | {"dose_basis": "estimated", "n_repeats": 120, "dlp_mgy_cm": 48_000.0, "effective_dose_msv": 670.0},
        cell | {"dose_basis": "typical", "n_repeats": 40, "effective_dose_msv": 280.0, "typical_source": "a book"},
        cell | {"dose_basis": "unknown", "is_masked": True},
        cell | {"body_part_code": "all", "dose_basis": "typical", "n_repeats": 999},
    )
    lake.tables.overwrite(load_table("stats.repeat_dose"), data, batch_id="dose")
    code, told = run("benefit", "dose", "repeats", "--year", "2026")
    assert code == 0
    assert "a book" in told
    assert "999" not in told
    assert "potential, not saved" in told
    found = json.loads(run("benefit", "dose", "repeats", "--year", "2026", "--json")[1])
    assert [(row["dose_basis"], row["n_repeats"]) for row in found] == [
        ("estimated", 120), ("typical", 40), ("unknown", None),
    ]  # fmt: skip


def test_the_cost_of_repeats_tells_the_price_that_was_used(lake: Lake, run: Run) -> None:
    given = exams("patient | date \n p1 | 2025-05-01 \n p1 | 2025-05-09 \n p2 | 2025-06-20")
    lake.tables.commit_batch("core.exam", given, batch_id="exams")
    year = Observed(date(2025, 1, 1), date(2025, 12, 31))
    build_sequence(lake, date_offsets=lambda keys: np.zeros(len(keys), np.int64), observed=year, workers=1)
    price = {"item": "exam", "modality_group": "CT", "body_part_code": "CHEST", "valid_from": date(2025, 3, 1)}
    price |= {"price_fen": 18_050, "source": "tariff 2"}
    lake.tables.commit_batch("ref.price", rows("ref.price", price), batch_id="price")
    code, told = run("benefit", "repeats")
    assert code == 0
    assert "1 x 180.50 yuan (CT CHEST, from 2025-03-01: tariff 2) = 180.50 yuan" in told
    (found,) = json.loads(run("benefit", "repeats", "--json")[1])
    assert (found["cost_fen"], found["n_unpriced"]) == (18_050, 0)
    of_row = {"modality_group": "CT", "body_part_code": "CHEST", "valid_from": "2025-03-01", "valid_to": None}
    of_row |= {"price_fen": 18_050, "source": "tariff 2"}
    assert found["priced"] == [of_row | {"n_potential": 1, "cost_fen": 18_050}]


def test_who_reaches_100_msv_is_told_with_limits_and_how_far_the_lake_goes_back(lake: Lake, run: Run) -> None:
    counts = {"n_persons": 1000, "n_unestimated": 30, "n_reached": 20, "n_reached_low": 10, "n_reached_high": 40}
    counts |= {"n_reached_reported": 10, "typical_dose_share": 0.31, "is_masked": False}
    years = [{"exam_year": "2025", "n_lookback_days": 400}, {"exam_year": "2030", "n_lookback_days": 1826}]
    data = rows("stats.cumulative_dose", *(counts | year | {"age_group": "all"} for year in years))
    lake.tables.overwrite(load_table("stats.cumulative_dose"), data, batch_id="dose")
    code, told = run("benefit", "dose", "cumulative")
    assert code == 0
    assert "2.00% (1.30% to 3.07%)" in told
    assert "too low" in told
    found = json.loads(run("benefit", "dose", "cumulative", "--json")[1])
    assert found[1]["reached"] == {"share": 0.02, "low": pytest.approx(0.01299, abs=1e-5), "high": pytest.approx(0.0307, abs=1e-4)}  # fmt: skip  # noqa: E501
    assert "effective_dose_msv" not in found[0]
    lake.tables.overwrite(load_table("stats.cumulative_dose"), data.slice(1), batch_id="later")
    assert "too low" not in run("benefit", "dose", "cumulative")[1]


def test_a_period_that_is_none_is_told(lake: Lake, run: Run) -> None:
    code, told = run("benefit", "film", "--before", "2018", "--after", "2018-10..2019-09")
    assert code == 2
    assert "is not like 2018-10..2019-09" in told
