"""Retrieve: one CT study out of a real Orthanc by C-GET, C-MOVE and WADO-RS, and pushed at our storage SCP.

Counted is the receiving end. Every connection has TCP_NODELAY. radlake asks for the list of instances first, and makes
each one durable before it counts or acknowledges it; the others do neither. The last table leaves DCMTK as it comes,
with Nagle's algorithm on: there the wall time is the point, for the ends mostly wait for each other.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from xxhash import xxh3_128_hexdigest

from bench.archive import write_archive
from bench.measure import Done, Place, Prepare, command_cpu, compare, in_fresh_process, print_table, same_answer

__all__ = ["main"]

_HOST = "127.0.0.1"
_OUR_AE_TITLE, _AE_TITLE = "RADLAKE", "ORTHANC"
_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_NO_DELAY = {"TCP_NODELAY": "1"}  # read by DCMTK
_LARGEST_PDU = 131_072  # that DCMTK knows
_LIMITS = ("-pdu", str(_LARGEST_PDU), "-to", "10", "-td", "60")  # and seconds to connect and to answer

_Environment = dict[str, str]


@dataclass(frozen=True)
class _Study:
    """A study in the archive, which Orthanc holds too.

    Attributes
    ----------
    move_port : int
        Where Orthanc sends what is moved to us.
    """

    folder: Path
    dicom_port: int
    http_port: int
    move_port: int

    @property
    def uid(self) -> str:
        return self.folder.name

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())


def main(place: Place, *, scale: float) -> None:
    """120 instances at scale 1, 40 for a sender that waits."""
    n_instances = max(1, round(120 * scale))
    archive = place.folder / "archive"
    in_fresh_process(partial(write_archive, archive, n_instances=n_instances, study_instances=n_instances))
    (folder,) = archive.iterdir()
    study = _Study(folder, *_free_ports(3))
    _compare_retrieves(study, place=place)
    if shutil.which("storescu"):
        some = study.files[: max(1, n_instances // 3)]
        _compare_scps(study, study.files, _NO_DELAY, ratio="cpu", place=place)
        _compare_scps(study, some, {}, ratio="seconds", place=place)
    else:
        print("skipped: storage SCPs, storescu is not installed")


def _compare_retrieves(study: _Study, *, place: Place) -> None:
    from radlake.synth.orthanc import find_orthanc, load_orthanc, running_orthanc

    program = find_orthanc()
    if program is None:
        print("skipped: all retrieves, Orthanc is not installed")
        return
    has_web = _DICOMWEB.exists()
    contestants: dict[str, Prepare] = {
        "radlake C-GET": partial(_radlake, study, "get"),
        "radlake C-MOVE": partial(_radlake, study, "move"),
        **({"radlake WADO-RS": partial(_radlake, study, "web")} if has_web else {}),
        "pynetdicom C-GET": partial(_pynetdicom_get, study),
    }
    if not has_web:
        print("skipped: WADO-RS, Orthanc has no DICOMweb plugin")
    for tool in ("getscu", "movescu"):
        if shutil.which(tool):
            contestants[tool] = partial(_dcmtk, study, tool)
        else:
            print(f"skipped: {tool} is not installed")
    settings = {
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomModalities": {"radlake": [_OUR_AE_TITLE, _HOST, study.move_port]},
        "Plugins": [str(_DICOMWEB)] if has_web else [],
    }
    with running_orthanc(
        program,
        place.folder / "orthanc",
        ae_title=_AE_TITLE,
        dicom_port=study.dicom_port,
        http_port=study.http_port,
        our_ae_title=_OUR_AE_TITLE,
        settings=settings,
    ) as url:
        load_orthanc(url, study.files)
        measured = compare(contestants, place=place)
    same_answer(measured)
    print_table(
        measured,
        title=f"One CT study of {len(study.files)} instances from Orthanc; all received the same pixels",
        unit="instance",
        peers=["pynetdicom C-GET", "getscu", "movescu"],
    )


def _compare_scps(
    study: _Study, files: list[Path], environment: _Environment, *, ratio: Literal["cpu", "seconds"], place: Place
) -> None:
    contestants: dict[str, Prepare] = {
        "radlake storage SCP": partial(_radlake_scp, study, files, environment),
        "pynetdicom": partial(_pynetdicom_scp, files, environment),
        "storescp": partial(_storescp, files, environment),
    }
    measured = compare(contestants, place=place)
    same_answer(measured)
    sender = "storescu with TCP_NODELAY=1" if environment else "storescu as it comes"
    print_table(
        measured,
        title=f"{sender} sends {len(files)} CT instances over one association",
        unit="instance",
        peers=["pynetdicom", "storescp"],
        ratio=ratio,
    )


def _radlake(study: _Study, way: Literal["get", "move", "web"], out: Path) -> Callable[[], Done]:
    from radlake.net import DimseNode, WebNode, connect

    if way == "web":
        node = WebNode(base_url=f"http://{_HOST}:{study.http_port}/dicom-web")
    else:
        node = DimseNode(ae_title=_AE_TITLE, host=_HOST, port=study.dicom_port, retrieve=way)
    client = connect(node, ae_title=_OUR_AE_TITLE, scp_port=study.move_port)
    client.echo()

    def run() -> Done:
        return Done(client.retrieve(study.uid, into=out).n_received, look=partial(_pixels, out))

    return run


def _pynetdicom_get(study: _Study, out: Path) -> Callable[[], Done]:
    from pydicom import Dataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
    from pynetdicom import AE, build_role, evt
    from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as Model  # pyright: ignore

    ae = AE(_OUR_AE_TITLE)
    ae.maximum_pdu_size = _LARGEST_PDU
    ae.add_requested_context(Model)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    wanted = Dataset()
    wanted.QueryRetrieveLevel = "STUDY"
    wanted.StudyInstanceUID = study.uid

    def run() -> Done:
        association = ae.associate(
            _HOST,
            study.dicom_port,
            ae_title=_AE_TITLE,
            ext_neg=[build_role(CTImageStorage, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, _write, [out]), (evt.EVT_CONN_OPEN, _set_no_delay)],
        )
        for _status, _answer in association.send_c_get(wanted, Model):
            pass
        association.release()
        return _done(out)

    return run


def _dcmtk(study: _Study, tool: str, out: Path) -> Callable[[], Done]:
    command = [tool, "-S", "-aet", _OUR_AE_TITLE, "-aec", _AE_TITLE, "--bit-preserving"]
    command += [*_LIMITS, "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study.uid}"]
    if tool == "movescu":
        command += ["-aem", _OUR_AE_TITLE, "--port", str(study.move_port)]
    environment = os.environ | _NO_DELAY
    (nobody,) = _free_ports(1)
    start_cpu = command_cpu(*command, _HOST, str(nobody), environment=environment)

    def run() -> Done:
        # movescu writes into its own folder when it preserves bits, whatever it is told.
        command_cpu(*command, _HOST, str(study.dicom_port), folder=out, environment=environment)
        return _done(out, foreign_cpu=start_cpu)

    return run


def _radlake_scp(study: _Study, files: list[Path], environment: _Environment, out: Path) -> Callable[[], Done]:
    from radlake.net.delivery import Delivery
    from radlake.net.instance_files import InstanceFolder
    from radlake.net.storage_scp import receiving

    (port,) = _free_ports(1)
    delivery = Delivery(InstanceFolder(out), due=None)

    def run() -> Done:
        with receiving(
            study.uid, delivery=delivery, ae_title=_OUR_AE_TITLE, host=_HOST, port=port, timeout=60, tls=None
        ):
            foreign_cpu = _send(files, port, environment)
        return _done(out, foreign_cpu=foreign_cpu)

    return run


def _pynetdicom_scp(files: list[Path], environment: _Environment, out: Path) -> Callable[[], Done]:
    from pydicom.uid import CTImageStorage
    from pynetdicom import AE, evt

    (port,) = _free_ports(1)
    ae = AE(_OUR_AE_TITLE)
    ae.maximum_pdu_size = _LARGEST_PDU
    ae.add_supported_context(CTImageStorage)
    handlers: list[Any] = [(evt.EVT_C_STORE, _write, [out])]
    if environment:
        handlers.append((evt.EVT_CONN_OPEN, _set_no_delay))

    def run() -> Done:
        server = ae.start_server((_HOST, port), block=False, evt_handlers=handlers)
        done = _done(out, foreign_cpu=_send(files, port, environment))

        def look() -> str:
            if server is not None:
                server.shutdown()  # takes half a second to notice
            return _pixels(out)

        return replace(done, look=look)

    return run


def _storescp(files: list[Path], environment: _Environment, out: Path) -> Callable[[], Done]:
    (port,) = _free_ports(1)
    command = ["storescp", "-pdu", str(_LARGEST_PDU), "--bit-preserving", "-od", str(out), str(port)]

    @contextmanager
    def listening() -> Iterator[None]:
        process = subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.DEVNULL)
        try:
            while not _is_open(port):
                if process.poll() is not None:
                    raise RuntimeError("storescp ended")
                time.sleep(0.01)
            yield
        finally:
            process.terminate()
            process.wait()

    with listening():
        pass
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    start_cpu = usage.ru_utime + usage.ru_stime

    def run() -> Done:
        with listening():
            foreign_cpu = _send(files, port, environment)
        return _done(out, foreign_cpu=foreign_cpu + start_cpu)

    return run


def _send(files: list[Path], port: int, environment: _Environment) -> float:
    """CPU time of the sender."""
    command = ["storescu", "-aec", _OUR_AE_TITLE, *_LIMITS, _HOST, str(port)]
    return command_cpu(*command, *files, environment=os.environ | environment)


def _write(event: Any, folder: Path) -> int:
    """The cheapest way that pynetdicom has: the data set goes to its file undecoded."""
    (folder / f"{event.request.AffectedSOPInstanceUID}.dcm").write_bytes(event.encoded_dataset())
    return 0x0000


def _set_no_delay(event: Any) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _done(folder: Path, *, foreign_cpu: float = 0.0) -> Done:
    return Done(sum(1 for _ in folder.iterdir()), foreign_cpu=foreign_cpu, look=partial(_pixels, folder))


def _pixels(folder: Path) -> str:
    """Digest of the instances in a folder and their pixels, whatever their files are called."""
    from pydicom import dcmread

    seen = sorted(f"{ds.SOPInstanceUID} {xxh3_128_hexdigest(ds.PixelData)}" for ds in map(dcmread, folder.iterdir()))
    return xxh3_128_hexdigest("\n".join(seen).encode())


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((_HOST, 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((_HOST, port)) == 0
