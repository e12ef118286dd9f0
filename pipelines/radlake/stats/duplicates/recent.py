"""Order entry asks which exams of a kind a person has had in the last days: from an index, or straight from the lake.

The index is a SQLite file of the restricted zone, derived and thrown away at will: it names the versions of the tables
that it was made from and is not asked when the lake has newer ones. Both answers are always the same rows. Times are
those of the lake, moved by the person's own constant, so an answer tells gaps and no dates.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from radlake.commit_points import reached
from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.lake import Lake, parquet
from radlake.lake.deltalog import Snapshot
from radlake.sqlrun.date_offsets import DateOffsets, register_offsets

__all__ = ["KEPT_DAYS", "Recent", "RecentExams", "build_index", "versions_of"]

KEPT_DAYS = 180  # the longest window of the rule packs
_FILE = "recent_exams.sqlite"
_RANGES = 64
_KEYS = 1 << 63
_FIND = """
SELECT at, hospital_id, exam_pseudo_id, laterality_code, contrast_code, confidence_code, ground_codes,
    encounter_pseudo_id, effective_dose_msv
FROM exam
WHERE patient_key = ? AND modality_group = ? AND body_part_code = ? AND at >= ? AND at < ?
"""
_EPOCH = datetime(1970, 1, 1)
_DDL = """
CREATE TABLE exam (
    patient_key INTEGER, modality_group TEXT, body_part_code TEXT, at INTEGER, hospital_id TEXT, exam_pseudo_id TEXT,
    laterality_code TEXT, contrast_code TEXT, confidence_code TEXT, ground_codes TEXT, encounter_pseudo_id TEXT,
    effective_dose_msv REAL,
    PRIMARY KEY (patient_key, modality_group, body_part_code, at, hospital_id, exam_pseudo_id)
) WITHOUT ROWID;
CREATE TABLE made_from (versions TEXT, since TEXT);
"""
_TABLES = ("core.exam", "core.exam_dose", "ref.exam_order")
_TOLD = (
    "hospital_id, exam_pseudo_id, laterality_code, contrast_code, confidence_code, coalesce(ground_codes, ''),"
    " coalesce(encounter_pseudo_id, ''), effective_dose_msv"
)
_COLUMNS = f"patient_key, modality_group, body_part_code, epoch(study_at)::BIGINT, {_TOLD}"


@dataclass(frozen=True, order=True)
class Recent:
    """An exam that the person has had.

    Attributes
    ----------
    at : datetime
        Moved time of the lake.
    ground_codes, encounter_pseudo_id : str
        Of ref.exam_order; empty when nothing is on record.
    effective_dose_msv : float or None
        Estimate of core.exam_dose.
    """

    at: datetime
    hospital_id: str
    exam_pseudo_id: str
    laterality_code: str
    contrast_code: str = "UNKNOWN"
    confidence_code: str = "NONE"
    ground_codes: str = ""
    encounter_pseudo_id: str = ""
    effective_dose_msv: float | None = None


def build_index(lake: Lake, *, date_offsets: DateOffsets, now: datetime) -> int:
    """Make the index of the exams of the last 180 days before `now` (true local time); returns its rows.

    Raises
    ------
    ContractBroken
        If there is no exam.
    """
    snapshots = _snapshots(lake)
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
                persons = f"patient_key BETWEEN {low} AND {high}"
                relation = _joined(snapshots, _scan(snapshots, "core.exam", where), persons)
                connection.execute(f"CREATE OR REPLACE TABLE near AS FROM {relation} WHERE study_at >= ?", [first])
                register_offsets(connection, date_offsets, persons="near")
                rows = connection.execute(
                    f"SELECT {_COLUMNS} FROM near INNER JOIN offsets USING (patient_key)"
                    " WHERE study_at - to_seconds(seconds) >= ? ORDER BY ALL",
                    [since],
                ).fetchall()
                index.executemany(f"INSERT INTO exam VALUES ({', '.join('?' * 12)})", rows)
                n_rows += len(rows)
            index.execute("INSERT INTO made_from VALUES (?, ?)", [_versions(snapshots), since.isoformat()])
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
    versions : str
        What this snapshot is, to tell it from a newer one (`versions_of`).
    """

    def __init__(self, lake: Lake) -> None:
        self._snapshots = _snapshots(lake)
        self.versions = _versions(self._snapshots)
        self._connection = parquet.new_connection(threads=1, filesystem=lake.tables.filesystem)
        self._connection.execute("SET parquet_metadata_cache = true")
        self._index: sqlite3.Connection | None = None
        self._since = datetime.max
        path = _path(lake)
        if path.exists():
            self._open_index(path)

    def _open_index(self, path: Path) -> None:
        # Threads may share it, one at a time.
        index = sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False)
        try:
            versions, since = index.execute("SELECT versions, since FROM made_from").fetchone()
        except sqlite3.OperationalError:  # of an older radlake
            versions, since = "", datetime.max.isoformat()
        if versions != self.versions:
            index.close()
            return
        self._index, self._since = index, datetime.fromisoformat(since)

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
            _FIND, [patient_key, modality_group, body_part_code, _seconds(since), _seconds(until)]
        )
        return _sorted((_EPOCH + timedelta(seconds=at), *rest) for at, *rest in rows.fetchall())

    def from_lake(
        self, patient_key: int, modality_group: str, body_part_code: str, *, since: datetime, until: datetime
    ) -> list[Recent]:
        """Exams of moved times from `since` until before `until`, from the files that the log says may hold them."""
        months = ", ".join(map(str, _months(since, until)))
        person = f"patient_key = {patient_key}"
        exams = _scan(self._snapshots, "core.exam", f"{person} AND study_month IN ({months})")
        wanted = (
            f"{exams} WHERE modality_group = ? AND body_part_code = ?"
            " AND epoch(study_at)::BIGINT >= ? AND epoch(study_at)::BIGINT < ?"
        )
        limits = [modality_group, body_part_code, _seconds(since), _seconds(until)]
        self._connection.execute(f"CREATE OR REPLACE TABLE found AS FROM {wanted}", limits)
        if not self._connection.execute("SELECT 1 FROM found LIMIT 1").fetchone():
            return []
        rows = self._connection.execute(f"SELECT study_at, {_TOLD} FROM {_joined(self._snapshots, 'found', person)}")
        return _sorted((at.replace(microsecond=0), *rest) for at, *rest in rows.fetchall())


