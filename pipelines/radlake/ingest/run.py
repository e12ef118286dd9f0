"""What a person or a DAG starts: harvest a node, harvest a folder, take what was pushed, replay quarantine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from radlake.config import Settings
from radlake.dicom.part10 import read_header
from radlake.errors import ConfigInvalid, QuarantineError, RetrieveFailed, SourceMissing, TransientError
from radlake.harvest import Arrivals, discover_studies, is_due, least_tried_first, list_folder, pull_study, pulling
from radlake.harvest.courtesy import NodeGate
from radlake.ingest.job import SourceFile
from radlake.ingest.progress import Progress, never, silent
from radlake.ingest.running import Run, running
from radlake.ingest.summary import HarvestSummary
from radlake.ingest.together import Together
from radlake.lake.pushed import PushRecords
from radlake.lake.reviews import Reviews
from radlake.lake.turns import Turn, live_turn
from radlake.machine import utc_now
from radlake.net import FolderNode, Hospital, NodeClient, PushNode, StudyFound, Window, connect
from radlake.net.instance_files import uid_of_file
from radlake.review import decision_from_review

__all__ = ["ReceivedStudy", "harvest_folder", "harvest_hospital", "ingest_received", "replay_quarantine"]

_FAILURES_IN_A_ROW = 3
_PUSH_PATIENCE_SECONDS = 30.0  # other hospitals push too, and the spool can wait


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


def harvest_hospital(
    settings: Settings,
    hospital: Hospital,
    *,
    window: Window | Sequence[StudyFound],
    again: Collection[str] = (),
    newest_first: bool = False,
    turn: Turn = live_turn,
    client: NodeClient | None = None,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] = silent,
    should_yield: Callable[[], bool] = never,
    shared: Together | None = None,
    tell: Callable[[HarvestSummary], None] = lambda _: None,
) -> HarvestSummary:
    """Harvest the studies of a window from a hospital's node into the lake.

    Running the same window again fetches only what is missing, and what was set aside for one of the reasons `again`.
    As many studies come at once as the node's courtesy allows at the moment.

    Parameters
    ----------
    window : Window or sequence of StudyFound
        Or studies that the node listed before: those without a date lie in no window.
    newest_first : bool
        Else the oldest study of the window comes first: it is late first.
    turn : callable
        `live_turn`, or `backfill_turn` of a harvest that a live one of the same hospital need not wait for: what it
        passes as `should_yield` asks whether one does.
    client : NodeClient, optional
        A conversation with the node that the caller has already, or a simulated one; else the node is connected to.
    should_yield : callable
        Asked before each study, from several threads. Once it says True no other study begins, what is under way is
        published, and the run ends in order; the summary tells how many studies are left.
    shared : Together, optional
        Publish with other hospitals in one batch, which is told when it is in, with what stopped this run where it may
        work later. Needs an executor; folders are published alone.
    tell : callable
        Told the summary of a run of its own, also of one that failed after it had begun.

    Raises
    ------
    NodeAtRest
        If the node is left in peace now, by its calendar or for its failures. What came before is published.
    TransientError
        If the node cannot be reached or fails several studies in a row. What came before is published.
    LedgerBusy
        If another harvest of this hospital is running, or a backfill does not make way in time.
    """
    node = hospital.node
    if isinstance(node, PushNode):
        problem = f"{hospital.hospital_id} has no node to harvest: it pushes, and `radlake receive` takes it"
        raise ConfigInvalid(path=str(settings.hospitals), problems=[problem])
    if isinstance(node, FolderNode):
        return harvest_folder(settings, node.path, hospital=hospital, executor=executor, progress=progress)
    kind = node.retrieve_kind
    with running(settings, hospital, kind=kind, executor=executor, turn=turn, shared=shared, tell=tell) as run:
        gate = NodeGate(hospital.hospital_id, node, ledger=run.ledger)
        gate.begin(is_over=should_yield)
        is_well = False
        try:
            client = client or connect(node, ae_title=settings.ae_title, scp_port=settings.scp_port)
            client.watch = gate.watch
            found = _discover(run, client, gate, window=window) if isinstance(window, Window) else window
            found = found[::-1] if newest_first else found
            found = least_tried_first(found, hospital_id=hospital.hospital_id, ledger=run.ledger)
            run.summary.studies_found = run.summary.studies_left = len(found)
            pull = partial(
                pull_study,
                client,
                hospital_id=hospital.hospital_id,
                ledger=run.ledger,
                spool=run.lake.spool,
                clock=utc_now,
                again=again,
                parent=run.span,
            )
            due = partial(is_due, hospital_id=hospital.hospital_id, ledger=run.ledger, again=again)
            with pulling(found, is_due=due, pull=pull, gate=gate, client=client, should_yield=should_yield) as arrivals:
                is_well = _take(run, arrivals, n_found=len(found), progress=progress)
            if run.summary.studies_left and not arrivals.is_stopped:
                raise gate.at_rest(gate.allowed())
        finally:
            gate.end(is_well=is_well)
        run.flush()
    return run.summary


def _discover(run: Run, client: NodeClient, gate: NodeGate, *, window: Window) -> list[StudyFound]:
    try:
        found = discover_studies(
            client, window=window, hospital_id=run.hospital.hospital_id, ledger=run.ledger, now=utc_now()
        )
    except TransientError:
        gate.failed()
        raise
    gate.looked()
    return found


def _take(run: Run, arrivals: Arrivals, *, n_found: int, progress: Callable[[Progress], None]) -> bool:
    """Feed the workers with what the node sends, until all is here or it is better left alone; whether all was well.

    Raises
    ------
    RetrieveFailed
        If it failed several studies in a row; what was under way then is taken all the same.
    """
    hospital_id, node = run.hospital.hospital_id, run.hospital.node.name
    n_failed = 0
    broken = ""
    for n_done, (study, pulled) in enumerate(arrivals, start=1):
        run.touch(study.study_uid)
        if pulled:
            files = tuple(SourceFile(path, node, sop_uid=uid_of_file(path)) for path in pulled.files)
            run.feed(pulled.entry, files, trouble=pulled.trouble, span=pulled.span)
            n_failed = n_failed + 1 if pulled.has_failed else 0
            broken = pulled.trouble if n_failed >= _FAILURES_IN_A_ROW else broken
        run.summary.studies_left = n_found - n_done
        progress(Progress(hospital_id, n_done, n_found))
        if broken:
            arrivals.stop()
    if broken:
        raise RetrieveFailed(node=node, reason=broken)
    return n_failed == 0


def harvest_folder(
    settings: Settings,
    path: Path,
    *,
    hospital: Hospital,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] = silent,
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
    with running(settings, hospital, kind="folder", executor=executor) as run:
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
    turn = partial(live_turn, patience=_PUSH_PATIENCE_SECONDS)
    with running(settings, hospital, kind="push", executor=executor, turn=turn) as run:
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
            if not entry.withdrawn:
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
    with running(settings, hospital, kind="folder", executor=executor) as run:
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
