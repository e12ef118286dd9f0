"""Work on a lake that stands, killed (SIGKILL) at every commit point and run again: as if nobody had killed it."""

from __future__ import annotations

import pytest

from support.kills.cohorts import COHORTS
from support.kills.matrix import Matrix
from support.kills.residency import RESIDENCY
from support.kills.upkeep import UPKEEP
from support.kills.withdrawals import WITHDRAWALS


@pytest.mark.parametrize("scenario", {**RESIDENCY, **UPKEEP, **COHORTS, **WITHDRAWALS})
def test_killed_anywhere_and_run_again(scenario: str, matrix: Matrix, capsys: pytest.CaptureFixture[str]):
    with capsys.disabled():
        told = matrix.kill_everywhere(scenario)
    assert told
    assert {kill: problem for kill, problem in told.items() if problem} == {}
