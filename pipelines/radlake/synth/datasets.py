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

import numpy as np
import pydicom.data
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from radlake.synth.encoding import Attributes, Encoder, file_meta, join
from radlake.synth.headers import series_header
from radlake.synth.phantom import SIDE, pixels_8bit, pixels_12bit
from radlake.synth.province import UID_ROOT, Exam, Hospital, Province, Series, Study

__all__ = ["Instance", "SeriesObjects", "datasets_of", "instances_of", "pydicom_test_files", "write_archive"]


@dataclass(frozen=True, slots=True)
class Instance:
    """One Part-10 file."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    content: bytes


class SeriesObjects:
    """The objects of one series, each made when it is asked for; its header is encoded once.

    Parameters
    ----------
    thin : int
        Take every so many-th row and column of the picture: 1 gives `SIDE` of them.
    label : str, optional
        Specific Character Set that the objects claim, where it is not the one that they are written in.
    """

    def __init__(
        self,
        exam: Exam,
        study: Study,
        series: Series,
        *,
        hospital: Hospital,
        seed: int,
        thin: int = 1,
        label: str | None = None,
    ) -> None:
        self._exam, self._study, self._series = exam, study, series
        self._hospital, self._seed, self._thin = hospital, seed, thin
        self.header = series_header(exam, study, series, hospital=hospital)
        if thin > 1 and "Rows" in self.header:
            self.header |= dict.fromkeys(("Rows", "Columns"), len(range(0, SIDE, thin)))
        self._encoder = Encoder(charset=hospital.charset, is_implicit=UID(hospital.transfer_syntax_uid).is_implicit_VR)
        self._label = {} if label is None else {"SpecificCharacterSet": label}
        self._common: dict[int, bytes] = {}

    def sop_instance_uid(self, number: int) -> str:
        return f"{self._series.series_instance_uid}.{number}"

    def content(self, number: int, *, sop_instance_uid: str = "", note: str = "") -> bytes:
        """The Part-10 file of an instance.

        Parameters
        ----------
        sop_instance_uid : str
            A UID that another instance has already, for archives that hold one twice.
        note : str
            Makes another picture of the same instance.
        """
        uid = sop_instance_uid or self.sop_instance_uid(number)
        own = _own_attributes(self.header, self._study, self._series, number=number)
        own["SOPInstanceUID"] = uid
        if "Rows" in self.header:
            text = f"{self._seed} {uid}{note}"
            own["PixelData"] = _pixels(self._exam, self._series, number=number, text=text, thin=self._thin)
        self._common = self._common or self._encoder.elements(self.header | self._label)
        meta = file_meta(
            {
                "MediaStorageSOPClassUID": self.header["SOPClassUID"],
                "MediaStorageSOPInstanceUID": uid,
                "TransferSyntaxUID": self._hospital.transfer_syntax_uid,
                "ImplementationClassUID": f"{UID_ROOT}.1",
                "ImplementationVersionName": "EXAMPLE_PACS_1",
                "SourceApplicationEntityTitle": self._hospital.ae_title,
            }
        )
        return meta + join(self._common | self._encoder.elements(own))


def instances_of(province: Province, exam: Exam) -> Iterator[Instance]:
    """The objects of an exam, in the order of its studies, series and instances."""
    hospital = province.hospital(exam.hospital_id)
    for study in exam.studies:
        for series in study.series:
            objects = SeriesObjects(exam, study, series, hospital=hospital, seed=province.seed)
            for number in range(1, series.n_instances + 1):
                uid = objects.sop_instance_uid(number)
                yield Instance(study.study_instance_uid, series.series_instance_uid, uid, objects.content(number))


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


def _pixels(exam: Exam, series: Series, *, number: int, text: str, thin: int) -> bytes:
    part, position = exam.protocol.body_part, number / 3
    if series.plan.kind in ("US", "SC"):
        banner = exam.patient_id or exam.accession_number
        return _thinned(pixels_8bit(part, position=position, text=text, burned_in=banner), thin, n_bytes=1)
    return _thinned(pixels_12bit(part, position=position, text=text), thin, n_bytes=2)


def _thinned(pixels: bytes, thin: int, *, n_bytes: int) -> bytes:
    if thin == 1:
        return pixels
    picture = np.frombuffer(pixels, f"<u{n_bytes}").reshape(SIDE, SIDE)
    return picture[::thin, ::thin].tobytes()
