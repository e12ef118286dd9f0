"""What the pages read: one consistent copy of the published tables, taken again when the lake has a newer version.

A copy, because a request must never wait for an object store, and because a vacuum may remove the files that a
long-lived reader still names. Only published tables are copied: statistics after disclosure control, operations,
references. The copy is a file that loses its name as soon as it is open: who made it keeps no memory of it.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import duckdb

from radlake.contracts import Table, load_table
from radlake.contracts.table import quoted
from radlake.errors import RadlakeError
from radlake.lake.parquet import text
from radlake.log import get_logger
from radlake.web.cells import CHINA
from radlake.web.places import UNKNOWN, with_those_above

__all__ = [
    "TABLES",
    "Copy",
    "LakeReader",
    "LakeUnreadable",
    "Snapshot",
    "copy_tables",
    "copying",
    "day_of",
    "take_snapshot",
]

TABLES = (
    "ref.drl",
    "ref.hospital",
    "ref.region",
    "ops.build",
    "ops.certificate",
    "ops.completeness",
    "ops.harvest_run",
    "ops.lag",
    "ops.linkage",
    "ops.quality",
    "ops.quarantine",
    "ops.storage",
    "stats.data_quality",
    "stats.dose",
    "stats.duplicate_exam",
    "stats.exam_rate",
    "stats.exam_volume",
    "stats.film_saving",
    "stats.measure",
    "stats.measure_definition",
    "stats.reminder",
    "stats.repeat_dose",
    "stats.repeat_window",
    "stats.report_turnaround",
    "stats.retrieval",
    "stats.upload_compliance",
)


Copy = Callable[[Path], None]  # writes the published tables of a lake to a new DuckDB file

_T = TypeVar("_T")
_COPY = "published"  # the attached file
_SORTED = frozenset({"exam_month", "modality_group", "hospital_id"})  # columns of a cube, in which each is also `all`
_ORDER = "exam_month = 'all', modality_group, hospital_id, exam_month"  # a query of a page reads neighbours
_ROWS_KEPT = 20_000  # of answers: some 10 MB


class _Answers:
    """Answers of one snapshot, which never change; the oldest are forgotten when all have too many rows."""

    def __init__(self, most_rows: int) -> None:
        self._most_rows = most_rows
        self._kept: dict[Hashable, list[tuple]] = {}
        self._n_rows = 0
        self._lock = threading.Lock()

    def find(self, asked: Hashable) -> list[tuple] | None:
        return self._kept.get(asked)

    def keep(self, asked: Hashable, rows: list[tuple]) -> None:
        with self._lock:
            if asked in self._kept:
                return
            self._kept[asked] = rows
            self._n_rows += len(rows) + 1  # an empty answer takes its room too
            while self._n_rows > self._most_rows:
                self._n_rows -= len(self._kept.pop(next(iter(self._kept)))) + 1


@dataclass(frozen=True)
class Snapshot:
    """A copy of the published tables, and the few facts that every page shows.

    Attributes
    ----------
    id : str
        Changes with the version of the lake; a page that stays open asks for it.
    hospitals : dict
        Code of every hospital that a table names -> (Chinese name, English name); the code itself when it is not
        registered.
    places : tuple of str
        Codes of the regions that hospitals lie in, and of those above them.
    months, modalities, years, days, parts : tuple of str
        Values that the filters offer.
    measures : dict
        Name of every released measure -> (Chinese title, English title).
    data_to : str or None
        Last calendar month with exams.
    harvested_at : datetime or None
        End of the last harvest (UTC).
    updated_at : dict
        Table -> when its rows were published (UTC).
    versions : dict
        Table -> version of its definition.
    linkage : tuple of int and float, or None
        Revision of the person links, and the linkage rate; None before anybody is linked.
    threshold : int
        Counts from 1 to one less are withheld, by the policy that the statistics were released by.
    """

    id: str
    connection: duckdb.DuckDBPyConnection
    hospitals: dict[str, tuple[str, str]]
    regions: dict[str, tuple[str, str]]
    places: tuple[str, ...]
    months: tuple[str, ...]
    modalities: tuple[str, ...]
    years: tuple[str, ...]
    days: tuple[str, ...]
    parts: tuple[str, ...]
    measures: dict[str, tuple[str, str]]
    data_to: str | None
    harvested_at: datetime | None
    updated_at: dict[str, datetime]
    versions: dict[str, int]
    linkage: tuple[int, float] | None
    threshold: int
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)
    _answers: _Answers = field(default_factory=lambda: _Answers(_ROWS_KEPT), repr=False, compare=False)

    def rows(self, sql: str, parameters: dict[str, object] | None = None) -> list[tuple]:
        """Run one query on a cursor of its own: requests run in several threads. What was asked lately is kept."""
        asked = (sql, tuple((parameters or {}).items()))
        if (kept := self._answers.find(asked)) is not None:
            return list(kept)
        cursor = self.connection.cursor()
        try:
            found = cursor.execute(f"USE {_COPY}").execute(sql, parameters).fetchall()
        finally:
            cursor.close()
        self._answers.keep(asked, found)
        return list(found)

    def once(self, name: Hashable, make: Callable[[], _T]) -> _T:
        """What follows from the tables alone, made when it is first asked for."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def is_incomplete(self, period: str) -> bool:
        """Whether a month or year was not over, by China time, when the last harvest ended."""
        if self.harvested_at is None or not period[:1].isdigit():
            return False
        return period >= f"{self.harvested_at.replace(tzinfo=UTC).astimezone(CHINA):%Y-%m}"[: len(period)]


