"""Storage commitment for pynetdicom and a real Orthanc: true, told to whoever asked, and not forgotten by a kill."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # pyright: ignore[reportAttributeAccessIssue]

from radlake.lake.commitments import CommitmentRecords
from radlake.lake.ledger import Ledger
from radlake.machine import free_port, utc_now
from radlake.receive import commitments
from radlake.receive.commitment import WELL_KNOWN
from support.dicom import ct_study, image_study, uid, write_all
from support.pacs import orthanc
from support.push import Receiver, lake_of, receiver_process, receiving_lake, send, study_states, until

NEVER, QUIET = 600.0, 1.5
CT = ct_study(n=3)


class Heard:
    """N-EVENT-REPORTs that a sender took: event type, what is committed, what failed and why."""

    def __init__(self) -> None:
        self.reports: list[tuple[int | None, set[str], dict[str, int]]] = []
        self.has_one = threading.Event()

    def take(self, event: evt.Event) -> tuple[int, None]:
        ds = event.event_information
        committed = {str(item.ReferencedSOPInstanceUID) for item in ds.get("ReferencedSOPSequence") or ()}
        failed = {str(i.ReferencedSOPInstanceUID): i.FailureReason for i in ds.get("FailedSOPSequence") or ()}
        self.reports.append((event.event_type, committed, failed))
        self.has_one.set()
        return 0x0000, None


def uids(instances: list[Dataset]) -> set[str]:
    return {str(ds.SOPInstanceUID) for ds in instances}


def request_of(wanted: dict[str, str], *, transaction: str = "first") -> Dataset:
    ds = Dataset()
    ds.TransactionUID = uid("transaction", transaction)
    ds.ReferencedSOPSequence = []
    for instance, sop_class in wanted.items():
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        ds.ReferencedSOPSequence.append(item)
    return ds


def ask(receiver: Receiver, wanted: dict[str, str], *, stays: bool, heard: Heard, **given: Any) -> int:
    """pynetdicom asks, and hangs up or waits for the result; the status of the N-ACTION."""
    ae = AE("SENDER")
    ae.add_requested_context(StorageCommitmentPushModel)
    association = ae.associate(
        "127.0.0.1", receiver.dicom_port, ae_title="RADLAKE", evt_handlers=[(evt.EVT_N_EVENT_REPORT, heard.take)]
    )
    assert association.is_established
    instance, action = given.pop("instance", WELL_KNOWN), given.pop("action", 1)
    status, _ = association.send_n_action(
        request_of(wanted, **given), action, StorageCommitmentPushModel, instance, msg_id=7
    )
    if stays:
        assert heard.has_one.wait(30)
        time.sleep(0.2)  # so that the answer is on its way
    association.release()
    return int(status.get("Status", -1))


@contextmanager
def listening(port: int, heard: Heard) -> Iterator[None]:
    """The sender at its own port."""
    ae = AE("SENDER")
    ae.require_called_aet = True
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, heard.take)])
    assert server is not None
    try:
        yield
    finally:
        server.shutdown()


def n_pending(receiver: Receiver) -> int:
    ledger = Ledger(receiver.settings.ledger)
    try:
        return len(CommitmentRecords(ledger).due(utc_now().replace(year=3000)))
    finally:
        ledger.close()


@pytest.mark.parametrize("is_listed", [False, True], ids=["", "though it listens elsewhere"])
def test_a_sender_that_stays_hears_it_on_the_same_association(is_listed: bool, tmp_path: Path) -> None:
    wanted = dict.fromkeys(uids(CT), str(CTImageStorage)) | {uid("never"): str(CTImageStorage)}
    other = str(CT[0].SOPInstanceUID)
    with receiving_lake(lake_of(tmp_path, quiet=NEVER, listener=free_port() * is_listed)) as receiver:
        assert send(receiver, CT) == [0, 0, 0]
        heard = Heard()
        assert ask(receiver, wanted, stays=True, heard=heard) == 0
        assert heard.reports == [(2, uids(CT), {uid("never"): 0x0112})]
        second = Heard()
        asked = dict.fromkeys(uids(CT), str(CTImageStorage)) | {other: str(MRImageStorage)}
        assert ask(receiver, asked, stays=True, heard=second, transaction="second") == 0
        assert second.reports == [(2, uids(CT) - {other}, {other: 0x0119})]
        until(lambda: n_pending(receiver) == 0, seconds=10)


def test_what_is_in_the_lake_is_committed_and_what_is_set_aside_is_not(tmp_path: Path) -> None:
    broken = image_study("MR", n=2, patient_id="P2", study=2)
    del broken[0].Rows
    settings = lake_of(tmp_path, quiet=QUIET)
    wanted = {str(ds.SOPInstanceUID): str(ds.SOPClassUID) for ds in [*CT, *broken]}
    with receiving_lake(settings) as receiver:
        assert set(send(receiver, [*CT, *broken])) == {0}
        until(lambda: receiver.spooled() == set() and len(study_states(settings)) == 2)
        heard = Heard()
        ask(receiver, wanted, stays=True, heard=heard)
    assert heard.reports == [
        (2, set(wanted) - {str(broken[0].SOPInstanceUID)}, {str(broken[0].SOPInstanceUID): 0x0110})
    ]


def test_a_sender_that_hung_up_hears_it_where_it_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commitments, "_FIRST_PAUSE", 0.5)
    port, heard = free_port(), Heard()
    with receiving_lake(lake_of(tmp_path, quiet=NEVER, listener=port)) as receiver:
        send(receiver, CT)
        assert ask(receiver, dict.fromkeys(uids(CT), str(CTImageStorage)), stays=False, heard=Heard()) == 0
        time.sleep(1.5)  # nobody listens at first
        assert n_pending(receiver) == 1
        with listening(port, heard):
            assert heard.has_one.wait(30)
            until(lambda: n_pending(receiver) == 0, seconds=10)
    assert heard.reports == [(1, uids(CT), {})]


@pytest.mark.parametrize(("point", "n_told"), [("push.commitment_asked", 1), ("push.commitment_told", 2)])
def test_a_request_that_was_taken_survives_a_kill(point: str, n_told: int, tmp_path: Path) -> None:
    port, heard = free_port(), Heard()
    settings = lake_of(tmp_path, quiet=NEVER, listener=port)
    with listening(port, heard):
        with receiver_process(settings, kill_at=point) as (receiver, process):
            assert send(receiver, CT) == [0, 0, 0]
            ask(receiver, dict.fromkeys(uids(CT), str(CTImageStorage)), stays=False, heard=Heard())
            assert process.wait(60) == -signal.SIGKILL
        with receiving_lake(settings) as again:
            until(lambda: n_pending(again) == 0, seconds=30)
    assert heard.reports == [(1, uids(CT), {})] * n_told


def test_what_is_no_request_is_refused(tmp_path: Path) -> None:
    wanted = dict.fromkeys(uids(CT), str(CTImageStorage))
    with receiving_lake(lake_of(tmp_path, quiet=NEVER, listener=free_port())) as receiver:
        statuses = [
            ask(receiver, wanted, stays=False, heard=Heard(), action=2),
            ask(receiver, wanted, stays=False, heard=Heard(), instance="1.2.3"),
            ask(receiver, {}, stays=False, heard=Heard()),
            ask(receiver, wanted, stays=False, heard=Heard()),
            ask(receiver, wanted, stays=False, heard=Heard()),
            ask(receiver, {uid("other"): str(CTImageStorage)}, stays=False, heard=Heard()),
        ]
        assert statuses == [0x0123, 0x0112, 0x0115, 0, 0, 0x0115]
        assert n_pending(receiver) == 1


@pytest.mark.orthanc
def test_orthanc_deletes_what_we_are_committed_to(tmp_path: Path) -> None:
    files = write_all(CT, tmp_path / "in")
    with orthanc(tmp_path, files=files, ae_title="SENDER") as pacs:
        settings = lake_of(tmp_path, quiet=NEVER, listener=pacs.dicom_port)
        url = f"http://127.0.0.1:{pacs.http_port}"
        with receiving_lake(settings) as receiver, httpx.Client(base_url=url, timeout=60) as rest:
            place = {"AET": "RADLAKE", "Host": "127.0.0.1", "Port": receiver.dicom_port}
            rest.put("/modalities/lake", json=place).raise_for_status()
            instances = rest.get("/instances").json()
            stored = rest.post("/modalities/lake/store", json={"Resources": instances, "StorageCommitment": True})
            name = stored.raise_for_status().json()["StorageCommitmentTransactionUID"]
            until(lambda: rest.get(f"/storage-commitment/{name}").json()["Status"] != "Pending", seconds=30)
            assert rest.get(f"/storage-commitment/{name}").json()["Status"] == "Success"
            rest.post(f"/storage-commitment/{name}/remove").raise_for_status()
            assert rest.get("/instances").json() == []
            asked = rest.post(
                "/modalities/lake/storage-commitment",
                json={"DicomInstances": [{"SOPClassUID": str(CTImageStorage), "SOPInstanceUID": uid("never")}]},
            )
            name = asked.raise_for_status().json()["ID"]
            until(lambda: rest.get(f"/storage-commitment/{name}").json()["Status"] != "Pending", seconds=30)
            assert rest.get(f"/storage-commitment/{name}").json()["Status"] == "Failure"
