"""The studies of a release with their series and instances, one after the other, from its tables alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa

from radlake.cohort.pull.released import runs_of

__all__ = ["Row", "Study", "StudySeries", "Tables", "studies"]

Row = Mapping[str, Any]
Tables = Callable[[str, Sequence[str] | None], pa.Table]  # a table of a release, or some of its columns
_INSTANCE = ["object_path", "sop_instance_uid", "sop_class_uid", "instance_number", "n_frames"]


@dataclass(frozen=True)
class StudySeries:
    """A series: its row, and those of its instances in the order of their numbers."""

    row: Row
    instances: tuple[Row, ...]

    @property
    def uid(self) -> str:
        return self.row["series_instance_uid"]


@dataclass(frozen=True)
class Study:
    """A DICOM study of a release; `exam` is the row of the exam that it belongs to."""

    exam: Row
    series: tuple[StudySeries, ...]

    @property
    def uid(self) -> str:
        return self.series[0].row["study_instance_uid"]

    @property
    def modalities(self) -> list[str]:
        return sorted({series.row["modality"] for series in self.series})

    @property
    def n_instances(self) -> int:
        return sum(len(series.instances) for series in self.series)


def studies(table: Tables) -> Iterator[Study]:
    """Every study, by person and study; rows of instances are held as columns."""
    exams = {row["exam_pseudo_id"]: row for row in table("exam", None).to_pylist()}
    instances = table("instance", _INSTANCE)
    places = runs_of(instances["object_path"])
    for _, rows in groupby(table("series", None).to_pylist(), key=_study_uid):
        objects = sorted(rows, key=_series_uid)
        series = (_series(list(some), instances, places) for _, some in groupby(objects, key=_series_uid))
        yield Study(exams[objects[0]["exam_pseudo_id"]], tuple(series))


_study_uid, _series_uid = itemgetter("study_instance_uid"), itemgetter("series_instance_uid")


def _series(objects: list[Row], instances: pa.Table, places: Mapping[str, tuple[int, int]]) -> StudySeries:
    """A series that was harvested twice lies in two objects."""
    rows = [row for one in objects for row in instances.slice(*places[one["object_path"]]).to_pylist()]
    by_uid = {row["sop_instance_uid"]: row for row in rows}
    order = sorted(by_uid.values(), key=lambda row: (row["instance_number"] or 0, row["sop_instance_uid"]))
    return StudySeries(objects[0], tuple(order))
