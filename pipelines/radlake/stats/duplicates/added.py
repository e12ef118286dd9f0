"""Repeats by place that exams add which came after core.exam_sequence was laid out, such as those of a new month.

An exam changes only what is counted of its own person, and there only itself and what follows within the window. So of
the exams that were there, those of the persons of added ones are read, from the window before their first added exam
on, and counted twice: without the added ones, and with them. The difference, added to the pass over the sequence, is
what laying out everything anew would give.

That holds while tables were only added to. Whatever else changed (`reason`) needs a new sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from radlake.contracts import load_table
from radlake.lake import Lake, parquet
from radlake.lake.deltalog import Snapshot
from radlake.sqlrun.date_offsets import DateOffsets, register_offsets
from radlake.stats.duplicates.packs import load_windows
from radlake.stats.duplicates.places import SCHEMA
from radlake.stats.duplicates.sequence import INPUTS, TABLE
from radlake.stats.duplicates.unsorted import earlier_exams

__all__ = ["Added", "added_repeats", "summed"]

_EXAM, _ORDER, _HOSPITAL, _LINK = INPUTS


@dataclass(frozen=True)
class Added:
    """What exams that came later add.

    Attributes
    ----------
    n_exams : int
        Dated exams that came since the sequence was laid out.
    rows : pa.Table or None
        What they add, by month, prefecture, level and modality; None when only a new sequence can tell.
    reason : str
        Why not; else empty.
    """

    n_exams: int
    rows: pa.Table | None
    reason: str = ""


def added_repeats(
    lake: Lake,
    *,
    inputs: Mapping[str, int],
    version: int,
    window_days: int,
    date_offsets: DateOffsets,
    workers: int = 2,
) -> Added:
    """Exams and repeats to add to those of a version of core.exam_sequence.

    Parameters
    ----------
    inputs : mapping of str to int
        Versions of the tables that the sequence was made from.
    version : int
        That of the sequence.
    date_offsets : callable
        Seconds by which the times of each person (patient_key) were moved.
    """
    tables = {name: _Grown.of(lake, name, inputs.get(name)) for name in INPUTS}
    changed = [name for name, table in tables.items() if table.is_replaced]
    changed += [name for name in (_HOSPITAL, _LINK) if tables[name].added and name not in changed]
    if changed:
        return Added(0, None, f"{', '.join(changed)} changed, and not only by added exams")
    if not tables[_EXAM].added and not tables[_ORDER].added:
        return Added(0, SCHEMA.empty_table())
    with parquet.new_connection(threads=workers, filesystem=lake.tables.filesystem) as connection:
        return _counted(
            connection,
            tables,
            sequence=lake.restricted_tables.files(TABLE, version=version),
            window_days=window_days,
            date_offsets=date_offsets,
        )


def summed(rows: pa.Table, added: pa.Table) -> pa.Table:
    """Two parts of a count as one, in the order of `places.SCHEMA`."""
    keys = SCHEMA.names[:4]
    total = pa.concat_tables([rows, added]).group_by(keys).aggregate([("n_exams", "sum"), ("n_repeats", "sum")])
    return total.rename_columns(SCHEMA.names).sort_by([(key, "ascending") for key in keys]).cast(SCHEMA)


@dataclass(frozen=True)
class _Grown:
    """A table then and now: its files, those of them that were added, and whether others are gone."""

    name: str
    then: Snapshot | None
    files: Sequence[str]
    added: Sequence[str]
    is_replaced: bool

    @classmethod
    def of(cls, lake: Lake, name: str, version: int | None) -> _Grown:
        then = None if version is None else lake.tables.snapshot(name, version=version)
        before, files = set(then.files() if then else ()), lake.tables.files(name)
        return cls(name, then, files, sorted({*files} - before), not before <= {*files})

    def relation(self, files: Sequence[str]) -> str:
        return parquet.scan(load_table(self.name), files)


def _counted(
    connection: duckdb.DuckDBPyConnection,
    tables: Mapping[str, _Grown],
    *,
    sequence: Sequence[str],
    window_days: int,
    date_offsets: DateOffsets,
) -> Added:
    exams, orders, links = tables[_EXAM], tables[_ORDER], tables[_LINK]
    fresh = exams.relation(exams.added)
    connection.execute(_FRESH.format(exams=fresh, links=links.relation(links.files)))
    if connection.execute(_STRANGE.format(orders=orders.relation(orders.added), exams=fresh)).fetchall():
        return Added(0, None, "ref.exam_order tells something new of exams that were there")
    found = connection.execute(_TOUCHED.format(days=window_days + 1)).fetchall()
    if not found:
        return Added(0, SCHEMA.empty_table())
    [(n_exams, since)] = found
    limit = load_windows().max_person_exams
    relation = f"read_parquet([{', '.join(map(parquet.text, sequence))}])"
    connection.execute(_SHARED.format(sequence=relation, limit=limit))
    if connection.execute("SELECT 1 FROM shared WHERE is_new").fetchall():
        return Added(n_exams, None, f"a number has more than {limit:,} exams now, so that many persons share it")
    there = exams.then.files(where=f"study_month >= {since.year * 100 + since.month}") if exams.then else []
    connection.execute(_NEAR.format(exams=exams.relation(there)))
    register_offsets(connection, date_offsets, persons="near")
    hospitals = tables[_HOSPITAL]
    connection.execute(
        _CODED.format(orders=orders.relation(orders.files), hospitals=hospitals.relation(hospitals.files))
    )
    rows = connection.sql(_SORTED).fetchnumpy()
    connection.register("counted", _cells(rows, window_days=window_days))
    return Added(n_exams, connection.sql(_NAMED).to_arrow_table().cast(SCHEMA))


def _cells(rows: Mapping[str, np.ndarray], *, window_days: int) -> pa.Table:
    """What each exam adds, with its place, kind and day since 1970; those that add nothing are left out."""
    is_added = np.asarray(rows["is_added"])
    is_repeat = _repeats(rows, window_days=window_days).astype(np.int64)
    there = np.flatnonzero(~is_added)
    is_repeat[there] -= _repeats({name: values[there] for name, values in rows.items()}, window_days=window_days)
    shown = is_added | (is_repeat != 0)
    columns = {"place": rows["place"], "kind": rows["own_kind"], "day": rows["day"]}
    columns |= {"n_exams": is_added.astype(np.int64), "n_repeats": is_repeat}
    return pa.table({name: values[shown] for name, values in columns.items()})


def _repeats(rows: Mapping[str, np.ndarray], *, window_days: int) -> np.ndarray:
    """Whether each exam repeats one of those given, as `pairs.repeats` counts it."""
    key, kind, day, encounter = (np.asarray(rows[name]) for name in ("person_key", "kind", "day", "encounter"))
    is_first = np.ones(len(key), dtype=bool)
    is_first[1:] = (key[1:] != key[:-1]) | (kind[1:] != kind[:-1])
    earlier = earlier_exams(is_first, np.asarray(rows["side"]))
    gap = day - day[earlier]
    is_apart = (encounter == 0) | (encounter != encounter[earlier])
    return (earlier >= 0) & (gap >= 1) & (gap <= window_days) & is_apart & (kind > 0)


_FRESH = """
CREATE TABLE link AS SELECT patient_key, person_key FROM {links};
CREATE TABLE fresh AS
SELECT patient_key, hospital_id, exam_pseudo_id, modality_group, body_part_code, laterality_code, study_at,
    is_patient_known
