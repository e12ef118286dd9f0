"""Whose turn it is at a hospital: a live harvest goes before a backfill.

A live harvest that finds a backfill at work enters a wish and waits a bounded time; the backfill asks after each study
whether somebody waits (`is_wanted`), ends its turn, and goes on afterwards. Wishes are claims of a process (see
`Ledger.claim`): one that is killed leaves no wish behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from radlake.errors import LedgerBusy
from radlake.lake.ledger import Claim, Ledger

__all__ = ["PATIENCE_SECONDS", "Turn", "backfill_turn", "is_wanted", "live_turn"]

PATIENCE_SECONDS = 900.0  # the backfill ends its study and publishes; a large CT over a slow line takes minutes
_POLL_SECONDS = 0.2

Turn = Callable[[Ledger, str], AbstractContextManager[None]]  # how to hold the harvest of a hospital


@contextmanager
def live_turn(ledger: Ledger, hospital_id: str, *, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Hold the harvest of a hospital; a backfill makes way.

    Parameters
    ----------
    patience : float
        Seconds to wait for a backfill.

    Raises
    ------
    LedgerBusy
        If another live harvest has it, or the backfill did not make way in time.
    """
    deadline = time.monotonic() + patience
    with ExitStack() as turn:
        with ExitStack() as wishing:
            has_wish = False
            while True:
                is_backfill = _is_backfill_running(ledger, hospital_id)
                if _taken(turn, ledger, hospital_id):
                    break
                is_backfill = is_backfill or _is_backfill_running(ledger, hospital_id)
                if not is_backfill or time.monotonic() > deadline:
                    raise LedgerBusy(hospital=hospital_id)
                has_wish = has_wish or wishing.enter_context(ledger.claim(hospital_id, Claim.WISH, shared=True))
                time.sleep(_POLL_SECONDS)
        yield


@contextmanager
def backfill_turn(ledger: Ledger, hospital_id: str) -> Iterator[None]:
    """Hold the harvest of a hospital for a backfill, for as long as nobody else wants it.

    Raises
    ------
    LedgerBusy
        If a live harvest has it or waits for it: try again later.
    """
    with ledger.claim(hospital_id, Claim.BACKFILL) as is_marked, ledger.claim(hospital_id) as is_held:
        if not is_marked or not is_held or is_wanted(ledger, hospital_id):
            raise LedgerBusy(hospital=hospital_id)
        yield


def is_wanted(ledger: Ledger, hospital_id: str) -> bool:
    """Whether a live harvest waits for this hospital."""
    with ledger.claim(hospital_id, Claim.WISH) as is_free:
        return not is_free


def _is_backfill_running(ledger: Ledger, hospital_id: str) -> bool:
    with ledger.claim(hospital_id, Claim.BACKFILL, shared=True) as is_free:
        return not is_free


def _taken(turn: ExitStack, ledger: Ledger, hospital_id: str) -> bool:
    """Whether the harvest of the hospital is held by `turn` now."""
    with ExitStack() as attempt:
        if not attempt.enter_context(ledger.claim(hospital_id)):
            return False
        turn.push(attempt.pop_all())
        return True
