"""A backfill is planned by asking a real PACS that cuts its lists at 200: the plan is the truth, or says it may not."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from radlake.config import Settings
from support import need
from support.counting_pacs import CountingPacs, counting_pacs, lake_of
from support.dicom import image_study, write

CROWDED = date(2024, 3, 5)
# Studies of each date: more than 400 on one day, spread over it; none in February.
TRUTH = {date(2024, 1, 31): 3, CROWDED: 430, date(2024, 3, 6): 12, date(2024, 4, 1): 80}
UNDATED = 4


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for day, n_studies in TRUTH.items():
        for n in range(n_studies):
            seconds = n * 86_000 // n_studies
            time = f"{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}"
            _add(folder, f"{day} {n}", study_date=day, study_time=time)
    for n in range(UNDATED):
        _add(folder, f"undated {n}", StudyDate=None, StudyTime=None)
    return folder


def _add(folder: Path, name: str, **options: Any) -> None:
    for ds in image_study("CR", patient_id=name, rows=8, columns=8, **options):
        write(ds, folder / f"{name}.dcm")


@pytest.fixture(scope="module")
def pacs(archive: Path) -> Iterator[CountingPacs]:
    with counting_pacs(archive, result_cap=200) as running:
        yield running


def radlake(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from radlake.cli import main; main()", "--lake", settings.lake, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def planned(settings: Settings, *options: str, since: str = "2024-01-15", until: str = "2024-04-30") -> dict[str, Any]:
    done = radlake(settings, "backfill", "plan", "--from", since, "--to", until, "--json", *options)
    return json.loads(done.stdout) | {"said": done.stderr, "code": done.returncode}


def rows(settings: Settings) -> dict[str, list[Any]]:
    """Every row of the ledger's database."""
    with sqlite3.connect(settings.restricted / "ledger.db") as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in names}


def test_the_plan_is_the_truth_though_the_node_cuts_its_lists(pacs: CountingPacs, tmp_path: Path) -> None:
    settings = lake_of(tmp_path / "lake", h1=pacs.node)
    made = planned(settings)
    [hospital] = made["hospitals"]
    assert made["code"] == 0, made["said"]
    assert hospital["n_studies"] == hospital["n_to_fetch"] == hospital["n_instances"] == sum(TRUTH.values())
    assert (hospital["list_limit"], hospital["doubtful"]) == (200, [])
    assert hospital["undated_trouble"] == "the node cuts its lists at 200", "those without a date are in no window"
    assert hospital["states"] == {"unknown": sum(TRUTH.values())}
    assert pacs.retrieved == [], "nothing is fetched"
    kept = rows(settings)
    assert {day: n for _, day, n, *_ in kept["backfill_day"]} == {str(day): n for day, n in TRUTH.items()}
    assert len(kept["study"]) == sum(TRUTH.values()), "a listed study cannot be forgotten any more"
    windows = [window["name"] for window in hospital["windows"]]
    assert windows == ["20240115-20240430"], "2,000 studies at most"
    again = planned(settings)["hospitals"][0]
    assert again["states"] == {"discovered": hospital["n_studies"]}
    assert rows(settings)["backfill_day"] == kept["backfill_day"]


def test_a_dry_run_writes_nothing(pacs: CountingPacs, tmp_path: Path) -> None:
    settings = lake_of(tmp_path / "lake", h1=pacs.node)
    radlake(settings, "backfill", "plan", "--from", "2020-01-01", "--to", "2020-01-02")  # the ledger exists
    files = sorted(path for path in Path(settings.lake).rglob("*") if path.suffix not in (".db-wal", ".db-shm"))
    before = rows(settings)
    made = planned(settings, "--dry-run")
    assert made["is_kept"] is False
    assert made["hospitals"][0]["n_studies"] == sum(TRUTH.values())
    assert rows(settings) == before
    assert sorted(path for path in Path(settings.lake).rglob("*") if path.suffix not in (".db-wal", ".db-shm")) == files


