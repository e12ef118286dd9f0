"""A synthetic archive of CT studies as they come from a scanner: 512 x 512 x 16 bit, one folder for each study.

Headers are those of `radlake.synth`, with names and numbers of a person in many places; the pixels are its small
phantom, tiled. The same number of instances gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

__all__ = ["identifiers", "write_archive"]

_SIDE = 512
_STUDY_INSTANCES = 150  # with 79 MB a study too large to be kept in memory by the ingest, as most are
_SEED = 20260301
_OTHER_SERIES = 10_000  # no number of an instance, which would give the same UID


def write_archive(
    folder: Path, *, n_instances: int, study_instances: int = _STUDY_INSTANCES, n_series: int = 1
) -> None:
    """Write `folder/<study>/<number>.dcm`, studies of `n_series` series each."""
    import numpy as np
    from pydicom import dcmread, dcmwrite
    from pydicom.filebase import DicomBytesIO

    from radlake.synth.datasets import instances_of
    from radlake.synth.province import make_province

    province = make_province(seed=_SEED, hospitals=1, n_exams=200)
    exams = (
        (exam, axial)
        for exam in province.exams
        if exam.protocol.modality == "CT" and exam.patient_id
        for axial in exam.studies[0].series
        if axial.plan.description == "Axial 5.0"
    )
    left = n_instances
    while left > 0:
        exam, axial = next(exams)
        study = exam.studies[0]
        n_here = min(left, study_instances)
        left -= n_here
        series = tuple(
            replace(
                axial,
                series_instance_uid=axial.series_instance_uid + (f".{_OTHER_SERIES + number}" if number else ""),
                number=axial.number + number,
                n_instances=(n_here + number) // n_series,
            )
            for number in range(n_series)
        )
        exam = replace(exam, studies=(replace(study, series=series),))
        place = folder / study.study_instance_uid
        place.mkdir(parents=True)
        for number, instance in enumerate(instances_of(province, exam)):
            ds = dcmread(DicomBytesIO(instance.content))
            small = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns)
            times = -(-_SIDE // ds.Rows)
            ds.PixelData = np.tile(small, (times, times))[:_SIDE, :_SIDE].tobytes()
            ds.Rows = ds.Columns = _SIDE
            ds.PixelSpacing = ["0.75", "0.75"]
            dcmwrite(place / f"{number:04d}.dcm", ds)


def identifiers(folder: Path) -> frozenset[bytes]:
    """What names the persons of the archive and occurs nowhere by chance, as it stands in the files."""
    from pydicom import dcmread

    def values() -> Iterator[bytes]:
        for path in folder.glob("*/0000.dcm"):
            ds = dcmread(path, stop_before_pixels=True)
            for keyword in ("PatientName", "PatientID", "PatientTelephoneNumbers", "AccessionNumber"):
                yield ds.get_item(keyword).value.strip()

    return frozenset(values())
