"""When a study that is pushed is closed: one row for each case that an administrator asks about."""

from __future__ import annotations

import pytest

from radlake.lake.pushed import Notice, StepStatus
from radlake.net.push import CloseRule
from radlake.receive.closing import Evidence, decide, seconds_to_next_question

RULE = CloseRule(quiet=15)
QUIET, SOON, NOW = 15.0, 0.1, 0.0
ONLY_QUIET = "closed by quiet time only"


def evidence(
    have: str,
    minutes: float,
    *notices: Notice,
    node: str | int | None = None,
) -> Evidence:
    listed = frozenset(node) if isinstance(node, str) else None
    return Evidence(
        have=frozenset(have),
        minutes_silent=minutes,
        notices=notices,
        listed=listed,
        n_listed=node if isinstance(node, int) else None,
    )


def told(listed: str, status: StepStatus = StepStatus.COMPLETED, uid: str = "9.1") -> Notice:
    return Notice(uid, "1.2", status, frozenset(listed))


def counted(n: int) -> Notice:
    return Notice("9.2", "1.2", StepStatus.COMPLETED, None, n)


RUNNING = Notice("9.3", "1.2", StepStatus.IN_PROGRESS)

CASES = {
    # what is known: closed?, expected, count, why nobody vouches
    "still coming": (evidence("ab", SOON), False, "", None, ONLY_QUIET),
    "quiet, nobody told": (evidence("ab", QUIET), True, "", None, ONLY_QUIET),
    "notice, all here": (evidence("ab", SOON, told("ab")), True, "ab", None, ""),
    "notice, all here, one is coming again": (evidence("ab", NOW, told("ab")), False, "ab", None, ""),
    "notice, one missing, still waiting": (evidence("a", SOON, told("ab")), False, "ab", None, ""),
    "notice, one missing, quiet": (evidence("a", QUIET, told("ab")), True, "ab", None, ""),
    "notice, nothing ever came, quiet": (evidence("", QUIET, told("ab")), True, "ab", None, ""),
    "more came than the notice tells": (
        evidence("abc", QUIET, told("ab")),
        True,
        "ab",
        None,
        "1 instances came that the notice does not tell of",
    ),
    "two steps, both done": (evidence("abc", SOON, told("ab"), told("c", uid="9.4")), True, "abc", None, ""),
    "two steps, one in progress": (
        evidence("ab", SOON, told("ab"), RUNNING),
        False,
        "ab",
        None,
        "procedure steps in progress: 1",
    ),
    "a step that never ends, quiet": (
        evidence("ab", QUIET, told("ab"), RUNNING),
        True,
        "ab",
        None,
        "procedure steps in progress: 1",
    ),
    "a step that was broken off": (
        evidence("a", SOON, told("a", StepStatus.DISCONTINUED)),
        True,
        "a",
        None,
        "",
    ),
    "a step that tells nothing": (evidence("a", QUIET, told("")), True, "", None, ONLY_QUIET),
    "count told, all here": (evidence("abc", SOON, counted(3)), True, "", 3, ""),
    "count told, one missing, quiet": (evidence("ab", QUIET, counted(3)), True, "", 3, ""),
    "count told, too many came": (
        evidence("abcd", QUIET, counted(3)),
        True,
        "",
        3,
        "1 instances came that the notice does not tell of",
    ),
    "the node lists the same": (evidence("ab", QUIET, node="ab"), True, "ab", None, ""),
    "the node lists more": (evidence("ab", QUIET, node="abc"), True, "abc", None, ""),
    "the node lists less": (
        evidence("ab", QUIET, node="a"),
        True,
        "a",
        None,
        "1 instances came that the node does not tell of",
    ),
    "the node does not know the study": (evidence("ab", QUIET, node=""), True, "", None, ONLY_QUIET),
    "the node counts the same": (evidence("ab", QUIET, node=2), True, "", 2, ""),
    "the node knows more than the notice": (evidence("abc", QUIET, told("ab"), node="abc"), True, "abc", None, ""),
    "the notice knows more than the node": (evidence("ab", QUIET, told("abc"), node="ab"), True, "abc", None, ""),
}


@pytest.mark.parametrize(("known", "is_closed", "expected", "n", "unverified"), CASES.values(), ids=CASES)
def test_a_study_is_closed_by_what_is_known(
    known: Evidence, is_closed: bool, expected: str, n: int | None, unverified: str
) -> None:
    verdict = decide(known, rule=RULE)
    assert (verdict.is_closed, verdict.expected, verdict.n_expected, verdict.unverified) == (
        is_closed,
        frozenset(expected),
        n,
        unverified,
    )


def test_the_node_is_asked_after_the_quiet_time_and_only_while_nobody_vouches() -> None:
    assert not decide(evidence("a", SOON), rule=RULE).asks_node
    assert decide(evidence("a", QUIET), rule=RULE).asks_node
    assert not decide(evidence("a", QUIET, told("a")), rule=RULE).asks_node
    assert not decide(evidence("a", QUIET), rule=CloseRule(count=False)).asks_node
    assert decide(evidence("ab", QUIET, told("a"), node="a"), rule=RULE).asks_node


def test_a_hospital_whose_notices_tell_a_part_is_not_taken_at_its_word() -> None:
    verdict = decide(evidence("ab", SOON, told("ab")), rule=CloseRule(notice=False))
    assert (verdict.is_closed, verdict.expected, verdict.unverified) == (False, frozenset("ab"), ONLY_QUIET)


def test_a_hospital_whose_node_is_not_to_be_asked_is_not_believed_by_it() -> None:
    assert decide(evidence("ab", QUIET, node="ab"), rule=CloseRule(count=False)).unverified == ONLY_QUIET


def test_questions_become_rare() -> None:
    assert [seconds_to_next_question(n, rule=RULE) / 60 for n in (1, 2, 3, 4, 5, 99)] == [30, 60, 120, 240, 360, 360]
