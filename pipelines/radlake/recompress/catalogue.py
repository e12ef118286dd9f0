"""What of a hospital is still native, as the rows of the lake tell: candidates, jobs, samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from radlake.config import Settings
from radlake.lake import Lake, duck
from radlake.recompress.header import NATIVE
from radlake.recompress.instance import Member, reason_to_leave
from radlake.recompress.series import SeriesJob

__all__ = [
    "Candidate",
    "candidates",
    "hospitals_of",
    "instances_by_path",
    "jobs_of",
    "left_by_row",
    "native_by_modality",
    "rows_of",
    "sample",
]

# `reason_to_leave` of a row finds none.
_IS_OURS = "object_path NOT IN (SELECT object_path FROM dicom.series WHERE residency = 'index')"
_IS_NATIVE = (
    f"transfer_syntax_uid = '{NATIVE}' AND pixel_offset IS NOT NULL AND bits_allocated IN (8, 16) AND {_IS_OURS}"
)


@dataclass(frozen=True)
class Candidate:
    """A series object with instances that may be worth a look."""

    path: str
    month: int
    n_instances: int


def hospitals_of(lake: Lake) -> list[str]:
    """Hospitals that have studies in the lake."""
    return [hospital for (hospital,) in _fetch(lake, "SELECT DISTINCT hospital_id FROM dicom.study ORDER BY ALL")]


def candidates(lake: Lake, hospital_id: str) -> list[Candidate]:
    """Series objects in the order in which their rows lie: month, then person."""
    query = f"""
        SELECT object_path, study_month, count(*)
        FROM dicom.instance
        WHERE hospital_id = $hospital
        GROUP BY object_path, study_month
        HAVING bool_or({_IS_NATIVE})
        ORDER BY study_month, min(patient_key), object_path
    """
    return [Candidate(*row) for row in _fetch(lake, query, hospital=hospital_id)]


def left_by_row(lake: Lake, hospital_id: str) -> Counter[str]:
    """Instances of all other objects, by the reason that their rows tell."""
    query = f"""
        SELECT transfer_syntax_uid, pixel_offset IS NOT NULL, bits_allocated, {_IS_OURS}, count(*)
        FROM dicom.instance
        WHERE hospital_id = $hospital AND object_path NOT IN (
            SELECT object_path FROM dicom.instance WHERE hospital_id = $hospital AND {_IS_NATIVE}
        )
        GROUP BY ALL
    """
    left: Counter[str] = Counter()
    for syntax, has_pixels, bits, is_ours, n in _fetch(lake, query, hospital=hospital_id):
        reason = reason_to_leave(syntax, has_pixels=has_pixels, bits_allocated=bits) or ""
        left[reason if is_ours else "kept_by_hospital"] += n
    return left


def native_by_modality(lake: Lake, hospital_id: str) -> dict[str, tuple[int, int]]:
    """Instances and bytes that may be worth a look, by modality."""
    query = f"""
        SELECT modality, count(*), sum(instance_bytes)::BIGINT
        FROM dicom.instance
        WHERE hospital_id = $hospital AND {_IS_NATIVE}
        GROUP BY modality
        ORDER BY modality
    """
    return {name: (n, n_bytes) for name, n, n_bytes in _fetch(lake, query, hospital=hospital_id)}


def sample(settings: Settings, lake: Lake, hospital_id: str, *, codec: str, size: int) -> list[SeriesJob]:
    """Jobs of single instances: so many of each modality, any, but the same ones each time."""
    query = f"""
        SELECT *
        FROM dicom.instance
        WHERE hospital_id = $hospital AND {_IS_NATIVE}
        QUALIFY row_number() OVER (PARTITION BY modality ORDER BY digest) <= $size
        ORDER BY modality, digest
    """
    rows = _rows(lake, query, hospital=hospital_id, size=size)
    return [SeriesJob(settings, codec, row["object_path"], row["study_month"], (_member(row),)) for row in rows]


def jobs_of(
    settings: Settings, lake: Lake, hospital_id: str, chosen: Sequence[Candidate], *, codec: str
) -> list[SeriesJob]:
    by_path = instances_by_path(
        lake, hospital_id, paths=[item.path for item in chosen], months=[item.month for item in chosen]
    )
    return [
        SeriesJob(settings, codec, item.path, item.month, tuple(map(_member, by_path[item.path])))
        for item in chosen
        if item.path in by_path
    ]


def instances_by_path(
    lake: Lake, hospital_id: str, *, paths: Sequence[str], months: Sequence[int]
) -> dict[str, list[dict[str, Any]]]:
    """Rows of dicom.instance of each series object, as they lie in it."""
    by_path: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of(lake, "dicom.instance", hospital_id, column="object_path", wanted=paths, months=months):
        by_path.setdefault(row["object_path"], []).append(row)
    for rows in by_path.values():
        rows.sort(key=lambda row: row["object_offset"])
    return by_path


def rows_of(
    lake: Lake, table: str, hospital_id: str, *, column: str, wanted: Sequence[str], months: Sequence[int]
) -> list[dict[str, Any]]:
    """Rows of a dicom table by the values of a column."""
    query = f"""
        SELECT *
        FROM {table}
        WHERE hospital_id = $hospital
            AND study_month IN (SELECT unnest($months))
            AND {column} IN (SELECT unnest($wanted))
    """
    return _rows(lake, query, hospital=hospital_id, months=sorted(set(months)), wanted=sorted(set(wanted)))


def _fetch(lake: Lake, query: str, **parameters: Any) -> list[Any]:
    with duck.connect(lake, tables=["dicom"]) as connection:
        return connection.execute(query, parameters).fetchall()


def _rows(lake: Lake, query: str, **parameters: Any) -> list[dict[str, Any]]:
    with duck.connect(lake, tables=["dicom"]) as connection:
        return connection.sql(query, params=parameters).to_arrow_table().to_pylist()


def _member(row: dict[str, Any]) -> Member:
    return Member(
        sop_instance_uid=row["sop_instance_uid"],
        modality=row["modality"],
        offset=row["object_offset"],
        n_bytes=row["instance_bytes"],
        pixel_offset=row["pixel_offset"],
        digest=row["digest"],
        transfer_syntax_uid=row["transfer_syntax_uid"],
        photometric_interpretation=row["photometric_interpretation"],
        bits_allocated=row["bits_allocated"],
    )
