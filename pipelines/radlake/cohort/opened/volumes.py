"""Series as volumes: slices in their order in space, true spacing, nothing read before somebody asks.

Geometry is highdicom's (PS3.3 C.7.6.2): order and spacing follow from Image Position and Orientation (Patient), never
from file names, instance numbers or Slice Thickness. Axes of arrays are slices, rows, columns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO

import dask.array as da
import highdicom as hd
import numpy as np
from dask.delayed import delayed
from highdicom.spatial import get_series_volume_positions
from pydicom import Dataset, dcmread

from radlake.cohort.opened.sources import Row, Source
from radlake.errors import PermanentError

__all__ = ["LazyVolume", "NotAVolume", "volume_of"]


class NotAVolume(PermanentError):
    sentence = "The series {series} is no volume: {reason}. `cohort.images(series)` gives its images one by one."


@dataclass(frozen=True)
class LazyVolume:
    """A series as a volume.

    Attributes
    ----------
    array : dask.array.Array
        float32 (slices, rows, columns), one chunk a slice; what the header's rescale slope and intercept make of the
        stored values: CT in HU, PET in its unit.
    geometry : highdicom.VolumeGeometry
        Where it lies in the patient (LPS, mm); `geometry.affine` maps (slice, row, column) there.
    headers : tuple of pydicom.Dataset
        Of the source instances in the order of slices, without pixels; one of a multi-frame instance.
    row : mapping
        Its row of the table `series`.
    """

    row: Row = field(repr=False)
    array: da.Array = field(repr=False)
    geometry: hd.VolumeGeometry = field(repr=False)
    headers: tuple[Dataset, ...] = field(repr=False)

    @property
    def series_uid(self) -> str:
        return self.row["series_instance_uid"]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.geometry.spatial_shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Between the centres of slices, rows and columns."""
        return self.geometry.spacing

    @property
    def affine(self) -> np.ndarray:
        """4 x 4, from (slice, row, column) to LPS millimetres."""
        return self.geometry.affine

    @cached_property
    def loaded(self) -> hd.Volume:
        """Everything, as highdicom's volume: to reorient, crop, resample."""
        return self.geometry.with_array(self.array.compute())


def volume_of(source: Source, row: Row, instances: Sequence[Row]) -> LazyVolume:
    """The volume of a series; only headers are read.

    Parameters
    ----------
    row : mapping
        Of the table `series`.
    instances : sequence of mapping
        Its rows of the table `instance`.

    Raises
    ------
    NotAVolume
        If it has colours, no position in a patient, several orientations, or slices that are not equally far apart.
    """
    uid = row["series_instance_uid"]
    if not instances or any(one["pixel_offset"] is None or one["samples_per_pixel"] != 1 for one in instances):
        raise NotAVolume(series=uid, reason="it has instances without grey-scale pixels")
    heads = [dcmread(BytesIO(source.head(one)), stop_before_pixels=True) for one in instances]
    try:
        if (instances[0]["n_frames"] or 1) > 1:
            return _of_frames(source, row, instances, heads)
        return _of_slices(source, row, instances, heads)
    except (ValueError, AttributeError, KeyError, TypeError, sqlite3.Error) as exc:  # highdicom says so in words
        raise NotAVolume(series=uid, reason=str(exc).rstrip(".")) from exc


def _of_slices(source: Source, row: Row, instances: Sequence[Row], heads: Sequence[Dataset]) -> LazyVolume:
    first = heads[0]
    for keyword in ("ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID", "Rows", "Columns"):
        if any(head[keyword].value != first[keyword].value for head in heads):
            raise ValueError(f"its images do not share one {keyword}")
    spacing, order = first.get("SpacingBetweenSlices", 1.0), list[int]([0])
    if len(heads) > 1:
        found, indices = get_series_volume_positions(heads)
        if found is None or indices is None:
            raise ValueError("its slices are not equally far apart, or two lie at one place")
        spacing, order = found, [indices.index(number) for number in range(len(heads))]
    geometry = hd.VolumeGeometry.from_attributes(
        image_position=heads[order[0]].ImagePositionPatient,
        image_orientation=first.ImageOrientationPatient,
        rows=first.Rows,
        columns=first.Columns,
        pixel_spacing=first.PixelSpacing,
        spacing_between_slices=spacing,
        number_of_frames=len(heads),
        coordinate_system="PATIENT",
        frame_of_reference_uid=first.FrameOfReferenceUID,
    )
    shape = (first.Rows, first.Columns)
    slices = [_read_later(_slice, source, instances[i], shape) for i in order]
    return LazyVolume(row, da.stack(slices), geometry, tuple(heads[i] for i in order))


def _of_frames(source: Source, row: Row, instances: Sequence[Row], heads: Sequence[Dataset]) -> LazyVolume:
    if len(instances) > 1:
        raise ValueError(f"it has {len(instances)} multi-frame instances")
    image = hd.Image.from_dataset(_with_room_for_pixels(heads[0]))
    geometry = image.get_volume_geometry()
    if geometry is None:
        raise ValueError("its frames are not equally far apart, or of several stacks")
    array = _read_later(_frames, source, instances[0], geometry.spatial_shape)
    return LazyVolume(row, array, geometry, (heads[0],))


def _with_room_for_pixels(head: Dataset) -> Dataset:
    """highdicom wants an element for pixels, and does not look into it."""
    copy = Dataset(head)
    copy.file_meta = head.file_meta
    copy.PixelData = b""
    copy["PixelData"].VR = "OW"
    return copy


def pixels_of(content: bytes) -> np.ndarray:
    """Decoded and rescaled values of a Part-10 file, float32."""
    ds = dcmread(BytesIO(content))
    slope, intercept = float(ds.get("RescaleSlope", None) or 1), float(ds.get("RescaleIntercept", None) or 0)
    return ds.pixel_array.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _read_later(
    read: Callable[[Source, Row], np.ndarray], source: Source, row: Row, shape: tuple[int, ...]
) -> da.Array:
    task = delayed(read)(source, dict(row), dask_key_name=f"instance-{row['digest']}")
    return da.from_delayed(task, shape, dtype=np.float32, name=f"pixels-{row['digest']}")


def _slice(source: Source, row: Row) -> np.ndarray:
    return pixels_of(source.instance(row))


def _frames(source: Source, row: Row) -> np.ndarray:
    image = hd.Image.from_dataset(dcmread(BytesIO(source.instance(row))))
    return image.get_volume(dtype=np.float32).array
