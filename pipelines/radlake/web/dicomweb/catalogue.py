"""Finding studies, series and instances in the tables of the lake, at one version of them.

A connection is kept while no table has a newer version. What was withdrawn or has expired is in no row of the next
version; a study that has expired is told apart from one that never was, by its tombstone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import duckdb

from radlake.dicom.uids import is_uid, transfer_syntax
from radlake.lake import Lake, duck
from radlake.log import get_logger
from radlake.web.dicomweb.attributes import ATTRIBUTES, Attribute, Kind, Level
from radlake.web.dicomweb.query import Search
from radlake.web.dicomweb.refusals import BadRequest, Gone, NotFound, TryLater

__all__ = ["TABLES", "Catalogue", "Found", "Instance", "Resource"]

TABLES = ("dicom.study", "dicom.series", "dicom.instance", "ops.tombstone")
_PLACES_KEPT = 10_000

Json = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Resource:
    """A study, or a series or an instance of it, as the path of a URL names it; what is empty is not said."""

    study: str
    series: str = ""
    instance: str = ""


@dataclass(frozen=True)
class Instance:
    """Where an instance lies, and the facts of its pixels that a frame is found by (rows of dicom.instance)."""

    study_uid: str
    series_uid: str
    uid: str
    syntax: str
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    photometric: str
    n_frames: int
    path: str
    offset: int
    n_bytes: int
    pixel_offset: int | None

    @property
    def is_native(self) -> bool:
        known = transfer_syntax(self.syntax)
        return known is not None and not known.is_encapsulated


@dataclass(frozen=True)
class Found:
    """A page of results as DICOM JSON, and how many more there are."""

    results: list[Json]
    n_remaining: int


_FROM = {
    Level.STUDY: "dicom.study AS study",
    Level.SERIES: """dicom.series AS series
        INNER JOIN dicom.study AS study USING (hospital_id, study_month, study_instance_uid)""",
    Level.INSTANCE: """dicom.instance AS instance
        INNER JOIN dicom.series AS series USING (hospital_id, study_month, object_path)
        INNER JOIN dicom.study AS study ON study.hospital_id = instance.hospital_id
            AND study.study_month = instance.study_month AND study.study_instance_uid = instance.study_instance_uid""",
}
_ORDER = {
    Level.STUDY: "max(study.study_at) DESC NULLS LAST",
    Level.SERIES: "min(series.series_number) NULLS LAST",
    Level.INSTANCE: "min(instance.instance_number) NULLS LAST",
}
_INSTANCES = """
SELECT
    study_instance_uid, series_instance_uid, sop_instance_uid, transfer_syntax_uid, coalesce(rows, 0),
    coalesce(columns, 0), coalesce(samples_per_pixel, 1), coalesce(bits_allocated, 0),
    coalesce(photometric_interpretation, ''), n_frames, object_path, object_offset, instance_bytes, pixel_offset
