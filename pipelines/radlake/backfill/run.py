"""Working on the plan of a hospital: window by window through the ordinary harvest.

The ledger knows what is here, so whatever ends a run, the next one goes on at the study. A live harvest of the same
hospital goes first (`radlake.lake.turns`); a pause and an end of the program take effect after the current study.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum

from radlake.backfill.coverage import publish_coverage
from radlake.backfill.known import known_by_day, known_in, known_within, undated
from radlake.backfill.plan_rows import KeptWindow, PlanRows
from radlake.commit_points import reached
from radlake.config import Settings
from radlake.errors import LedgerBusy, NodeAtRest, RadlakeError, TransientError
from radlake.ingest import HarvestSummary, harvest_hospital
from radlake.ingest.progress import Progress, never, silent
from radlake.lake import Lake
from radlake.lake.ledger import Claim, Ledger
from radlake.lake.turns import backfill_turn, is_wanted
from radlake.machine import utc_now
from radlake.net import ArchiveClient, Hospital, StudyFound, Window, connect

__all__ = ["BackfillBusy", "BackfillResult", "Ending", "run_backfill"]

_POLL_SECONDS = 0.5


class BackfillBusy(TransientError):
    sentence = "Another backfill of {hospital} is running. Wait for it or stop it; it works on the same plan."


class Ending(StrEnum):
    """How a run of a hospital's plan ended."""

    DONE = "done"  # every window was tried; what is still open is told by the status
    PAUSED = "paused"
    STOPPED = "stopped"  # the program was told to end
    AT_REST = "at rest"  # the node may not be asked now, by its calendar or because it failed
    FAILED = "failed"  # the node or something else; later windows were not tried


@dataclass(frozen=True)
class BackfillResult:
    """What one run did at one hospital; studies and bytes as they came into the lake.

    Attributes
    ----------
    n_open : int, optional
        Studies of its windows that are not here in full; None when nobody counted them.
    """

    hospital_id: str
    ending: Ending
    n_windows: int = 0
    n_studies: int = 0
    n_open: int | None = None
    stored_bytes: int = 0
    cause: RadlakeError | None = None  # of an end that is FAILED or AT_REST

    @property
    def error(self) -> str:
        return str(self.cause) if self.ending is Ending.FAILED else ""

    def to_json(self) -> dict[str, str | int | None]:
        told = {name: value for name, value in self.__dict__.items() if name != "cause"}
        error_class = type(self.cause).__name__ if self.error else ""
        return told | {"ending": self.ending.value, "error": self.error, "error_class": error_class}


def run_backfill(
    settings: Settings,
    hospital: Hospital,
    *,
    newest_first: bool = True,
    within: Window | None = None,
    should_stop: Callable[[], bool] = never,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] = silent,
) -> BackfillResult:
    """Try every open window of a hospital's plan once.

    Parameters
    ----------
    newest_first : bool
        Recent studies are the ones that clinicians and statistics ask for first.
    within : Window, optional
        Only windows that lie in it; with it the studies without a date are left out.
    should_stop : callable
        Asked after each study.

    Raises
    ------
    BackfillBusy
        If another process works on this plan.
    """
    settings.prepare_restricted()
    with closing(Ledger(settings.ledger)) as ledger, ledger.claim(hospital.hospital_id, Claim.RUNNER) as is_alone:
        if not is_alone:
            raise BackfillBusy(hospital=hospital.hospital_id)
        runner = _Runner(
            settings,
            hospital,
            ledger,
            newest_first=newest_first,
            should_stop=should_stop,
            executor=executor,
            progress=progress,
        )
        windows = [kept for kept in runner.rows.windows(hospital.hospital_id) if _is_due(kept, within=within)]
        try:
            return runner.run(sorted(windows, key=_age, reverse=newest_first))
        finally:
            runner.publish_coverage()


def _is_due(kept: KeptWindow, *, within: Window | None) -> bool:
    if kept.done_at is not None:
        return False
    window = kept.plan.window
    return within is None or (window is not None and window.start in within and window.end in within)


def _age(kept: KeptWindow) -> str:
    """Windows by date; the one of studies without a date counts as the oldest."""
    return kept.plan.name if kept.plan.window else ""


