"""Count measures in the lake: groups of persons who are in the same cells, and how often.

Nothing here says what may be shown. The true calendar comes from `restricted.date_offset` of the connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from radlake.epidemiology.definition import Measure
from radlake.epidemiology.filters import clause_of
from radlake.epidemiology.residents import DIGITS
from radlake.stats.standards import first_age

__all__ = ["Cell", "Group", "Step", "count_groups", "count_steps", "exams_in", "population_of"]

UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Cell:
    """Exams of one measure that no dimension tells apart; a dimension that the measure does not need is `none`."""

    measure: int
    year: int
    region: str
    sex: str
    age: str
    modality: str
    body_part: str


@dataclass(frozen=True)
class Group:
    """Persons who have as many exams in the same cells.

    Attributes
    ----------
    n_exams : dict
        Cell -> exams of each of them.
    size : int
        How many persons they are; zero of those that could be there: persons like others, but without repeats.
    """

    n_exams: dict[Cell, int]
    size: int


@dataclass(frozen=True)
class Step:
    """What is left after a filter of the definition."""

    name: str
    n_exams: int
    n_persons: int


def population_of(connection: duckdb.DuckDBPyConnection) -> dict[tuple[int, str, str, str], int]:
    """Residents by year, region, sex and age band, in the boundaries of today (ref.region)."""
    rows = connection.execute(_RESIDENTS).fetchall()
    return {(year, region, sex, band): residents for year, region, sex, band, residents in rows}


_RESIDENTS = """
SELECT
    population.year,
    coalesce(nullif(region.successor_region_code, 'NONE'), population.region_code) AS region_today,
    population.sex,
    population.age_band,
    sum(population.n_residents)::BIGINT
FROM ref.population AS population
LEFT JOIN ref.region AS region ON population.region_code = region.region_code
GROUP BY ALL
"""


def count_groups(
    connection: duckdb.DuckDBPyConnection, measures: Sequence[Measure], *, bands: Sequence[str]
) -> list[Group]:
    """Groups of persons over all measures together, in a fixed order.

    Of every group there is one in the same cells that had each kind of exam only once: nobody who reads the cells knows
    how the exams are spread over the persons, and the gate must not know more.

    Parameters
    ----------
    bands : sequence of str
        Age bands of the population.
    """
    if not measures:
        return []
    told, values = [], []
    for number, measure in enumerate(measures):
        where, given = _filters(measure)
        told.append(f"CASE WHEN {where} THEN {_cell(number, measure, bands)} END")
        values += given
    sql = f"""
        WITH exams AS ({_EXAMS}),
        told AS (SELECT patient_key, [{", ".join(told)}] AS maybe FROM exams),
        celled AS (SELECT patient_key, list_filter(maybe, lambda cell: cell IS NOT NULL) AS cells FROM told),
        counted AS (SELECT patient_key, cells, count(*) AS n_exams FROM celled WHERE len(cells) > 0 GROUP BY ALL),
        persons AS (SELECT list((cells, n_exams) ORDER BY cells) AS pattern FROM counted GROUP BY patient_key)
        SELECT pattern, count(*) FROM persons GROUP BY pattern ORDER BY pattern
    """
    known: dict[tuple[Any, ...], Cell] = {}

    def cell(values: tuple[Any, ...]) -> Cell:
        return known.setdefault(values, Cell(*values))

    sizes: Counter[tuple[tuple[Cell, int], ...]] = Counter()
    for pattern, size in connection.execute(sql, values).fetchall():
        alike = [([cell(_values(one)) for one in cells], n) for cells, n in map(_values, pattern)]
        sizes[_exams_by_cell(alike)] += size
        sizes[_exams_by_cell([(cells, 1) for cells, _ in alike])] += 0
    return [Group(dict(n_exams), size) for n_exams, size in sizes.items()]


def _exams_by_cell(alike: Iterable[tuple[Sequence[Cell], int]]) -> tuple[tuple[Cell, int], ...]:
    found: Counter[Cell] = Counter()
    for cells, n in alike:
        found.update(dict.fromkeys(cells, n))
    return tuple(found.items())


def exams_in(
    connection: duckdb.DuckDBPyConnection,
    measure: Measure,
    *,
    bands: Sequence[str],
    is_wanted: Callable[[Cell], bool],
    limit: int,
) -> tuple[int, list[tuple[str, str]]]:
    """How many exams a measure counts in the wanted cells, and the first of them: (hospital, exam_pseudo_id)."""
    where, given = _filters(measure)
    cells = (
        f"WITH exams AS ({_EXAMS}), celled AS (SELECT *, {_cell(0, measure, bands)} AS cell FROM exams WHERE {where})"
    )
    found = connection.execute(f"{cells} SELECT DISTINCT cell, cell::VARCHAR FROM celled", given).fetchall()
    wanted = [text for values, text in found if is_wanted(Cell(*_values(values)))]
    chosen = "SELECT {} FROM celled WHERE list_contains(?::VARCHAR[], cell::VARCHAR)"
    [(n_exams,)] = connection.execute(f"{cells} {chosen.format('count(*)')}", [*given, wanted]).fetchall()
    columns = "hospital_id, exam_pseudo_id"
    first = f"{cells} {chosen.format(columns)} ORDER BY ALL LIMIT {limit}"
    return n_exams, connection.execute(first, [*given, wanted]).fetchall()


def count_steps(connection: duckdb.DuckDBPyConnection, measure: Measure) -> list[Step]:
    """Exams and persons that are left after each filter, one after the other."""
    years = ", ".join(map(str, measure.years))
    clauses: list[tuple[str, str, list[Any]]] = [("all exams", "TRUE", []), (f"years {years}", _years(measure), [])]
    clauses += [(name, *clause_of(name, value)) for name, value in measure.filters.items()]
    steps, where, given = [], "TRUE", []
    for name, clause, values in clauses:
        where, given = f"{where} AND {clause}", [*given, *values]
        sql = f"WITH exams AS ({_EXAMS}) SELECT count(*), count(DISTINCT patient_key) FROM exams WHERE {where}"
        [(n_exams, n_persons)] = connection.execute(sql, given).fetchall()
        steps.append(Step(name, n_exams, n_persons))
    return steps


_COLUMNS = ("hospital_id", "exam_pseudo_id", "region_code", "modality_group", "body_part_code",
            "laterality_code", "has_contrast", "patient_sex", "patient_age_years")  # fmt: skip
_EXAMS = f"""
    SELECT {", ".join(f"exam.{column}" for column in _COLUMNS)}, date_offset.person_key AS patient_key,
        year(exam.study_at - to_seconds(date_offset.date_offset_seconds)) AS exam_year
    FROM core.exam AS exam
    INNER JOIN restricted.date_offset AS date_offset ON exam.patient_key = date_offset.patient_key
