"""Hospitals that push to a running receiver: DCMTK's storescu, our own sender, MPPS, STOW-RS."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pydicom import Dataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

from radlake.config import Settings
from radlake.net import Hospital, load_hospitals
from radlake.net.connection import open_socket
from radlake.net.message import Command, Field, decode_command, encode_command
from radlake.net.pdu import Proposal
from radlake.net.upper_layer import Association
from radlake.receive.mpps import MPPS
from radlake.receive.service import Listening, receive
from support import killed_reception, need
from support.dicom import bare_bytes, dicom_bytes, uid
from support.lakes import settings_of

__all__ = ["Receiver", "mpps_step", "multipart", "receiving_lake", "send", "storescu", "study_states", "until"]

TOKEN = "a-token-of-h1"
HOSPITALS = """
hospitals:
  - hospital_id: h1
    name_zh: 一
    name_en: One
    {node}
    push:
      ae_titles: [SENDER, STORESCU]
      hosts: [127.0.0.1]
      token: "file:{token}"
      commitment: {listeners}
      close: {{quiet: {quiet}}}
  - hospital_id: h2
    name_zh: 二
    name_en: Two
    push:
      ae_titles: [OTHER]
      hosts: [127.0.0.1]
      close: {{quiet: {quiet}}}
"""


@dataclass(frozen=True)
class Receiver:
    """Where a receiver listens, and its lake."""

    settings: Settings
    dicom_port: int
    http_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def spooled(self) -> set[str]:
        """SOP Instance UIDs that lie in the spool."""
        return {path.stem for path in (self.settings.restricted / "spool" / "push").rglob("*.dcm")}


def lake_of(folder: Path, *, quiet: float, node: str = "", listener: int = 0) -> Settings:
    """A new lake whose hospital h1 pushes by DIMSE and HTTP, and h2 by DIMSE.

    Parameters
    ----------
    listener : int
        Port at which SENDER of h1 hears of storage commitment; it says none when 0.
    """
    settings = settings_of(folder / "lake")
    token = folder / "token"
    token.write_text(TOKEN)
    listeners = f"[{{ae_title: SENDER, host: 127.0.0.1, port: {listener}}}]" if listener else "[]"
    text = HOSPITALS.format(quiet=quiet / 60, node=node or "level: UNKNOWN", token=token, listeners=listeners)
    settings.hospitals.write_text(text, encoding="utf-8")
    return settings


def hospitals_of(settings: Settings) -> list[Hospital]:
    return list(load_hospitals(settings.hospitals).values())


@contextmanager
def receiving_lake(settings: Settings, **limits: Any) -> Iterator[Receiver]:
    """A receiver in this process; it ends in order."""
    said, ready, stop, failed = list[str](), threading.Event(), threading.Event(), list[BaseException]()
    limits = {"keep_free": 0, "silence": 10.0, **limits}
    listening = Listening(host="127.0.0.1", dicom_port=0, http_port=0, **limits)

    def announce(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            ready.set()

    def run() -> None:
        try:
            receive(settings, hospitals_of(settings), listening, stop=stop, announce=announce)
        except BaseException as exc:
            failed.append(exc)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(60)
        assert not failed, failed
        receiver = Receiver(settings, *_ports(said))
        until(lambda: failed or _is_up(receiver))
        assert not failed, failed
        yield receiver
    finally:
        stop.set()
        thread.join(90)
    assert not failed, failed


@contextmanager
def receiver_process(settings: Settings, *, kill_at: str = "") -> Iterator[tuple[Receiver, subprocess.Popen[str]]]:
    """`radlake receive` as a process of its own, to be killed, or one that kills itself at a commit point."""
    command = [str(Path(sys.executable).with_name("radlake")), "--lake", settings.lake, "receive"]
    command += ["--host", "127.0.0.1", "--keep-free", "0", "--dicom-port", "0", "--http-port", "0"]
    with subprocess.Popen(
        [sys.executable, killed_reception.__file__, kill_at, settings.lake] if kill_at else command,
        env=os.environ | {"RADLAKE_WORKERS": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            receiver = Receiver(settings, *_ports([process.stdout.readline(), process.stdout.readline()]))
            until(lambda: process.poll() is not None or _is_up(receiver))
            yield receiver, process
        finally:
            process.kill()


def _ports(said: Sequence[str]) -> tuple[int, int]:
    """Of DICOM and HTTP, from what a receiver announces."""
    dicom, http = (int(re.findall(r":(\d+)", line)[-1]) for line in said)
    return dicom, http


def _is_up(receiver: Receiver) -> bool:
    try:
        return httpx.get(f"{receiver.url}/healthz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def until(is_so: Callable[[], Any], *, seconds: float = 90) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.05)


def storescu(receiver: Receiver, *files: Path, calling: str = "STORESCU", called: str = "RADLAKE") -> str:
    """DCMTK as it comes; what it says when it fails, else nothing."""
    command = [need.program("storescu", package="dcmtk"), "-aet", calling, "-aec", called, "127.0.0.1"]
    done = subprocess.run(
        [*command, str(receiver.dicom_port), *map(str, files)], capture_output=True, text=True, timeout=60, check=False
    )
    return (done.stdout + done.stderr) if done.returncode else ""


def associated(receiver: Receiver, *classes: str, calling: str = "SENDER") -> Association:
    sock = open_socket("127.0.0.1", receiver.dicom_port, seconds=10, tls=None)
    proposals = [Proposal(name, (ExplicitVRLittleEndian,)) for name in classes]
    return Association.request(sock, calling=calling, called="RADLAKE", proposals=proposals, timeout=10)


def send(receiver: Receiver, instances: Sequence[Dataset], *, calling: str = "SENDER") -> list[int]:
    """Our own sender: the status of each instance."""
    assoc = associated(receiver, *{str(ds.SOPClassUID) for ds in instances}, calling=calling)
    statuses = []
    for number, ds in enumerate(instances, start=1):
        request: Command = {
            "AffectedSOPClassUID": str(ds.SOPClassUID),
            "CommandField": Field.C_STORE_RQ,
            "MessageID": number,
            "Priority": 0,
            "AffectedSOPInstanceUID": str(ds.SOPInstanceUID),
        }
        context = assoc.context_for(str(ds.SOPClassUID))
        assert context is not None
        assoc.send(context, encode_command(request, with_data_set=True), bare_bytes(ds))
        statuses.append(int(decode_command(assoc.receive()[1])["Status"]))
    assoc.release()
    return statuses


def mpps_step(receiver: Receiver, field: Field, ds: Dataset, *, name: str = "step") -> int:
    """N-CREATE or N-SET of a performed procedure step; the status."""
    which = "Affected" if field is Field.N_CREATE_RQ else "Requested"
    request: Command = {
        f"{which}SOPClassUID": MPPS,
        "CommandField": field,
        "MessageID": 1,
        f"{which}SOPInstanceUID": uid("mpps", name),
    }
    data = io.BytesIO()
    stream = DicomFileLike(data)
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_dataset(stream, ds)
    assoc = associated(receiver, MPPS)
    context = assoc.context_for(MPPS)
    assert context is not None
    assoc.send(context, encode_command(request, with_data_set=True), data.getvalue())
    status = int(decode_command(assoc.receive()[1])["Status"])
    assoc.release()
    return status


def multipart(*parts: Dataset | bytes) -> tuple[Iterator[bytes], dict[str, str]]:
    """Body, as a stream, and headers of a STOW-RS request."""

    def body() -> Iterator[bytes]:
        for part in parts:
            yield b"--b\r\nContent-Type: application/dicom\r\n\r\n"
            data = part if isinstance(part, bytes) else dicom_bytes(part)
            for at in range(0, len(data), 1000):
                yield data[at : at + 1000]
            yield b"\r\n"
        yield b"--b--"

    headers = {
        "Content-Type": 'multipart/related; type="application/dicom"; boundary=b',
        "Authorization": f"Bearer {TOKEN}",
    }
    return body(), headers


def study_states(settings: Settings) -> dict[str, tuple[str, str]]:
    from support.lakes import states

    return {name.partition("/")[2]: state for name, state in states(settings).items()}
