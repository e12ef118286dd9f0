"""Series objects to recompress without a harvest: packed as the ingest packs them, described as their rows do."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.pixels import pixel_array

from radlake.config import Settings
from radlake.dicom.part10 import read_bytes
from radlake.lake import Lake
from radlake.recompress.instance import Member
from radlake.recompress.series import SeriesJob
from support.dicom import dicom_bytes, encode_located
from support.lakes import settings_of

__all__ = ["members_of", "pixels", "stored_series"]


def stored_series(folder: Path, *files: Dataset | bytes, codec: str = "htj2k") -> SeriesJob:
    """A job for one stored series object of these instances."""
    settings = settings_of(folder / "lake")
    located = {}
    for number, file in enumerate(files):
        ds = read_bytes(file if isinstance(file, bytes) else dicom_bytes(file))
        located[f"1.2.{number}.dcm"] = (ds, *encode_located(ds))
    lake = Lake.from_settings(settings)
    packed = lake.objects.pack_series("h1/1.1/1.2", [(name, data) for name, (_, data, _) in located.items()])
    members = tuple(
        Member(
            sop_instance_uid=written.name.removesuffix(".dcm"),
            modality=str(ds.get("Modality", "OT")),
            offset=written.offset,
            n_bytes=written.length,
            pixel_offset=pixel_offset,
            digest=written.digest,
            transfer_syntax_uid=str(ds.file_meta.TransferSyntaxUID),
            photometric_interpretation=ds.get("PhotometricInterpretation"),
            bits_allocated=ds.get("BitsAllocated"),
        )
        for written, (ds, _, pixel_offset) in zip(packed.members, located.values(), strict=True)
    )
    return SeriesJob(settings, codec, packed.path, 202603, members)


def members_of(settings: Settings, path: str) -> list[bytes]:
    """Part-10 files of a series object, by a ZIP tool that is not ours."""
    objects = Lake.from_settings(settings).objects
    with zipfile.ZipFile(io.BytesIO(objects.read(path, 0, objects.size(path)))) as archive:
        assert archive.testzip() is None
        return [archive.read(name) for name in archive.namelist()]


def pixels(part10: bytes) -> np.ndarray[Any, Any]:
    """Stored values as pydicom decodes them, with the plugins that our docs name."""
    syntax = pydicom.dcmread(io.BytesIO(part10), stop_before_pixels=True).file_meta.TransferSyntaxUID
    plugin = {pydicom.uid.JPEGLSLossless: "pyjpegls"}.get(syntax, "pylibjpeg" if syntax.is_encapsulated else "")
    return pixel_array(io.BytesIO(part10), raw=True, decoding_plugin=plugin)