"""


def _values(struct: Any) -> tuple[Any, ...]:
    return tuple(struct.values()) if isinstance(struct, dict) else tuple(struct)


def _cell(number: int, measure: Measure, bands: Sequence[str]) -> str:
    """SQL of the cell that an exam is in. Year and region decide of the denominator, whatever the measure shows."""
    digits = DIGITS[measure.region_level]
    starts = sorted(bands, key=first_age)
    of_age = " ".join(f"WHEN patient_age_years >= {first_age(band)} THEN '{band}'" for band in reversed(starts))
    needs_age = "age" in measure.group_by or measure.kind != "crude"
    columns = [
        ("measure", str(number)),
        ("year", "exam_year"),
        ("region", f"CASE WHEN region_code = '{UNKNOWN}' THEN region_code "
                   f"ELSE rpad(left(region_code, {digits}), 6, '0') END"),
        ("sex", "patient_sex" if "sex" in measure.group_by else "'none'"),
        ("age", f"CASE {of_age} ELSE '{UNKNOWN}' END" if needs_age and starts else "'none'"),
        ("modality", "modality_group" if "modality" in measure.group_by else "'none'"),
        ("body_part", "body_part_code" if "body_part" in measure.group_by else "'none'"),
    ]  # fmt: skip
    return f"struct_pack({', '.join(f'{name} := {sql}' for name, sql in columns)})"


def _filters(measure: Measure) -> tuple[str, list[Any]]:
    found = [clause_of(name, value) for name, value in measure.filters.items()]
    return " AND ".join([_years(measure), *(sql for sql, _ in found)]), [v for _, values in found for v in values]


def _years(measure: Measure) -> str:
    return f"exam_year IN ({', '.join(map(str, measure.years))})"
