"""Bytes as they are stored: measured from the series objects of the catalogue, never exams times a guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from radlake.lake import Lake, duck

__all__ = ["By", "StoredBytes", "stored_bytes"]

By = Literal["all", "modality", "hospital_level", "hospital_id", "residency"]
_COLUMN = {
    "all": "'all'",
    "modality": "series.modality",
    "hospital_level": "coalesce(hospital.hospital_level, 'UNKNOWN')",
    "hospital_id": "series.hospital_id",
    "residency": "series.residency",
}


@dataclass(frozen=True)
class StoredBytes:
    """Objects of one group.

    Attributes
    ----------
    instance_bytes : int
        Files of instances in all objects.
    central_bytes, kept_bytes : int
        Whole objects in our store, and those that hospitals keep (residency `index`).
    """

    group: str
    n_studies: int
    n_objects: int
    instance_bytes: int
    central_bytes: int
    kept_bytes: int

    @property
    def bytes_per_study(self) -> float:
        return (self.central_bytes + self.kept_bytes) / self.n_studies


def stored_bytes(lake: Lake, *, by: By) -> list[StoredBytes]:
    """Measure the series objects by one dimension; studies of several modalities are in the row of each."""
    query = f"""
        SELECT {_COLUMN[by]} AS dimension,
            count(DISTINCT (series.hospital_id, series.study_instance_uid))::BIGINT,
            count(*)::BIGINT,
            sum(series.series_bytes)::BIGINT,
            coalesce(sum(series.object_bytes) FILTER (WHERE series.residency = 'central'), 0)::BIGINT,
            coalesce(sum(series.object_bytes) FILTER (WHERE series.residency = 'index'), 0)::BIGINT
        FROM dicom.series AS series
        LEFT JOIN ref.hospital AS hospital USING (hospital_id)
        GROUP BY dimension ORDER BY dimension
    """
    with duck.connect(lake, tables={"dicom.series", "ref.hospital"}) as connection:
        return [StoredBytes(*row) for row in connection.execute(query).fetchall()]