FROM {exams} WHERE study_at IS NOT NULL
"""
_STRANGE = "SELECT 1 FROM {orders} ANTI JOIN {exams} USING (hospital_id, exam_pseudo_id, patient_key) LIMIT 1"
# Pseudonyms of one person are moved by different offsets, of up to a year.
_TOUCHED = """
CREATE TABLE person AS
WITH told AS (
    SELECT coalesce(link.person_key, fresh.patient_key) AS person_key, fresh.study_at
    FROM fresh LEFT JOIN link ON fresh.patient_key = link.patient_key
)
SELECT
    told.person_key,
    count(*) AS n_added,
    min(told.study_at) - INTERVAL {days} DAY - to_days(if(count(several.person_key) > 0, 366, 0)) AS since
FROM told LEFT JOIN (SELECT DISTINCT person_key FROM link) AS several USING (person_key)
GROUP BY ALL;
CREATE TABLE touched AS
SELECT person_key AS patient_key, person_key, since FROM person
UNION
SELECT link.patient_key, person_key, since FROM person INNER JOIN link USING (person_key);
SELECT sum(n_added)::BIGINT, min(since) FROM person HAVING count(*) > 0
"""
# Persons of added exams whose number many share, or do with them.
_SHARED = """
CREATE TABLE shared AS
WITH laid AS (
    SELECT patient_key AS person_key, count(*) AS n
    FROM (SELECT patient_key FROM {sequence} WHERE is_counted)
    WHERE patient_key IN (SELECT person_key FROM person)
    GROUP BY ALL
)
SELECT person_key, coalesce(n, 0) <= {limit} AS is_new
FROM person LEFT JOIN laid USING (person_key)
WHERE coalesce(n, 0) + n_added > {limit}
"""
_NEAR = """
CREATE TABLE near AS
SELECT exam.*, touched.person_key
FROM (
    SELECT *, TRUE AS is_added FROM fresh
    UNION ALL
    SELECT patient_key, hospital_id, exam_pseudo_id, modality_group, body_part_code, laterality_code, study_at,
        is_patient_known, FALSE
    FROM {exams}
) AS exam
INNER JOIN touched ON exam.patient_key = touched.patient_key AND exam.study_at >= touched.since
"""
_CODED = """
CREATE TABLE place AS
SELECT row_number() OVER (ORDER BY region_code, hospital_level, hospital_id) AS code, *
FROM (
    SELECT
        near.hospital_id,
        CASE WHEN known.region_code IS NULL OR known.region_code = 'UNKNOWN' THEN 'UNKNOWN'
            ELSE left(known.region_code, 4) || '00' END AS region_code,
        coalesce(known.hospital_level, 'UNKNOWN') AS hospital_level
    FROM (SELECT DISTINCT hospital_id FROM near) AS near
    LEFT JOIN {hospitals} AS known ON near.hospital_id = known.hospital_id
);
CREATE TABLE kind AS
SELECT row_number() OVER () AS code, modality_group, body_part_code
FROM (SELECT DISTINCT modality_group, body_part_code FROM near);
CREATE TABLE encounter AS
SELECT hospital_id, exam_pseudo_id, patient_key, hash(hospital_id, encounter_pseudo_id) % 2147483646 + 1 AS code
FROM {orders}
WHERE encounter_pseudo_id IS NOT NULL AND patient_key IN (SELECT patient_key FROM touched)
"""
_SORTED = """
SELECT
    near.person_key,
    CASE WHEN near.is_patient_known AND near.body_part_code <> 'UNKNOWN' AND shared.person_key IS NULL
        THEN kind.code ELSE 0 END AS kind,
    epoch((near.study_at - to_seconds(offsets.seconds))::DATE)::BIGINT // 86400 AS day,
    CASE near.laterality_code WHEN 'L' THEN 1 WHEN 'R' THEN 2 ELSE 0 END::TINYINT AS side,
    coalesce(encounter.code, 0)::BIGINT AS encounter,
    near.is_added,
    place.code AS place,
    kind.code AS own_kind
FROM near
INNER JOIN offsets USING (patient_key)
INNER JOIN place USING (hospital_id)
INNER JOIN kind USING (modality_group, body_part_code)
LEFT JOIN shared USING (person_key)
LEFT JOIN encounter USING (hospital_id, exam_pseudo_id, patient_key)
ORDER BY near.person_key, kind, day,
    epoch_us(near.study_at) // 1000000 - offsets.seconds, place.code, encounter, near.laterality_code = 'B', side
"""
_NAMED = """
SELECT
    (year(date) * 100 + month(date))::INTEGER AS exam_month,
    region_code,
    hospital_level,
    modality_group,
    sum(n_exams)::BIGINT AS n_exams,
    sum(n_repeats)::BIGINT AS n_repeats
FROM (SELECT *, DATE '1970-01-01' + day::INTEGER AS date FROM counted) AS counted
INNER JOIN place ON counted.place = place.code
INNER JOIN kind ON counted.kind = kind.code
GROUP BY ALL
"""
