"""Repeats by place that exams add which came after core.exam_sequence was laid out, such as those of a new month.

An exam changes only what is counted of its own person, modality and body part, and there only itself and what follows
within the window. So of the exams that were there, those that an added one may repeat, or that may repeat it, are read
and counted twice: without the added ones, and with them. The difference, added to the pass over the sequence, is what
laying out everything anew would give.

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
    exams, orders, links, hospitals = (tables[name] for name in (_EXAM, _ORDER, _LINK, _HOSPITAL))
    came = exams.relation(exams.added)
    connection.execute(_ADDED.format(exams=came, links=links.relation(links.files)))
    if connection.execute(_STRANGE.format(orders=orders.relation(orders.added), exams=came)).fetchall():
        return Added(0, None, "ref.exam_order tells something new of exams that were there")
    [(n_exams,)] = connection.execute("SELECT count(*) FROM near").fetchall()
    limit = load_windows().max_person_exams
    crowd = _crowded(connection, sequence, limit=limit)
    if crowd is None:
        return Added(n_exams, None, f"a number has more than {limit:,} exams now, so that many persons share it")
    connection.execute(_TOUCHED.format(days=window_days + 1, crowd=", ".join(map(str, crowd)) or "NULL"))
    [(since,)] = connection.execute("SELECT min(since) FROM touched").fetchall()
    there = exams.then.files(where=f"study_month >= {since:%Y%m}") if exams.then and since else []
    connection.execute(_NEAR.format(exams=exams.relation(there)))
    register_offsets(connection, date_offsets, persons="near")
    connection.execute(_DATED.format(hospitals=hospitals.relation(hospitals.files)))
    rows = connection.sql(_SORTED.format(orders=orders.relation(orders.files))).fetchnumpy()
    connection.register("changed", _changed(rows, window_days=window_days))
    return Added(n_exams, connection.sql(_NAMED).to_arrow_table().cast(SCHEMA))


def _crowded(connection: duckdb.DuckDBPyConnection, sequence: Sequence[str], *, limit: int) -> list[int] | None:
    """Persons of added exams whose number many share; None when there is one that many share only now."""
    files = f"[{', '.join(map(parquet.text, sequence))}]"
    suspects = connection.execute(_SUSPECTS.format(files=files, step=max(1, limit // 3))).fetchall()
    if not suspects:
        return []
    persons = ", ".join(str(person) for (person,) in suspects)
    found = connection.execute(_CROWDED.format(files=files, persons=persons, limit=limit)).fetchall()
    return None if any(is_new for _, is_new in found) else [person for person, _ in found]


def _changed(rows: Mapping[str, np.ndarray], *, window_days: int) -> pa.Table:
    """Places, kinds and days of exams that repeat another one only now (1), or no longer (-1)."""
    is_repeat = _repeats(rows, window_days=window_days).astype(np.int64)
    there = np.flatnonzero(~np.asarray(rows["is_added"]))
    is_repeat[there] -= _repeats({name: values[there] for name, values in rows.items()}, window_days=window_days)
    shown = is_repeat != 0
    return pa.table({name: rows[name][shown] for name in ("place", "kind", "day")} | {"n_repeats": is_repeat[shown]})


def _repeats(rows: Mapping[str, np.ndarray], *, window_days: int) -> np.ndarray:
    """Whether each exam repeats one of those given, as `pairs.repeats` counts it."""
    key, kind, day, encounter = (np.asarray(rows[name]) for name in ("person_key", "kind", "day", "encounter"))
    is_first = np.ones(len(key), dtype=bool)
    is_first[1:] = (key[1:] != key[:-1]) | (kind[1:] != kind[:-1])
    earlier = earlier_exams(is_first, np.asarray(rows["side"]))
    gap = day - day[earlier]
    is_apart = (encounter == 0) | (encounter != encounter[earlier])
    return (earlier >= 0) & (gap >= 1) & (gap <= window_days) & is_apart


_ADDED = """
CREATE TABLE link AS SELECT patient_key, person_key FROM {links};
CREATE TABLE near AS
SELECT
    exam.patient_key,
    coalesce(link.person_key, exam.patient_key) AS person_key,
    exam.hospital_id,
    exam.exam_pseudo_id,
    exam.modality_group,
    exam.body_part_code,
    exam.laterality_code,
    exam.study_at,
    exam.is_patient_known AND exam.body_part_code <> 'UNKNOWN' AS is_told,
    TRUE AS is_added
