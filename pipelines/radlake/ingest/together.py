"""Runs of many small hospitals that share a batch, the ledger and the ops tables' commits.

A batch has a price that does not depend on its size: the gate, a commit of each table, a month folder for each of
them. A hospital that brings 60 studies a night pays it for 60. Runs that are given a `Together` leave what their
workers made here; when enough has come, one batch is published for all of them, while the next hospitals are asked.
Each harvest stays held until its batch is in the ledger, so that nobody else begins the same hospital meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING

from radlake import log, telemetry
from radlake.config import Settings
from radlake.deidentify import load_profile
from radlake.errors import PrivacyError, RadlakeError
from radlake.ingest.ops import Finished, publish_ops
from radlake.ingest.publish import Part, publish_together
from radlake.ingest.summary import HarvestSummary
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.machine import utc_now
from radlake.referee import Policy
from radlake.vault.lake_key import open_ledger

if TYPE_CHECKING:
    from radlake.ingest.running import Run

__all__ = ["Tell", "Together", "together"]

_STUDIES = 2_000
_INSTANCES = 40_000
_STUDIES_A_SAMPLE = 500  # the referee sees as large a share as of one hospital's full batch
_HOSPITALS = 100
_HOSPITALS_POSTGRES = 16  # each holds a connection until its batch is in; the server has 100 if nobody raised it
_LONGEST_WAIT = 60.0  # seconds that a run waits for others

Tell = Callable[[HarvestSummary, BaseException | None], None]


@dataclass(eq=False)
class _Waiting:
    """A run whose hospital has been asked; `held` is its turn, given back when its batch is in."""

    run: Run
    started_at: datetime
    error: BaseException | None
    held: ExitStack
    since: float

    @property
    def n_studies(self) -> int:
        return len(self.run.outcomes) + len(self.run.running)


class Together:
    """See `together`."""

    def __init__(self, settings: Settings, *, ledger: Ledger, tell: Tell) -> None:
        self.lake = Lake.from_settings(settings)
        self.ledger = ledger
        self._settings = settings
        self._tell = tell
        self._most = _HOSPITALS if settings.ledger.startswith("sqlite") else _HOSPITALS_POSTGRES
        self._taking = threading.Lock()  # `_waiting`
        self._handing_over = threading.Lock()  # `_publishing`: one batch is published, and at most one more waits
        self._waiting: list[_Waiting] = []
        self._publishing: Future[None] | None = None
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix="publish")

    def take(self, run: Run, *, started_at: datetime, error: BaseException | None, held: ExitStack) -> None:
        """Take over a run that has asked for everything; when enough has come, publish, after the batch before it."""
        with self._taking:
            self._waiting.append(_Waiting(run, started_at, error, held, monotonic()))
            is_full = (
                len(self._waiting) >= self._most
                or sum(one.n_studies for one in self._waiting) >= _STUDIES
                or sum(one.run.n_instances for one in self._waiting) >= _INSTANCES
            )
        if is_full:
            self.publish()

    def publish(self) -> None:
        """Publish what has come, in the background; waits for the batch before it."""
        with self._handing_over:
            self._hand_over()

    def publish_late(self, *, is_idle: bool) -> None:
        """Publish what has waited for long, or all when nothing else is under way; never waits."""
        with self._taking:
            is_due = self._waiting and (is_idle or monotonic() - self._waiting[0].since > _LONGEST_WAIT)
        if is_due and self._handing_over.acquire(blocking=False):
            try:
                if self._publishing is None or self._publishing.done():
                    self._hand_over()
            finally:
                self._handing_over.release()

    def close(self) -> None:
        """Publish the rest, and end."""
        try:
            self.publish()
            self.publish()  # waits for what the first one published
        finally:
            self._publisher.shutdown()
            _give_back(self._waiting)

    def _hand_over(self) -> None:
        before, self._publishing = self._publishing, None
        if before is not None:
            before.result()
        with self._taking:
            waiting, self._waiting = self._waiting, []
            if waiting:
                self._publishing = self._publisher.submit(self._publish, waiting)

    def _publish(self, waiting: list[_Waiting]) -> None:
        """End each run of a batch, however that ends: collected, published, recorded, given back, told."""
        try:
            for one in waiting:
                one.error = one.run.collect_all() or one.error
            self._publish_each(waiting)
            finished = [Finished(one.run.hospital, one.run.summed_up(one.error), one.started_at) for one in waiting]
            publish_ops(self.lake, self.ledger, finished, now=utc_now())
        except Exception as exc:  # told to whoever waits for these hospitals
            for one in waiting:
                one.error = one.error or exc
        finally:
            _give_back(waiting)
        for one in waiting:
            self._tell(one.run.summary, one.error)

    def _publish_each(self, waiting: Sequence[_Waiting]) -> None:
        """Publish one batch, without a hospital whose instances leak; any other fault is that of the whole batch."""
        left = list(waiting)
        while left:
            try:
                self._publish_batch([one.run for one in left])
            except RadlakeError as exc:
                guilty = [one for one in left if one.run.hospital.hospital_id == exc.facts.get("hospital")]
                stopped = guilty if isinstance(exc, PrivacyError) and guilty else left
                for one in stopped:
                    one.error = exc
                left = [one for one in left if one not in stopped]
            else:
                return

    def _publish_batch(self, runs: Sequence[Run]) -> None:
        given = [(run, outcomes) for run in runs if (outcomes := run.sorted_outcomes())]
        if not given:
            return
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


def _give_back(waiting: Sequence[_Waiting]) -> None:
    for one in waiting:
        try:
            one.held.close()
        except RadlakeError as exc:  # the database went away, and the claim with it
            log.get_logger().warning("claim_lost", error_class=type(exc).__name__)


@contextmanager
def together(settings: Settings, *, tell: Tell) -> Iterator[Together]:
    """Let the harvests inside publish together, from one or several threads; all is published when the block has ended.

    Parameters
    ----------
    tell : callable
        Told the summary of each run when its batch is in, and what stopped the run or the batch, from a thread of its
        own. Of a batch that is stopped nothing is published; its studies are done again by the next run.
    """
    settings.prepare_restricted()
    with closing(open_ledger(settings)) as ledger:
        shared = Together(settings, ledger=ledger, tell=tell)
        try:
            yield shared
        finally:
            shared.close()
