"""Runs of many small hospitals that share a batch, the ledger and the ops tables' commits.

A batch has a price that does not depend on its size: the gate, a commit of each table, a month folder for each of
them. A hospital that brings 60 studies a night pays it for 60. Runs that are given a `Together` leave what their
workers made here; when enough has come, one batch is published for all of them, while the next hospitals are asked.
Each harvest stays held until its batch is in the ledger, so that nobody else begins the same hospital meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from radlake import telemetry
from radlake.config import Settings
from radlake.deidentify import load_profile
from radlake.ingest.ops import Finished, publish_ops
from radlake.ingest.publish import Part, publish_together
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.machine import utc_now
from radlake.referee import Policy
from radlake.vault.lake_key import open_ledger

if TYPE_CHECKING:
    from radlake.ingest.running import Run

__all__ = ["Together", "together"]

_STUDIES = 2_000
_STUDIES_A_SAMPLE = 500  # the referee sees as large a share as of one hospital's full batch
_HOSPITALS = 100
_HOSPITALS_POSTGRES = 4  # each holds a connection of the pool


@dataclass(frozen=True)
class _Waiting:
    """A run whose hospital has been asked; `held` is its turn, given back when its batch is in."""

    run: Run
    started_at: datetime
    error: BaseException | None
    held: ExitStack

    @property
    def n_studies(self) -> int:
        return len(self.run.outcomes) + len(self.run.running)


class Together:
    """See `together`."""

    def __init__(self, settings: Settings, *, ledger: Ledger) -> None:
        self.lake = Lake.from_settings(settings)
        self.ledger = ledger
        self._settings = settings
        self._most = _HOSPITALS if settings.ledger.startswith("sqlite") else _HOSPITALS_POSTGRES
        self._waiting: list[_Waiting] = []
        self._publishing: Future[None] | None = None
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix="publish")

    def take(self, run: Run, *, started_at: datetime, error: BaseException | None, held: ExitStack) -> None:
        """Take over a run that has asked for everything, and publish when enough has come."""
        self._waiting.append(_Waiting(run, started_at, error, held))
        if len(self._waiting) >= self._most or sum(one.n_studies for one in self._waiting) >= _STUDIES:
            self.publish()

    def publish(self) -> None:
        """Publish what has come, in the background; waits for the batch before it.

        Raises
        ------
        PrivacyError, TransientError, PermanentError
            What publishing the batch before it came to.
        """
        waiting, self._waiting = self._waiting, []
        try:
            for one in waiting:
                one.run.collect(at_most=0)
            self.wait()
        except BaseException:
            _give_back(waiting)
            raise
        if waiting:
            self._publishing = self._publisher.submit(self._publish, waiting)

    def wait(self) -> None:
        """Until the last batch is published."""
        publishing, self._publishing = self._publishing, None
        if publishing is not None:
            publishing.result()

    def close(self) -> None:
        """Give back every turn; what was not published is done again by the next run."""
        self._publisher.shutdown()
        _give_back(self._waiting)

    def _publish(self, waiting: list[_Waiting]) -> None:
        try:
            given = [(one.run, one.run.take_outcomes()) for one in waiting]
            given = [(run, outcomes) for run, outcomes in given if outcomes]
            if given:
                n_studies = sum(len(outcomes) for _, outcomes in given)
                with telemetry.span("publish", duration="radlake.publish.duration", n_studies=n_studies):
                    published = publish_together(
                        [Part(outcomes, run.troubles) for run, outcomes in given],
                        lake=self.lake,
                        ledger=self.ledger,
                        quarantine=given[0][0].quarantine,
                        now=utc_now(),
                        policy=Policy.of_profile(load_profile(self._settings.profile)),
                        sample=self._settings.verify_sample * -(-n_studies // _STUDIES_A_SAMPLE),
                    )
                for (run, outcomes), publication in zip(given, published, strict=True):
                    run.count(outcomes, publication)
            finished = [Finished(one.run.hospital, one.run.summed_up(one.error), one.started_at) for one in waiting]
            publish_ops(self.lake, self.ledger, finished, now=utc_now())
        finally:
            _give_back(waiting)


def _give_back(waiting: list[_Waiting]) -> None:
    for one in waiting:
        one.held.close()


@contextmanager
def together(settings: Settings) -> Iterator[Together]:
    """Let the harvests inside publish together; their summaries are whole when the block has ended.

    Raises
    ------
    PrivacyError, TransientError, PermanentError
        If a batch cannot be published: nothing of it is, and its studies are done again by the next run.
    """
    settings.prepare_restricted()
    ledger = open_ledger(settings)
    try:
        shared = Together(settings, ledger=ledger)
        try:
            yield shared
            shared.publish()
            shared.wait()
        finally:
            shared.close()
    finally:
        ledger.close()