FROM dicom.instance
WHERE {where}
ORDER BY hospital_id, series_instance_uid, object_path, object_offset
"""


class Catalogue:
    """Answers searches; looks for a newer version of the tables at most every `check_seconds`."""

    def __init__(self, lake: Lake, *, clock: Callable[[], float] = time.monotonic, check_seconds: float = 2.0) -> None:
        self._lake = lake
        self._clock, self._check_seconds = clock, check_seconds
        self._lock = threading.Lock()
        self._version: tuple[int | None, ...] | None = None
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._checked_at = float("-inf")
        self._places = lru_cache(_PLACES_KEPT)(self._look_up)
        self._is_any_kept = lru_cache(1)(self._look_for_kept)

    def search(self, search: Search, within: Resource | None = None) -> Found:
        """One page of what matches, in the order of the level; studies with the latest first."""
        level = search.level
        terms = [condition.sql for condition in search.conditions]
        parameters = {name: value for one in search.conditions for name, value in one.parameters.items()}
        if within:
            terms.append(self._place(within, alias=("study", "series", "instance")[level]))
        chosen = [one for one in search.returned if one.sql]
        columns = [f"{_value(one, level)} AS {one.keyword}" for one in chosen]
        uid, where = ATTRIBUTES[level.uid].sql, " AND ".join(terms) or "true"
        rows = self._rows(
            f"SELECT {', '.join(columns)} FROM {_FROM[level]} WHERE {where} "
            f"GROUP BY {uid} ORDER BY {_ORDER[level]}, {uid} LIMIT {search.limit} OFFSET {search.offset}",
            parameters,
        )
        n_remaining = 0
        if len(rows) == search.limit:  # else they were the last
            [(n,)] = self._rows(f"SELECT count(DISTINCT {uid}) FROM {_FROM[level]} WHERE {where}", parameters)
            n_remaining = max(0, n - search.offset - len(rows))
        results = []
        for row in rows:
            values = dict(zip((one.keyword for one in chosen), row, strict=True))
            results.append({f"{one.tag:08X}": _json(one, values.get(one.keyword)) for one in search.returned})
        if level == Level.STUDY:
            self._tell_availability(results)
        return Found(results, n_remaining)

    def instances(self, of: Resource) -> list[Instance]:
        """Every instance once, by series and place in their objects.

        Raises
        ------
        NotFound, Gone
        """
        rows = self._rows(_INSTANCES.format(where=self._place(of, alias="")), {})
        found: dict[str, Instance] = {}
        for row in rows:
            found.setdefault(row[2], Instance(*row))
        if not found:
            raise NotFound("There is no such series or instance in this study.")
        return list(found.values())

    def _tell_availability(self, studies: list[Json]) -> None:
        """Of studies, which have no column for it; NEARLINE when a hospital keeps one of their series."""
        kept = self._kept_elsewhere([study["0020000D"]["Value"][0] for study in studies])
        for study in studies:
            is_kept = study["0020000D"]["Value"][0] in kept
            study["00080056"] = {"vr": "CS", "Value": ["NEARLINE" if is_kept else "ONLINE"]}

    def _kept_elsewhere(self, uids: list[str]) -> set[str]:
        if not (uids and self._is_any_kept()):
            return set()
        sql = "SELECT DISTINCT study_instance_uid FROM dicom.series WHERE residency = 'index' "\
              "AND study_instance_uid IN (SELECT unnest($uids))"  # fmt: skip
        return {uid for (uid,) in self._rows(sql, {"uids": uids})}

    def _look_for_kept(self) -> bool:
        return bool(self._rows("SELECT 1 FROM dicom.series WHERE residency = 'index' LIMIT 1", {}))

    def _place(self, of: Resource, *, alias: str) -> str:
        """SQL of the rows of a resource: files of the tables are told apart by month and person."""
        for uid in (of.study, of.series, of.instance):
            if uid and not is_uid(uid):
                raise BadRequest("A UID in the path is none: digits and dots, at most 64.")
        self._current()
        at = f"{alias}." if alias else ""
        places = [f"({at}study_month = {month} AND {at}patient_key = {key})" for month, key in self._places(of.study)]
        terms = [f"({' OR '.join(places)})", f"{at}study_instance_uid = '{of.study}'"]
        terms += [f"{at}series_instance_uid = '{of.series}'"] if of.series else []
        terms += [f"{at}sop_instance_uid = '{of.instance}'"] if of.instance else []
        return " AND ".join(terms)

    def _look_up(self, study_uid: str) -> Sequence[tuple[int, int]]:
        found = self._rows(
            "SELECT DISTINCT study_month, patient_key FROM dicom.study WHERE study_instance_uid = $uid",
            {"uid": study_uid},
        )
        if found:
            return found
        if self._rows("SELECT 1 FROM ops.tombstone WHERE study_instance_uid = $uid", {"uid": study_uid}):
            raise Gone("This study has expired: its retention is over, and it was removed.")
        raise NotFound("There is no such study in this lake, or it was withdrawn.")

    def _rows(self, sql: str, parameters: dict[str, object]) -> list[tuple]:
        with self._cursor() as cursor:
            return cursor.execute(sql, parameters).fetchall()

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self._current().cursor()
        try:
            yield cursor
        except duckdb.Error as exc:
            self._checked_at = float("-inf")  # perhaps its files were tidied away
            self._version = None
            get_logger().error("lake_read_failed", error_class=type(exc).__name__, reason=str(exc))
            raise TryLater("The tables of the lake cannot be read now. Ask again.") from exc
        finally:
            cursor.close()

    def _current(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._connection is None or self._clock() - self._checked_at >= self._check_seconds:
                version = tuple(self._lake.tables.version(name) for name in TABLES)
                if version != self._version:
                    self._connection, self._version = duck.connect(self._lake, tables=TABLES), version
                    self._places.cache_clear()
                    self._is_any_kept.cache_clear()
                self._checked_at = self._clock()
            assert self._connection is not None
            return self._connection


def _value(attribute: Attribute, level: Level) -> str:
    """SQL of one value for all rows of a result: a number of a level above it belongs to each row already."""
    gathers = attribute.gathers if attribute.level == level else "min" if attribute.gathers == "sum" else "max"
    return f"{gathers}({attribute.sql})"


def _json(attribute: Attribute, value: Any) -> dict[str, Any]:
    if value is None or value == "":
        return {"vr": attribute.vr}
    match attribute.kind:
        case Kind.DATE:
            values: list[Any] = [f"{value:%Y%m%d}"]
        case Kind.TIME:
            values = [f"{value:%H%M%S}"]
        case Kind.TEXTS:
            values = value.split("\\")
        case Kind.PERSON_KEY:
            text = f"{value:016x}"
            values = [{"Alphabetic": text} if attribute.vr == "PN" else text]
        case _:
            values = [value]
    return {"vr": attribute.vr, "Value": values}
