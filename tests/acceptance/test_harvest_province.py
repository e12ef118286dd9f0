"""`radlake harvest province --once` and `radlake board`: three hospitals over sockets, one of which is away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from radlake.config import Settings
from radlake.synth.datasets import write_archive
from radlake.synth.pacs import PacsProcess
from radlake.synth.province import make_province
from support.lakes import settings_of, states

PROGRAM = [sys.executable, "-c", "from radlake.cli import main; main()"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    today = date.today()
    province = make_province(seed=5, hospitals=2, n_exams=16, start=today - timedelta(days=2), end=today)
    settings, nodes = settings_of(tmp_path_factory.mktemp("province") / "lake"), []
    archives = []
    for hospital in province.hospitals:
        archives.append(tmp_path_factory.mktemp("archive"))
        write_archive(province, hospital.hospital_id, archives[-1])
    with (
        PacsProcess("dimse", "--archive", str(archives[0]), "--aet", "HIS") as dimse,
        PacsProcess("dicomweb", "--archive", str(archives[1])) as web,
    ):
        nodes = [
            f"{{kind: dimse, ae_title: HIS, host: 127.0.0.1, port: {dimse.port}}}",
            f"{{kind: dicomweb, base_url: 'http://127.0.0.1:{web.port}'}}",
            "{kind: dimse, ae_title: AWAY, host: 127.0.0.1, port: 9}",
        ]
        lines = [
            f"- {{hospital_id: h{n}, name_zh: 样例, name_en: Sample, node: {node}}}" for n, node in enumerate(nodes)
        ]
        settings.hospitals.write_text("hospitals:\n" + "\n".join(lines) + "\n")
        yield settings


def run(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, "--lake", settings.lake, *words]
    environment = os.environ | {"RADLAKE_WORKERS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


def test_all_hospitals_have_their_turn_and_the_board_tells_how_far_they_are(lake: Settings) -> None:
    done = run(lake, "harvest", "province", "--once", "--at-once", "3")
    assert done.returncode == 1, done.stderr
    assert "h2: error: h2 cannot be reached" in done.stderr
    assert {state for state, _ in states(lake).values()} == {"complete"}
    assert {name.partition("/")[0] for name in states(lake)} == {"h0", "h1"}
    told = run(lake, "board", "--json")
    lines = {line["hospital_id"]: line for line in json.loads(told.stdout)}
    assert set(lines) == {"h0", "h1", "h2"}
    assert all(lines[name]["n_studies"] > 0 and lines[name]["n_waiting"] == 0 for name in ("h0", "h1"))
    assert lines["h0"]["p100_hours"] < 72
    published = run(lake, "sql", "--format", "json", "SELECT hospital_id, n_studies FROM ops.lag ORDER BY ALL")
    assert [row["n_studies"] for row in json.loads(published.stdout)] == [lines[f"h{n}"]["n_studies"] for n in range(3)]
