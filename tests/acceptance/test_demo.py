"""The demo, from three PACS to numbers that are right: the truth of the synthetic province is known."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from radlake.config import Settings, resolve_secret
from radlake.deidentify import KeyRing
from radlake.lake import Lake, duck
from radlake.synth.demo import demo_province
from radlake.synth.truth import duplicate_pairs

EXAMS = 240
PROGRAM = [sys.executable, "-c", "from radlake.cli import main; main()"]


@dataclass(frozen=True)
class Demo:
    settings: Settings
    first: dict[str, Any]
    again: dict[str, Any]


def run(lake: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, "--lake", str(lake), "demo", "--no-serve", "--exams", str(EXAMS), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    results = []
    for name in ("first", "again"):
        done = run(folder / "lake", "--json", str(folder / f"{name}.json"))
        assert done.returncode == 0, done.stderr
        results.append(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
    return Demo(Settings(lake=str(folder / "lake")), *results)


def ask(demo: Demo, query: str, *, zone: Any = "lake") -> list[tuple[Any, ...]]:
    with duck.connect(Lake.from_settings(demo.settings), zone=zone) as connection:
        return connection.execute(query).fetchall()


def test_every_instance_is_accounted_for(demo: Demo) -> None:
    first = demo.first
    made = json.loads((demo.settings.restricted / "demo" / "made.json").read_text(encoding="utf-8"))
    ended = first["instances_stored"] + first["instances_quarantined"] + first["instances_duplicate"]
    assert ended + first["files_not_dicom"] == sum(made.values())
    assert sum(first["quarantine_by_reason"].values()) == first["instances_quarantined"]
    [(in_lake,)] = ask(demo, "SELECT count(*) FROM dicom.instance")
    assert in_lake == first["instances_stored"]


def test_a_second_run_fetches_nothing(demo: Demo) -> None:
    hospitals = [item for item in demo.again["hospitals"] if item["retrieve_kind"] != "folder"]
    assert len(hospitals) == 3
    assert all(item["instances_stored"] == item["instances_duplicate"] == 0 for item in hospitals)
    assert [item["studies_complete"] for item in demo.again["hospitals"]] == [
        item["studies_complete"] for item in demo.first["hospitals"]
    ]
    assert demo.again["instances_stored"] == 0


def exams_in_the_lake(demo: Demo) -> Sequence[Any]:
    keys = KeyRing.from_secret(resolve_secret(demo.settings.key))
    stored = {key for (key,) in ask(demo, "SELECT exam_pseudo_id FROM core.exam")}
    return [
        exam
        for exam in demo_province(n_exams=EXAMS).exams
        if keys.pseudo_id("exam", f"{exam.hospital_id}|accession|{exam.accession_number}") in stored
    ]


def test_exams_are_counted_as_they_happened(demo: Demo) -> None:
    exams = exams_in_the_lake(demo)
    months = dict(
        ask(
            demo,
            "SELECT exam_month, sum(n_exams) FROM stats.exam_volume WHERE exam_month LIKE '2025-%'"
            " AND modality_group = 'all' AND hospital_id <> 'all' GROUP BY ALL",
            zone="restricted",
        )
    )
    assert months == {month: sum(f"{exam.day:%Y-%m}" == month for exam in exams) for month in months}


@pytest.mark.parametrize("window_days", [30, 90])
def test_duplicates_are_the_true_ones(demo: Demo, window_days: int) -> None:
    """Against the truth of the province, as far as the recorded identities allow, hospital by hospital."""
    exams = exams_in_the_lake(demo)
    found = ask(
        demo,
        "SELECT sum(n_duplicates) FROM stats.duplicate_exam WHERE scope = 'any' AND exam_month = 'all'"
        f" AND modality_group = 'all' AND hospital_id <> 'all' AND window_days = {window_days}",
        zone="restricted",
    )
    first_day = {}
    for hospital, n_exams in ask(
        demo, "SELECT hospital_id, count(*) FROM core.exam WHERE study_at IS NOT NULL GROUP BY ALL"
    ):
        days = sorted(exam.day for exam in exams if exam.hospital_id == hospital)
        n_of_cd = n_exams - len(days)  # exams of the CD, all older
        place = math.ceil(n_exams * 0.05) - 1 - n_of_cd  # definitions.md, censoring guard
        first_day[hospital] = days[place] if place >= 0 else date.min
    pairs = duplicate_pairs(exams, window_days=window_days, person_of=attrgetter("recorded_person"))
    window = timedelta(days=window_days)
    expected = sum(pair.later.day >= first_day[pair.later.hospital_id] + window for pair in pairs)
    assert expected > 5
    assert found == [(expected,)]


def test_no_shifted_date_is_the_true_one(demo: Demo) -> None:
    [(n_true,)] = ask(demo, "SELECT count(*) FROM core.exam WHERE study_at >= DATE '2025-07-01'")
    [(n_exams,)] = ask(demo, "SELECT count(*) FROM core.exam")
    assert n_exams > 200
    assert n_true < n_exams / 2  # offsets go to the past; the last half-year keeps only those moved a little


def test_nothing_is_left_running(demo: Demo) -> None:
    for _ in range(50):
        left = [
            process
            for process in Path("/proc").glob("[0-9]*")
            if str(demo.settings.lake) in _command_line(process) and process.name != str(os.getpid())
        ]
        if not left:
            return
        time.sleep(0.1)
    pytest.fail(f"still running: {[_command_line(process) for process in left]}")


def _command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""
