"""Pixels that are fetched from a hospital: one run for each wish, which goes on when nobody waits for it."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from radlake.config import Settings
from radlake.web.dicomweb import fetches
from radlake.web.dicomweb.refusals import TryLater

# It waits for a file, notes that it ran, and tells what it was asked for.
_PROGRAM = """
import json, pathlib, sys, time
folder, *uids = sys.argv[1:]
with open(f"{folder}/runs", "a") as runs: runs.write("x")
while not pathlib.Path(folder, "go").exists(): time.sleep(0.01)
print(json.dumps({"series": [{"uid": uid} for uid in uids]}))
"""


def fetches_of(folder: Path, *, seconds: float) -> fetches.Fetches:
    found = fetches.Fetches(Settings(lake=str(folder)), seconds=seconds)
    found._command = [sys.executable, "-c", _PROGRAM, str(folder)]
    return found


def n_runs(folder: Path) -> int:
    return len((folder / "runs").read_text()) if (folder / "runs").exists() else 0


def test_a_run_goes_on_when_who_waited_gave_up(tmp_path: Path) -> None:
    one = fetches_of(tmp_path, seconds=0.2)
    for _ in range(3):
        with pytest.raises(TryLater):
            one.outcomes(["1.2"])
    (tmp_path / "go").touch()
    one._seconds = 60
    assert one.outcomes(["1.2"]) == [{"uid": "1.2"}]
    assert n_runs(tmp_path) == 1


def test_few_run_and_few_wait(tmp_path: Path) -> None:
    one = fetches_of(tmp_path, seconds=60)
    answers: list[object] = []

    def ask(uid: str) -> None:
        try:
            answers.append(one.outcomes([uid]))
        except TryLater:
            answers.append("later")

    threads = [threading.Thread(target=ask, args=(f"1.{n}",)) for n in range(6)]
    threads += [threading.Thread(target=ask, args=("1.0",)) for _ in range(10)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 30
    while answers.count("later") < 8 and time.monotonic() < until:
        time.sleep(0.01)
    (tmp_path / "go").touch()
    for thread in threads:
        thread.join(60)
    assert n_runs(tmp_path) == 4
    assert len(answers) == 16
    assert answers.count("later") == 8


def test_an_answer_that_is_none_is_told_as_later(tmp_path: Path) -> None:
    one = fetches.Fetches(Settings(lake=str(tmp_path)), seconds=60)
    one._command = [sys.executable, "-c", "print('no lake')"]
    with pytest.raises(TryLater):
        one.outcomes(["1.2"])
    assert one._runs == {}
