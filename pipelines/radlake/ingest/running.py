"""One run of one hospital: what every way into the lake has in common.

A run rolls an interrupted one forward, feeds studies to the workers, publishes them in batches and records itself
in ops.harvest_run. Retrieval goes on while the workers de-identify; the number of studies under way is bounded.
"""

from __future__ import annotations

import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NamedTuple

from radlake import log, telemetry
from radlake.config import Settings
from radlake.deidentify import load_profile
from radlake.errors import (
    QuarantineError,
    RadlakeError,
    SourceMissing,
    TransientError,
    WorkerKilled,
)
from radlake.harvest import spool_folder
from radlake.ingest.batch import TABLES, roll_forward
from radlake.ingest.job import IngestJob, Refused, SourceFile, StudyOutcome
from radlake.ingest.ops import OPS_TABLES, Finished, publish_ops
from radlake.ingest.publish import Publication, publish
from radlake.ingest.spot_check import held_objections, kept_out
from radlake.ingest.study import ingest_study
from radlake.ingest.summary import HarvestSummary
from radlake.ingest.together import Together
from radlake.ingest.workers import most_under_way, workers
from radlake.lake import Lake
from radlake.lake.evidence import StudyEntry, StudyState
from radlake.lake.ledger import Ledger
from radlake.lake.quarantine import Quarantine
from radlake.lake.turns import Turn, live_turn
from radlake.lake.vault import VaultRows
from radlake.lake.withdrawals import TURNED_AWAY, WithdrawalRows
from radlake.machine import utc_now
from radlake.net import Hospital
from radlake.referee import Policy
from radlake.retention.schedule import rules_of
from radlake.telemetry import Span
from radlake.vault.lake_key import claim_key, lake_keys, open_ledger

__all__ = ["Run", "running"]

_BATCH_INSTANCES = 20_000
_BATCH_STUDIES = 500
_BATCH_BYTES = 16 << 30  # what is received stays in the spool until its batch is in


class _UnderWay(NamedTuple):
    entry: StudyEntry
    files: tuple[SourceFile, ...]
    span: Span


