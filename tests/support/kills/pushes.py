"""A hospital that pushes: instances, steps, and a request for storage commitment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence

from support.dicom import ct_study, image_study, uid
from support.kills.harvests import see_harvest
from support.kills.scenario import Scenario, settings_in
from support.lakes import states

__all__ = ["PUSHES"]


def _push(folder: Path, given: Mapping[str, Any]) -> None:
    """A hospital pushes over DIMSE what was not acknowledged before; the receiver closes its studies and ingests them.

    One study has an MPPS that lists all of it, one an MPPS that lists more than came, of one nothing is told.
    """
    from radlake.lake import Lake
    from radlake.lake.commitments import CommitmentRecords
    from radlake.lake.pushed import PushRecords
    from radlake.machine import free_port, utc_now
    from radlake.net.message import Field
    from radlake.net.storage_scp import StorageServer
    from radlake.receive import commitments
    from radlake.receive.closer import Closer
    from radlake.receive.scp import Reception
    from radlake.receive.senders import Senders
    from radlake.receive.spool import PushSpool
    from radlake.vault.lake_key import open_ledger
    from support.push import Receiver, hospitals_of, lake_of, mpps_step

    commitments._LOOK_SECONDS = 0.1
    port = free_port()
    settings = lake_of(folder, quiet=0.1, listener=port)
    senders = Senders(hospitals_of(settings), path=str(settings.hospitals))
    spool = PushSpool(Lake.from_settings(settings).spool, keep_free=0)
    once = _Once(folder / "acknowledged")
    with closing(open_ledger(settings)) as ledger, _hearing(port) as has_heard:
        records, requests = PushRecords(ledger), CommitmentRecords(ledger)
        with (
            closing(Closer(settings, senders, spool, ledger, executor=None)) as closer,
            closing(commitments.Commitments(settings, senders, spool, ledger)) as committing,
        ):
            host = Reception(senders, spool, records, committing, told=closer.told)
            server = StorageServer(settings.ae_title, "127.0.0.1", 0, timeout=10, tls=None, host=host)
            receiver = Receiver(settings, server.port, 0)
            try:
                for name, (begun, done, instances) in _pushed().items():
                    if begun and done:
                        once(f"create {name}", partial(mpps_step, receiver, Field.N_CREATE_RQ, begun, name=name))
                    for ds in instances:
                        once(f"send {ds.SOPInstanceUID}", partial(_sent, receiver, ds))
                    if begun and done:
                        once(f"set {name}", partial(mpps_step, receiver, Field.N_SET_RQ, done, name=name))
                once("commit", partial(_commit, receiver, has_heard))
                _wait(lambda: not requests.due(utc_now().replace(year=3000)))
            finally:
                server.stop()
                server.wait()
            is_done = partial(_all_settled, settings, n=len(_pushed()))
            _wait(lambda: not spool.n_waiting() and is_done(), doing=closer.sweep)


def _commit(receiver: Any, has_heard: threading.Event) -> int:
    """Ask for storage commitment of what was sent, hang up, and wait for the result."""
    from pynetdicom import AE
    from pynetdicom.sop_class import StorageCommitmentPushModel  # pyright: ignore[reportAttributeAccessIssue]

    ds = Dataset()
    ds.TransactionUID = uid("transaction")
    ds.ReferencedSOPSequence = [_reference(ds) for _, _, instances in _pushed().values() for ds in instances]
    ae = AE("SENDER")
    ae.add_requested_context(StorageCommitmentPushModel)
    association = ae.associate("127.0.0.1", receiver.dicom_port, ae_title="RADLAKE")
    status, _ = association.send_n_action(ds, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
    association.release()
    assert has_heard.wait(60), "the result of storage commitment was not told"
    return int(status.Status)


@contextmanager
def _hearing(port: int) -> Iterator[threading.Event]:
    """The sender at its own port; the event says that it heard of all instances that they are committed."""
    from pynetdicom import AE, evt
    from pynetdicom.sop_class import StorageCommitmentPushModel  # pyright: ignore[reportAttributeAccessIssue]

    has_heard = threading.Event()

    def take(event: Any) -> tuple[int, None]:
        if event.event_type == 1:
            has_heard.set()
        return 0x0000, None

    ae = AE("SENDER")
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)])
    assert server is not None
    try:
        yield has_heard
    finally:
        server.shutdown()


def _sent(receiver: Any, ds: Dataset) -> int:
    from support.push import send

    (status,) = send(receiver, [ds])
    return status


class _Once:
    """A sender that sends again what was not acknowledged, and only that."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._done = set(journal.read_text().splitlines()) if journal.exists() else set()

    def __call__(self, name: str, send: Callable[[], int]) -> None:
        if name in self._done:
            return
        # The step was created (0x0111) or ended (0x0110), or the request kept (0x0115), and the answer did not come.
        assert send() in (0, 0x0110, 0x0111, 0x0115)
        with self._journal.open("a") as journal:
            journal.write(f"{name}\n")


def _pushed() -> dict[str, tuple[Dataset | None, Dataset | None, list[Dataset]]]:
    """The beginning and the end of its step, and the instances of each study."""
    ct = ct_study(n=2)
    mr = image_study("MR", n=2, patient="韩梅梅", patient_id="P2", study=2)
    dx = image_study("DX", n=1, patient="Wang^Fang", patient_id="P3", study=3)
    return {"ct": (*_step(ct), ct), "mr": (*_step(mr), mr[:1]), "dx": (None, None, dx)}


def _step(instances: list[Dataset]) -> tuple[Dataset, Dataset]:
    begun, done, scheduled, series = Dataset(), Dataset(), Dataset(), Dataset()
    scheduled.StudyInstanceUID = instances[0].StudyInstanceUID
    begun.ScheduledStepAttributesSequence = Sequence([scheduled])
    begun.PerformedProcedureStepStatus = "IN PROGRESS"
    begun.PerformedSeriesSequence = Sequence([])
    series.SeriesInstanceUID = instances[0].SeriesInstanceUID
    series.ReferencedImageSequence = Sequence([_reference(ds) for ds in instances])
    done.PerformedProcedureStepStatus = "COMPLETED"
    done.PerformedSeriesSequence = Sequence([series])
    return begun, done


def _reference(ds: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    return reference


def _wait(is_done: Callable[[], bool], *, doing: Callable[[], object] = lambda: None) -> None:
    end = time.monotonic() + 60
    while not is_done():
        assert time.monotonic() < end, "what was pushed is not ingested, or not committed"
        doing()
        time.sleep(0.05)


def _all_settled(settings: Any, *, n: int) -> bool:
    found = states(settings).values()
    return len(found) == n and not any(state in ("discovered", "retrieving") for state, _ in found)


def _see_pushed(folder: Path) -> dict[str, Any]:
    """Besides a harvest: what was told, and who vouches."""
    from radlake.lake.ledger import Ledger
    from radlake.lake.pushed import PushRecords

    with closing(Ledger(settings_in(folder).ledger)) as ledger:
        records = PushRecords(ledger)
        told = {
            entry.study_uid: (records.notices("h1", entry.study_uid), records.unverified("h1", entry.study_uid))
            for entry in ledger.entries("h1")
        }
    return see_harvest(folder) | {"told": told}


PUSHES: Mapping[str, Scenario] = {"push": Scenario(_push, _see_pushed)}