def day_of(column: str) -> str:
    """SQL of the day of an instant (UTC), by China time: 2026-03-01."""
    return f"strftime({column} + INTERVAL {CHINA.utcoffset(None).seconds // 3600} HOURS, '%Y-%m-%d')"


def copy_tables(source: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Copy the published tables of a lake to a new DuckDB file; a table that was never written is empty."""
    present = {f"{layer}.{name}" for layer, name in source.execute(
        "SELECT table_schema, table_name FROM information_schema.tables"
    ).fetchall()}  # fmt: skip
    with duckdb.connect(path, config={"threads": 1}) as target:
        target.execute("SET enable_progress_bar = false; BEGIN")
        for name in TABLES:
            _copy(source if name in present else None, target, load_table(name))
        target.execute(f"CREATE TABLE ref.place AS {_PLACES}; COMMIT")


def copying(open_lake: Callable[[], duckdb.DuckDBPyConnection]) -> Copy:
    """Copies what a connection shows, which has views `<layer>.<table>`; it is opened for each copy."""

    def copy(path: Path) -> None:
        with open_lake() as source:
            copy_tables(source, path)

    return copy


def take_snapshot(copy: Copy, *, version: Hashable = None) -> Snapshot:
    """Have the published tables copied, and open the copy."""
    connection = duckdb.connect(":memory:", config={"threads": 1})  # requests run beside each other
    with TemporaryDirectory(prefix="radlake-pages-") as folder:
        path = Path(folder) / "published.duckdb"
        copy(path)
        connection.execute(f"ATTACH {text(str(path))} AS {_COPY} (READ_ONLY); USE {_COPY}")
    tables = {name: load_table(name) for name in TABLES}

    def names(sql: str) -> dict[str, tuple[str, str]]:
        return {code: (zh, en) for code, zh, en in connection.execute(sql).fetchall()}

    def values(sql: str) -> tuple[str, ...]:
        return tuple(value for (value,) in connection.execute(sql).fetchall())

    months = values("SELECT DISTINCT exam_month FROM stats.exam_volume WHERE exam_month < 'a' ORDER BY exam_month")
    harvested_at = values("SELECT max(finished_at) FROM ops.harvest_run")[0]
    return Snapshot(
        id=hashlib.sha256(repr(version).encode()).hexdigest()[:12],
        connection=connection,
        hospitals=names(_HOSPITALS),
        regions=names("SELECT region_code, name_zh, name_en FROM ref.region"),
        places=with_those_above(values("SELECT DISTINCT place_code FROM ref.place")),
        months=months,
        modalities=values(
            "SELECT modality_group FROM stats.exam_volume WHERE modality_group != 'all' GROUP BY modality_group "
            "ORDER BY modality_group = 'UNKNOWN', max(n_exams) DESC NULLS LAST, modality_group"
        ),
        years=values(_YEARS),
        days=values(f"SELECT DISTINCT {day_of('checked_at')} AS day FROM ops.quality ORDER BY day DESC"),
        parts=values(_PARTS),
        measures=names(
            "SELECT measure, arg_max(title_zh, measure_version), arg_max(title_en, measure_version) "
            "FROM stats.measure_definition GROUP BY measure ORDER BY measure"
        ),
        data_to=months[-1] if months else None,
        harvested_at=harvested_at,  # pyright: ignore[reportArgumentType]
        updated_at=_updated_at(connection),
        versions={name: table.version for name, table in tables.items()},
        linkage=next(iter(connection.execute(_LINKAGE).fetchall()), None),
        threshold=connection.execute(_THRESHOLD).fetchall()[0][0],
    )


_LINKAGE = """
SELECT revision, linkage_share FROM ops.linkage WHERE population = 'lake' AND linkage_share IS NOT NULL
ORDER BY revision DESC LIMIT 1
"""
_THRESHOLD = """
SELECT coalesce(arg_max(disclosure_threshold, built_at) FILTER (disclosure_threshold > 0), 5)
FROM ops.build
WHERE built_table LIKE 'stats.%'
"""

_YEARS = """
WITH known AS (
    SELECT exam_year FROM stats.exam_rate UNION SELECT exam_year FROM stats.dose
    UNION SELECT exam_year FROM stats.measure
)
SELECT exam_year
FROM known
WHERE exam_year < 'a'
ORDER BY exam_year
"""
_PARTS = """
SELECT body_part_code FROM stats.dose WHERE modality_group = 'CT' AND hospital_id = 'all' GROUP BY body_part_code
ORDER BY max(n_reported) DESC NULLS LAST, body_part_code
"""
_NAMED = """
WITH named AS (
    SELECT hospital_id FROM ref.hospital UNION SELECT hospital_id FROM ops.completeness
    UNION SELECT hospital_id FROM ops.harvest_run UNION SELECT hospital_id FROM stats.exam_volume
)
"""
_HOSPITALS = f"""
{_NAMED}
SELECT hospital_id, coalesce(name_zh, hospital_id), coalesce(name_en, hospital_id)
FROM named LEFT JOIN ref.hospital USING (hospital_id)
WHERE hospital_id != 'all'
ORDER BY hospital_id
"""
_PLACES = f"""
{_NAMED}
SELECT hospital_id, coalesce(region_code, '{UNKNOWN}') AS place_code
FROM named LEFT JOIN ref.hospital USING (hospital_id)
WHERE hospital_id != 'all'
"""


def _copy(source: duckdb.DuckDBPyConnection | None, target: duckdb.DuckDBPyConnection, table: Table) -> None:
    columns = ", ".join(map(quoted, table.column_names))
    if source is None:
        incoming = table.arrow_schema().empty_table()
    else:
        incoming = source.sql(f"SELECT {columns} FROM {table.view_name}").to_arrow_reader()
    target.execute(f"CREATE SCHEMA IF NOT EXISTS {table.layer}")
    target.register("incoming", incoming)
    order = f"ORDER BY {_ORDER}" if _SORTED.issubset(table.column_names) else ""
    target.execute(f"CREATE TABLE {table.view_name} AS SELECT {columns} FROM incoming {order}")
    target.unregister("incoming")


def _updated_at(connection: duckdb.DuckDBPyConnection) -> dict[str, datetime]:
    """When each table was published: statistics when they were built, operations when they were written."""
    built = connection.execute("SELECT built_table, max(built_at) FROM ops.build GROUP BY ALL").fetchall()
    times = {re.sub(r"_v\d+$", "", table): at for table, at in built}
    for table, column in (
        ("ops.certificate", "issued_at"),
        ("ops.completeness", "updated_at"),
        ("ops.lag", "updated_at"),
        ("ops.harvest_run", "finished_at"),
        ("ops.quarantine", "updated_at"),
        ("ops.quality", "checked_at"),
        ("ops.storage", "updated_at"),
        ("ops.build", "built_at"),
    ):
        [(at,)] = connection.execute(f"SELECT max({column}) FROM {table}").fetchall()
        if at is not None:
            times[table] = at
    return times


class LakeUnreadable(Exception):
    """No snapshot could be taken, and there is no older one."""


class LakeReader:
    """Gives every request the newest snapshot; looks for a newer version at most every `check_seconds`.

    After a copy it rests for four times as long as that took, at most ten such intervals: a lake in which harvests
    commit all day must not keep a processor busy. One request takes the new copy while others go on with the one they
    have, so a refresh never blocks the wall.
    While the lake cannot be read, the last snapshot is shown: its pages say of when it is.
    """

    def __init__(
        self,
        copy: Copy,
        *,
        version: Callable[[], Hashable],
        clock: Callable[[], float],
        check_seconds: float,
    ) -> None:
        self._copy = copy
        self._version = version
        self._clock = clock
        self._check_seconds = check_seconds
        self._lock = threading.Lock()
        self._held: tuple[Hashable, Snapshot] | None = None
        self._look_at = float("-inf")
        self.is_current = False  # the last look at the lake succeeded

    def snapshot(self) -> Snapshot:
        held = self._held
        if held and self._clock() < self._look_at:
            return held[1]
        if not self._lock.acquire(blocking=held is None):
            return held[1]  # pyright: ignore[reportOptionalSubscript]
        try:
            return self._refreshed()
        finally:
            self._lock.release()

    def _refreshed(self) -> Snapshot:
        begun = self._clock()
        try:
            version = self._version()  # before the copy: a commit in between is seen at the next look
            if self._held is None or self._held[0] != version:
                self._held = (version, take_snapshot(self._copy, version=version))
                get_logger().info("snapshot_taken", version=self._held[1].id)
            self.is_current = True
        except (RadlakeError, duckdb.Error, OSError) as exc:
            self.is_current = False
            get_logger().error("lake_read_failed", error_class=type(exc).__name__, reason=str(exc))
            if self._held is None:
                raise LakeUnreadable from exc
        now = self._clock()
        self._look_at = now + min(10 * self._check_seconds, max(self._check_seconds, 4 * (now - begun)))
        return self._held[1]