@dataclass
class Run:
    """One run of one hospital: feeds workers, publishes batches, counts."""

    settings: Settings
    hospital: Hospital
    lake: Lake
    ledger: Ledger
    quarantine: Quarantine
    executor: Executor
    summary: HarvestSummary
    key_check: str
    vault_version: int
    running: dict[Future[StudyOutcome], _UnderWay] = field(default_factory=dict)
    gone: list[SourceFile] = field(default_factory=list)
    outcomes: list[StudyOutcome] = field(default_factory=list)
    n_instances: int = 0  # of the outcomes
    n_bytes: int = 0  # of the outcomes
    troubles: dict[str, str] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    span: Span = field(default_factory=Span)
    withdrawn: frozenset[str] = frozenset()  # keyed digests of persons
    objections: list[dict[str, Any]] = field(default_factory=list)  # of the referee, held when the run began
    is_shared: bool = False  # what comes last is published with other runs

    def touch(self, study_uid: str) -> None:
        """Count this study in the summary, whatever becomes of it."""
        self.touched.add(study_uid)

    def refuse(self, file: SourceFile, error: QuarantineError) -> None:
        """Set aside a file that belongs to no study that could be read."""
        self.quarantine.hold(
            file.path, hospital_id=self.hospital.hospital_id, error=error, now=utc_now(), origin=file.origin
        )
        self.summary.instances_quarantined += 1
        self.summary.quarantine_by_reason[error.reason] += 1
        telemetry.add("radlake.quarantine", hospital=self.hospital.hospital_id, reason=error.reason)

    def tell_unreadable(self, closed: Iterable[str]) -> None:
        """Name the files whose bytes could not be had, at the end of a harvest that stored the others."""
        self.summary.unreadable = [*closed, *(file.origin for file in self.gone)]
        if n := len(self.summary.unreadable):
            error = SourceMissing(path=f"All the rest is harvested, but of its files {n}")
            self.summary.error_class, self.summary.error = type(error).__name__, str(error)

    def feed(
        self, entry: StudyEntry, files: tuple[SourceFile, ...], *, trouble: str = "", span: Span | None = None
    ) -> None:
        """Hand a study to the workers, unless it was withdrawn; publish when enough has come back."""
        span = span or telemetry.start("study", parent=self.span, hospital=entry.hospital_id)
        span.set(n_files=len(files), n_expected=entry.n_expected or 0)
        if entry.state is StudyState.WITHDRAWN:
            span.end()
            return
        self.troubles[entry.study_uid] = trouble
        job = IngestJob(
            self.settings,
            entry.hospital_id,
            entry.study_uid,
            files,
            stored=entry.stored,
            kept_out=self._kept_out(entry, files),
            patient_key=entry.patient_key,
            vault_version=self.vault_version,
            key_check=self.key_check,
            residency=self.hospital.storage_policy,
            retention_rules=rules_of(self.hospital),
            withdrawn=self.withdrawn,
        )
        self.running[self.executor.submit(ingest_study, job)] = _UnderWay(entry, files, span)
        telemetry.add("radlake.studies.under_way", 1, hospital=entry.hospital_id)
        self.collect(at_most=most_under_way(self.executor, self.settings))
        if len(self.outcomes) >= _BATCH_STUDIES or self.n_instances >= _BATCH_INSTANCES or self.n_bytes >= _BATCH_BYTES:
            self._publish()

    def _kept_out(self, entry: StudyEntry, files: Iterable[SourceFile]) -> dict[str, QuarantineError]:
        replayed = {file.quarantine_id for file in files}
        mine = [held for held in self.objections if held["study_uid"] == entry.study_uid]
        out = {held["quarantine_id"]: kept_out(held) for held in mine if held["quarantine_id"] not in replayed}
        for aside in entry.set_aside:
            if aside.reason == "rejected_by_reviewer":
                out[aside.quarantine_id] = QuarantineError(reason=aside.reason, detail="")
        return out

    def flush(self) -> None:
        """Wait for the workers and publish what is left; with other runs that is done when all have been asked."""
        if not self.is_shared:
            self.collect(at_most=0)
            self._publish()

    def collect_all(self) -> RadlakeError | None:
        """Wait for the workers; what stopped one of them, while all that the others made is kept."""
        try:
            self.collect(at_most=0)
        except RadlakeError as exc:
            self.rescue()
            return exc
        return None

    def rescue(self) -> None:
        """After a failure: keep what the workers finish all the same. What fails too is done by the next run."""
        wait(self.running)
        for future in list(self.running):
            if error := future.exception():
                self._forget(future).span.end(type(error).__name__)
        self.collect(at_most=0)
        if not self.is_shared:
            self._publish()

    def collect(self, *, at_most: int) -> None:
        """Take finished studies; wait while more than `at_most` are under way."""
        while self.running:
            room = len(self.running) <= at_most
            done, _ = wait(self.running, timeout=0 if room else None, return_when=FIRST_COMPLETED)
            for future in done:
                entry, files, span = self._forget(future)
                try:
                    outcome = future.result()
                except WorkerKilled as exc:
                    outcome = _killed(entry, files, exc)
                except BaseException as exc:
                    span.end(type(exc).__name__)
                    raise
                _tell_work(outcome, span)
                if outcome.is_withdrawn:
                    self._turn_away(outcome)
                    continue
                self.outcomes.append(outcome)
                self.n_instances += len(outcome.instances)
                self.n_bytes += outcome.study["study_bytes"] if outcome.study else 0
                if len(outcome.files) < len(files):
                    self.gone += sorted(set(files) - set(outcome.files), key=lambda file: file.origin)
            if room:
                return

    def _turn_away(self, outcome: StudyOutcome) -> None:
        """A study of a person who withdrew: the ledger knows it by a keyed name, and what was received goes."""
        self.ledger.erase(outcome.hospital_id, outcome.study_uid, why=TURNED_AWAY, now=utc_now())
        spooled = spool_folder(self.lake.spool, hospital_id=outcome.hospital_id, study_uid=outcome.study_uid)
        shutil.rmtree(spooled, ignore_errors=True)

    def _forget(self, future: Future[StudyOutcome]) -> _UnderWay:
        was = self.running.pop(future)
        telemetry.add("radlake.studies.under_way", -1, hospital=was.entry.hospital_id)
        return was

    def sorted_outcomes(self) -> list[StudyOutcome]:
        """What has come from the workers and is to be published."""
        return sorted(self.outcomes, key=lambda outcome: outcome.study_uid)

    def _publish(self) -> None:
        outcomes = self.sorted_outcomes()
        self.outcomes, self.n_instances, self.n_bytes = [], 0, 0
        if not outcomes:
            return
        with telemetry.span("publish", duration="radlake.publish.duration", n_studies=len(outcomes)):
            published = publish(
                outcomes,
                troubles=self.troubles,
                lake=self.lake,
                ledger=self.ledger,
                quarantine=self.quarantine,
                now=utc_now(),
                policy=Policy.of_profile(load_profile(self.settings.profile)),
                sample=self.settings.verify_sample,
            )
        self.count(outcomes, published)

    def count(self, outcomes: Sequence[StudyOutcome], published: Publication) -> None:
        """Sum up outcomes that are published."""
        if self.hospital.storage_policy == "index":
            for row in (row for outcome in outcomes for row in outcome.series):
                self.lake.cache.admit(row["object_path"], is_asked_for=False)
            self.lake.cache.trim()
        self.summary.instances_stored += published.n_stored
        self.summary.stored_bytes += published.stored_bytes
        self.summary.instances_duplicate += sum(len(outcome.resends) for outcome in outcomes)
        self.summary.instances_quarantined += len(published.reasons)
        self.summary.quarantine_by_reason.update(published.reasons)
        hospital_id = self.hospital.hospital_id
        telemetry.add("radlake.stored", published.stored_bytes, hospital=hospital_id)
        telemetry.add("radlake.instances", published.n_stored, hospital=hospital_id, status="stored")
        for reason, n in Counter(published.reasons).items():
            telemetry.add("radlake.quarantine", n, hospital=hospital_id, reason=reason)
        for outcome in outcomes:
            self.summary.deidentified_by.update(outcome.ways)

    def summed_up(self, error: BaseException | None) -> HarvestSummary:
        """The summary, with the states of the studies that were looked at."""
        hospital_id = self.hospital.hospital_id
        states = [entry.state for entry in self.ledger.entries(hospital_id, self.touched)]
        self.summary.studies_complete = states.count(StudyState.COMPLETE)
        self.summary.studies_partial = states.count(StudyState.PARTIAL)
        self.summary.studies_quarantined = states.count(StudyState.QUARANTINED)
        if error is not None:
            self.summary.error_class = type(error).__name__
            if isinstance(error, SourceMissing):  # this is published, and a path may name a patient
                error = SourceMissing(path="What was to be harvested")
            self.summary.error = str(error) if isinstance(error, RadlakeError) else type(error).__name__
        telemetry.add("radlake.runs", hospital=hospital_id, error_class=self.summary.error_class or "none")
        self.span.set(
            n_studies=self.summary.studies_found,
            n_stored=self.summary.instances_stored,
            n_quarantined=self.summary.instances_quarantined,
            n_duplicate=self.summary.instances_duplicate,
            bytes=self.summary.stored_bytes,
        )
        self.span.end(self.summary.error_class)
        return self.summary


