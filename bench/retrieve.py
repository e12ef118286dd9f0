"""Retrieve: one CT study out of a real Orthanc by C-GET, C-MOVE and WADO-RS.

Counted is the receiving end. Every connection has TCP_NODELAY. radlake asks for the list of instances first, and makes
each one durable before it counts or acknowledges it; the others do neither. Storage SCPs alone are in `receive`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from bench.archive import write_archive
from bench.measure import Done, Place, Prepare, command_cpu, compare, in_fresh_process, print_table, same_answer
from bench.receive import (
    AE_TITLE,
    HOST,
    LARGEST_PDU,
    LIMITS,
    NO_DELAY,
    free_ports,
    pixels_of,
    received_in,
    set_no_delay,
    write_undecoded,
)

__all__ = ["main"]

_AE_TITLE = "ORTHANC"
_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


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
    """120 instances at scale 1."""
    n_instances = max(1, round(120 * scale))
    archive = place.folder / "archive"
    in_fresh_process(partial(write_archive, archive, n_instances=n_instances, study_instances=n_instances))
    (folder,) = archive.iterdir()
    study = _Study(folder, *free_ports(3))
    _compare_retrieves(study, place=place)


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
        "DicomModalities": {"radlake": [AE_TITLE, HOST, study.move_port]},
        "Plugins": [str(_DICOMWEB)] if has_web else [],
    }
    with running_orthanc(
        program,
        place.folder / "orthanc",
        ae_title=_AE_TITLE,
        dicom_port=study.dicom_port,
        http_port=study.http_port,
        our_ae_title=AE_TITLE,
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


def _radlake(study: _Study, way: Literal["get", "move", "web"], out: Path) -> Callable[[], Done]:
    from radlake.net import DimseNode, WebNode, connect

    if way == "web":
        node = WebNode(base_url=f"http://{HOST}:{study.http_port}/dicom-web")
    else:
        node = DimseNode(ae_title=_AE_TITLE, host=HOST, port=study.dicom_port, retrieve=way)
    client = connect(node, ae_title=AE_TITLE, scp_port=study.move_port)
    client.echo()

    def run() -> Done:
        return Done(client.retrieve(study.uid, into=out).n_received, look=partial(pixels_of, out))

    return run


def _pynetdicom_get(study: _Study, out: Path) -> Callable[[], Done]:
    from pydicom import Dataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
    from pynetdicom import AE, build_role, evt
    from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as Model  # pyright: ignore

    ae = AE(AE_TITLE)
    ae.maximum_pdu_size = LARGEST_PDU
    ae.add_requested_context(Model)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    wanted = Dataset()
    wanted.QueryRetrieveLevel = "STUDY"
    wanted.StudyInstanceUID = study.uid

    def run() -> Done:
        association = ae.associate(
            HOST,
            study.dicom_port,
            ae_title=_AE_TITLE,
            ext_neg=[build_role(CTImageStorage, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, write_undecoded, [out]), (evt.EVT_CONN_OPEN, set_no_delay)],
        )
        for _status, _answer in association.send_c_get(wanted, Model):
            pass
        association.release()
        return received_in(out)

    return run


def _dcmtk(study: _Study, tool: str, out: Path) -> Callable[[], Done]:
    command = [tool, "-S", "-aet", AE_TITLE, "-aec", _AE_TITLE, "--bit-preserving"]
    command += [*LIMITS, "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study.uid}"]
    if tool == "movescu":
        command += ["-aem", AE_TITLE, "--port", str(study.move_port)]
    environment = os.environ | NO_DELAY
    (nobody,) = free_ports(1)
    start_cpu = command_cpu(*command, HOST, str(nobody), environment=environment)

    def run() -> Done:
        # movescu writes into its own folder when it preserves bits, whatever it is told.
        command_cpu(*command, HOST, str(study.dicom_port), folder=out, environment=environment)
        return received_in(out, foreign_cpu=start_cpu)

    return run
