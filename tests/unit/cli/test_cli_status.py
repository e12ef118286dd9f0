"""`radlake status` tells what the ledger and the ops tables know, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime, timedelta

import pytest
from typer.testing import CliRunner

from radlake.cli._status import Status, read_status
from radlake.cli.status import app, shown
from radlake.cli.tables import wide_console
from radlake.config import Settings
from radlake.contracts import load_table
from radlake.contracts.rows import arrow_rows
from radlake.harvest.courtesy import NodeState
from radlake.harvest.courtesy.breaker import Breaker
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import BACKFILL_WINDOW, NODE_STATE
from support.lakes import keyed_ledger, settings_of

NOW = datetime(2026, 11, 20, 12, 30)


@pytest.fixture
def lake(tmp_path) -> Settings:
    return settings_of(tmp_path / "lake")


@pytest.fixture
def ledger(lake: Settings) -> Iterator[Ledger]:
    with closing(keyed_ledger(lake.ledger)) as ledger:
        yield ledger


def publish(settings: Settings, name: str, *rows: dict) -> None:
    table = load_table(name)
    Lake.from_settings(settings).tables.commit_batch(table, arrow_rows(table, rows), batch_id=f"test-{name}")


def run_row(hospital_id: str, *, minutes_ago: int, error: str | None = None) -> dict:
    end = NOW - timedelta(minutes=minutes_ago)
    counts = ("n_studies_found", "n_studies_complete", "n_studies_partial", "n_instances_stored",
              "n_instances_quarantined", "n_instances_duplicate", "stored_bytes")  # fmt: skip
    return {"run_id": f"{hospital_id}-{minutes_ago}", "hospital_id": hospital_id, "retrieve_kind": "c-get",
            "started_at": end, "finished_at": end, "error_class": error,
            "deidentified_by": "{}", **dict.fromkeys(counts, 7)}  # fmt: skip


def lag_row(hospital_id: str, *, p95: float, n_late: int, is_dark: bool = False) -> dict:
    counts = dict.fromkeys(("n_studies", "n_waiting", "seen_studies", "n_future"), 1)
    return {"hospital_id": hospital_id, **counts, "n_late": n_late, "p95_hours": p95, "is_dark": is_dark,
            "skew_minutes": 0.0, "updated_at": NOW}  # fmt: skip


def read(settings: Settings, ledger: Ledger, *registered: str) -> Status:
    return read_status(settings, Lake.from_settings(settings), ledger, registered=registered, now=NOW)


def begin(ledger: Ledger, hospital_id: str, uid: str, *, minutes_ago: int) -> None:
    at = NOW - timedelta(minutes=minutes_ago)
    ledger.discover(hospital_id, uid, study_date=date(2026, 11, 20), n_expected=2, now=at)
    ledger.begin(hospital_id, uid, now=at)


def test_every_hospital_is_in_one_state(lake: Settings, ledger: Ledger) -> None:
    publish(lake, "ops.harvest_run", run_row("well", minutes_ago=90), run_row("failed", minutes_ago=5, error="Gone"),
            run_row("mended", minutes_ago=50, error="Gone"), run_row("mended", minutes_ago=10),
            run_row("working", minutes_ago=700))  # fmt: skip
    begin(ledger, "working", "1.2.1", minutes_ago=3)
    begin(ledger, "well", "1.2.2", minutes_ago=300)
    resting = NodeState(breaker=Breaker(n_opened=1, until=4e9))
    with ledger.writing() as connection:
        row = {"hospital_id": "resting", "state": resting.to_json(), "updated_at": NOW}
        connection.execute(NODE_STATE.insert().values(**row))
    found = read(lake, ledger, "new", "well", "failed")
    assert found.hospitals == {"working": 1, "resting": 1, "failed": 1, "well": 2, "never harvested": 1}
    assert (found.failed, found.breakers) == ({"failed": "Gone"}, {"resting": "open"})
    assert (found.under_way, found.n_left_behind, found.backlog) == ({"working": 1}, 1, 2)
    hour = found.last_hour
    assert (hour.n_runs, hour.n_failed, hour.n_studies, hour.stored_bytes) == (3, 2, 21, 21)


def test_lag_and_backfill_are_summed(lake: Settings, ledger: Ledger) -> None:
    publish(lake, "ops.lag", lag_row("h1", p95=1.5, n_late=0), lag_row("h2", p95=20.0, n_late=4, is_dark=True))
    window = {"hospital_id": "h1", "n_studies": 10, "n_instances": 0, "n_open": 0, "open_bytes": 0,
              "is_doubtful": False, "attempts": 0}  # fmt: skip
    with ledger.writing() as connection:
        connection.execute(BACKFILL_WINDOW.insert().values(name="a", done_at=NOW, trouble="", **window))
        connection.execute(BACKFILL_WINDOW.insert().values(name="b", trouble="RetrieveFailed: away", **window))
    found = read(lake, ledger)
    assert (found.lag.n_late, found.lag.worst_p95_hours, found.lag.worst_hospital) == (4, 20.0, "h2")
    assert found.lag.dark == ("h2",)
    assert (found.backfill.n_windows_done, found.backfill.n_windows, found.backfill.n_windows_troubled) == (1, 2, 1)
    assert (found.backfill.n_studies_done, found.backfill.n_studies) == (10, 20)
    console = wide_console()
    with console.capture() as captured:
        console.print(shown(found))
    assert "4 studies over 12 h" in captured.get()
    assert "1 of 2 windows, 10 of 20 studies" in captured.get()


def test_the_document_of_an_empty_lake_is_whole(lake: Settings) -> None:
    (Lake.from_settings(lake).restricted.parent / "tables").mkdir()
    before = sorted(Lake.from_settings(lake).restricted.parent.rglob("*.parquet"))
    answer = CliRunner().invoke(app, ["--json"], obj=lake)
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert told["backlog"] == 0
    assert told["lag"]["published_at"] is None
    assert told["free_bytes"] > 0
    assert sorted(Lake.from_settings(lake).restricted.parent.rglob("*.parquet")) == before
