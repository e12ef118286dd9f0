"""A study that was pushed is complete only when somebody vouches that nothing else of it will come."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from radlake.lake.evidence import Settlement, StoredInstance, StudyEntry, StudyState
from radlake.lake.ledger import Ledger
from radlake.lake.pushed import Notice, PushRecords, StepStatus
from support.lakes import keyed_ledger

NOW = datetime(2026, 3, 1, 8, 30)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = keyed_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield opened
    opened.close()


def settled(
    ledger: Ledger, *uids: str, listed: frozenset[str] | None = None, found: frozenset[str] = frozenset()
) -> StudyEntry:
    """The study after these instances were stored."""
    ledger.discover("h1", "1.2", study_date=None, n_expected=None, now=NOW)
    ledger.begin("h1", "1.2", listed=listed, found=found | set(uids), now=NOW)
    (entry,) = ledger.settle(
        [Settlement("h1", "1.2", {uid: StoredInstance(f"d{uid}", f"s{uid}") for uid in uids})], now=NOW
    )
    return entry


def test_all_that_came_is_stored_and_nobody_vouches(ledger: Ledger) -> None:
    PushRecords(ledger).doubt("h1", "1.2", unverified="closed by quiet time only", now=NOW)
    entry = settled(ledger, "1", "2")
    assert (entry.state, entry.reason) == (StudyState.PARTIAL, "unverified: closed by quiet time only")


def test_the_doubt_outlives_another_run_that_settles_the_study(ledger: Ledger) -> None:
    PushRecords(ledger).doubt("h1", "1.2", unverified="closed by quiet time only", now=NOW)
    settled(ledger, "1")
    assert settled(ledger, "2").state is StudyState.PARTIAL


def test_a_list_of_the_node_that_has_everything_vouches(ledger: Ledger) -> None:
    PushRecords(ledger).doubt("h1", "1.2", unverified="closed by quiet time only", now=NOW)
    settled(ledger, "1")
    assert settled(ledger, "2", listed=frozenset("12")).state is StudyState.COMPLETE


def test_a_list_of_the_node_that_misses_what_came_vouches_for_nothing(ledger: Ledger) -> None:
    PushRecords(ledger).doubt("h1", "1.2", unverified="closed by quiet time only", now=NOW)
    settled(ledger, "1")
    entry = settled(ledger, "2", listed=frozenset("2"))
    assert (entry.state, entry.reason) == (StudyState.PARTIAL, "unverified: closed by quiet time only")


def test_what_somebody_told_of_and_did_not_come_is_missing(ledger: Ledger) -> None:
    PushRecords(ledger).doubt("h1", "1.2", unverified="", now=NOW)
    entry = settled(ledger, "1", found=frozenset("123"))
    assert (entry.state, entry.reason) == (StudyState.PARTIAL, "missing 2 of 3")


def test_a_notice_is_kept_in_its_newest_version(ledger: Ledger) -> None:
    records = PushRecords(ledger)
    records.tell("h1", Notice("9.1", "1.2", StepStatus.IN_PROGRESS), now=NOW)
    done = Notice("9.1", "1.2", StepStatus.COMPLETED, frozenset({"1", "2"}), None)
    records.tell("h1", done, now=NOW)
    records.tell("h1", Notice("9.2", "1.2", StepStatus.COMPLETED, None, 7), now=NOW)
    assert records.notices("h1", "1.2") == [done, Notice("9.2", "1.2", StepStatus.COMPLETED, None, 7)]
    assert records.notices("h2", "1.2") == []
    assert records.notice("h1", "9.1") == done
    assert records.doubtful(since=NOW) == [("h1", "1.2", NOW)]
    assert records.doubtful(since=NOW + timedelta(seconds=1)) == []
