"""Kill a command at each commit point that it comes by, run it again, and compare with an uninterrupted run.

Each point is killed at one occurrence, which RADLAKE_TEST_SEED draws; with RADLAKE_KILLS=all at its first, its middle
and the drawn one.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from radlake.synth.pacs import PacsProcess
from support.kills import commands
from support.kills.archive import write_archive, zip_last_study
from support.kills.commands import SCENARIOS
from support.warm import Warm

__all__ = ["Matrix", "kill_matrix"]

SEED = int(os.environ.get("RADLAKE_TEST_SEED", "1"))
ALL = os.environ.get("RADLAKE_KILLS") == "all"
AT_ONCE = 2


@dataclass(frozen=True)
class Matrix:
    """What is shared by all kills: warm processes, archives, and what uninterrupted runs came by and left.

    Archives and uninterrupted runs are below `root`: every process of a test run uses them, and one makes them.
    """

    root: Path
    given: dict[str, Any]
    warm: SimpleQueue[Warm]
    counts: dict[str, Counter[str]]
    whole: dict[str, Any]

    def run_whole(self, scenario: str) -> Counter[str]:
        """Run it uninterrupted, once: how often it came by each point."""
        if scenario not in self.counts:
            kept = self.root / f"{scenario}.pickle"
            with _alone(kept):
                if not kept.exists():
                    kept.write_bytes(pickle.dumps(self._run_whole(scenario)))
            self.counts[scenario], self.whole[scenario] = pickle.loads(kept.read_bytes())
        return self.counts[scenario]

    def _run_whole(self, scenario: str) -> tuple[Counter[str], Any]:
        before, folder = self.root / f"{scenario}.before", self.root / f"{scenario}.whole"
        before.mkdir()
        warm = self.warm.get()
        try:
            warm.value(SCENARIOS[scenario].prepare, before, self.given)
            shutil.copytree(before, folder)
            counts = warm.value(commands.counted, scenario, folder, self.given)
            return counts, warm.value(commands.look, scenario, folder)
        finally:
            self.warm.put(warm)

    def kill_everywhere(self, scenario: str) -> dict[tuple[str, int], str]:
        """What is wrong after a kill at a point and occurrence, or nothing; the figure is printed."""
        counts = self.run_whole(scenario)
        kills = [(point, nth) for point, n in sorted(counts.items()) for nth in occurrences(scenario, point, n)]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            told = dict(zip(kills, threads.map(lambda kill: self._kill(scenario, *kill), kills), strict=True))
        n_equal = sum(not problem for problem in told.values())
        print(f"\n{scenario}: {len(counts)} commit points, {len(kills)} kills, {n_equal} equal (seed {SEED})")
        return told

    def _kill(self, scenario: str, point: str, nth: int) -> str:
        folder = self.root / f"{scenario}-{point}-{nth}"
        shutil.copytree(self.root / f"{scenario}.before", folder)
        warm = self.warm.get()
        try:
            ended = warm.call(commands.killed, scenario, folder, self.given, point, nth)
            if ended.exit_code != -9:
                return f"it was not killed: {ended.exit_code} {ended.error}"
            again = warm.call(commands.run_again, scenario, folder, self.given)
            if again.exit_code != 0:
                return again.error
            whole = self.whole[scenario]
            return ", ".join(f"{part} differs" for part in whole if again.value[part] != whole[part])
        finally:
            self.warm.put(warm)
            shutil.rmtree(folder)


def occurrences(scenario: str, point: str, n: int) -> list[int]:
    """A drawn one; or the first, the middle and that."""
    drawn = random.Random(f"{SEED} {scenario} {point}").randint(1, n)
    return sorted({1, (n + 1) // 2, drawn}) if ALL else [drawn]


@contextmanager
def kill_matrix(root: Path) -> Iterator[Matrix]:
    """Archives, a simulated PACS and warm processes, as long as the block runs."""
    archive, folder = root / "archive", root / "folder"
    root.mkdir(exist_ok=True)
    with _alone(folder):
        if not folder.exists():
            write_archive(archive)
            shutil.copytree(archive, folder)
            zip_last_study(folder)
    with (
        PacsProcess("dimse", "--archive", str(archive), "--aet", "HIS") as pacs,
        Warm(commands.warm_up) as first,
        Warm(commands.warm_up) as second,
    ):
        given = {"archive": str(archive), "folder": str(folder), "port": pacs.port}
        queue: SimpleQueue[Warm] = SimpleQueue()
        for warm in (first, second):
            queue.put(warm)
        yield Matrix(root, given, queue, {}, {})


@contextmanager
def _alone(made: Path) -> Iterator[None]:
    """No other process of the test run makes the same meanwhile."""
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
