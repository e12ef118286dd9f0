"""Who is in a cohort: the exams of a lake narrowed step by step, in SQL over one snapshot.

Days are counted on the true calendar, and persons are those of `core.person_link`. Nothing here depends on the order
in which rows are read: two selections over one snapshot are equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import pyarrow as pa

from radlake.cohort.controls import PAIRS_OF_NOBODY, one_exam_of_each, pairs
from radlake.cohort.definition import Cohort, Exclusion, FollowUp, Sample, SeriesWanted
from radlake.epidemiology.counting import Step
from radlake.epidemiology.filters import clause_of

__all__ = ["members_of", "narrow"]

_Query = tuple[str, list[Any]]

_COLUMNS = ("hospital_id", "exam_pseudo_id", "patient_key", "region_code", "study_at", "modality_group",
            "body_part_code", "laterality_code", "has_contrast", "contrast_code", "patient_sex", "patient_age_years",
            "is_patient_known", "n_studies", "confidence_code", "loinc_code")  # fmt: skip
_KEY = "hospital_id, exam_pseudo_id, patient_key"
_EVERY = f"""
    CREATE OR REPLACE TEMP VIEW every_exam AS
    SELECT {", ".join(f"exam.{column}" for column in _COLUMNS)}, date_offset.person_key,
        exam.study_at - to_seconds(date_offset.date_offset_seconds) AS true_at
    FROM core.exam AS exam
    INNER JOIN restricted.date_offset AS date_offset ON exam.patient_key = date_offset.patient_key
"""
_SERIES_OF = """
    SELECT exams.hospital_id, exams.exam_pseudo_id, exams.patient_key, exams.person_key, series.* EXCLUDE (hospital_id,
        patient_key)
    FROM {exams} AS exams
    INNER JOIN dicom.study AS study
        ON study.hospital_id = exams.hospital_id AND study.exam_pseudo_id = exams.exam_pseudo_id
        AND study.patient_key = exams.patient_key
    INNER JOIN dicom.series AS series
        ON series.hospital_id = study.hospital_id AND series.study_month = study.study_month
        AND series.study_instance_uid = study.study_instance_uid
    WHERE {where}
"""
_PAIRS = """
    SELECT asked.hospital_id AS index_hospital_id, asked.exam_pseudo_id AS index_exam_pseudo_id,
        asked.patient_key AS index_patient_key, later.hospital_id, later.exam_pseudo_id, later.patient_key,
        asked.person_key, date_diff('day', asked.true_at::DATE, later.true_at::DATE) AS days_after
    FROM {exams} AS asked
    INNER JOIN later ON later.person_key = asked.person_key
        AND date_diff('day', asked.true_at::DATE, later.true_at::DATE) BETWEEN {first} AND {last}
"""
_MEMBERS = f"""
    CREATE OR REPLACE TEMP TABLE member AS
    SELECT *, 'index' AS role FROM exams
    UNION ALL
    SELECT *, 'follow_up' FROM later
    WHERE ({_KEY}) IN (SELECT ({_KEY}) FROM follow_up) AND ({_KEY}) NOT IN (SELECT ({_KEY}) FROM exams)
    UNION ALL
    SELECT *, 'control' FROM candidate WHERE ({_KEY}) IN (SELECT ({_KEY}) FROM control)
