"""DICOM objects of a synthetic province: as bytes, as data sets, as a folder of Part-10 files.

The header of a series is encoded once; the few elements that differ from instance to instance are put among its
elements. Everything is derived from the province, so that the same province gives the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pydicom.data
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from radlake.synth.encoding import Attributes, Encoder, file_meta, join
from radlake.synth.headers import series_header
from radlake.synth.phantom import pixels_8bit, pixels_12bit
from radlake.synth.province import UID_ROOT, Exam, Province, Series, Study

__all__ = ["Instance", "datasets_of", "instances_of", "pydicom_test_files", "write_archive"]


@dataclass(frozen=True, slots=True)
class Instance:
    """One Part-10 file."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    content: bytes


def instances_of(province: Province, exam: Exam) -> Iterator[Instance]:
    """The objects of an exam, in the order of its studies, series and instances."""
    hospital = province.hospital(exam.hospital_id)
    encoder = Encoder(charset=hospital.charset, is_implicit=UID(hospital.transfer_syntax_uid).is_implicit_VR)
    for study in exam.studies:
        for series in study.series:
            header = series_header(exam, study, series, hospital=hospital)
            common = encoder.elements(header)
            for number in range(1, series.n_instances + 1):
                uid = f"{series.series_instance_uid}.{number}"
                own = _own_attributes(header, study, series, number=number)
                own["SOPInstanceUID"] = uid
                if "Rows" in header:
                    own["PixelData"] = _pixels(exam, series, number=number, text=f"{province.seed} {uid}")
                meta = file_meta(
                    {
                        "MediaStorageSOPClassUID": header["SOPClassUID"],
                        "MediaStorageSOPInstanceUID": uid,
                        "TransferSyntaxUID": hospital.transfer_syntax_uid,
                        "ImplementationClassUID": f"{UID_ROOT}.1",
                        "ImplementationVersionName": "EXAMPLE_PACS_1",
                        "SourceApplicationEntityTitle": hospital.ae_title,
                    }
                )
                content = meta + join(common | encoder.elements(own))
                yield Instance(study.study_instance_uid, series.series_instance_uid, uid, content)


def datasets_of(province: Province, exam: Exam) -> Iterator[Dataset]:
    """The objects of an exam as pydicom reads them."""
    for instance in instances_of(province, exam):
        yield dcmread(BytesIO(instance.content))


def write_archive(province: Province, hospital_id: str, folder: Path, *, extra: Iterable[Path] = ()) -> int:
    """Write what a hospital's PACS holds: a folder per day, study and series, and return the number of files.

    Parameters
    ----------
    extra : iterable of Path
        Files to copy into the folder `extra` beside, such as `pydicom_test_files()`.
    """
    count = 0
    for exam in province.exams_of(hospital_id):
        for instance in instances_of(province, exam):
            place = folder / f"{exam.day:%Y/%m/%d}" / instance.study_instance_uid / instance.series_instance_uid
            path = place / f"{instance.sop_instance_uid}.dcm"
            try:
                path.write_bytes(instance.content)
            except FileNotFoundError:
                place.mkdir(parents=True)
                path.write_bytes(instance.content)
            count += 1
    for path in extra:
        (folder / "extra").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / "extra" / path.name)
        count += 1
    return count


def pydicom_test_files() -> tuple[Path, ...]:
    """The test files inside the pydicom wheel: real machines' objects, odd ones, and broken ones."""
    folder = Path(pydicom.data.__file__).parent / "test_files"
    return tuple(sorted(path for path in folder.glob("*.dcm") if path.is_file()))


def _own_attributes(header: Attributes, study: Study, series: Series, *, number: int) -> Attributes:
    """What an instance does not share with its series: its place in time, order and space."""
    taken_at = f"{study.started_at + timedelta(minutes=series.number, seconds=number):%H%M%S}"
    own: Attributes = {"InstanceNumber": str(number), "ContentTime": taken_at}
    if "AcquisitionDate" in header:
        own["AcquisitionTime"] = taken_at
    if "ImageOrientationPatient" in header:
        height = str(number * 5 - 40)
        own |= {"ImagePositionPatient": ["-192", "-192", height], "SliceLocation": height}
    return own


def _pixels(exam: Exam, series: Series, *, number: int, text: str) -> bytes:
    part, position = exam.protocol.body_part, number / 3
    if series.plan.kind in ("US", "SC"):
        banner = exam.patient_id or exam.accession_number
        return pixels_8bit(part, position=position, text=text, burned_in=banner)
    return pixels_12bit(part, position=position, text=text)
