"""What the rows of the lake tell of series objects: which there are, what is in them, and who keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from radlake.lake import Lake, duck

__all__ = ["Held", "SeriesObject", "held", "objects_of"]


@dataclass(frozen=True)
class SeriesObject:
    """A series object as its rows describe it.

    Attributes
    ----------
    study_uid, series_uid : str
        As they are in the lake.
    instances : frozenset of (SOP Instance UID, digest)
        As they are in the lake: what the object must hold.
    """

    hospital_id: str
    study_uid: str
    study_month: int
    series_uid: str
    path: str
    n_bytes: int
    residency: str
    instances: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Held:
    """Series objects of a hospital by where they lie."""

    hospital_id: str
    residency: str
    n_objects: int
    n_bytes: int


_OBJECTS = """
    SELECT
        series.hospital_id, series.study_instance_uid, series.study_month, series.series_instance_uid,
        series.object_path, series.object_bytes, series.residency,
        list(instance.sop_instance_uid || '=' || instance.digest)
    FROM dicom.series AS series
    INNER JOIN dicom.instance AS instance
        ON instance.hospital_id = series.hospital_id
        AND instance.study_month = series.study_month
        AND instance.object_path = series.object_path
    WHERE {where}
    GROUP BY ALL
    ORDER BY ALL
"""


def objects_of(
    lake: Lake, *, uids: Sequence[str] = (), paths: Sequence[str] = (), hospital_id: str = "", residency: str = ""
) -> list[SeriesObject]:
    """Series objects of studies or series by their UIDs in the lake, or by path, or all of a hospital; in order."""
    terms, parameters = [], {}
    if uids:
        terms.append("($uids).list_has_any([series.study_instance_uid, series.series_instance_uid])")
        parameters["uids"] = list(uids)
    if paths:
        terms.append("series.object_path IN (SELECT unnest($paths))")
        parameters["paths"] = list(paths)
    if hospital_id:
        terms.append("series.hospital_id = $hospital")
        parameters["hospital"] = hospital_id
    if residency:
        terms.append("series.residency = $residency")
        parameters["residency"] = residency
    with duck.connect(lake, tables=["dicom.series", "dicom.instance"]) as connection:
        rows = connection.execute(_OBJECTS.format(where=" AND ".join(terms) or "true"), parameters).fetchall()
    return [
        SeriesObject(hospital, study, month, series, path, n_bytes, where, frozenset(map(_pair, instances)))
        for hospital, study, month, series, path, n_bytes, where, instances in rows
    ]


def held(lake: Lake) -> list[Held]:
    """How much of each hospital lies where."""
    query = """
        SELECT hospital_id, residency, count(*), sum(object_bytes)::BIGINT
        FROM dicom.series
        GROUP BY ALL
        ORDER BY ALL
    """
    with duck.connect(lake, tables=["dicom.series"]) as connection:
        return [Held(*row) for row in connection.execute(query).fetchall()]


def _pair(text: str) -> tuple[str, str]:
    uid, _, digest = text.partition("=")
    return uid, digest