"""
_SHOWN = ("hospital_id", "exam_pseudo_id", "patient_key", "person_key", "study_instance_uid", "series_instance_uid",
          "study_month", "modality", "n_instances", "object_path", "object_bytes", "residency")  # fmt: skip
# What a cohort is, as files: name -> its rows in an order that is always the same.
_TABLES: Mapping[str, str] = {
    "exam": f"SELECT {', '.join(_COLUMNS)}, person_key, role FROM member ORDER BY ALL",
    "follow_up": "SELECT * FROM follow_up ORDER BY ALL",
    "series": f"SELECT {', '.join(_SHOWN)} FROM wanted ORDER BY ALL",
}
_OF_CONTROLS = {"control": "SELECT * FROM control ORDER BY ALL"}  # of cohorts that ask for them


def narrow(connection: duckdb.DuckDBPyConnection, cohort: Cohort) -> list[Step]:
    """Leave the members of a cohort in temporary tables of the connection; returns what each step left.

    Parameters
    ----------
    connection
        Sees the tables of a lake and `restricted.date_offset`.
    """
    connection.execute(_EVERY)
    connection.execute("CREATE OR REPLACE TEMP VIEW exams AS FROM every_exam")
    connection.execute("CREATE OR REPLACE TEMP TABLE later AS FROM every_exam LIMIT 0")
    steps, before = [_count(connection, "all exams", "exams")], "every_exam"
    for number, (name, (sql, values)) in enumerate(_narrowings(connection, cohort)):
        connection.execute(f"CREATE OR REPLACE TEMP TABLE step_{number} AS {sql.format(exams=before)}", values)
        before = f"step_{number}"
        connection.execute(f"CREATE OR REPLACE TEMP VIEW exams AS FROM {before}")
        if number:
            connection.execute(f"DROP TABLE step_{number - 1}")
        steps.append(_count(connection, name, before))
    connection.execute(f"CREATE OR REPLACE TEMP TABLE follow_up AS {_pairs(cohort.follow_up, exams='exams')}")
    _find_controls(connection, cohort)
    connection.execute(_MEMBERS)
    if cohort.follow_up is not None:
        steps.append(_count(connection, "with their follow-up exams", "(FROM member WHERE role != 'control')"))
    if cohort.controls is not None:
        asked = cohort.controls.per_case
        case = "index_hospital_id, index_exam_pseudo_id, index_patient_key, index_person_key"
        full = f"(SELECT {case} FROM control GROUP BY ALL HAVING count(*) = {asked})"
        steps.append(_count(connection, f"index exams with {asked} controls", full, person="index_person_key"))
        steps.append(_count(connection, "controls", "control"))
    sql, values = _series_of("member", cohort.series)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE wanted AS {sql}", values)
    return steps


def members_of(connection: duckdb.DuckDBPyConnection, cohort: Cohort) -> dict[str, pa.Table]:
    """The tables of a cohort that `narrow` left."""
    asked = {**_TABLES, **(_OF_CONTROLS if cohort.controls else {})}
    return {name: connection.sql(sql).to_arrow_table() for name, sql in asked.items()}


def _count(connection: duckdb.DuckDBPyConnection, name: str, relation: str, *, person: str = "person_key") -> Step:
    [(n_exams, n_persons)] = connection.execute(f"SELECT count(*), count(DISTINCT {person}) FROM {relation}").fetchall()
    return Step(name, n_exams, n_persons)


def _narrowings(connection: duckdb.DuckDBPyConnection, cohort: Cohort) -> Iterator[tuple[str, _Query]]:
    """Name and query of each step over `{exams}`, which is what the step before left."""
    if cohort.years:
        yield f"years {', '.join(map(str, cohort.years))}", _in_years(cohort)
    for name, value in cohort.include.items():
        clause, values = clause_of(name, value)
        yield name, (f"SELECT * FROM {{exams}} AS exams WHERE {clause}", values)
    for exclusion in cohort.exclude:
        yield f"without {exclusion.of}s of {' and '.join(exclusion.filters)}", _without(exclusion)
    if cohort.series is not None:
        yield "with a wanted series", _having_series("{exams}", cohort.series)
    if cohort.index != "every":
        order = f"true_at {'DESC' if cohort.index == 'last' else 'ASC'} NULLS LAST, {_KEY}"
        ranked = f"row_number() OVER (PARTITION BY person_key ORDER BY {order}) = 1"
        yield f"{cohort.index} exam of each person", (f"SELECT * FROM {{exams}} QUALIFY {ranked}", [])
    if cohort.follow_up is not None:
        _find_later(connection, cohort.follow_up, cohort.series)
        pairs = _pairs(cohort.follow_up, exams="{exams}")
        key = "index_hospital_id, index_exam_pseudo_id, index_patient_key"
        followed = f"SELECT ({key}) FROM ({pairs}) GROUP BY ALL HAVING count(*) >= {cohort.follow_up.at_least}"
        yield "followed up", (f"SELECT * FROM {{exams}} WHERE ({_KEY}) IN ({followed})", [])
    if cohort.sample is not None:
        yield f"sample of {cohort.sample.persons} persons", (_sampled(cohort.sample), [])


def _in_years(cohort: Cohort) -> _Query:
    return f"SELECT * FROM {{exams}} AS exams WHERE year(true_at) IN ({', '.join(map(str, cohort.years))})", []


def _without(exclusion: Exclusion) -> _Query:
    clause, values = _all_of(exclusion.filters)
    if exclusion.of == "exam":
        return f"SELECT * FROM {{exams}} AS exams WHERE ({clause}) IS NOT TRUE", values
    persons = f"SELECT person_key FROM every_exam AS exams WHERE {clause}"
    return f"SELECT * FROM {{exams}} WHERE person_key NOT IN ({persons})", values


def _find_controls(connection: duckdb.DuckDBPyConnection, cohort: Cohort) -> None:
    """Exams that may be a control's in the table `candidate`, one of each person, and pairs in `control`."""
    if (asked := cohort.controls) is None:
        connection.execute("CREATE OR REPLACE TEMP TABLE candidate AS FROM every_exam LIMIT 0")
        connection.execute(f"CREATE OR REPLACE TEMP TABLE control AS {PAIRS_OF_NOBODY}")
        return
    before = "every_exam"
    for sql, values in _of_candidates(cohort):
        connection.execute(f"CREATE OR REPLACE TEMP TABLE candidate AS {sql.format(exams=before)}", values)
        before = "candidate"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE candidate AS {one_exam_of_each(asked, 'candidate')}")
    found = pairs(asked, cases="exams", candidates="candidate")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE control AS {found}")


