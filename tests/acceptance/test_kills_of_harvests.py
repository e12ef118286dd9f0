"""Every way into the lake, killed (SIGKILL) at every commit point and run again: as if nobody had killed it."""

from __future__ import annotations

import pytest

from support.kills.backfills import BACKFILLS
from support.kills.harvests import HARVESTS
from support.kills.matrix import Matrix
from support.kills.pushes import PUSHES


@pytest.mark.parametrize("scenario", {**HARVESTS, **PUSHES, **BACKFILLS})
def test_killed_anywhere_and_run_again(scenario: str, matrix: Matrix, capsys: pytest.CaptureFixture[str]):
    with capsys.disabled():
        told = matrix.kill_everywhere(scenario)
    assert told
    assert {kill: problem for kill, problem in told.items() if problem} == {}
