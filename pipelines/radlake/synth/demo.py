"""The demo's three hospitals: synthetic archives and a running PACS for each, over real network protocols.

The provincial hospital runs a real Orthanc when it is installed and answers C-GET; the second is DIMSE only, answers in
GB18030 and sends by C-MOVE; the third speaks DICOMweb only. Everything of theirs lies in one folder and is made once.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import yaml

from radlake.dicom.part10 import read_instance
from radlake.errors import QuarantineError
from radlake.machine import free_port
from radlake.synth.datasets import pydicom_test_files, write_archive
from radlake.synth.orthanc import find_orthanc, load_orthanc, running_orthanc
from radlake.synth.pacs import PacsProcess
from radlake.synth.province import Hospital, Province, make_province
from radlake.validate import check_instance

__all__ = ["DemoPacs", "demo_province", "make_archives", "running_pacs", "write_hospitals"]

SEED = 20260101
START, END = date(2025, 7, 1), date(2025, 12, 31)
_MADE = "made.json"


@dataclass(frozen=True)
class DemoPacs:
    """Where a hospital's node answers, as a `node` of the hospitals' YAML, and what program answers there."""

    hospital: Hospital
    node: dict[str, object]
    program: str


def demo_province(*, n_exams: int) -> Province:
    """The same province every time: half a year, three hospitals, about `n_exams` exams in all."""
    return make_province(seed=SEED, hospitals=3, n_exams=n_exams // 3, start=START, end=END)


def make_archives(province: Province, root: Path) -> dict[str, int]:
    """Write each hospital's archive, and a CD of odd and broken files of real machines in `cd`.

    Returns
    -------
    dict
        Files per hospital, and of the CD. Archives that are there already are left alone.
    """
    made = root / _MADE
    if made.is_file():
        return json.loads(made.read_text(encoding="utf-8"))
    files = {
        hospital.hospital_id: write_archive(province, hospital.hospital_id, root / hospital.hospital_id)
        for hospital in province.hospitals
    }
    (root / "cd").mkdir(exist_ok=True)
    for path in filter(_is_odd, pydicom_test_files()):
        shutil.copyfile(path, root / "cd" / path.name)
        files["cd"] = files.get("cd", 0) + 1
    made.write_text(json.dumps(files), encoding="utf-8")
    return files


@contextmanager
def running_pacs(province: Province, root: Path, *, our_ae_title: str, scp_port: int) -> Iterator[list[DemoPacs]]:
    """Run the PACS of the three hospitals; all of them are gone when the block ends or this process dies.

    Parameters
    ----------
    scp_port : int
        Port of our storage SCP, the destination of C-MOVE.
    """
    first, second, third = province.hospitals
    with ExitStack() as stack:
        pacs = []
        if program := find_orthanc():
            port, http_port = free_port(), free_port()
            url = stack.enter_context(
                running_orthanc(
                    program,
                    root / "orthanc",
                    ae_title=first.ae_title,
                    dicom_port=port,
                    http_port=http_port,
                    our_ae_title=our_ae_title,
                )
            )
            loaded = root / "orthanc" / "loaded"
            if not loaded.exists():
                load_orthanc(url, sorted((root / first.hospital_id).rglob("*.dcm")))
                loaded.touch()
            pacs.append(DemoPacs(first, _dimse(first, port, "get"), "Orthanc"))
        else:
            simulated = stack.enter_context(_dimse_simulator(first, root))
            pacs.append(DemoPacs(first, _dimse(first, simulated.port, "get"), "simulator"))
        destination = f"{our_ae_title}=127.0.0.1:{scp_port}"
        gb18030 = stack.enter_context(
            _dimse_simulator(second, root, "--charset", "GB18030", "--move-destination", destination)
        )
        web = stack.enter_context(PacsProcess("dicomweb", "--archive", str(root / third.hospital_id)))
        pacs.append(DemoPacs(second, _dimse(second, gb18030.port, "move"), "simulator, GB18030"))
        node: dict[str, object] = {"kind": "dicomweb", "base_url": f"http://127.0.0.1:{web.port}"}
        pacs.append(DemoPacs(third, node, "simulator, DICOMweb"))
        yield pacs


def write_hospitals(pacs: list[DemoPacs], path: Path) -> None:
    """Write the hospitals' YAML as a person would."""
    hospitals = [
        {
            "hospital_id": item.hospital.hospital_id,
            "name_zh": item.hospital.name_zh,
            "name_en": item.hospital.name_en,
            "region_code": item.hospital.region_code,
            "level": item.hospital.level,
            "node": item.node,
        }
        for item in pacs
    ]
    path.write_text(yaml.safe_dump({"hospitals": hospitals}, allow_unicode=True, sort_keys=False), encoding="utf-8")


def _dimse(hospital: Hospital, port: int, retrieve: str) -> dict[str, object]:
    return {"kind": "dimse", "ae_title": hospital.ae_title, "host": "127.0.0.1", "port": port, "retrieve": retrieve}


def _dimse_simulator(hospital: Hospital, root: Path, *options: str) -> PacsProcess:
    archive = str(root / hospital.hospital_id)
    return PacsProcess("dimse", "--archive", archive, "--aet", hospital.ae_title, *options)


def _is_odd(path: Path) -> bool:
    """Broken, or an image that may show a name: an exam of another decade would be a small cell of its own."""
    try:
        ds = read_instance(path)
        check_instance(ds, size=path.stat().st_size)
    except QuarantineError:
        return True
    return str(ds.get("Modality", "OT")) in ("OT", "US", "SC", "XC")


def main() -> None:
    """Make the archives only, for PACS that run elsewhere: `python -m radlake.synth.demo FOLDER --exams N`."""
    parser = argparse.ArgumentParser(prog="python -m radlake.synth.demo", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--exams", type=int, default=300)
    options = parser.parse_args()
    files = make_archives(demo_province(n_exams=options.exams), options.folder)
    sys.stdout.write(json.dumps(files) + "\n")


if __name__ == "__main__":
    main()