def versions_of(lake: Lake) -> str:
    """What the newest snapshot is: `RecentExams.versions` of one that is opened now.

    Raises
    ------
    ContractBroken
        If there is no exam.
    """
    return _versions(_snapshots(lake))


def _snapshots(lake: Lake) -> dict[str, Snapshot | None]:
    found = {name: lake.tables.snapshot(name) for name in _TABLES}
    if found["core.exam"] is None:
        raise ContractBroken(table="core.exam", problems=["there is no exam; run `radlake build` first"])
    return found


def _versions(snapshots: Mapping[str, Snapshot | None]) -> str:
    return " ".join(f"{name}@{snapshot.version if snapshot else '-'}" for name, snapshot in snapshots.items())


def _joined(snapshots: Mapping[str, Snapshot | None], exams: str, persons: str) -> str:
    """SQL of exams with what is on record of them and their dose; `persons` limits the tables of these."""
    key = "(hospital_id, exam_pseudo_id, patient_key)"
    names = "hospital_id, exam_pseudo_id, patient_key"
    orders = f"SELECT {names}, ground_codes, encounter_pseudo_id FROM {_scan(snapshots, 'ref.exam_order', persons)}"
    doses = f"SELECT {names}, effective_dose_msv FROM {_scan(snapshots, 'core.exam_dose', persons)}"
    return f"(FROM {exams} LEFT JOIN ({orders}) USING {key} LEFT JOIN ({doses}) USING {key})"


def _scan(snapshots: Mapping[str, Snapshot | None], name: str, where: str) -> str:
    snapshot = snapshots[name]
    return f"(FROM {parquet.scan(load_table(name), snapshot.files(where=where) if snapshot else [])} WHERE {where})"


def _sorted(rows: object) -> list[Recent]:
    return sorted((Recent(*row) for row in rows), reverse=True)  # pyright: ignore[reportGeneralTypeIssues]


def _path(lake: Lake) -> Path:
    return lake.restricted / _FILE


def _seconds(at: datetime) -> int:
    return int((at - _EPOCH).total_seconds())


def _months(since: datetime, until: datetime) -> list[int]:
    first, last = since.year * 12 + since.month - 1, until.year * 12 + until.month - 1
    return [number // 12 * 100 + number % 12 + 1 for number in range(first, last + 1)]
