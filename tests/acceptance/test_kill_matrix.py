"""Killed (SIGKILL) at every commit point and run again, every command leaves what an uninterrupted run leaves.

Each point is killed at one occurrence, which RADLAKE_TEST_SEED draws; with RADLAKE_KILLS=all at its first, its middle
and the drawn one. The figure that is printed at the end counts kills and equal results.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from radlake.commit_points import POINTS
from radlake.synth.pacs import PacsProcess
from support import kill_scenarios
from support.kill_scenarios import SCENARIOS
from support.need import free_port
from support.warm import Warm

SEED = int(os.environ.get("RADLAKE_TEST_SEED", "1"))
ALL = os.environ.get("RADLAKE_KILLS") == "all"
AT_ONCE = 2
HARVESTS = ("folder", "node")
NOT_KILLED_YET = {  # add a scenario, or a test that names the point, and take it out here
    "backfill.planned",
    "certificate.entered",
    "certificate.published",
    "certificate.written",
    "ops.ops.lag",
    "push.ingested",
    "push.told",
    "residency.reopened",
}


@dataclass(frozen=True)
class Matrix:
    """What is shared by all kills: warm processes, archives, and what uninterrupted runs came by and left."""

    root: Path
    given: dict[str, Any]
    warm: SimpleQueue[Warm]
    counts: dict[str, Counter[str]]
    whole: dict[str, Any]

    def run_whole(self, scenario: str) -> Counter[str]:
        """Run it uninterrupted, once: how often it came by each point."""
        if scenario not in self.counts:
            before, folder = self.root / f"{scenario}.before", self.root / f"{scenario}.whole"
            before.mkdir()
            warm = self.warm.get()
            try:
                warm.value(SCENARIOS[scenario].prepare, before, self.given)
                shutil.copytree(before, folder)
                self.counts[scenario] = warm.value(kill_scenarios.counted, scenario, folder, self.given)
                self.whole[scenario] = warm.value(kill_scenarios.look, scenario, folder)
            finally:
                self.warm.put(warm)
        return self.counts[scenario]

    def kill(self, scenario: str, point: str, nth: int) -> str:
        """Kill at one occurrence, run again, compare; what is wrong, or nothing."""
        folder = self.root / f"{scenario}-{point}-{nth}"
        shutil.copytree(self.root / f"{scenario}.before", folder)
        warm = self.warm.get()
        try:
            ended = warm.call(kill_scenarios.killed, scenario, folder, self.given, point, nth)
            if ended.exit_code != -9:
                return f"it was not killed: {ended.exit_code} {ended.error}"
            again = warm.call(kill_scenarios.run_again, scenario, folder, self.given)
            if again.exit_code != 0:
                return again.error
            whole = self.whole[scenario]
            return ", ".join(f"{part} differs" for part in whole if again.value[part] != whole[part])
        finally:
            self.warm.put(warm)
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    root = tmp_path_factory.mktemp("kill")
    kill_scenarios.write_archive(root / "archive")
    shutil.copytree(root / "archive", root / "folder")
    kill_scenarios.zip_last_study(root / "folder")
    with (
        PacsProcess("dimse", "--archive", str(root / "archive"), "--aet", "HIS") as pacs,
        Warm(kill_scenarios.warm_up) as first,
        Warm(kill_scenarios.warm_up) as second,
    ):
        given = {"archive": str(root / "folder"), "port": pacs.port, "retrieve": "get", "move_port": free_port()}
        queue: SimpleQueue[Warm] = SimpleQueue()
        for warm in (first, second):
            queue.put(warm)
        yield Matrix(root, given, queue, {}, {})


def occurrences(scenario: str, point: str, n: int) -> list[int]:
    """A drawn one; or the first, the middle and that."""
    drawn = random.Random(f"{SEED} {scenario} {point}").randint(1, n)
    return sorted({1, (n + 1) // 2, drawn}) if ALL else [drawn]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_anywhere_and_run_again(scenario: str, matrix: Matrix, capsys: pytest.CaptureFixture[str]):
    counts = matrix.run_whole(scenario)
    kills = [(point, nth) for point, n in sorted(counts.items()) for nth in occurrences(scenario, point, n)]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        told = dict(zip(kills, threads.map(lambda kill: matrix.kill(scenario, *kill), kills), strict=True))
    wrong = {kill: problem for kill, problem in told.items() if problem}
    with capsys.disabled():
        n_points, n_equal = len(counts), len(kills) - len(wrong)
        print(f"\n{scenario}: {n_points} commit points, {len(kills)} kills, {n_equal} equal (seed {SEED})")
    assert kills
    assert wrong == {}


def test_every_commit_point_is_come_by(matrix: Matrix):
    """A point that no scenario reaches must be killed by a test of its own, which names it."""
    here = Path(__file__)
    others = set(here.parents[1].rglob("*.py")) - {here, Path(kill_scenarios.__file__)}
    elsewhere = "".join(path.read_text(encoding="utf-8") for path in others if path.name != "test_commit_points.py")
    reached = {point for scenario in SCENARIOS for point in matrix.run_whole(scenario)}
    assert {point for point in POINTS if point not in reached and f'"{point}"' not in elsewhere} <= NOT_KILLED_YET


def test_the_archive_is_a_fair_test(matrix: Matrix):
    for scenario in HARVESTS:
        matrix.run_whole(scenario)
        whole = matrix.whole[scenario]
        assert {state for state, _ in whole["states"].values()} >= {"complete", "partial"}
        assert whole["held"]
        assert whole["leads back"]
        assert (whole["spool"], whole["staged"]) == ({}, {})
        assert matrix.counts[scenario]["batch.staged"] >= 2
