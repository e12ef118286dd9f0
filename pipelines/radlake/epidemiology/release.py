"""Release measures: all of them over one snapshot and through one gate.

Exact numbers go to the restricted zone, what may be shown to the lake.

What was shown of a snapshot stays shown and what was withheld stays withheld, so no order of questions tells more than
all of them at once. A new snapshot releases every measure anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from radlake.contracts import load_table
from radlake.epidemiology.counting import Group, Step, count_groups, count_steps, exams_in, population_of
from radlake.epidemiology.definition import DIMENSIONS, Measure, measure_from_yaml
from radlake.epidemiology.residents import Residents
from radlake.epidemiology.rows import Key, MeasureRow, keys_of, measure_rows
from radlake.epidemiology.showing import gate_row, shown_rows
from radlake.errors import ConfigInvalid
from radlake.lake import Lake, duck
from radlake.lake.tables import TableStore
from radlake.sqlrun.date_offsets import DateOffsets, register_date_offsets
from radlake.sqlrun.record import record_builds
from radlake.stats.gate import withheld_rows
from radlake.stats.policy import Policy
from radlake.stats.standards import load_standards

__all__ = [
    "READS",
    "Recounted",
    "Released",
    "build_up",
    "coarsened",
    "recount",
    "release_measures",
    "released_measures",
]

READS = ("core.exam", "core.finding", "core.person_link", "ref.population", "ref.region")
_EXACT = Policy(name="exact", threshold=1, complementary=False, rate_digits=15)


@dataclass(frozen=True)
class Released:
    """Measures and their rows as they are shown, and the versions of the tables that they were counted in."""

    measures: tuple[Measure, ...]
    rows: tuple[dict[str, Any], ...]
    snapshot: Mapping[str, int]

    def rows_of(self, measure: Measure) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["measure_id"] == measure.measure_id]


def release_measures(
    lake: Lake,
    measures: Sequence[Measure],
    *,
    date_offsets: AbstractContextManager[DateOffsets],
    policy: Policy,
    now: datetime,
) -> Released:
    """Count the measures and all that were released before over the latest tables, and publish what may be shown.

    Parameters
    ----------
    date_offsets : context manager
        Gives seconds by which the times of each person were moved (radlake.ingest.offsets).
    now : datetime
        UTC, without a zone.

    Raises
    ------
    ConfigInvalid
        If ages of a measure and of ref.population do not fit; nothing is published then.
    KeyMissing, KeyMismatch
    """
    snapshot = {name: version for name in READS if (version := lake.tables.version(name)) is not None}
    seen = f"{json.dumps(snapshot, sort_keys=True)} {json.dumps(asdict(policy), sort_keys=True)}"
    before = {measure.measure_id: (measure, seen_by) for measure, seen_by in released_measures(lake)}
    every = {m.measure_id: m for m in (*(measure for measure, _ in before.values()), *measures)}
    ordered = tuple(sorted(every.values(), key=lambda m: (m.name, m.version, m.measure_id)))
    with duck.connect(lake, snapshot=snapshot, tables=["dicom", "core", "ref", "stats"]) as connection:
        shown = _shown_before(connection, {i for i, (_, seen_by) in before.items() if seen_by == seen})
        with date_offsets as offsets:
            register_date_offsets(connection, offsets)
        residents = Residents(population_of(connection))
        groups = count_groups(connection, ordered, bands=residents.bands)
    tables = [_rows(number, measure, groups, residents) for number, measure in enumerate(ordered)]
    withheld = _withheld(ordered, tables, groups, shown=shown, policy=policy)
    exact, masked = [], []
    for number, (measure, rows) in enumerate(zip(ordered, tables, strict=True)):
        exact += shown_rows(measure, rows, (), policy=_EXACT)
        masked += shown_rows(measure, rows, withheld[number], policy=policy)
    definitions = [_definition(measure, snapshot=snapshot, policy=policy, now=now) for measure in ordered]
    _overwrite(lake.restricted_tables, "stats.measure", exact)
    # What was shown is known before it is shown: after a kill here the next release takes it for shown.
    version = _overwrite(lake.tables, "stats.measure", masked)
    _overwrite(lake.tables, "stats.measure_definition", definitions)
    _record(lake, ordered, version=version, n_rows=len(masked), snapshot=snapshot, policy=policy, now=now)
    return Released(ordered, tuple(masked), snapshot)


def released_measures(lake: Lake) -> list[tuple[Measure, str]]:
    """Measures that are released, each with snapshot and policy it was released by, as text."""
    with duck.connect(lake, tables=["stats"]) as connection:
        rows = connection.execute(
            "SELECT definition, snapshot, disclosure_policy FROM stats.measure_definition ORDER BY measure_id"
        ).fetchall()
    return [(measure_from_yaml(text), f"{snapshot} {policy}") for text, snapshot, policy in rows]


@dataclass(frozen=True)
class Recounted:
    """A measure counted again: its rows as they are shown, and the exams of one of them.

    Attributes
    ----------
    n_exams : int
        Exams of the row that was asked for.
    first : tuple
        The first of them: hospital, exam_pseudo_id.
    """

    rows: tuple[dict[str, Any], ...]
    n_exams: int
    first: tuple[tuple[str, str], ...]


def recount(
    connection: duckdb.DuckDBPyConnection,
    measure: Measure,
    *,
    shown: Collection[Key],
    policy: Policy,
    of: Key,
    limit: int,
) -> Recounted:
    """Count one measure again in a connection that has the tables and the calendar of its release.

    Parameters
    ----------
    shown : collection of Key
        Rows that were shown; all others are withheld again.
    of : Key
        Row whose exams are wanted, at most `limit` of them.
    """
    residents = Residents(population_of(connection))
    rows = _rows(0, measure, count_groups(connection, [measure], bands=residents.bands), residents)
    withheld = {position for position, row in enumerate(rows) if row.key not in shown}
    n_exams, first = exams_in(
        connection,
        measure,
        bands=residents.bands,
        is_wanted=lambda cell: of in keys_of(measure, residents, cell),
        limit=limit,
    )
    return Recounted(tuple(shown_rows(measure, rows, withheld, policy=policy)), n_exams, tuple(first))


def build_up(
    lake: Lake, measure: Measure, *, date_offsets: AbstractContextManager[DateOffsets], policy: Policy
) -> list[tuple[Step, int | None, int | None]]:
    """What each filter leaves, coarsened so that no sequence of them tells of few: (step, exams, persons).

    Small numbers are None, others are rounded to twice the threshold.
    """
    with duck.connect(lake, tables=["dicom", "core", "ref", "stats"]) as connection:
        with date_offsets as offsets:
            register_date_offsets(connection, offsets)
        return coarsened(count_steps(connection, measure), policy=policy)


def coarsened(steps: Sequence[Step], *, policy: Policy) -> list[tuple[Step, int | None, int | None]]:
    """Steps with their exams and persons as they may be shown while a definition is written; None is a small one."""
    coarse = Policy(threshold=policy.threshold, rounding=2 * policy.threshold)

    def shown(n: int, persons: int) -> int | None:
        return None if coarse.is_small(persons) else coarse.shown_count(n)

    return [(step, shown(step.n_exams, step.n_persons), shown(step.n_persons, step.n_persons)) for step in steps]


def _rows(number: int, measure: Measure, groups: Sequence[Group], residents: Residents) -> list[MeasureRow]:
    standard = load_standards()[measure.standard] if measure.standard else None
    try:
        return measure_rows(number, measure, groups, residents, standard=standard)
    except ValueError as exc:
        raise ConfigInvalid(path=f"The measure {measure.name}", problems=[str(exc)]) from exc


def _withheld(
    measures: Sequence[Measure],
    tables: Sequence[Sequence[MeasureRow]],
    groups: Sequence[Group],
    *,
    shown: Mapping[tuple[str, Key], bool],
    policy: Policy,
) -> list[set[int]]:
    """Positions of withheld rows of each measure."""
    sizes = [group.size for group in groups]
    places = [(number, i) for number, rows in enumerate(tables) for i in range(len(rows))]
    given = [
        gate_row(
            tables[number][i],
            sizes,
            policy=policy,
            is_out=shown.get((measures[number].measure_id, tables[number][i].key)) is True,
            was_withheld=shown.get((measures[number].measure_id, tables[number][i].key)) is False,
        )
        for number, i in places
    ]
    cells: list[set[int]] = [set() for _ in groups]
    for position, row in enumerate(given):
        for group in row.persons.sums:
            cells[group].add(position)
    found: list[set[int]] = [set() for _ in tables]
    for position in withheld_rows(sizes, cells, given, policy=policy):
        number, i = places[position]
        found[number].add(i)
    return found


def _shown_before(connection: duckdb.DuckDBPyConnection, ids: set[str]) -> dict[tuple[str, Key], bool]:
    """Rows that were released over the same snapshot by the same policy, and whether they were shown."""
    columns = ", ".join(DIMENSIONS.values())
    rows = connection.execute(f"SELECT measure_id, {columns}, is_masked FROM stats.measure").fetchall()
    return {(row[0], tuple(row[1:-1])): not row[-1] for row in rows if row[0] in ids}


def _definition(measure: Measure, *, snapshot: Mapping[str, int], policy: Policy, now: datetime) -> dict[str, Any]:
    return {
        "measure_id": measure.measure_id,
        "measure": measure.name,
        "measure_version": measure.version,
        **{f"title_{language}": text for language, text in measure.title.items()},
        **{f"formula_{language}": text for language, text in measure.formula.items()},
        "definition": measure.definition,
        "snapshot": json.dumps(dict(snapshot), sort_keys=True),
        "disclosure_policy": json.dumps(asdict(policy), sort_keys=True),
        "released_at": now,
    }


def _record(
    lake: Lake,
    measures: Sequence[Measure],
    *,
    version: int,
    n_rows: int,
    snapshot: Mapping[str, int],
    policy: Policy,
    now: datetime,
) -> None:
    """Lineage, as of every other built table: what was counted and how it was released is the text of the query."""
    definitions = {measure.measure_id: measure.definition for measure in measures}
    text = json.dumps({"policy": asdict(policy), "measures": definitions}, sort_keys=True, ensure_ascii=False)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    row = {
        "run_id": f"measure-{version}",
        "built_table": load_table("stats.measure").full_name,
        "built_version": version,
        "inputs": json.dumps(dict(snapshot), sort_keys=True),
        "query_sha256": sha256,
        "n_rows": n_rows,
        "warnings": "[]",
        "built_at": now,
        "disclosure_policy": policy.name,
        "disclosure_threshold": policy.threshold,
    }
    record_builds(lake, [row], queries={sha256: text})


def _overwrite(store: TableStore, name: str, rows: Sequence[Mapping[str, Any]]) -> int:
    table = load_table(name)
    filled = [{column.name: row.get(column.name) for column in table.columns} for row in rows]
    data = pa.Table.from_pylist(filled, schema=table.arrow_schema())
    digest = hashlib.sha256(repr(filled).encode()).hexdigest()[:32]
    return store.overwrite(table, data, batch_id=f"measure-{store.version(table)}-{digest}")
