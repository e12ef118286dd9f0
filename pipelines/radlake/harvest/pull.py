"""Ask a node for the studies of a window and bring each into the spool.

The node's answer is never taken on trust: what was asked is compared with what is on disk, and the difference is
told as `trouble`. De-identification and storing are not done here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from time import monotonic

import xxhash

from radlake import telemetry
from radlake.errors import TransientError
from radlake.lake.evidence import OFFLINE, StudyEntry, StudyState
from radlake.lake.ledger import Ledger, Listed
from radlake.lake.statements import in_parts
from radlake.lake.study_times import enter_study_times
from radlake.net import NodeClient, StudyFound, Window
from radlake.net.instance_files import uid_of_file
from radlake.telemetry import Span

__all__ = ["PulledStudy", "discover_studies", "enter_found", "is_due", "pull_study", "spool_folder"]


@dataclass(frozen=True)
class PulledStudy:
    """What of a study lies in the spool now.

    Attributes
    ----------
    entry : StudyEntry
        The ledger's row, with the node's list of instances.
    files : tuple of Path
        Received Part-10 files, named by SOP Instance UID.
    trouble : str
        Why the node did not send everything; empty when it did.
    is_offline : bool
        The node said beforehand that it has to bring them first: nothing is wrong with it.
    span : Span
        Of the study, for who goes on with it and ends it.
    """

    entry: StudyEntry
    files: tuple[Path, ...]
    trouble: str
    is_offline: bool = False
    span: Span = field(default_factory=Span, compare=False)

    @property
    def has_failed(self) -> bool:
        """Nothing of it came, and not because nothing was there."""
        return bool(self.trouble) and not self.files and not self.is_offline


def spool_folder(spool: Path, *, hospital_id: str, study_uid: str) -> Path:
    """Where the received files of a study wait: the name does not tell the study."""
    name = xxhash.xxh3_64_hexdigest(f"{hospital_id}|{study_uid}".encode())
    return spool / name[:2] / name


def discover_studies(
    client: NodeClient, *, window: Window, hospital_id: str, ledger: Ledger, now: datetime
) -> list[StudyFound]:
    """Studies that the node lists in the window, each entered in the ledger, oldest first."""
    found = sorted({study.study_uid: study for study in client.find_studies(window)}.values(), key=_by_date)
    enter_found(found, hospital_id=hospital_id, ledger=ledger, now=now)
    enter_study_times(ledger, hospital_id, {s.study_uid: at for s in found if (at := s.studied_at) is not None})
    return found


def enter_found(found: Sequence[StudyFound], *, hospital_id: str, ledger: Ledger, now: datetime) -> None:
    """Enter studies that a node listed in the ledger, in transactions that do not keep others waiting."""
    for part in in_parts(found):
        listed = [Listed(study.study_uid, study.study_date, study.n_instances) for study in part]
        ledger.discover_all(hospital_id, listed, now=now)


def least_tried_first(found: Sequence[StudyFound], *, hospital_id: str, ledger: Ledger) -> list[StudyFound]:
    """Those that were tried as often keep their order.

    A node that fails several studies in a row is left alone. Studies that it never sends would else stand before all
    others each time.
    """
    attempts = ledger.attempts(hospital_id, [study.study_uid for study in found])
    return sorted(found, key=lambda study: attempts.get(study.study_uid, 0))


def is_due(study: StudyFound, *, hospital_id: str, ledger: Ledger, again: Collection[str] = ()) -> bool:
    """Whether the node must be asked for this study: something is missing, or may have come since.

    What was set aside is not missing: its bytes are in quarantine. It is asked for again when its reason is one of
    `again`, because the hospital may have mended it.
    """
    entry = ledger.entry(hospital_id, study.study_uid)
    if entry is None or entry.state is StudyState.WITHDRAWN:
        return False
    return bool(_once_more(entry, again)) or not _is_unchanged(entry, study)


def pull_study(
    client: NodeClient,
    study: StudyFound,
    *,
    hospital_id: str,
    ledger: Ledger,
    spool: Path,
    clock: Callable[[], datetime],
    again: Collection[str] = (),
    parent: Span | None = None,
) -> PulledStudy | None:
    """Bring the missing instances of a study that `is_due` into the spool; None when nothing is missing after all.

    A failure of the node is not raised: it becomes the study's `trouble`, and what arrived is kept.
    """
    span, begin = telemetry.start("study", parent=parent, hospital=hospital_id), monotonic()
    pulled: PulledStudy | None = None
    error_class = ""
    try:
        with telemetry.started(span):
            pulled = _pulled(
                client, study, hospital_id=hospital_id, ledger=ledger, spool=spool, clock=clock, again=again
            )
    except BaseException as exc:
        error_class = type(exc).__name__
        raise
    finally:
        if pulled is None:
            span.end(error_class)
    if pulled is not None:
        status = "failed" if pulled.has_failed else "came"
        telemetry.record("radlake.retrieve.duration", monotonic() - begin, hospital=hospital_id, status=status)
    return pulled and replace(pulled, span=span)


def _pulled(
    client: NodeClient,
    study: StudyFound,
    *,
    hospital_id: str,
    ledger: Ledger,
    spool: Path,
    clock: Callable[[], datetime],
    again: Collection[str],
) -> PulledStudy | None:
    entry = ledger.entry(hospital_id, study.study_uid)
    if entry is None or entry.state is StudyState.WITHDRAWN:
        return None
    once_more = _once_more(entry, again)
    listed: frozenset[str] | None = None
    trouble, in_doubt = "", frozenset[str]()
    try:
        with telemetry.span("find_instances", hospital=hospital_id):
            listed = client.find_instances(study.study_uid)
    except TransientError as exc:
        trouble = f"{type(exc).__name__}: its instances could not be listed"
    opened = ledger.begin(hospital_id, study.study_uid, listed=listed, now=clock())
    folder = spool_folder(spool, hospital_id=hospital_id, study_uid=study.study_uid)
    if once_more or not opened.is_settled:
        wanted = None if opened.missing is None else opened.missing | once_more
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with telemetry.span("retrieve", hospital=hospital_id):
                result = client.retrieve(study.study_uid, into=folder, wanted=wanted)
            trouble, in_doubt = result.reason or trouble, result.in_doubt
        except TransientError as exc:
            trouble = f"{type(exc).__name__}: {exc.facts.get('reason', '')}".rstrip(": ")
            if wanted and wanted <= {uid_of_file(path) for path in folder.glob("*.dcm")}:
                in_doubt = wanted  # all are here and were asked for: one of them has a twin
    came = folder.glob("*.dcm") if folder.is_dir() else ()
    files = tuple(sorted(path for path in came if uid_of_file(path) not in in_doubt))
    is_offline = bool(trouble) and study.is_offline
    if opened.is_settled and not (opened.is_open or once_more or files):
        return None
    return PulledStudy(opened, files, f"{OFFLINE}{trouble}" if is_offline else trouble, is_offline)


def _once_more(entry: StudyEntry, again: Collection[str]) -> set[str]:
    return {item.sop_uid for item in entry.set_aside if item.sop_uid and item.reason in again}


def _is_unchanged(entry: StudyEntry, study: StudyFound) -> bool:
    """Nothing is left to fetch and the node's own count, which the ledger has heard, says that nothing came since.

    A node that gives no counts is asked for its list of instances each time, and so is one whose list may vouch for a
    study that was pushed.
    """
    is_sure = entry.is_settled and not entry.is_open and not entry.unverified
    return is_sure and study.n_instances is not None


def _by_date(study: StudyFound) -> tuple[str, str]:
    return str(study.study_date or ""), study.study_uid
