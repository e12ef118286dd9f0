"""Storage commitment for senders: a request is kept, answered from spool and lake, and told until somebody hears it.

What is asked and answered is decided in `commitment`. The result goes over the association of the request while that
is open (`scp`), else over one of ours to where the sender listens (`push.commitment` in the hospitals file).
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta

from pydicom import Dataset

from radlake.commit_points import reached
from radlake.config import Settings
from radlake.errors import RadlakeError, TransientError
from radlake.lake import Lake, duck
from radlake.lake.commitments import CommitmentRecords, CommitmentRequest
from radlake.lake.ledger import Ledger
from radlake.log import get_logger
from radlake.machine import utc_now
from radlake.net import Hospital
from radlake.net.event_report import report_event
from radlake.net.push import Listener
from radlake.receive.commitment import ALL_COMMITTED, SOME_FAILED, STORAGE_COMMITMENT, WELL_KNOWN, failures, result
from radlake.receive.data_sets import SYNTAXES, bytes_of
from radlake.receive.senders import Senders
from radlake.receive.spool import PushSpool, sop_class_of
from radlake.vault.lake_key import lake_keys

__all__ = ["Commitments"]

_LOOK_SECONDS = 1.0
_AT_ONCE = 4  # results under way; one sender that does not answer must not hold up all
_PATIENCE = timedelta(minutes=2)  # for the association of the request
_FIRST_PAUSE, _LONGEST_PAUSE = 10.0, 3600.0  # seconds between two tries
_MOST_TRIES = 32  # about a day

log = get_logger()
Key = tuple[str, str]  # hospital, Transaction UID


class Commitments:
    """Used by many threads."""

    def __init__(self, settings: Settings, senders: Senders, spool: PushSpool, ledger: Ledger) -> None:
        self._settings, self._spool = settings, spool
        self._lake = Lake.from_settings(settings)
        self._hospitals: Mapping[str, Hospital] = {hospital.hospital_id: hospital for hospital in senders}
        self._records = CommitmentRecords(ledger)
        self._records.hurry(utc_now())
        self._busy: set[Key] = set()  # told by somebody at the moment
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._tellers = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="tell-commitment")
        self._thread = threading.Thread(target=self._run, name="commitments", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """What is not told yet is told by the next service."""
        self._stop.set()
        self._thread.join()
        self._tellers.shutdown(wait=False, cancel_futures=True)

    def ask(self, request: CommitmentRequest) -> bool:
        """Keep a request whose association is open; False when its transaction UID is in use. `told` or `hung_up`
        follows."""
        if not self._records.keep(request, due_at=utc_now() + _PATIENCE):
            return False
        with self._lock:
            self._busy.add(_key(request))
        reached("push.commitment_asked")
        return True

    def listener(self, request: CommitmentRequest) -> Listener | None:
        """Where the sender listens when it has hung up."""
        hospital = self._hospitals.get(request.hospital_id)
        return hospital.push.listener(request.ae_title) if hospital and hospital.push else None

    def result(self, request: CommitmentRequest) -> tuple[int, Dataset]:
        """Event type and event information, as things are now.

        Raises
        ------
        TransientError
        """
        failed = failures(
            request,
            held=self._held(request.hospital_id, request.wanted),
            set_aside=self._records.set_aside(request.hospital_id, request.wanted),
        )
        log.info(
            "commitment_decided",
            hospital=request.hospital_id,
            n_expected=len(request.wanted),
            n_failed=len(failed),
        )
        return SOME_FAILED if failed else ALL_COMMITTED, result(request, failed)

    def told(self, request: CommitmentRequest, *, status: int) -> None:
        """The sender has the result; a status other than success is its own affair."""
        if status:
            log.warning("commitment_not_taken", hospital=request.hospital_id, status=f"0x{status:04X}")
        reached("push.commitment_told")
        with self._letting_go(request):
            self._records.forget(request)

    def hung_up(self, request: CommitmentRequest) -> None:
        """The association of the request ended before the sender had the result."""
        listener = self.listener(request)
        if listener is None:
            reason = "it hung up, and push.commitment does not say where it listens"
            log.warning("commitment_not_told", hospital=request.hospital_id, reason=reason)
        with self._letting_go(request):
            if listener is None:
                self._records.forget(request)
            else:
                self._records.put_off(request, n_tried=0, due_at=utc_now())

    @contextmanager
    def _letting_go(self, request: CommitmentRequest) -> Iterator[None]:
        """Enter what became of a request; when the ledger is away, it is told later, or once more."""
        try:
            yield
        except TransientError as exc:
            log.warning("commitments_wait", error_class=type(exc).__name__)
        finally:
            with self._lock:
                self._busy.discard(_key(request))

    def _held(self, hospital_id: str, uids: Collection[str]) -> dict[str, str]:
        """SOP Class UIDs of what is durable. The spool first: what leaves it while we look is in the lake then."""
        held: dict[str, str] = {}
        for uid, path in self._spool.find(hospital_id, uids).items():
            with suppress(FileNotFoundError):
                held[uid] = sop_class_of(path)
        keys = lake_keys(self._settings)
        names = {keys.uid(uid): uid for uid in uids if uid not in held}
        if not names:
            return held
        query = """
            SELECT sop_instance_uid, sop_class_uid
            FROM dicom.instance
            WHERE hospital_id = $hospital AND sop_instance_uid IN (SELECT unnest($uids))
        """
        with duck.connect(self._lake, tables=["dicom.instance"]) as connection:
            rows = connection.execute(query, {"hospital": hospital_id, "uids": list(names)}).fetchall()
        return held | {names[uid]: sop_class for uid, sop_class in rows}

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            try:
                due = self._records.due(utc_now())
            except TransientError as exc:  # the ledger is away
                log.warning("commitments_wait", error_class=type(exc).__name__)
                continue
            for request in due:
                with self._lock:
                    if _key(request) in self._busy:
                        continue
                    self._busy.add(_key(request))
                self._tellers.submit(self._tell, request)

    def _tell(self, request: CommitmentRequest) -> None:
        """Over an association of ours."""
        try:
            listener = self.listener(request)
            if listener is None:  # the service was killed, or the hospitals file changed
                self.hung_up(request)
                return
            event_type, ds = self.result(request)
            status = report_event(
                listener,
                ae_title=self._settings.ae_title,
                sop_class=STORAGE_COMMITMENT,
                sop_uid=WELL_KNOWN,
                event_type=event_type,
                syntaxes=SYNTAXES,
                information=lambda syntax_uid: bytes_of(ds, syntax_uid=syntax_uid),
            )
            self.told(request, status=status)
        except RadlakeError as exc:
            self._failed(request, exc)

    def _failed(self, request: CommitmentRequest, exc: RadlakeError) -> None:
        n_tried = request.n_tried + 1
        reason = str(exc.facts.get("reason", type(exc).__name__))
        log.warning("commitment_not_told", hospital=request.hospital_id, attempt=n_tried, reason=reason)
        with self._letting_go(request):
            if n_tried >= _MOST_TRIES:
                self._records.forget(request)
            else:
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (n_tried - 1))
                self._records.put_off(request, n_tried=n_tried, due_at=utc_now() + timedelta(seconds=pause))


def _key(request: CommitmentRequest) -> Key:
    return request.hospital_id, request.transaction_uid
