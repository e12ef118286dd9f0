"""Our storage SCP under stress: killed, flooded, starved, fed with nonsense. What it acknowledged is on disk."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE
from pynetdicom.pdu_primitives import AsynchronousOperationsWindowNegotiation

from radlake.net import storage_scp
from radlake.net.connection import AssociationLost, open_socket
from radlake.net.delivery import Delivery
from radlake.net.instance_files import InstanceFolder
from radlake.net.message import Field, decode_command, encode_command
from radlake.net.pdu import Proposal, associate_rq, p_data
from radlake.net.storage_scp import receiving
from radlake.net.upper_layer import Association, AssociationRefused
from support import need, receiver
from support.dicom import bare_bytes, ct_study, write_all

SLICES = ct_study(n=40)
STUDY = str(SLICES[0].StudyInstanceUID)
PROPOSALS = [Proposal(CTImageStorage, (ExplicitVRLittleEndian,))]
RELEASED = b"\6\0\0\0\0\4\0\0\0\0"


@pytest.fixture
def port() -> int:
    return need.free_port()


@contextmanager
def scp(folder: Path, port: int, *, study: str = STUDY, timeout: float = 10) -> Iterator[Delivery]:
    delivery = Delivery(InstanceFolder(folder), due=None)
    with receiving(
        study, delivery=delivery, ae_title="RADLAKE", host="127.0.0.1", port=port, timeout=timeout, tls=None
    ):
        yield delivery


def store_request(ds: Dataset, *, number: int = 1) -> bytes:
    command = {
        "AffectedSOPClassUID": str(ds.SOPClassUID),
        "CommandField": Field.C_STORE_RQ,
        "MessageID": number,
        "Priority": 0,
        "AffectedSOPInstanceUID": str(ds.SOPInstanceUID),
    }
    return encode_command(command, with_data_set=True)


def associated(port: int) -> Association:
    sock = open_socket("127.0.0.1", port, seconds=10, tls=None)
    return Association.request(sock, calling="SENDER", called="RADLAKE", proposals=PROPOSALS, timeout=10)


def stored(assoc: Association, ds: Dataset) -> int:
    """Send one instance and return the status."""
    assoc.send(1, store_request(ds), bare_bytes(ds))
    return int(decode_command(assoc.receive()[1])["Status"])


def n_handles() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


# What is acknowledged


def test_what_was_acknowledged_to_a_sender_survives_a_kill(tmp_path: Path, port: int) -> None:
    command = [sys.executable, receiver.__file__, str(tmp_path / "study"), STUDY, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        acknowledged: set[str] = set()
        enough = threading.Event()

        def send(share: list[Dataset]) -> None:
            with suppress(AssociationLost):
                assoc = associated(port)
                for ds in share:
                    if stored(assoc, ds) == 0:
                        acknowledged.add(str(ds.SOPInstanceUID))
                    if len(acknowledged) >= 10:
                        enough.set()

        with ThreadPoolExecutor(4) as pool:
            pool.map(send, [SLICES[n::4] for n in range(4)])
            enough.wait(30)
            process.send_signal(signal.SIGKILL)
    found = {path.stem: path for path in (tmp_path / "study").glob("*.dcm")}
    assert 10 <= len(acknowledged) <= len(found)
    assert acknowledged <= found.keys()
    sent = {str(ds.SOPInstanceUID): ds for ds in SLICES}
    assert all(dcmread(path) == sent[name] for name, path in found.items()), "a final name and not all of the instance"
    InstanceFolder(tmp_path / "study")
    assert {path.stem for path in (tmp_path / "study").iterdir()} == found.keys()


@pytest.mark.dcmqrscp
def test_what_storescu_takes_for_stored_is_on_disk_when_the_receiver_is_killed(tmp_path: Path, port: int) -> None:
    files = {
        str(path): str(ds.SOPInstanceUID) for ds, path in zip(SLICES, write_all(SLICES, tmp_path / "in"), strict=True)
    }
    command = [sys.executable, receiver.__file__, str(tmp_path / "study"), STUDY, str(port)]
    sender = [need.program("storescu", package="dcmtk"), "-v", "-aec", "RADLAKE", "127.0.0.1", str(port), *files]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        with subprocess.Popen(sender, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as sending:
            assert sending.stdout is not None
            said = ""
            for line in sending.stdout:
                said += line
                if said.count("(Success)") == 5:
                    process.kill()
    assert sending.returncode != 0
    sent = re.findall(r"Sending file: (\S+)\n(?:(?!Sending file).*\n)*?.*Received Store Response \(Success\)", said)
    assert len(sent) >= 5
    assert {files[path] for path in sent} <= {path.stem for path in (tmp_path / "study").glob("*.dcm")}


def test_file_and_name_are_synced_before_the_answer(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def fsync(handle: int, really: object = os.fsync) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        assert callable(really)
        really(handle)
        synced.append(kind)

    with scp(tmp_path / "study", port):
        assoc = associated(port)
        monkeypatch.setattr(os, "fsync", fsync)
        for n in (1, 2):
            assert stored(assoc, SLICES[n]) == 0
            assert synced == ["file", "folder"] * n
        assert stored(assoc, SLICES[1]) == 0
        assert synced == ["file", "folder"] * 2, "it is here already"
        assoc.release()


def test_many_at_once_share_a_sync_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = InstanceFolder(tmp_path)
    n_synced = 0

    def fsync(handle: int) -> None:
        nonlocal n_synced
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            n_synced += 1
            time.sleep(0.2)

    def keep(n: int) -> bool:
        with folder.draft() as draft:
            return draft.keep_as(f"1.{n}")

    monkeypatch.setattr(os, "fsync", fsync)
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(keep, range(16)))
    assert 1 <= n_synced <= 4
    assert len(folder.uids()) == 16


# Who may send, and how


def test_fifty_associations_at_once(tmp_path: Path, port: int) -> None:
    all_are_here = threading.Barrier(50, timeout=30)
    slices = ct_study(n=100)

    def send(n: int) -> list[int]:
        assoc = associated(port)
        all_are_here.wait()
        statuses = [stored(assoc, ds) for ds in slices[2 * n : 2 * n + 2]]
        assoc.release()
        return statuses

    with scp(tmp_path / "study", port) as delivery, ThreadPoolExecutor(50) as pool:
        assert list(pool.map(send, range(50))) == [[0, 0]] * 50
        assert delivery.folder.uids() == {str(ds.SOPInstanceUID) for ds in slices}


def test_one_association_too_many_is_told_to_come_again(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_scp, "_MOST_ASSOCIATIONS", 2)
    with scp(tmp_path / "study", port):
        first, second = associated(port), associated(port)
        with pytest.raises(AssociationRefused, match="local limit exceeded") as caught:
            associated(port)
        assert caught.value.is_transient
        assert stored(first, SLICES[0]) == 0
        first.release()
        until = time.monotonic() + 5
        while time.monotonic() < until:
            with suppress(AssociationRefused):
                associated(port).release()
                break
        else:
            pytest.fail("the place did not become free")
        second.release()


@pytest.mark.parametrize("said", ["nothing", "half a request", "half an instance"])
@pytest.mark.parametrize("is_dribbling", [False, True], ids=["silent", "a byte now and then"])
def test_a_sender_that_keeps_us_waiting_is_cut(said: str, is_dribbling: bool, tmp_path: Path, port: int) -> None:
    request = associate_rq(called="RADLAKE", calling="SLOW", proposed={1: PROPOSALS[0]})
    with scp(tmp_path / "study", port, timeout=0.5), socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        if said == "half a request":
            sock.sendall(request[:40])
        elif said == "half an instance":
            sock.sendall(request + p_data(1, 3, store_request(SLICES[0])) + b"\4\0\0\0\x20\0\0\0\x1f\xfc\1\2")
            assert sock.recv(4096)[0] == 2
        begin = time.monotonic()
        sock.settimeout(0.2)  # three bytes until it is cut: six would be the head of a PDU
        answer = b""
        while time.monotonic() < begin + 5:
            try:
                if is_dribbling:
                    sock.sendall(b"\1")
                answer = sock.recv(4096)
                break
            except TimeoutError:
                pass
            except OSError:
                break
        assert 0.4 < time.monotonic() - begin < 3
        assert answer in (b"", b"\7\0\0\0\0\4\0\0\0\0")
    assert list((tmp_path / "study").iterdir()) == []


def test_a_broken_association_leaves_nothing(tmp_path: Path, port: int) -> None:
    with scp(tmp_path / "study", port) as delivery:
        assoc = associated(port)
        assert stored(assoc, SLICES[0]) == 0
        data = bare_bytes(SLICES[1])
        assoc._connection.write(p_data(1, 3, store_request(SLICES[1])) + p_data(1, 0, data[:5000]))
        delivery.wait_until(lambda: any((tmp_path / "study").glob(".*")), silence=0.2)
        assoc.abort()
        delivery.drain()
        assert delivery.arrived == {str(SLICES[0].SOPInstanceUID)}
    assert [path.stem for path in (tmp_path / "study").iterdir()] == [str(SLICES[0].SOPInstanceUID)]


def test_a_sender_that_does_not_wait_for_answers(tmp_path: Path, port: int) -> None:
    with scp(tmp_path / "study", port) as delivery:
        assoc = associated(port)
        for number, ds in enumerate(SLICES[:10], start=1):
            assoc.send(1, store_request(ds, number=number), bare_bytes(ds))
        answers = [decode_command(assoc.receive()[1]) for _ in range(10)]
        assoc.release()
        assert [(answer["MessageIDBeingRespondedTo"], answer["Status"]) for answer in answers] == [
            (number, 0) for number in range(1, 11)
        ]
        assert len(delivery.arrived) == 10


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("asked", "granted"), [(0, 16), (5, 5), (100, 16)], ids=["no limit", "few", "many"])
def test_pynetdicom_stores_and_gets_its_window(asked: int, granted: int, tmp_path: Path, port: int) -> None:
    ae = AE("SENDER")
    ae.add_requested_context(CTImageStorage, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    ae.add_requested_context(MRImageStorage, ["1.2.840.113619.5.2"])
    ae.add_requested_context("1.2.840.10008.5.1.4.1.2.2.1")
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = asked
    window.maximum_number_operations_performed = 1
    with scp(tmp_path / "study", port):
        assoc = ae.associate("127.0.0.1", port, ae_title="RADLAKE", ext_neg=[window])
        assert assoc.is_established
        assert assoc.acceptor.asynchronous_operations == (granted, 1)
        assert [context.result for context in assoc.rejected_contexts] == [4, 3]
        assert assoc.send_c_store(SLICES[0]).Status == 0
        assoc.release()
        assert assoc.is_released
    assert dcmread(tmp_path / "study" / f"{SLICES[0].SOPInstanceUID}.dcm") == SLICES[0]


@pytest.mark.dcmqrscp
@pytest.mark.parametrize("option", ["-xe", "-xi", "-xb", "-R"])
def test_storescu_proposes_what_it_likes(option: str, tmp_path: Path, port: int) -> None:
    (path,) = write_all(SLICES[:1], tmp_path / "in")
    command = [need.program("storescu", package="dcmtk"), option, "-aec", "RADLAKE", "127.0.0.1", str(port), path]
    with scp(tmp_path / "study", port):
        subprocess.run(command, check=True, timeout=60)
    came = dcmread(tmp_path / "study" / f"{SLICES[0].SOPInstanceUID}.dcm")
    assert (came.SOPInstanceUID, came.pixel_array.tobytes()) == (
        SLICES[0].SOPInstanceUID,
        SLICES[0].pixel_array.tobytes(),
    )


# Nonsense


def stream() -> bytes:
    """All that a good sender says: two instances in PDUs of 4 kB, and the release."""
    said = associate_rq(called="RADLAKE", calling="SENDER", proposed={1: PROPOSALS[0]})
    for ds in SLICES[:2]:
        said += p_data(1, 3, store_request(ds))
        data = bare_bytes(ds)
        parts = [data[begin : begin + 4096] for begin in range(0, len(data), 4096)]
        said += b"".join(p_data(1, 0, part) for part in parts[:-1]) + p_data(1, 2, parts[-1])
    return said + b"\5\0\0\0\0\4\0\0\0\0"


def mutated(good: bytes, *, seed: int) -> bytes:
    """Some bytes changed, cut out or put in, mostly where the protocol speaks."""
    chance = random.Random(seed)
    said = bytearray(good)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(said) if chance.random() < 0.5 else min(600, len(said)))
        match chance.randrange(5):
            case 0:
                said[at] ^= 1 << chance.randrange(8)
            case 1:
                said[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del said[at : at + chance.randint(1, 40)]
            case 3:
                said[at:at] = chance.randbytes(chance.randint(1, 40))
            case _:
                said[at : at + 4] = struct.pack(">L", chance.choice((0, 1, 5, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)))
    return bytes(said)


def test_the_stream_without_mutations_is_good(tmp_path: Path, port: int) -> None:
    with scp(tmp_path / "study", port) as delivery, socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(stream())
        sock.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: sock.recv(65536), b""))
        assert said.endswith(RELEASED)
        assert len(delivery.arrived) == 2


def test_mutated_bytes_neither_hang_nor_crash_nor_leak(tmp_path: Path, port: int) -> None:
    good = stream()
    with scp(tmp_path / "study", port, timeout=2) as delivery:
        n_threads, n_open = threading.active_count(), n_handles()
        for seed in range(300):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as sock, suppress(ConnectionError):
                sock.sendall(mutated(good, seed=seed))
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):  # a time-out is a hang, and fails
                    pass
        until = time.monotonic() + 5
        while time.monotonic() < until and (threading.active_count() > n_threads or n_handles() > n_open):
            time.sleep(0.02)
        assert threading.active_count() <= n_threads
        assert n_handles() <= n_open
        assert list((tmp_path / "study").glob(".*")) == []
        assoc = associated(port)
        assert stored(assoc, SLICES[2]) == 0
        assoc.release()
        assert delivery.store_full is None
