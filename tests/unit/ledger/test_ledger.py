"""The ledger decides states: complete means complete."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radlake.errors import LedgerBusy
from radlake.lake.evidence import (
    OFFLINE,
    SetAside,
    Settlement,
    StoredInstance,
    StudyEntry,
    StudyState,
    state_from_evidence,
)
from radlake.lake.ledger import Ledger
from support.lakes import keyed_ledger

NOW = datetime(2026, 3, 1, 8, 0)
SAME = StoredInstance("d", "s")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return keyed_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


def entry(*, expected: str | None = None, count: int | None = None, stored: str = "", aside: str = "") -> StudyEntry:
    return StudyEntry(
        hospital_id="h1",
        study_uid="1.2",
        state=StudyState.RETRIEVING,
        n_expected=count if count is not None else (len(expected) if expected is not None else None),
        expected=None if expected is None else frozenset(expected),
        stored=dict.fromkeys(stored, SAME),
        set_aside=tuple(SetAside(f"q{uid}", uid, "pixel_risk") for uid in aside),
        attempts=1,
    )


@pytest.mark.parametrize(
    ("evidence", "state"),
    [
        pytest.param(entry(expected="abc", stored="abc"), StudyState.COMPLETE, id="all stored"),
        pytest.param(entry(expected="abc", stored="ab"), StudyState.PARTIAL, id="one missing"),
        pytest.param(entry(expected="abc"), StudyState.PARTIAL, id="nothing came"),
        pytest.param(entry(expected="abc", stored="ab", aside="c"), StudyState.PARTIAL, id="one set aside"),
        pytest.param(
            entry(expected="abc", stored="abc", aside="a"), StudyState.PARTIAL, id="a conflicting twin set aside"
        ),
        pytest.param(entry(expected="ab", aside="ab"), StudyState.QUARANTINED, id="all set aside"),
        pytest.param(entry(count=2, stored="ab"), StudyState.COMPLETE, id="count reached"),
        pytest.param(entry(count=3, stored="ab"), StudyState.PARTIAL, id="count not reached"),
        pytest.param(entry(stored="ab"), StudyState.PARTIAL, id="neither list nor count"),
        pytest.param(
            replace(entry(expected="abc", stored="a"), trouble=f"{OFFLINE}RetrieveFailed"),
            StudyState.OFFLINE,
            id="the rest is on tape",
        ),
        pytest.param(
            replace(entry(expected="a", stored="a"), trouble=f"{OFFLINE}RetrieveFailed"),
            StudyState.COMPLETE,
            id="it was on tape, and is here",
        ),
        pytest.param(
            entry(expected="ab", count=3, stored="ab"), StudyState.PARTIAL, id="folder holds less than the node said"
        ),
    ],
)
def test_state_follows_from_evidence(evidence: StudyEntry, state: StudyState) -> None:
    decided, reason = state_from_evidence(evidence)
    assert decided is state
    assert bool(reason) is (state is not StudyState.COMPLETE)


@given(
    expected=st.frozensets(st.sampled_from("abcdef")),
    stored=st.frozensets(st.sampled_from("abcdefgh")),
    aside=st.frozensets(st.sampled_from("abcdefgh")),
)
def test_complete_never_lies(expected: frozenset[str], stored: frozenset[str], aside: frozenset[str]) -> None:
    state, _ = state_from_evidence(entry(expected="".join(expected), stored="".join(stored), aside="".join(aside)))
    assert (state is StudyState.COMPLETE) == (bool(expected) and expected <= stored and not aside)


def settle(ledger: Ledger, stored: str, aside: str = "", resolved: tuple[str, ...] = ()) -> StudyEntry:
    item = Settlement(
        "h1",
        "1.2",
        stored=dict.fromkeys(stored, SAME),
        set_aside=tuple(SetAside(f"q{uid}", uid, "pixel_risk") for uid in aside),
        resolved=resolved,
    )
    return ledger.settle([item], now=NOW)[0]


def test_a_study_grows_to_complete_over_two_runs(ledger: Ledger) -> None:
    ledger.discover("h1", "1.2", study_date=date(2026, 3, 1), n_expected=None, now=NOW)
    opened = ledger.begin("h1", "1.2", listed=frozenset("abc"), now=NOW)
    assert (opened.state, opened.attempts, opened.missing) == (StudyState.RETRIEVING, 1, frozenset("abc"))
    assert settle(ledger, "ab").state is StudyState.PARTIAL
    assert ledger.begin("h1", "1.2", listed=frozenset("abc"), now=NOW).missing == frozenset("c")
    done = settle(ledger, "c")
    assert (done.state, done.reason, done.completed_at) == (StudyState.COMPLETE, "", NOW)
    assert set(done.stored) == set("abc")


def test_settling_twice_changes_nothing(ledger: Ledger) -> None:
    ledger.discover("h1", "1.2", study_date=None, n_expected=2, now=NOW)
    ledger.begin("h1", "1.2", now=NOW)
    assert settle(ledger, "ab", aside="c") == settle(ledger, "ab", aside="c")


def test_a_late_series_reopens_a_complete_study(ledger: Ledger) -> None:
    ledger.discover("h1", "1.2", study_date=None, n_expected=1, now=NOW)
    ledger.begin("h1", "1.2", listed=frozenset("a"), now=NOW)
    assert settle(ledger, "a").state is StudyState.COMPLETE
    ledger.discover("h1", "1.2", study_date=None, n_expected=2, now=NOW)
    assert ledger.begin("h1", "1.2", listed=frozenset("ab"), now=NOW).missing == frozenset("b")
    assert settle(ledger, "").state is StudyState.PARTIAL


def test_an_instance_the_node_forgets_is_still_expected(ledger: Ledger) -> None:
    ledger.discover("h1", "1.2", study_date=None, n_expected=None, now=NOW)
    ledger.begin("h1", "1.2", listed=frozenset("ab"), now=NOW)
    assert ledger.begin("h1", "1.2", listed=frozenset("a"), now=NOW).missing == frozenset("ab")


def test_replay_resolves_what_was_set_aside(ledger: Ledger) -> None:
    ledger.discover("h1", "1.2", study_date=None, n_expected=None, now=NOW)
    ledger.begin("h1", "1.2", found=frozenset("ab"), now=NOW)
    assert settle(ledger, "a", aside="b").state is StudyState.PARTIAL
    assert settle(ledger, "b", resolved=("qb",)).state is StudyState.COMPLETE


def _hold(path: Path, held: object, release: object) -> None:
    with Ledger(f"sqlite:///{path}").lock("h1"):
        held.set()  # type: ignore[attr-defined]
        release.wait(30)  # type: ignore[attr-defined]


def test_one_harvest_of_a_hospital_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "ledger.db", held, release))
    other.start()
    try:
        assert held.wait(30)
        ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
        with pytest.raises(LedgerBusy), ledger.lock("h1"):
            pass
        with ledger.lock("h2"):
            pass
    finally:
        release.set()
        other.join(30)
