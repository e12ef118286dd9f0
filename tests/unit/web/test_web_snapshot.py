"""A new version of the lake is seen without a restart, and a lake that fails does not take the pages with it."""

from __future__ import annotations

import duckdb
import pytest

from radlake.web.snapshot import LakeReader, LakeUnreadable, copying
from support import weblake

HOSPITAL = {
    "name_zh": "医院",
    "name_en": "Hospital",
    "region_code": "UNKNOWN",
    "hospital_level": "3A",
    "storage_policy": "central",
}


class Lake:
    """A lake whose version, content and health the test sets."""

    def __init__(self) -> None:
        self.hospitals = ["h1"]
        self.version = 1
        self.now = 0.0
        self.n_opened = 0
        self.is_down = False
        self.takes = 0.0  # seconds of a copy

    def open(self) -> duckdb.DuckDBPyConnection:
        self.n_opened += 1
        self.now += self.takes
        if self.is_down:
            raise duckdb.IOException("the store does not answer")
        return weblake.connection(ref_hospital=[{"hospital_id": name, **HOSPITAL} for name in self.hospitals])

    def reader(self) -> LakeReader:
        return LakeReader(copying(self.open), version=lambda: self.version, clock=lambda: self.now, check_seconds=2)


def test_same_version_is_read_once() -> None:
    lake = Lake()
    reader = lake.reader()
    first = reader.snapshot()
    lake.now = 10
    assert reader.snapshot() is first
    assert lake.n_opened == 1


def test_new_version_is_seen_after_the_next_check() -> None:
    lake = Lake()
    reader = lake.reader()
    first = reader.snapshot()
    lake.hospitals.append("h2")
    lake.version = 2
    lake.now = 1
    assert reader.snapshot() is first
    lake.now = 2.5
    second = reader.snapshot()
    assert list(second.hospitals) == ["h1", "h2"]
    assert second.id != first.id


@pytest.mark.parametrize(("takes", "rest"), [(0.3, 2), (1, 4), (60, 20)])
def test_a_lake_that_changes_all_the_time_is_copied_a_fifth_of_it(takes: float, rest: float) -> None:
    lake = Lake()
    reader, lake.takes = lake.reader(), takes
    first = reader.snapshot()
    lake.version, ended_at = 2, lake.now
    lake.now = ended_at + rest - 0.1
    assert reader.snapshot() is first
    lake.now = ended_at + rest
    assert reader.snapshot() is not first


def test_lake_that_fails_later_leaves_the_last_snapshot() -> None:
    lake = Lake()
    reader = lake.reader()
    first = reader.snapshot()
    lake.version, lake.is_down, lake.now = 2, True, 5
    assert reader.snapshot() is first
    lake.is_down, lake.now = False, 10
    assert reader.snapshot() is not first


def test_lake_that_fails_at_once_is_told() -> None:
    lake = Lake()
    lake.is_down = True
    with pytest.raises(LakeUnreadable):
        lake.reader().snapshot()


def test_answers_are_kept_by_query_and_parameters() -> None:
    lake = Lake()
    lake.hospitals.append("h2")
    snapshot = lake.reader().snapshot()
    asked = "SELECT hospital_id FROM ref.hospital WHERE hospital_id != $other"
    first = snapshot.rows(asked, {"other": "h2"})
    first.append(("made up by the caller",))
    assert snapshot.rows(asked, {"other": "h1"}) == [("h2",)]
    snapshot.connection.close()
    assert snapshot.rows(asked, {"other": "h2"}) == [("h1",)]
    with pytest.raises(duckdb.ConnectionException):
        snapshot.rows(asked, {"other": "h3"})


def test_oldest_answers_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radlake.web.snapshot._ROWS_KEPT", 4)
    snapshot = Lake().reader().snapshot()
    snapshot.rows("FROM range(2)")
    snapshot.rows("FROM range(3)")
    snapshot.connection.close()
    assert snapshot.rows("FROM range(3)") == [(0,), (1,), (2,)]
    with pytest.raises(duckdb.ConnectionException):
        snapshot.rows("FROM range(2)")
