"""De-identification: a folder of CT studies into clean series objects, against copying and against other tools.

`cp` says what the machine needs for the bytes alone, pydicom what reading and writing costs that changes nothing.
A peer that leaves names in its output does less than it seems; the column `still named` counts those instances.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from bench.archive import identifiers, write_archive
from bench.measure import Done, Place, Prepare, command_cpu, compare, in_fresh_process, print_table

__all__ = ["main"]

_KEY = "5a" * 32
_HOSPITAL = "bench"
# For tools that want to be told what to remove; nothing nested is among it.
_REMOVED = (
    *("PatientTelephoneNumbers", "PatientAddress", "PatientComments", "AdditionalPatientHistory", "PatientWeight"),
    *("OtherPatientIDs", "OtherPatientIDsSequence", "PatientBirthDate", "AccessionNumber", "AdmissionID"),
    *("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "NameOfPhysiciansReadingStudy"),
    *("RequestingPhysician", "RequestedProcedureDescription", "RequestAttributesSequence", "StudyDescription"),
    "PerformedProcedureStepID",
)


def main(place: Place, *, scale: float) -> None:
    """300 instances at scale 1."""
    archive = place.folder / "archive"
    in_fresh_process(partial(write_archive, archive, n_instances=max(1, round(300 * scale))))
    contestants: dict[str, Prepare] = {
        "cp -r": partial(_cp, archive),
        "radlake core": partial(_radlake_core, archive),
        "radlake harvest": partial(_radlake_harvest, archive),
        "pydicom": partial(_file_by_file, archive, _pydicom),
    }
    for module, tool in {"dicognito": _dicognito, "dicomanonymizer": _dicom_anonymizer, "deid": _deid}.items():
        if importlib.util.find_spec(module):
            contestants[module] = partial(_file_by_file, archive, tool)
        else:
            print(f"skipped: {module} cannot be imported")
    tags = in_fresh_process(_tags)
    for program, prepare in {"dcmodify": _dcmodify, "gdcmanon": _gdcmanon}.items():
        if shutil.which(program):
            contestants[program] = partial(prepare, archive, tags)
        else:
            print(f"skipped: {program} is not installed")
    print_table(
        compare(contestants, place=place),
        title="From a folder of CT studies, 512 x 512 x 16 bit, to de-identified ones",
        unit="instance",
        peers=["cp -r", "pydicom", "radlake core"],
        answer="still named",
    )
    print(
        "cp and pydicom change nothing. radlake core reads, checks, de-identifies, encodes and packs; radlake harvest\n"
        "is `radlake harvest folder` in one process, with ledger, quality gate and tables. Its start CPU is that of a\n"
        "harvest of one instance, which sets up Great Expectations. The start of commands is left out."
    )


def _radlake_core(archive: Path, out: Path) -> Callable[[], Done]:
    from radlake.deidentify import Deidentifier, KeyRing, identify_person, load_profile
    from radlake.dicom.part10 import encode_instance, read_instance
    from radlake.lake import ObjectStore
    from radlake.validate import check_instance

    keys = KeyRing.from_secret(_KEY)
    deidentifier = Deidentifier(load_profile("default"), keys)
    objects = ObjectStore(str(out / "objects"), scratch=out / "scratch")

    def clean(paths: list[Path]) -> Iterator[tuple[str, bytes]]:
        person = None
        for path in paths:
            ds = read_instance(path)
            check_instance(ds, size=path.stat().st_size)
            person = person or identify_person([ds], hospital_id=_HOSPITAL, keys=keys)
            done = deidentifier.deidentify(ds, person=person, hospital_id=_HOSPITAL)
            yield f"{done.SOPInstanceUID}.dcm", encode_instance(done)

    def run() -> Done:
        packed = [
            objects.pack_series(study.name, clean(sorted(study.iterdir()))) for study in sorted(archive.iterdir())
        ]
        return _done(sum(len(series.members) for series in packed), archive, out / "objects")

    return run


def _radlake_harvest(archive: Path, out: Path) -> Callable[[], Done]:
    from radlake import log
    from radlake.config import Settings
    from radlake.ingest import harvest_folder
    from radlake.net import FolderNode, Hospital

    hospital = Hospital(hospital_id=_HOSPITAL, name_zh="样例", name_en="Example", node=FolderNode(path=archive))

    def harvest(source: Path, lake: Path) -> int:
        key = lake / "key"
        lake.mkdir()
        key.write_text(_KEY, encoding="ascii")
        settings = Settings(lake=str(lake), key=f"file:{key}", workers=0)
        return harvest_folder(settings, source, hospital=hospital).instances_stored

    log.configure()
    harvest(next(archive.glob("*/*.dcm")), out / "warm")

    def run() -> Done:
        return _done(harvest(archive, out / "lake"), archive, out / "lake/objects")

    return run


def _cp(archive: Path, out: Path) -> Callable[[], Done]:
    def run() -> Done:
        command_cpu("cp", "-r", archive, out)
        return _done(_n_files(out), archive, out)

    return run


def _file_by_file(archive: Path, tool: Callable[[], Callable[[Path, Path], object]], out: Path) -> Callable[[], Done]:
    treat = tool()
    files = sorted(archive.glob("*/*.dcm"))
    for study in archive.iterdir():
        (out / study.name).mkdir()

    def run() -> Done:
        for path in files:
            treat(path, out / path.parent.name / path.name)
        return _done(_n_files(out), archive, out)

    return run


def _pydicom() -> Callable[[Path, Path], object]:
    from pydicom import dcmread, dcmwrite

    return lambda source, target: dcmwrite(target, dcmread(source))


def _dicognito() -> Callable[[Path, Path], object]:
    anonymizer: Any = importlib.import_module("dicognito.anonymizer").Anonymizer(seed=_KEY)
    from pydicom import dcmread

    def treat(source: Path, target: Path) -> None:
        ds = dcmread(source)
        anonymizer.anonymize(ds)
        ds.save_as(target)

    return treat


def _dicom_anonymizer() -> Callable[[Path, Path], object]:
    anonymize: Any = importlib.import_module("dicomanonymizer").anonymize_dicom_file
    return lambda source, target: anonymize(str(source), str(target))


def _deid() -> Callable[[Path, Path], object]:
    from pydicom.uid import generate_uid

    replace: Any = importlib.import_module("deid.dicom").replace_identifiers
    recipe: Any = importlib.import_module("deid.config").DeidRecipe(base=False)
    recipe.deid = {
        "format": "dicom",
        "header": [
            *({"action": "REMOVE", "field": keyword} for keyword in _REMOVED),
            *({"action": "REPLACE", "field": keyword, "value": "REMOVED"} for keyword in ("PatientName", "PatientID")),
            *(
                {"action": "REPLACE", "field": f"{level}InstanceUID", "value": "func:uid"}
                for level in ("Study", "Series", "SOP")
            ),
            *(
                {"action": "JITTER", "field": f"{level}Date", "value": "-31"}
                for level in ("Study", "Series", "Content")
            ),
        ],
    }

    def uid(*, field: Any, **_: object) -> str:
        return generate_uid(entropy_srcs=[str(field.element.value)])

    def treat(source: Path, target: Path) -> None:
        ids = {str(source): {"uid": uid}}
        (ds,) = replace(str(source), deid=recipe, ids=ids, save=False, remove_private=True)
        ds.save_as(target)

    return treat


def _dcmodify(archive: Path, tags: list[str], out: Path) -> Callable[[], Done]:
    command = ["dcmodify", "--no-backup", "--ignore-missing-tags", "--erase-private"]
    command += ["--gen-stud-uid", "--gen-ser-uid", "--gen-inst-uid"]
    command += ["--modify-all", "(0010,0010)=REMOVED", "--modify-all", "(0010,0020)=REMOVED"]
    command += [part for tag in tags for part in ("--erase-all", f"({tag})")]
    start_cpu = command_cpu(*command, out / "nothing.dcm")

    def run() -> Done:
        command_cpu("cp", "-r", archive, out)
        command_cpu(*command, *sorted(out.glob("*/*/*.dcm")))  # it works in place
        return _done(_n_files(out), archive, out, start_cpu=start_cpu)

    return run


def _gdcmanon(archive: Path, tags: list[str], out: Path) -> Callable[[], Done]:
    command = ["gdcmanon", "--dumb", "--continue", "--recursive"]
    command += ["--replace", "10,10=REMOVED", "--replace", "10,20=REMOVED"]
    command += [part for tag in tags for part in ("--remove", tag)]
    nothing = out / "nothing"
    nothing.mkdir()
    start_cpu = command_cpu(*command, "-i", nothing, "-o", nothing)

    def run() -> Done:
        command_cpu(*command, "-i", archive, "-o", out)
        return _done(_n_files(out), archive, out, start_cpu=start_cpu)

    return run


def _tags() -> list[str]:
    from pydicom.datadict import tag_for_keyword

    tags = [tag_for_keyword(keyword) or 0 for keyword in _REMOVED]
    return [f"{tag >> 16:04x},{tag & 0xFFFF:04x}" for tag in tags]


def _n_files(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*.dcm"))


def _done(n: int, archive: Path, out: Path, *, start_cpu: float = 0.0) -> Done:
    return Done(n, foreign_cpu=start_cpu, look=partial(_n_named, archive, out))


def _n_named(archive: Path, out: Path) -> int:
    """How many instances still hold a name or number of a person of the archive."""
    needles = identifiers(archive)
    return sum(any(needle in content for needle in needles) for content in _contents(out))


def _contents(folder: Path) -> Iterator[bytes]:
    for path in folder.rglob("*.dcm"):
        yield path.read_bytes()
    for path in folder.rglob("*.zip"):
        with ZipFile(path) as series:
            yield from map(series.read, series.namelist())