def _of_candidates(cohort: Cohort) -> Iterator[_Query]:
    """What narrows all exams to those that a control may have."""
    asked, values = _all_of(cohort.controls.filters if cohort.controls else {})
    yield f"SELECT * FROM {{exams}} AS exams WHERE {asked}", values
    if cohort.years:
        yield _in_years(cohort)
    included, values = _all_of(cohort.include)
    cases = f"SELECT person_key FROM every_exam AS exams WHERE {included}"
    yield f"SELECT * FROM {{exams}} WHERE person_key NOT IN ({cases})", values
    yield from map(_without, cohort.exclude)
    if cohort.series is not None:
        yield _having_series("{exams}", cohort.series)


def _find_later(connection: duckdb.DuckDBPyConnection, asked: FollowUp, series: SeriesWanted | None) -> None:
    """Exams of persons who are left that may follow up another, in the table `later`."""
    where, values = _all_of(asked.filters)
    persons = "SELECT person_key FROM exams"
    sql = f"SELECT * FROM every_exam AS exams WHERE person_key IN ({persons}) AND {where}"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE later AS {sql}", values)
    if series is not None:
        sql, values = _having_series("later", series)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE later AS {sql}", values)


def _pairs(asked: FollowUp | None, *, exams: str) -> str:
    first, last = (asked.from_days, asked.to_days) if asked else (1, 0)
    return _PAIRS.format(exams=exams, first=first, last=last)


def _sampled(sample: Sample) -> str:
    """Persons by a digest of seed and pseudonym, which no order of rows and no version of DuckDB changes."""
    drawn = f"sha256('{sample.seed}|' || person_key::VARCHAR)"
    everybody = "SELECT DISTINCT person_key FROM {exams}"
    persons = f"SELECT person_key FROM ({everybody}) ORDER BY {drawn} LIMIT {sample.persons}"
    return f"SELECT * FROM {{exams}} WHERE person_key IN ({persons})"


def _having_series(exams: str, series: SeriesWanted) -> _Query:
    sql, values = _series_of(exams, series)
    return f"SELECT * FROM {exams} WHERE ({_KEY}) IN (SELECT ({_KEY}) FROM ({sql}))", values


def _series_of(exams: str, series: SeriesWanted | None) -> _Query:
    """Series objects of exams that are wanted."""
    series = series or SeriesWanted()
    where: list[str] = ["series.n_instances >= ?"]
    values: list[Any] = [series.at_least_instances]
    if series.modalities:
        where.append("list_contains(?::VARCHAR[], series.modality)")
        values.append(list(series.modalities))
    if series.slice_thickness_mm is not None:
        where.append(
            "EXISTS (SELECT 1 FROM dicom.instance AS instance WHERE instance.hospital_id = series.hospital_id"
            " AND instance.study_month = series.study_month AND instance.object_path = series.object_path"
            " AND instance.slice_thickness_mm BETWEEN ? AND ?)"
        )
        values += series.slice_thickness_mm
    sql = _SERIES_OF.format(exams=exams, where=" AND ".join(where))
    if series.is_largest:
        exam = "exams.hospital_id, exams.exam_pseudo_id, exams.patient_key"
        order = "series.n_instances DESC, series.object_path"
        sql += f" QUALIFY row_number() OVER (PARTITION BY {exam} ORDER BY {order}) = 1"
    return sql, values


def _all_of(filters: Mapping[str, Any]) -> _Query:
    found = [clause_of(name, value) for name, value in filters.items()]
    return " AND ".join(sql for sql, _ in found) or "TRUE", [v for _, values in found for v in values]