@contextmanager
def running(
    settings: Settings,
    hospital: Hospital,
    *,
    kind: str,
    executor: Executor | None,
    turn: Turn = live_turn,
    shared: Together | None = None,
    tell: Callable[[HarvestSummary], None] = lambda _: None,
) -> Iterator[Run]:
    """Open a run: lock the hospital, roll an interrupted run forward, and record this one whatever happens.

    A run that publishes with others is told with its batch, with what stopped it where it may work later; any other one
    by `tell`, also when it failed.
    """
    settings.prepare_restricted()
    if shared:
        if executor is None:
            raise ValueError("runs that publish together share their workers")
        lake, ledger = shared.lake, shared.ledger
    else:
        lake, ledger = Lake.from_settings(settings), open_ledger(settings)
    started_at, start = utc_now(), monotonic()
    run_id = f"{started_at:%Y%m%dT%H%M%S}-{hospital.hospital_id}-{secrets.token_hex(3)}"
    summary = HarvestSummary(hospital.hospital_id, run_id, kind)
    try:
        with ExitStack() as held, workers(settings, given=executor) as pool:
            held.enter_context(turn(ledger, hospital.hospital_id))
            quarantine = Quarantine(ledger, lake.quarantine)
            key_check = claim_key(lake_keys(settings), settings, ledger=ledger)
            version = VaultRows(ledger).version
            run = Run(settings, hospital, lake, ledger, quarantine, pool, summary, key_check, version)
            run.withdrawn = WithdrawalRows(ledger).persons()
            run.objections = held_objections(quarantine, hospital_id=hospital.hospital_id)
            run.is_shared = shared is not None
            run.span = telemetry.start("harvest", hospital=hospital.hospital_id, run_id=run_id, verb=kind)
            roll_forward(lake, ledger, hospital_id=hospital.hospital_id, now=utc_now())
            if not shared:
                held.enter_context(lake.tables.making([*TABLES, *OPS_TABLES]))
            error: BaseException | None = None
            try:
                with telemetry.started(run.span):
                    yield run
            except TransientError as exc:
                error = exc
                run.rescue()
                if not shared:
                    raise
            except BaseException as exc:
                error = exc
                raise
            finally:
                summary.seconds = round(monotonic() - start, 3)
                if shared and (error is None or isinstance(error, TransientError)):
                    shared.take(run, started_at=started_at, error=error, held=held.pop_all())
                else:
                    finished = Finished(hospital, run.summed_up(error), started_at)
                    tell(summary)
                    publish_ops(lake, ledger, [finished], now=utc_now())
                log.get_logger().info("harvest_finished", hospital=hospital.hospital_id, run_id=run_id)
    finally:
        if not shared:
            ledger.close()


def _tell_work(outcome: StudyOutcome, span: Span) -> None:
    """A worker exports nothing: what it did is told here."""
    facts = {
        "hospital": outcome.hospital_id,
        "n_instances": len(outcome.instances),
        "n_quarantined": len(outcome.refused),
        "n_duplicate": len(outcome.resends),
    }
    if outcome.work is not None:
        telemetry.worked("ingest", outcome.work, parent=span, **facts)
        telemetry.record("radlake.ingest.duration", outcome.work.seconds, hospital=outcome.hospital_id)
    telemetry.add("radlake.instances", len(outcome.resends), hospital=outcome.hospital_id, status="duplicate")
    span.end()


def _killed(entry: StudyEntry, files: tuple[SourceFile, ...], error: WorkerKilled) -> StudyOutcome:
    """A study that costs one worker after the other its life is set aside; the run goes on without it."""
    log.get_logger().error("study_killed_workers", hospital=entry.hospital_id, n_failed=error.facts["n"])
    reason = QuarantineError(reason="worker_killed", detail=f"{error.facts['n']} workers died")
    refused = tuple(Refused(file, file.sop_uid, reason) for file in files)
    return StudyOutcome(entry.hospital_id, entry.study_uid, refused=refused, files=files)
