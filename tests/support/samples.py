"""Studies of pydicom's own test files, in every encoding that it ships: the same arguments give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from support.dicom import uid

__all__ = ["COMPRESSED", "UNCOMPRESSED", "sample_study"]

UNCOMPRESSED = ("CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm", "test-SR.dcm", "rtplan.dcm")
COMPRESSED = (
    "JPEG2000.dcm",
    "MR_small_RLE.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "JPGExtended.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_jp2klossless.dcm",
)


def sample_study(
    folder: Path,
    *,
    names: Sequence[str] = (*UNCOMPRESSED, *COMPRESSED),
    study: object = "sample",
    study_date: str = "20260301",
) -> dict[str, Path]:
    """Files of one study with a series for each modality, by SOP Instance UID.

    Returns
    -------
    dict
        Paths by SOP Instance UID, in the order of `names`; a name may stand there several times.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for n, name in enumerate(names):
        found = get_testdata_file(name, download=False)
        assert isinstance(found, str), f"{name} is not in pydicom's wheel"
        ds: Dataset = dcmread(found)
        ds.StudyInstanceUID = uid(study)
        ds.SeriesInstanceUID = uid(study, ds.Modality)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid(study, n)
        ds.StudyDate, ds.PatientID, ds.PatientName = study_date, "P0001", "Sample^Study"
        ds.pop("DataSetTrailingPadding", None)  # not part of the content; archives drop it (PS3.10 7.2)
        if ds.file_meta.TransferSyntaxUID.is_compressed:
            ds["PixelData"].VR = "OB"  # PS3.5 A.4; an archive that reads OW writes OB
        files[ds.SOPInstanceUID] = folder / f"{n:03d}.dcm"
        ds.save_as(files[ds.SOPInstanceUID])
    return files
