"""Whose turn it is: a live harvest before a backfill, and never two at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from radlake.errors import LedgerBusy
from radlake.lake.ledger import Claim, Ledger
from radlake.lake.turns import backfill_turn, is_wanted, live_turn
from support.postgres import postgres, postgres_cluster

__all__ = ["postgres", "postgres_cluster"]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    is_file = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'ledger.db'}" if is_file else request.getfixturevalue("postgres")
    with closing(Ledger(url)) as one:
        yield one


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_live_harvest_waits_until_the_backfill_makes_way(ledger: Ledger) -> None:
    order: list[str] = []

    def live() -> None:
        with live_turn(ledger, "h1"):
            order.append("live")
            assert not is_wanted(ledger, "h1"), "its wish is fulfilled"

    with backfill_turn(ledger, "h1"):
        assert not is_wanted(ledger, "h1")
        waiting = threading.Thread(target=live)
        waiting.start()
        wait_for(lambda: is_wanted(ledger, "h1"))
        assert not is_wanted(ledger, "h2")
        order.append("backfill")
    with pytest.raises(LedgerBusy), backfill_turn(ledger, "h1"):
        order.append("a backfill that overtakes")
    waiting.join(10)
    assert order == ["backfill", "live"]
    with backfill_turn(ledger, "h1"):
        pass


def test_a_live_harvest_does_not_wait_for_another_live_one(ledger: Ledger) -> None:
    began = time.monotonic()
    with live_turn(ledger, "h1"), pytest.raises(LedgerBusy), live_turn(ledger, "h1"):
        pass
    assert time.monotonic() - began < 5


def test_a_live_harvest_does_not_wait_for_ever(ledger: Ledger) -> None:
    with backfill_turn(ledger, "h1"), pytest.raises(LedgerBusy), live_turn(ledger, "h1", patience=0.3):
        pass
    assert not is_wanted(ledger, "h1"), "who gave up wishes nothing"


def test_a_shared_claim_is_held_by_several(ledger: Ledger) -> None:
    with ledger.claim("h1", Claim.WISH, shared=True) as one, ledger.claim("h1", Claim.WISH, shared=True) as two:
        assert (one, two) == (True, True)
        with ledger.claim("h1", Claim.WISH) as alone:
            assert not alone
        assert is_wanted(ledger, "h1")
    assert not is_wanted(ledger, "h1")