class _Runner:
    def __init__(
        self,
        settings: Settings,
        hospital: Hospital,
        ledger: Ledger,
        *,
        newest_first: bool,
        should_stop: Callable[[], bool],
        executor: Executor | None,
        progress: Callable[[Progress], None],
    ) -> None:
        self.rows = PlanRows(ledger)
        self._settings = settings
        self._hospital = hospital
        self._hospital_id = hospital.hospital_id
        self._ledger = ledger
        self._newest_first = newest_first
        self._should_stop = should_stop
        self._executor = executor
        self._progress = progress
        self._n_studies = self._stored_bytes = 0
        self._has_worked = False

    def run(self, windows: list[KeptWindow]) -> BackfillResult:
        ending, n_windows, cause = Ending.DONE, 0, None
        # One conversation for all windows: what was learnt of the node's limits stays known.
        client = connect(self._hospital.node, ae_title=self._settings.ae_title, scp_port=self._settings.scp_port)
        for kept in windows:
            try:
                ending = self._work_on(kept, client)
            except RadlakeError as exc:
                ending, cause = Ending.AT_REST if isinstance(exc, NodeAtRest) else Ending.FAILED, exc
            if ending is not Ending.DONE:
                break
            n_windows += 1
        with self._ledger.reading() as connection:
            known = known_by_day(connection, self._hospital_id)
        return BackfillResult(
            self._hospital_id,
            ending,
            n_windows=n_windows,
            n_studies=self._n_studies,
            n_open=sum(known_in(known, kept.plan.window).n_open for kept in windows),
            stored_bytes=self._stored_bytes,
            cause=cause,
        )

    def _work_on(self, kept: KeptWindow, client: ArchiveClient) -> Ending:
        """Harvest a window; DONE, or how it was broken off. A node at rest is told by its error."""
        name, window = kept.plan.name, kept.plan.window
        self.rows.begin(self._hospital_id, name, now=utc_now())
        reached("backfill.window_begun")
        while True:
            if (early := self._early()) is not None:
                return early
            try:
                is_whole = self._harvest(window, client)
            except LedgerBusy:  # a live harvest goes first
                time.sleep(_POLL_SECONDS)
                continue
            except NodeAtRest:
                if (early := self._early()) is not None:
                    return early
                raise
            except RadlakeError as exc:
                self.rows.end(self._hospital_id, name, done_at=None, trouble=f"{type(exc).__name__}: {_first(exc)}")
                raise
            if is_whole:
                break
        n_open = self._n_open(window)
        trouble = f"{n_open} studies are not here in full" if n_open else ""
        self.publish_coverage()  # first: killed after its end, nobody would come back to the window
        self.rows.end(self._hospital_id, name, done_at=None if n_open else utc_now(), trouble=trouble)
        reached("backfill.window_ended")
        return Ending.DONE

    def publish_coverage(self) -> None:
        """Tell how far the days are, if something was done since it was told."""
        if self._has_worked:
            publish_coverage(Lake.from_settings(self._settings), self._ledger, self._hospital_id, now=utc_now())
            self._has_worked = False

    def _early(self) -> Ending | None:
        if self._should_stop():
            return Ending.STOPPED
        return Ending.PAUSED if self.rows.is_paused(self._hospital_id) else None

    def _makes_way(self) -> bool:
        return self._early() is not None or is_wanted(self._ledger, self._hospital_id)

    def _harvest(self, window: Window | None, client: ArchiveClient) -> bool:
        """Harvest until the window ends or somebody else goes first; whether it ended."""
        what = window or self._undated()
        before = self._n_open(window)
        summary = harvest_hospital(
            self._settings,
            self._hospital,
            window=what,
            newest_first=self._newest_first,
            turn=backfill_turn,
            should_yield=self._makes_way,
            client=client,
            executor=self._executor,
            progress=self._progress,
            tell=lambda told: self._count(told, before, window),
        )
        return summary.studies_left == 0

    def _n_open(self, window: Window | None) -> int:
        with self._ledger.reading() as connection:
            return known_within(connection, self._hospital_id, window).n_open

    def _undated(self) -> list[StudyFound]:
        with self._ledger.reading() as connection:
            return [StudyFound(uid, n_instances=n) for uid, n in undated(connection, self._hospital_id)]

    def _count(self, told: HarvestSummary, before: int, window: Window | None) -> None:
        """Count what a harvest brought, whole or broken off; one that the node did not let begin is none."""
        if told.error_class and not told.studies_found:
            return
        self._has_worked = True
        n_studies = max(before - self._n_open(window), 0)
        self._n_studies += n_studies
        self._stored_bytes += told.stored_bytes
        self.rows.count(
            self._hospital_id,
            n_studies=n_studies,
            stored_bytes=told.stored_bytes,
            seconds=told.seconds,
            now=utc_now(),
        )


def _first(exc: RadlakeError) -> str:
    return str(exc).partition("\n")[0]
