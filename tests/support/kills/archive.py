"""A small archive with what a harvest may meet."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
from pydicom import Dataset

from support.dicom import ct_study, image_study, pdf_document, write

__all__ = ["write_archive", "zip_last_study"]


def write_archive(folder: Path) -> None:
    """Four studies of two months: one has a damaged instance, one a document that no rule lets pass."""
    studies = [
        ct_study(n=3, patient="李雷"),
        image_study("MR", n=2, patient="韩梅梅", patient_id="P2", study_date="20260115"),
        [*image_study("DX", n=1, patient="Wang^Fang", patient_id="P3"), pdf_document(patient="Wang^Fang")],
        ct_study(n=2, patient="Zhao^Min", patient_id="P4"),
    ]
    studies[2][1].StudyInstanceUID = studies[2][0].StudyInstanceUID
    studies[2][1].PatientID = studies[2][0].PatientID
    for number, ds in enumerate(ds for study in studies for ds in study if "PixelData" in ds):
        _smoothen(ds, number)
    files = [write(ds, folder / f"{s}" / f"{n}.dcm") for s, study in enumerate(studies) for n, ds in enumerate(study)]
    damaged = files[2]
    damaged.write_bytes(damaged.read_bytes()[:-20])


def _smoothen(ds: Dataset, number: int) -> None:
    """Pixels that compress; those of the phantom are noise, and recompression leaves them."""
    ds.Rows = ds.Columns = 64
    slope = np.add.outer(np.arange(64), np.arange(64)) * (number + 3) % (1 << ds.BitsStored)
    ds.PixelData = slope.astype("<u2").tobytes()


def zip_last_study(folder: Path) -> None:
    """A ZIP archive in the place of the folder of the last study."""
    members = sorted((folder / "3").iterdir())
    with zipfile.ZipFile(folder / "3.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for member in members:
            archive.write(member, member.name)
    shutil.rmtree(folder / "3")
