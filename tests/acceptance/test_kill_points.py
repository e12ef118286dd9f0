"""The kill matrix leaves no commit point out, and its uninterrupted runs are what a kill can be compared with."""

from __future__ import annotations

import pytest

from radlake.commit_points import POINTS
from support.kills.commands import SCENARIOS
from support.kills.matrix import Matrix


def test_a_scenario_comes_by_every_commit_point(matrix: Matrix):
    """Those that it comes by are killed in test_kills_of_*.py."""
    reached = {point for scenario in SCENARIOS for point in matrix.run_whole(scenario)}
    assert set(POINTS) - reached == set()


@pytest.mark.parametrize("scenario", ["folder", "node", "together"])
def test_the_archive_is_a_fair_test(scenario: str, matrix: Matrix):
    matrix.run_whole(scenario)
    whole = matrix.whole[scenario]
    assert {state for state, _ in whole["states"].values()} >= {"complete", "partial"}
    assert whole["held"]
    assert whole["leads back"]
    assert (whole["spool"], whole["staged"]) == ({}, {})
    assert matrix.counts[scenario]["batch.staged"] >= 2


def test_what_is_pushed_ends_in_each_state_that_its_notices_give(matrix: Matrix):
    matrix.run_whole("push")
    states = sorted(matrix.whole["push"]["states"].values())
    assert states == [
        ("complete", ""),
        ("partial", "missing 1 of 2"),
        ("partial", "unverified: closed by quiet time only"),
    ]


def test_a_backfill_has_several_windows_and_all_are_done(matrix: Matrix):
    matrix.run_whole("backfill")
    windows = matrix.whole["backfill"]["windows"]
    assert len(windows) >= 2
    assert all(is_done for _, is_done, _ in windows)
    assert [row for row in matrix.whole["backfill"]["coverage"] if any(row)]


def test_what_a_hospital_changed_and_lost_is_told_and_closed_again(matrix: Matrix):
    for scenario, reasons in (
        ("fetch", {"", "set aside: source_changed x1", "set aside: source_gone x1"}),
        ("fetch-back", {""}),
    ):
        matrix.run_whole(scenario)
        assert {reason for _, reason in matrix.whole[scenario]["states"].values()} == reasons
        assert matrix.whole[scenario]["cached"]


def test_the_other_commands_leave_something_to_compare(matrix: Matrix):
    for scenario in ("certify", "board", "build", "expire"):
        matrix.run_whole(scenario)
    assert len(matrix.whole["certify"]["files"]) == len(matrix.whole["certify"]["rows"]) == 4
    assert matrix.whole["certify"]["problems"] == []
    assert len(matrix.whole["board"]["lag"]) == 4
    assert len(matrix.whole["build"]["recent"]) == len(matrix.whole["build"]["exams"]) == 4
    assert [is_finished for *_, is_finished in matrix.whole["expire"]["stones"]] == [True] * 2
    assert {state for state, _ in matrix.whole["expire"]["states"].values()} == {"complete", "withdrawn"}
