"""Runs: harvest a hospital's node, harvest a folder, replay quarantine.

A run rolls an interrupted one forward, feeds studies to the workers, publishes them in batches and records itself
in ops.harvest_run. Retrieval goes on while the workers de-identify; the number of studies under way is bounded.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from radlake import log
from radlake.commit_points import reached
from radlake.config import Settings
from radlake.deidentify import load_profile
from radlake.dicom.part10 import read_header
from radlake.errors import (
    ConfigInvalid,
    QuarantineError,
    RadlakeError,
    RetrieveFailed,
    SourceMissing,
    TransientError,
    WorkersLost,
)
from radlake.harvest import discover_studies, list_folder, pull_study, spool_folder
from radlake.ingest.batch import roll_forward
from radlake.ingest.job import IngestJob, SourceFile, StudyOutcome
from radlake.ingest.ops import publish_ops
from radlake.ingest.publish import publish
from radlake.ingest.study import ingest_study
from radlake.ingest.summary import HarvestSummary
from radlake.ingest.workers import workers
from radlake.lake import Lake
from radlake.lake.evidence import StudyEntry, StudyState
from radlake.lake.ledger import Ledger
from radlake.lake.pushed import PushRecords
from radlake.lake.quarantine import Quarantine
from radlake.lake.reviews import Reviews
from radlake.lake.turns import backfill_turn, live_turn
from radlake.lake.vault import VaultRows
from radlake.machine import utc_now
from radlake.net import Hospital, NodeClient, StudyFound, Window, connect
from radlake.net.instance_files import uid_of_file
from radlake.referee import Policy
from radlake.review import decision_from_review
from radlake.vault.lake_key import claim_key, lake_keys

__all__ = ["Progress", "ReceivedStudy", "harvest_folder", "harvest_hospital", "ingest_received", "replay_quarantine"]

_BATCH_INSTANCES = 20_000
_BATCH_STUDIES = 500
_FAILURES_IN_A_ROW = 3


@dataclass(frozen=True)
class Progress:
    """Told after each study: hospital, studies done, studies in all."""

    hospital_id: str
    n_done: int
    n_total: int


@dataclass(frozen=True)
class ReceivedStudy:
    """A study that was pushed and is closed: what came of it since the last ingest, and who vouches for it.

    Attributes
    ----------
    files : tuple of (Path, SOP Instance UID)
        Received Part-10 files; none when only the evidence changed.
    expected : frozenset of str
        SOP Instance UIDs that somebody told of.
    n_expected : int, optional
        How many there are, when somebody told that.
    unverified : str
        Why nobody vouches that nothing else will come; empty when somebody does.
    """

    study_uid: str
    files: tuple[tuple[Path, str], ...]
    expected: frozenset[str] = frozenset()
    n_expected: int | None = None
    unverified: str = ""


def _silent(_: Progress) -> None:
    return None


def harvest_hospital(
    settings: Settings,
    hospital: Hospital,
    *,
    window: Window | Sequence[StudyFound],
    again: Collection[str] = (),
    makes_way: Callable[[], bool] | None = None,
    client: NodeClient | None = None,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] = _silent,
) -> HarvestSummary:
    """Harvest the studies of a window from a hospital's node into the lake.

    Running the same window again fetches only what is missing, and what was set aside for one of the reasons `again`.

    Parameters
    ----------
    window : Window or sequence of StudyFound
        Or studies that the node listed before: those without a date lie in no window.
    makes_way : callable, optional
        For a backfill: asked after each study whether to end here; the summary tells how many studies are left.
        A harvest without it is a live one, which a backfill of the same hospital makes way for.
    client : NodeClient, optional
        A conversation with the node that the caller has already, or a simulated one; else the node is connected to.

    Raises
    ------
    TransientError
        If the node cannot be reached or fails several studies in a row. What came before is published.
    LedgerBusy
        If another harvest of this hospital is running, or a backfill does not make way in time.
    """
    if hospital.node.kind == "push":
        problem = f"{hospital.hospital_id} has no node to harvest: it pushes, and `radlake receive` takes it"
        raise ConfigInvalid(path=str(settings.hospitals), problems=[problem])
    if hospital.node.kind == "folder":
        return harvest_folder(settings, hospital.node.path, hospital=hospital, executor=executor, progress=progress)
    turn = live_turn if makes_way is None else backfill_turn
    with _run(settings, hospital, kind=hospital.node.retrieve_kind, executor=executor, turn=turn) as run:
        client = client or connect(hospital.node, ae_title=settings.ae_title, scp_port=settings.scp_port)
        if isinstance(window, Window):
            found: Sequence[StudyFound] = discover_studies(
                client, window=window, hospital_id=hospital.hospital_id, ledger=run.ledger, now=utc_now()
            )
        else:
            found = window
        run.summary.studies_found = len(found)
        failures: list[str] = []
        for n_done, study in enumerate(found, start=1):
            pulled = pull_study(
                client,
                study,
                hospital_id=hospital.hospital_id,
                ledger=run.ledger,
                spool=run.lake.spool,
                now=utc_now(),
                again=again,
            )
            run.touch(study.study_uid)
            if pulled:
                files = tuple(SourceFile(path, hospital.node.name, sop_uid=uid_of_file(path)) for path in pulled.files)
                run.feed(pulled.entry, files, trouble=pulled.trouble)
                is_failure = pulled.trouble and not files and not pulled.is_offline
                failures = [*failures, pulled.trouble] if is_failure else []
            progress(Progress(hospital.hospital_id, n_done, len(found)))
            if len(failures) >= _FAILURES_IN_A_ROW:
                raise RetrieveFailed(node=hospital.node.name, reason=failures[-1])
            if makes_way is not None and makes_way():
                run.summary.studies_left = len(found) - n_done
                break
        run.flush()
    return run.summary


def harvest_folder(
    settings: Settings,
    path: Path,
    *,
    hospital: Hospital,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] = _silent,
) -> HarvestSummary:
    """Harvest a folder, ZIP archive or mounted CD: the expected instances of a study are those found in it.

    Raises
    ------
    SourceMissing
        If the path does not exist. Files in it that cannot be read are named in the summary; the others are stored.
    ConfigInvalid
        If the lake itself lies in it, or it in the lake.
    """
    _refuse_own_lake(settings, path)
    with _run(settings, hospital, kind="folder", executor=executor) as run:
        hospital_id = hospital.hospital_id
        with list_folder(path, scratch=run.lake.scratch) as listing:
            run.summary.files_not_dicom = listing.n_not_dicom
            run.summary.studies_found = len(listing.studies)
            for item in listing.unreadable:
                run.refuse(SourceFile(item.path, item.origin), item.error)
            for n_done, study in enumerate(listing.studies, start=1):
                run.ledger.discover(
                    hospital_id, study.study_uid, study_date=study.study_date, n_expected=None, now=utc_now()
                )
                found = frozenset(file.sop_uid for file in study.files)
                entry = run.ledger.begin(hospital_id, study.study_uid, found=found, now=utc_now())
                run.touch(study.study_uid)
                run.feed(entry, tuple(SourceFile(f.path, f.origin, sop_uid=f.sop_uid) for f in study.files))
                progress(Progress(hospital_id, n_done, len(listing.studies)))
            run.flush()
            run.tell_unreadable(listing.closed)
    return run.summary


def ingest_received(
    settings: Settings, hospital: Hospital, studies: Iterable[ReceivedStudy], *, executor: Executor | None = None
) -> HarvestSummary:
    """Ingest studies that the hospital pushed, as a harvest does; their files stay where they are.

    Every file becomes an expected instance: what was acknowledged ends stored, set aside, or missed.

    Raises
    ------
    TransientError
        If another run has the hospital, or something fails; nothing is lost, all studies may be given again.
    """
    with _run(settings, hospital, kind="push", executor=executor) as run:
        hospital_id, records = hospital.hospital_id, PushRecords(run.ledger)
        for study in studies:
            run.summary.studies_found += 1
            run.ledger.discover(
                hospital_id,
                study.study_uid,
                study_date=_date_of(path for path, _ in study.files[:3]),
                n_expected=study.n_expected,
                now=utc_now(),
            )
            found = study.expected | {sop_uid for _, sop_uid in study.files}
            entry = run.ledger.begin(hospital_id, study.study_uid, found=found, now=utc_now())
            records.doubt(hospital_id, study.study_uid, unverified=study.unverified, now=utc_now())
            run.touch(study.study_uid)
            run.feed(entry, tuple(SourceFile(path, "push", sop_uid=sop_uid) for path, sop_uid in study.files))
        run.flush()
    return run.summary


def _date_of(files: Iterable[Path]) -> date | None:
    """Study date of the first of these files that tells it."""
    for path in files:
        with suppress(QuarantineError, SourceMissing):
            if day := read_header(path).study_date:
                return day
    return None


def _refuse_own_lake(settings: Settings, path: Path) -> None:
    """What is de-identified already would come in as new studies of new persons."""
    here = path.resolve()
    lake, restricted = Path(settings.lake), settings.restricted
    zones = [lake / "cache", lake / "objects", lake / "tables"] if settings.is_local else []
    zones += [restricted / name for name in ("quarantine", "spool", "staged", "tables")]
    if any(zone.is_relative_to(here) or here.is_relative_to(zone) for zone in zones):
        raise ConfigInvalid(path=str(path), problems=["the lake lies there; name a folder that it is not part of"])


def replay_quarantine(
    settings: Settings, hospital: Hospital, *, held: Iterable[dict[str, Any]], executor: Executor | None = None
) -> HarvestSummary:
    """Send objects that were set aside through validation and de-identification again.

    Decisions of reviewers that are in force go with them, and cannot be undone from here on.

    Parameters
    ----------
    held : iterable of dict
        Records of `Quarantine.held` of this hospital.
    """
    with _run(settings, hospital, kind="folder", executor=executor) as run:
        by_study: dict[str, list[SourceFile]] = {}
        # An archive is no instance: it is harvested again, not replayed.
        held = [record for record in held if record["reason"] != "archive_unreadable"]
        reviews = Reviews(run.ledger).take_up([record["quarantine_id"] for record in held], now=utc_now())
        for record in held:
            review = reviews.get(record["quarantine_id"])
            file = SourceFile(
                run.quarantine.path(record["quarantine_id"]),
                record["origin"],
                sop_uid=record["sop_uid"],
                quarantine_id=record["quarantine_id"],
                decision=decision_from_review(review) if review else None,
            )
            by_study.setdefault(record["study_uid"], []).append(file)
        for file in by_study.pop("", []):
            try:
                header = read_header(file.path)
                if not (header.study_instance_uid and header.sop_instance_uid):
                    raise QuarantineError(reason="uid_missing", detail="Study or SOP Instance UID")
            except QuarantineError as error:
                run.refuse(file, error)
                continue
            by_study.setdefault(header.study_instance_uid, []).append(replace(file, sop_uid=header.sop_instance_uid))
        run.summary.studies_found = len(by_study)
        for study_uid, files in sorted(by_study.items()):
            found = frozenset(file.sop_uid for file in files) - {""}
            run.ledger.discover(hospital.hospital_id, study_uid, study_date=None, n_expected=None, now=utc_now())
            entry = run.ledger.begin(hospital.hospital_id, study_uid, found=found, now=utc_now())
            run.touch(study_uid)
            run.feed(entry, tuple(files))
        run.flush()
    return run.summary


@dataclass
class _Run:
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
    running: dict[Future[StudyOutcome], tuple[SourceFile, ...]] = field(default_factory=dict)
    gone: list[SourceFile] = field(default_factory=list)
    outcomes: list[StudyOutcome] = field(default_factory=list)
    troubles: dict[str, str] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)

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

    def tell_unreadable(self, closed: Iterable[str]) -> None:
        """Name the files whose bytes could not be had, at the end of a harvest that stored the others."""
        self.summary.unreadable = [*closed, *(file.origin for file in self.gone)]
        if n := len(self.summary.unreadable):
            error = SourceMissing(path=f"All the rest is harvested, but of its files {n}")
            self.summary.error_class, self.summary.error = type(error).__name__, str(error)

    def feed(self, entry: StudyEntry, files: tuple[SourceFile, ...], *, trouble: str = "") -> None:
        """Hand a study to the workers; publish when enough has come back."""
        self.troubles[entry.study_uid] = trouble
        job = IngestJob(
            self.settings,
            entry.hospital_id,
            entry.study_uid,
            files,
            stored=entry.stored,
            rejected=frozenset(a.quarantine_id for a in entry.set_aside if a.reason == "rejected_by_reviewer"),
            patient_key=entry.patient_key,
            vault_version=self.vault_version,
            key_check=self.key_check,
            residency=self.hospital.storage_policy,
        )
        self.running[self.executor.submit(ingest_study, job)] = files
        self._collect(at_most=2 * max(self.settings.workers, 1))
        n_instances = sum(len(outcome.instances) for outcome in self.outcomes)
        if len(self.outcomes) >= _BATCH_STUDIES or n_instances >= _BATCH_INSTANCES:
            self._publish()

    def flush(self) -> None:
        """Wait for the workers and publish what is left."""
        self._collect(at_most=0)
        self._publish()

    def _collect(self, *, at_most: int) -> None:
        """Take finished studies; wait while more than `at_most` are under way."""
        while self.running:
            room = len(self.running) <= at_most
            done, _ = wait(self.running, timeout=0 if room else None, return_when=FIRST_COMPLETED)
            for future in done:
                files = self.running.pop(future)
                outcome = future.result()
                self.outcomes.append(outcome)
                if len(outcome.files) < len(files):
                    self.gone += sorted(set(files) - set(outcome.files), key=lambda file: file.origin)
            if room:
                return

    def _publish(self) -> None:
        outcomes = sorted(self.outcomes, key=lambda outcome: outcome.study_uid)
        self.outcomes = []
        if not outcomes:
            return
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
        if self.hospital.storage_policy == "index":
            for row in (row for outcome in outcomes for row in outcome.series):
                self.lake.cache.admit(row["object_path"], is_asked_for=False)
            self.lake.cache.trim()
        self.summary.instances_stored += published.n_stored
        self.summary.stored_bytes += published.stored_bytes
        self.summary.instances_duplicate += sum(len(outcome.resends) for outcome in outcomes)
        self.summary.instances_quarantined += len(published.reasons)
        self.summary.quarantine_by_reason.update(published.reasons)
        for outcome in outcomes:
            self.summary.deidentified_by.update(outcome.ways)
            folder = spool_folder(self.lake.spool, hospital_id=outcome.hospital_id, study_uid=outcome.study_uid)
            shutil.rmtree(folder, ignore_errors=True)
            reached("spool.emptied")

    def close(self, *, started_at: datetime, error: BaseException | None) -> None:
        """Count the states of the studies that were looked at and publish the ops tables."""
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
        publish_ops(self.lake, self.ledger, self.hospital, self.summary, started_at=started_at, now=utc_now())


@contextmanager
def _run(
    settings: Settings,
    hospital: Hospital,
    *,
    kind: str,
    executor: Executor | None,
    turn: Callable[[Ledger, str], AbstractContextManager[None]] = live_turn,
) -> Iterator[_Run]:
    """Open a run: lock the hospital, roll an interrupted run forward, and record this one whatever happens."""
    settings.prepare_restricted()
    lake, ledger = Lake.from_settings(settings), Ledger(settings.ledger)
    started_at, start = utc_now(), monotonic()
    run_id = f"{started_at:%Y%m%dT%H%M%S}-{hospital.hospital_id}-{secrets.token_hex(3)}"
    summary = HarvestSummary(hospital.hospital_id, run_id, kind)
    try:
        with turn(ledger, hospital.hospital_id), workers(settings, given=executor) as pool:
            quarantine = Quarantine(ledger, lake.quarantine)
            key_check = claim_key(lake_keys(settings), settings, ledger=ledger)
            version = VaultRows(ledger).version
            run = _Run(settings, hospital, lake, ledger, quarantine, pool, summary, key_check, version)
            roll_forward(lake, ledger, hospital_id=hospital.hospital_id, now=utc_now())
            error: BaseException | None = None
            try:
                yield run
            except BrokenExecutor as exc:
                error = WorkersLost(reason="a worker process was killed; mostly memory ran out")
                raise error from exc
            except TransientError as exc:
                error = exc
                run.flush()
                raise
            except BaseException as exc:
                error = exc
                raise
            finally:
                summary.seconds = round(monotonic() - start, 3)
                run.close(started_at=started_at, error=error)
                log.get_logger().info("harvest_finished", hospital=hospital.hospital_id, run_id=run_id)
    finally:
        ledger.close()