def test_zero_is_stated_and_away_is_not_zero(pacs: CountingPacs, archive: Path, tmp_path: Path) -> None:
    away = f"{{kind: dimse, ae_title: GONE, host: 127.0.0.1, port: {need.free_port()}}}"
    settings = lake_of(tmp_path / "lake", h1=pacs.node, h2=away, disk=f"{{kind: folder, path: '{archive}'}}")
    asked = radlake(settings, "backfill", "plan", "--from", "2024-02-01", "--to", "2024-02-10")
    assert asked.returncode == 1
    assert "h1: 0 studies: the node lists none between 2024-02-01 and 2024-02-10" in asked.stdout
    assert "h2 was not planned, which is not the same as no studies" in asked.stderr
    assert "disk is a folder" in asked.stderr


def test_studies_without_a_date_are_found_where_the_node_lists_any_date(archive: Path, tmp_path: Path) -> None:
    with counting_pacs(archive) as pacs:
        settings = lake_of(tmp_path / "lake", h1=pacs.node)
        [made] = planned(settings)["hospitals"]
    assert (made["n_undated"], made["undated_trouble"]) == (UNDATED, "")
    assert made["n_studies"] == sum(TRUTH.values()) + UNDATED
    assert made["windows"][-1]["name"] == "undated"


def test_an_empty_hospital_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    with counting_pacs(tmp_path / "archive") as empty:
        settings = lake_of(tmp_path / "lake", h1=empty.node)
        asked = radlake(settings, "backfill", "plan", "--from", "2024-02-01", "--to", "2024-02-10")
        status = radlake(settings, "backfill", "status")
        told = json.loads(radlake(settings, "backfill", "status", "--json", "--days").stdout)["hospitals"][0]
    assert asked.returncode == 0, asked.stderr
    assert told["planned"] == [{"from": "2024-02-01", "to": "2024-02-10"}]
    assert (told["coverage"]["n_listed"], told["coverage"]["share"], told["days"]) == (0, None, [])
    assert "0 studies: the node lists none between 2024-02-01 and 2024-02-10, and it is reachable" in asked.stdout
    assert status.returncode == 0, status.stderr
    assert "done" in status.stdout


def test_what_a_node_hides_within_a_minute_is_told(tmp_path: Path) -> None:
    for n in range(25):
        _add(tmp_path / "archive", f"same minute {n}", study_date=CROWDED, study_time="080000")
    with counting_pacs(tmp_path / "archive", result_cap=20) as pacs:
        settings = lake_of(tmp_path / "lake", h1=pacs.node)
        [made] = planned(settings)["hospitals"]
        status = radlake(settings, "backfill", "status")
        told = json.loads(radlake(settings, "backfill", "status", "--json").stdout)["hospitals"][0]
    assert told["coverage"]["is_doubtful"]
    assert "days" not in told
    assert made["doubtful"] == [["2024-03-05", "2024-03-05"]]
    assert [window["name"] for window in made["windows"] if window["is_doubtful"]] == ["20240115-20240430"]
    assert "ask its administrator for a higher limit" in " ".join(status.stdout.split())
    assert "?" in status.stdout


def test_planning_a_part_again_forgets_nothing_of_the_rest(pacs: CountingPacs, tmp_path: Path) -> None:
    settings = lake_of(tmp_path / "lake", h1=pacs.node)
    planned(settings)
    planned(settings, since="2024-03-06", until="2024-03-20")
    windows = Counter({row[1]: row[4] for row in rows(settings)["backfill_window"]})
    assert windows == {
        "20240115-20240305": 433,
        "20240306-20240320": 12,
        "20240321-20240430": 80,
    }


def test_a_hospital_that_got_another_id_has_no_plan_and_the_old_id_is_told(pacs: CountingPacs, tmp_path: Path) -> None:
    settings = lake_of(tmp_path / "lake", h1=pacs.node)
    planned(settings)
    settings.hospitals.write_text(settings.hospitals.read_text(encoding="utf-8").replace("h1", "h9"), encoding="utf-8")
    asked = radlake(settings, "backfill", "run")
    assert asked.returncode == 1
    assert "nothing is planned of these hospitals, only of h1; begin with" in asked.stderr
