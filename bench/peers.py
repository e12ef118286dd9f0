"""Python tools that radlake is compared with: `python peers.py TOOL SOURCE OUT RESULT`, or `--list`.

A program of its own for the interpreter of `bench/peers.lock`, so that no peer is a dependency of radlake: it imports
nothing of this repository. SOURCE is a folder; each file is treated by itself and written under OUT. What the clock
measured is written to RESULT as JSON. Imports and a first file are not measured.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

Treat = Callable[[Path, Path], Any]

# For tools that want to be told what to remove; nothing nested is among it.
REMOVED = (
    *("AccessionNumber", "PatientBirthDate", "OtherPatientIDs", "OtherPatientIDsSequence", "PatientAddress"),
    *("PatientTelephoneNumbers", "Occupation", "InstitutionName", "InstitutionAddress", "EthnicGroup", "FrameComments"),
    *("InstitutionalDepartmentName", "StationName", "ReferringPhysicianName", "PerformingPhysicianName"),
    *("OperatorsName", "NameOfPhysiciansReadingStudy", "PhysiciansOfRecord", "StudyID", "DeviceSerialNumber"),
    *("PatientComments", "AdditionalPatientHistory", "ImageComments", "RequestingPhysician", "RequestingService"),
    *("PerformedProcedureStepID", "RequestAttributesSequence", "ReferencedStudySequence"),
    *("ScheduledProcedureStepID", "RequestedProcedureID"),
)
_SHIFTED = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")


def _pydicom() -> Treat:
    from pydicom import dcmread

    return lambda source, target: dcmread(source).save_as(target)


def _gdcm() -> Treat:
    import gdcm  # pyright: ignore[reportMissingImports]
    from pydicom.datadict import tag_for_keyword

    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    numbers = [tag_for_keyword(keyword) or 0 for keyword in REMOVED]
    tags = [gdcm.Tag(number >> 16, number & 0xFFFF) for number in numbers]

    def treat(source: Path, target: Path) -> None:
        reader = gdcm.Reader()
        reader.SetFileName(str(source))
        anonymizer, writer = gdcm.Anonymizer(), gdcm.Writer()
        if not reader.Read():
            raise ValueError("gdcm cannot read the file")
        anonymizer.SetFile(reader.GetFile())
        anonymizer.RemovePrivateTags()
        for tag in tags:
            anonymizer.Remove(tag)
        for element in (0x10, 0x20):
            anonymizer.Replace(gdcm.Tag(0x10, element), "REMOVED")
        writer.SetFile(reader.GetFile())
        writer.SetFileName(str(target))
        if not writer.Write():
            raise ValueError("gdcm cannot write the file")

    return treat


def _dicognito() -> Treat:
    from dicognito.anonymizer import Anonymizer  # pyright: ignore[reportMissingImports]
    from pydicom import dcmread

    anonymizer = Anonymizer(seed="1")

    def treat(source: Path, target: Path) -> None:
        ds = dcmread(source)
        anonymizer.anonymize(ds)
        ds.save_as(target)

    return treat


def _dicom_anonymizer() -> Treat:
    from dicomanonymizer import anonymize_dicom_file  # pyright: ignore[reportMissingImports]

    return lambda source, target: anonymize_dicom_file(str(source), str(target))


def _deid() -> Treat:
    from deid.config import DeidRecipe  # pyright: ignore[reportMissingImports]
    from deid.dicom import replace_identifiers  # pyright: ignore[reportMissingImports]
    from pydicom.uid import generate_uid

    recipe = DeidRecipe(base=False)
    named = ("PatientName", "PatientID")
    uids = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    recipe.deid = {
        "format": "dicom",
        "header": [
            *({"action": "REMOVE", "field": keyword} for keyword in REMOVED),
            *({"action": "REPLACE", "field": keyword, "value": "REMOVED"} for keyword in named),
            *({"action": "REPLACE", "field": keyword, "value": "func:uid"} for keyword in uids),
            *({"action": "JITTER", "field": keyword, "value": "-31"} for keyword in _SHIFTED),
        ],
    }

    def uid(*, field: Any, **_: object) -> str:
        return generate_uid(entropy_srcs=[str(field.element.value)])

    def treat(source: Path, target: Path) -> None:
        ids = {str(source): {"uid": uid}}
        (ds,) = replace_identifiers(str(source), deid=recipe, ids=ids, save=False, remove_private=True)
        ds.save_as(target)

    return treat


TOOLS: dict[str, tuple[str, Callable[[], Treat]]] = {  # module that has to be there, and how to begin
    "pydicom": ("pydicom", _pydicom),
    "python-gdcm": ("gdcm", _gdcm),
    "dicognito": ("dicognito", _dicognito),
    "dicom-anonymizer": ("dicomanonymizer", _dicom_anonymizer),
    "deid": ("deid", _deid),
}


def main() -> None:
    if sys.argv[1] == "--list":
        print(json.dumps([name for name, (module, _) in TOOLS.items() if importlib.util.find_spec(module)]))
        return
    tool, source, out, result = sys.argv[1], *map(Path, sys.argv[2:])
    treat = TOOLS[tool][1]()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    files = [(path, out / path.relative_to(source)) for path in sorted(source.rglob("*.dcm"))]
    for folder in {target.parent for _, target in files}:
        folder.mkdir(parents=True, exist_ok=True)
    path, target = files[0]
    treat(path, target)
    target.unlink()
    failures: dict[str, int] = {}
    cpu, seconds = time.process_time(), time.perf_counter()
    for path, target in files:
        try:
            treat(path, target)
        except Exception as exc:  # a tool fails as it likes; what it did not write is counted
            failures[type(exc).__name__] = failures.get(type(exc).__name__, 0) + 1
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - seconds
    result.write_text(json.dumps({"n": len(files), "cpu": cpu, "seconds": seconds, "failures": failures}))


if __name__ == "__main__":
    main()
