"""The studies of a release with their series and instances, one after the other, from its tables alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa

from radlake.cohort.pull.released import Release, runs_of

__all__ = ["Row", "Study", "StudySeries", "studies"]

Row = Mapping[str, Any]
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


def studies(release: Release) -> Iterator[Study]:
    """Every study, by person and study; rows of instances are held as columns."""
    exams = {row["exam_pseudo_id"]: row for row in release.table("exam").to_pylist()}
    instances = release.table("instance", _INSTANCE)
    places = runs_of(instances["object_path"])
    for _, rows in groupby(release.series_rows, key=lambda row: row["study_instance_uid"]):
        found = list(rows)
        series = groupby(
            sorted(found, key=lambda row: row["series_instance_uid"]), lambda row: row["series_instance_uid"]
        )
        yield Study(exams[found[0]["exam_pseudo_id"]], tuple(_series(list(of), instances, places) for _, of in series))


def _series(objects: list[Row], instances: pa.Table, places: Mapping[str, tuple[int, int]]) -> StudySeries:
    """A series that was harvested twice lies in two objects."""
    rows = [row for one in objects for row in instances.slice(*places[one["object_path"]]).to_pylist()]
    by_uid = {row["sop_instance_uid"]: row for row in rows}
    order = sorted(by_uid.values(), key=lambda row: (row["instance_number"] or 0, row["sop_instance_uid"]))
    return StudySeries(objects[0], tuple(order))
