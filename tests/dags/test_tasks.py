"""What the tasks do beyond one call: ranges that a person gave, a signature for expiry, a chain that is broken."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import date

import pytest

from radlake.config import Settings
from radlake.errors import ConfigInvalid
from radlake.ingest import harvest_hospital
from radlake.lake import Lake, duck
from radlake.net import Window, load_hospitals
from radlake.quality.report import QualityLow, QualityReport, judge
from radlake_airflow import tasks
from support import airflow

FOUND = QualityReport(12, (), (), {"h1": (19, 20), "h2": (0, 0)})


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The settings that the tasks see; two hospitals are harvested."""
    settings = airflow.province(tmp_path_factory.mktemp("tasks"))
    for hospital in load_hospitals(settings.hospitals).values():
        harvest_hospital(settings, hospital, window=Window(date(2026, 1, 1), date(2026, 1, 1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RADLAKE_LAKE", settings.lake)
        yield settings


def test_expiry_needs_a_signature(settings: Settings) -> None:
    assert tasks.retain({"expire": False, "by": "", "why": ""}) == {"n_due": 0, "n_held": 0, "n_removed": 0}
    with pytest.raises(ConfigInvalid, match="`by` and `why`"):
        tasks.retain({"expire": True, "by": "the archivist", "why": ""})
    assert tasks.retain({"expire": True, "by": "the archivist", "why": "decision 7"})["n_removed"] == 0


def test_quality_is_read_from_the_lake(settings: Settings) -> None:
    assert tasks.quality({"hours": 24, "min_complete_share": 1.0})["n_hospitals"] == 2


def test_the_lag_of_each_hospital_is_published(settings: Settings) -> None:
    told = tasks.publish_board()
    with duck.connect(Lake.from_settings(settings)) as connection:
        rows = connection.execute("SELECT hospital_id, n_waiting, is_dark FROM ops.lag ORDER BY 1").fetchall()
    assert rows == [("h1", 0, False), ("h2", 0, False)]
    assert told == {"n_hospitals": 2, "n_waiting": 0, "n_late": 0, "n_dark": 0}


def test_good_quality_is_told_in_counts() -> None:
    assert judge(FOUND, min_complete_share=0.95) == {"n_checked": 12, "n_hospitals": 2}


@pytest.mark.parametrize(
    ("found", "share", "problem"),
    [
        pytest.param(FOUND, 0.96, "h1: 19 of its 20 studies are complete", id="much is missing"),
        pytest.param(QualityReport(1, ("dicom.study.sex: 3 of 9 are odd",), (), {}), 0, "held back: dicom", id="gate"),
        pytest.param(QualityReport(1, (), (("core.exam", "2 rows: odd"),), {}), 0, "core.exam warned: 2", id="check"),
    ],
)
def test_low_quality_fails_with_each_problem(found: QualityReport, share: float, problem: str) -> None:
    with pytest.raises(QualityLow, match=problem):
        judge(found, min_complete_share=share)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        pytest.param(None, None, None, id="the day of the run"),
        pytest.param("2026-03-02", None, (date(2026, 3, 2), date(2026, 3, 2)), id="one day"),
        pytest.param("2026-03-02", "2026-03-08", (date(2026, 3, 2), date(2026, 3, 8)), id="a week"),
    ],
)
def test_days_that_a_person_gave(first: str | None, last: str | None, expected: tuple[date, date] | None) -> None:
    window = tasks.window_from_params({"first_day": first, "last_day": last})
    assert window == (expected and Window(*expected))


def test_one_altered_row_breaks_the_certificate(settings: Settings) -> None:
    assert tasks.certify()["n_complete"] == 2
    with sqlite3.connect(settings.ledger.removeprefix("sqlite:///")) as ledger:
        changed = ledger.execute("UPDATE study SET n_expected = 2 WHERE hospital_id = 'h1'")
        assert changed.rowcount == 1
    ledger.close()
    with pytest.raises(tasks.CertificateBroken, match="h1: ") as broken:
        tasks.certify()
    assert not any(secret in str(broken.value) for secret in airflow.SECRETS)