FROM {exams} AS exam
LEFT JOIN link ON exam.patient_key = link.patient_key
WHERE exam.study_at IS NOT NULL
"""
_STRANGE = "SELECT 1 FROM {orders} ANTI JOIN {exams} USING (hospital_id, exam_pseudo_id, patient_key) LIMIT 1"
# The rows of a person lie together, so that with many of them two are met in steps; else many came.
_SUSPECTS = """
SELECT patient_key
FROM read_parquet({files}, file_row_number = true)
WHERE file_row_number % {step} = 0
GROUP BY ALL
HAVING count(*) > 1
UNION
SELECT person_key FROM near GROUP BY ALL HAVING count(*) > {step}
"""
_CROWDED = """
WITH laid AS (
    SELECT patient_key AS person_key, count(*) AS n
    FROM read_parquet({files})
    WHERE is_counted AND patient_key IN ({persons})
    GROUP BY ALL
)
SELECT person_key, coalesce(n, 0) <= {limit} AS is_new
FROM (SELECT person_key, count(*) AS n_added FROM near WHERE person_key IN ({persons}) GROUP BY ALL) AS person
LEFT JOIN laid USING (person_key)
WHERE coalesce(n, 0) + n_added > {limit}
"""
# Of which pseudonym, modality and body part exams matter, and when. Pseudonyms of one person are moved by different
# offsets, of up to a year.
_TOUCHED = """
UPDATE near SET is_told = FALSE WHERE person_key IN ({crowd});
CREATE TABLE touched AS
WITH told AS (
    SELECT person_key, modality_group, body_part_code, min(study_at) AS first_at, max(study_at) AS last_at
    FROM near WHERE is_told
    GROUP BY ALL
),
reached AS (
    SELECT *, to_days({days} + if(person_key IN (SELECT person_key FROM link), 366, 0)) AS reach FROM told
),
person AS (
    SELECT person_key, modality_group, body_part_code, first_at - reach AS since, last_at + reach AS until
    FROM reached
)
SELECT person_key AS patient_key, * FROM person
UNION ALL
SELECT link.patient_key, person.* FROM person INNER JOIN link USING (person_key)
"""
_NEAR = """
INSERT INTO near
SELECT
    exam.patient_key,
    touched.person_key,
    exam.hospital_id,
    exam.exam_pseudo_id,
    exam.modality_group,
    exam.body_part_code,
    exam.laterality_code,
    exam.study_at,
    TRUE,
    FALSE
FROM {exams} AS exam
INNER JOIN touched USING (patient_key, modality_group, body_part_code)
WHERE exam.is_patient_known AND exam.study_at BETWEEN touched.since AND touched.until
"""
# In the order of `layout`, and exams that have no other one near left out.
_DATED = """
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
CREATE TABLE dated AS
SELECT
    near.person_key,
    near.patient_key,
    near.hospital_id,
    near.exam_pseudo_id,
    CASE near.laterality_code WHEN 'L' THEN 1 WHEN 'R' THEN 2 ELSE 0 END::TINYINT AS side,
    near.laterality_code = 'B' AS is_both,
    epoch_us(near.study_at) // 1000000 - offsets.seconds AS second,
    epoch((near.study_at - to_seconds(offsets.seconds))::DATE)::BIGINT // 86400 AS day,
    place.code AS place,
    kind.code AS kind,
    near.is_told,
    near.is_added
FROM near
INNER JOIN offsets USING (patient_key)
INNER JOIN place USING (hospital_id)
INNER JOIN kind USING (modality_group, body_part_code)
"""
_SORTED = """
WITH paired AS (
    SELECT dated.*
    FROM dated
    SEMI JOIN (SELECT person_key, kind FROM dated WHERE is_told GROUP BY ALL HAVING count(*) > 1)
        USING (person_key, kind)
    WHERE dated.is_told
),
encounters AS (
    SELECT hospital_id, exam_pseudo_id, patient_key, hash(hospital_id, encounter_pseudo_id) % 2147483646 + 1 AS code
    FROM (FROM {orders} WHERE patient_key IN (SELECT patient_key FROM paired))  -- the cheaper column first
    WHERE encounter_pseudo_id IS NOT NULL
)
SELECT
    paired.person_key,
    paired.kind,
    paired.day,
    paired.side,
    coalesce(encounters.code, 0)::BIGINT AS encounter,
    paired.is_added,
    paired.place
FROM paired
LEFT JOIN encounters USING (hospital_id, exam_pseudo_id, patient_key)
ORDER BY paired.person_key, paired.kind, paired.day, second, paired.place, encounter, is_both, paired.side
"""
_NAMED = """
SELECT
    (year(date) * 100 + month(date))::INTEGER AS exam_month,
    region_code,
    hospital_level,
    modality_group,
    sum(n_exams)::BIGINT AS n_exams,
    sum(n_repeats)::BIGINT AS n_repeats
FROM (
    SELECT DATE '1970-01-01' + day::INTEGER AS date, place, kind, 1 AS n_exams, 0 AS n_repeats
    FROM dated WHERE is_added
    UNION ALL
    SELECT DATE '1970-01-01' + day::INTEGER, place, kind, 0, n_repeats FROM changed
) AS counted
INNER JOIN place ON counted.place = place.code
INNER JOIN kind ON counted.kind = kind.code
GROUP BY ALL
"""
