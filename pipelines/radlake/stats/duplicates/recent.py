"""Order entry asks which exams of a kind a person has had in the last days: from an index, or straight from the lake.

The index is a SQLite file of the restricted zone, derived and thrown away at will: it names the version of core.exam
that it was made from and is not asked when the lake has a newer one. Both answers are always the same rows. Times are
those of the lake, moved by the person's own constant, so an answer tells gaps and no dates.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from radlake.commit_points import reached
from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.lake import Lake, parquet

__all__ = ["KEPT_DAYS", "Recent", "RecentExams", "build_index"]

KEPT_DAYS = 180  # the longest window of the rule packs
_FILE = "recent_exams.sqlite"
_RANGES = 64
_KEYS = 1 << 63
_EPOCH = datetime(1970, 1, 1)
_DDL = """
CREATE TABLE exam (
    patient_key INTEGER, modality_group TEXT, body_part_code TEXT, at INTEGER, hospital_id TEXT, exam_pseudo_id TEXT,
    laterality_code TEXT,
    PRIMARY KEY (patient_key, modality_group, body_part_code, at, hospital_id, exam_pseudo_id)
) WITHOUT ROWID;
CREATE TABLE made_from (version INTEGER, since TEXT);
"""
_COLUMNS = (
    "patient_key, modality_group, body_part_code, epoch(study_at)::BIGINT, hospital_id, exam_pseudo_id, laterality_code"
)


@dataclass(frozen=True, order=True)
class Recent:
    """An exam that the person has had; `at` is the moved time of the lake."""

    at: datetime
    hospital_id: str
    exam_pseudo_id: str
    laterality_code: str


def build_index(lake: Lake, *, date_offsets: Callable[[np.ndarray], np.ndarray], now: datetime) -> int:
    """Make the index of the exams of the last 180 days before `now` (true local time); returns its rows.

    Raises
    ------
    ContractBroken
        If there is no exam.
    """
    version = lake.tables.version("core.exam")
    if version is None:
        raise ContractBroken(table="core.exam", problems=["there is no exam; run `radlake build` first"])
    since = now - timedelta(days=KEPT_DAYS)
    # Moved times lie up to 366 days before the true ones.
    first = since - timedelta(days=366)
    path = _path(lake)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.unlink(missing_ok=True)
    lake.scratch.mkdir(parents=True, exist_ok=True)
    n_rows = 0
    try:
        with (
            closing(sqlite3.connect(part)) as index,
            parquet.new_connection(filesystem=lake.tables.filesystem) as connection,
        ):
            index.execute("PRAGMA page_size = 8192")
            index.execute("PRAGMA journal_mode = OFF")
            index.executescript(_DDL)
            for number in range(_RANGES):
                low, high = _KEYS * number // _RANGES, _KEYS * (number + 1) // _RANGES - 1
                where = f"patient_key BETWEEN {low} AND {high} AND study_month >= {first.year * 100 + first.month}"
                relation = parquet.scan(
                    load_table("core.exam"), lake.tables.files("core.exam", version=version, where=where)
                )
                connection.execute(
                    f"CREATE OR REPLACE TABLE near AS FROM {relation} WHERE {where} AND study_at >= ?", [first]
                )
                keys = (
                    connection.sql("SELECT DISTINCT patient_key FROM near").to_arrow_table()["patient_key"].to_numpy()
                )
                connection.register("offsets", pa.table({"patient_key": keys, "seconds": date_offsets(keys)}))
                rows = connection.execute(
                    f"SELECT {_COLUMNS} FROM near INNER JOIN offsets USING (patient_key)"
                    " WHERE study_at - to_seconds(seconds) >= ? ORDER BY ALL",
                    [since],
                ).fetchall()
                index.executemany("INSERT INTO exam VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
                n_rows += len(rows)
            index.execute("INSERT INTO made_from VALUES (?, ?)", [version, since.isoformat()])
            index.commit()
        part.chmod(0o600)
        part.replace(path)
        reached("index.recent_exams")
    finally:
        part.unlink(missing_ok=True)
    return n_rows


class RecentExams:
    """Answers of one snapshot of core.exam; keep it open for many questions.

    Attributes
    ----------
    has_index : bool
        Whether the index is there and was made from this snapshot. Without it the lake is asked.
    """

    def __init__(self, lake: Lake) -> None:
        found = lake.tables.snapshot("core.exam")
        if found is None:
            raise ContractBroken(table="core.exam", problems=["there is no exam; run `radlake build` first"])
        self._snapshot = found
        self._connection = parquet.new_connection(threads=1, filesystem=lake.tables.filesystem)
        self._connection.execute("SET parquet_metadata_cache = true")
        self._index: sqlite3.Connection | None = None
        self._since = datetime.max
        path = _path(lake)
        if path.exists():
            self._index = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
            version, since = self._index.execute("SELECT version, since FROM made_from").fetchone()
            self._since = datetime.fromisoformat(since)
            if version != found.version:
                self._index.close()
                self._index = None

    @property
    def has_index(self) -> bool:
        return self._index is not None

    def close(self) -> None:
        self._connection.close()
        if self._index is not None:
            self._index.close()

    def find(
        self, patient_key: int, *, modality_group: str, body_part_code: str, now: datetime, days: int, moved: timedelta
    ) -> list[Recent]:
        """Exams of the last `days` before `now` (true local time), the latest first.

        Parameters
        ----------
        moved : timedelta
            By how much the person's times are moved (`KeyRing.offset`).
        """
        since, until = now - timedelta(days=days) + moved, now + moved
        # The index knows what lies within its days; what it does not know is asked of the lake.
        ask = (
            self.from_index if self._index is not None and now - timedelta(days=days) >= self._since else self.from_lake
        )
        return ask(patient_key, modality_group, body_part_code, since=since, until=until)

    def from_index(
        self, patient_key: int, modality_group: str, body_part_code: str, *, since: datetime, until: datetime
    ) -> list[Recent]:
        """As `from_lake`, of moved times that the index holds."""
        assert self._index is not None, "there is no index of this snapshot"
        rows = self._index.execute(
            "SELECT at, hospital_id, exam_pseudo_id, laterality_code FROM exam WHERE patient_key = ?"
            " AND modality_group = ? AND body_part_code = ? AND at >= ? AND at < ?",
            [patient_key, modality_group, body_part_code, _seconds(since), _seconds(until)],
        ).fetchall()
        return _sorted((_EPOCH + timedelta(seconds=at), *rest) for at, *rest in rows)

    def from_lake(
        self, patient_key: int, modality_group: str, body_part_code: str, *, since: datetime, until: datetime
    ) -> list[Recent]:
        """Exams of moved times from `since` until before `until`, from the files that the log says may hold them."""
        months = ", ".join(map(str, _months(since, until)))
        where = f"patient_key = {patient_key} AND study_month IN ({months})"
        files = self._snapshot.files(where=where)
        rows = self._connection.execute(
            "SELECT study_at, hospital_id, exam_pseudo_id, laterality_code"
            f" FROM {parquet.scan(load_table('core.exam'), files)}"
            " WHERE patient_key = ? AND modality_group = ? AND body_part_code = ?"
            " AND epoch(study_at)::BIGINT >= ? AND epoch(study_at)::BIGINT < ?",
            [patient_key, modality_group, body_part_code, _seconds(since), _seconds(until)],
        ).fetchall()
        return _sorted((at.replace(microsecond=0), *rest) for at, *rest in rows)


def _sorted(rows: object) -> list[Recent]:
    return sorted((Recent(*row) for row in rows), reverse=True)  # pyright: ignore[reportGeneralTypeIssues]


def _path(lake: Lake) -> Path:
    return lake.restricted / _FILE


def _seconds(at: datetime) -> int:
    return int((at - _EPOCH).total_seconds())


def _months(since: datetime, until: datetime) -> list[int]:
    first, last = since.year * 12 + since.month - 1, until.year * 12 + until.month - 1
    return [number // 12 * 100 + number % 12 + 1 for number in range(first, last + 1)]
