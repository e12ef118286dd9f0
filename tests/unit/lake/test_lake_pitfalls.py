"""Six ways in which a lake of files loses, doubles or resurrects rows. None of them may happen here."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from radlake.contracts import load_table
from radlake.errors import CommitRefused, ConfigInvalid
from radlake.lake import Lake, S3Options, duck, parquet, tables
from radlake.lake.deltalog import Conflict, Snapshot
from radlake.lake.tables import TableStore
from support.rows import rows

EXAM = "core.exam"
KEY_A = pa.table({"exam_pseudo_id": ["a"]})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")


@pytest.fixture
def store(lake: Lake) -> TableStore:
    return lake.tables


def exams(*ids: str, **more: object) -> pa.Table:
    return rows(EXAM, *({"exam_pseudo_id": name, **more} for name in ids))


def query(lake: Lake, sql: str) -> list[tuple]:
    with duck.connect(lake) as connection:
        return connection.execute(sql).fetchall()


def contents(lake: Lake) -> list[tuple[str, int]]:
    return query(lake, "SELECT exam_pseudo_id, n_series FROM core.exam ORDER BY ALL")


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], list[int]]:
    """Let something happen between the plan of a commit and the commit: after the first time files were written."""
    write_rows = parquet.write_rows

    def arrange(happen: Callable[[], object]) -> list[int]:
        calls: list[int] = []

        @functools.wraps(write_rows)
        def writing(*args: object, **kwargs: object) -> object:
            written = write_rows(*args, **kwargs)
            calls.append(1)
            if len(calls) == 1:
                monkeypatch.setattr(parquet, "write_rows", write_rows)
                happen()
                monkeypatch.setattr(parquet, "write_rows", writing)
            return written

        monkeypatch.setattr(parquet, "write_rows", writing)
        return calls

    return arrange


# 1. Resurrection: a commit planned on files that another commit has replaced meanwhile brings their rows back.


def test_rows_that_were_replaced_meanwhile_do_not_come_back(lake: Lake, store: TableStore, meanwhile):
    store.commit_batch(EXAM, exams("a", "b", "c"), batch_id="b1")
    calls = meanwhile(lambda: store.commit_batch(EXAM, exams("b", n_series=2), batch_id="b2", replace=key("b")))
    store.commit_batch(EXAM, exams("a", n_series=3), batch_id="b3", replace=KEY_A)
    assert contents(lake) == [("a", 3), ("b", 2), ("c", 1)]
    assert len(calls) == 2, "the second commit must have been planned again"


def test_a_row_that_came_meanwhile_is_replaced_too(lake: Lake, store: TableStore, meanwhile):
    store.commit_batch(EXAM, exams("z"), batch_id="b1")
    meanwhile(lambda: store.commit_batch(EXAM, exams("a"), batch_id="b2", replace=KEY_A))
    store.commit_batch(EXAM, exams("a", n_series=3), batch_id="b3", replace=KEY_A)
    assert contents(lake) == [("a", 3), ("z", 1)]


def test_an_overwrite_removes_what_came_meanwhile(lake: Lake, store: TableStore, meanwhile):
    store.commit_batch(EXAM, exams("a"), batch_id="b1")
    calls = meanwhile(lambda: store.commit_batch(EXAM, exams("b"), batch_id="b2"))
    store.overwrite(EXAM, exams("c"), batch_id="o1")
    assert contents(lake) == [("c", 1)]
    assert len(calls) == 1, "its files do not depend on what it replaces"


def test_compaction_leaves_what_comes_meanwhile_and_gives_way_to_a_replacement(
    lake: Lake, store: TableStore, meanwhile
):
    store.commit_batch(EXAM, exams("a"), batch_id="b1")
    store.commit_batch(EXAM, exams("b"), batch_id="b2")
    calls = meanwhile(lambda: store.commit_batch(EXAM, exams("c"), batch_id="b3"))
    store.compact(EXAM)
    assert contents(lake) == [("a", 1), ("b", 1), ("c", 1)]
    assert len(calls) == 1, "what came meanwhile must not make it start again"
    assert len(store.files(EXAM)) == 2

    meanwhile(lambda: store.commit_batch(EXAM, exams(), batch_id="b4", replace=KEY_A))
    assert store.compact(EXAM) == 0
    assert contents(lake) == [("b", 1), ("c", 1)]


def test_a_snapshot_commits_at_the_next_version_or_not_at_all(store: TableStore):
    store.commit_batch(EXAM, exams("a"), batch_id="b1")
    stale = store.snapshot(EXAM)
    assert stale is not None
    store.commit_batch(EXAM, exams("b"), batch_id="b2")
    with pytest.raises(Conflict):
        stale.commit(add=[], remove=stale.files(), at=datetime.now(UTC), batch_id="b3")


def test_a_writer_who_always_comes_second_gives_up_and_takes_its_files_away(
    lake: Lake, store: TableStore, monkeypatch: pytest.MonkeyPatch
):
    store.commit_batch(EXAM, exams("a"), batch_id="b1")

    def lose(self: Snapshot, **how: object) -> int:
        raise Conflict("somebody was quicker")

    monkeypatch.setattr(Snapshot, "commit", lose)
    monkeypatch.setattr(tables, "_ATTEMPTS", 3)
    with pytest.raises(CommitRefused, match="3 other commits came first; somebody was quicker"):
        store.commit_batch(EXAM, exams("b"), batch_id="b2")
    assert contents(lake) == [("a", 1)]
    assert len(list(Path(store.root).rglob("*.parquet"))) == 1


# 2. Twin commits: Delta accepts the same batch twice in sequence.


def test_a_twin_that_commits_meanwhile_makes_the_commit_a_no_op(lake: Lake, store: TableStore, meanwhile):
    store.commit_batch(EXAM, exams("z"), batch_id="b0")
    meanwhile(lambda: store.commit_batch(EXAM, exams("a"), batch_id="b1"))
    assert store.commit_batch(EXAM, exams("a"), batch_id="b1") is False
    assert contents(lake) == [("a", 1), ("z", 1)]
    assert len(list(Path(store.root).rglob("*.parquet"))) == 2, "the loser takes its files away"


@pytest.fixture
def answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next commit is made and told as a conflict: the answer of a store got lost, and it was asked again."""
    commit = Snapshot.commit

    def committing(self: Snapshot, **how: object) -> int:
        monkeypatch.setattr(Snapshot, "commit", commit)
        commit(self, **how)
        raise Conflict("412")

    monkeypatch.setattr(Snapshot, "commit", committing)


@pytest.mark.usefixtures("answer_is_lost")
def test_a_commit_that_was_made_but_told_as_a_conflict_keeps_its_files(lake: Lake, store: TableStore):
    assert store.commit_batch(EXAM, exams("a"), batch_id="b1") is True
    assert store.commit_batch(EXAM, exams("a"), batch_id="b1") is False
    assert contents(lake) == [("a", 1)]


def test_a_compaction_that_was_made_but_told_as_a_conflict_keeps_its_files(lake: Lake, store: TableStore, request):
    store.commit_batch(EXAM, exams("a"), batch_id="b1")
    store.commit_batch(EXAM, exams("b"), batch_id="b2")
    request.getfixturevalue("answer_is_lost")
    store.compact(EXAM)
    assert contents(lake) == [("a", 1), ("b", 1)]
    assert len(store.files(EXAM)) == 1


def test_a_table_that_two_create_at_once_is_one_table(lake: Lake, store: TableStore, monkeypatch):
    snapshot = TableStore.snapshot
    monkeypatch.setattr(TableStore, "snapshot", lambda self, table, **more: first(self, table, **more))
    seen = []

    def first(self: TableStore, table, **more):
        if not seen:  # sees no table, and then a twin creates it
            seen.append(1)
            TableStore(self.root).commit_batch(EXAM, exams("a"), batch_id="b1")
            return None
        return snapshot(self, table, **more)

    store.commit_batch(EXAM, exams("b"), batch_id="b2")
    assert contents(lake) == [("a", 1), ("b", 1)]


# 3. Torn globs: a reader of *.parquet sees staging files and half-written ones.


def test_files_that_are_not_in_the_log_do_not_exist_for_readers(lake: Lake, store: TableStore):
    store.commit_batch(EXAM, exams("a"), batch_id="b1")
    (live,) = map(Path, store.files(EXAM))
    (live.parent / "b-b2-whole-but-not-committed.parquet").write_bytes(live.read_bytes())
    (live.parent / "b-b3-half.parquet").write_bytes(live.read_bytes()[:100])
    staging = Path(store.root) / ".staging" / "tables-0"
    staging.mkdir(parents=True)
    (staging / "b-b4.parquet").write_bytes(b"PAR1")
    with pytest.raises(duckdb.Error):
        duckdb.sql(f"SELECT count(*) FROM '{live.parent}/*.parquet'").fetchall()
    assert contents(lake) == [("a", 1)]


def test_a_writer_that_dies_before_its_commit_publishes_nothing(lake: Lake, store: TableStore, meanwhile):
    store.commit_batch(EXAM, exams("a"), batch_id="b1")

    def die() -> None:
        raise KeyboardInterrupt

    meanwhile(die)
    with pytest.raises(KeyboardInterrupt):
        store.commit_batch(EXAM, exams("b"), batch_id="b2", replace=KEY_A)
    assert contents(lake) == [("a", 1)]
    assert list((Path(store.root) / ".staging").iterdir()) == []


def test_a_connection_keeps_its_versions(lake: Lake, store: TableStore):
    store.commit_batch(EXAM, exams("a"), batch_id="b1")
    with duck.connect(lake) as connection:
        store.overwrite(EXAM, exams("b"), batch_id="b2")
        assert connection.execute("SELECT exam_pseudo_id FROM core.exam").fetchall() == [("a",)]
    with duck.connect(lake, snapshot={"core.exam_v1": 1}) as connection:
        assert connection.execute("SELECT exam_pseudo_id FROM core.exam").fetchall() == [("a",)]
    assert contents(lake) == [("b", 1)]


# 4. Pins against opt-out: a pinned version keeps the rows of a person who opted out.


def test_opting_out_needs_the_pins_let_go_and_a_vacuum(lake: Lake, store: TableStore):
    store.commit_batch(EXAM, exams("a", "b", patient_key=7), batch_id="b1")
    store.pin("cohort-1", {"core.exam_v1": 1})
    store.commit_batch(EXAM, exams(), batch_id="opt-out-1", replace=KEY_A)
    assert contents(lake) == [("b", 1)]

    store.vacuum(EXAM, retention=timedelta(0))
    assert bytes_mention(store, "a"), "the pin still holds the row"

    store.unpin("cohort-1")
    store.pin("cohort-1-without-opt-outs", {"core.exam_v1": store.version(EXAM) or 0})
    store.vacuum(EXAM, retention=timedelta(0))
    assert not bytes_mention(store, "a"), "the row is physically gone"
    assert contents(lake) == [("b", 1)]


def bytes_mention(store: TableStore, exam: str) -> bool:
    files = [str(file) for file in Path(store.root).rglob("*.parquet")]
    return duckdb.sql(f"SELECT count(*) FROM read_parquet({files}) WHERE exam_pseudo_id = '{exam}'").fetchall() != [
        (0,)
    ]


# 5. Integer keys: 63 bits are more than a float or a signed 32-bit number holds.


def test_a_key_of_63_bits_stays_itself_everywhere(lake: Lake, store: TableStore):
    keys = [2**63 - 1, 2**63 - 2, 2**53 + 1, 2**53, 0]
    data = rows(EXAM, *({"exam_pseudo_id": f"e{i}", "patient_key": value} for i, value in enumerate(keys)))
    store.commit_batch(EXAM, data, batch_id="b1")
    store.commit_batch(EXAM, exams(), batch_id="b2", replace=pa.table({"patient_key": [2**63 - 2]}))
    with duck.connect(lake) as connection:
        relation = connection.sql("SELECT patient_key FROM core.exam ORDER BY exam_pseudo_id")
        assert str(relation.types[0]) == "BIGINT"
        assert relation.fetchall() == [(2**63 - 1,), (2**53 + 1,), (2**53,), (0,)]
        assert str(relation.to_arrow_table().schema.field(0).type) == "int64"
        assert str(relation.df().dtypes.iloc[0]) == "int64"
    assert store.files(EXAM, where=f"patient_key = {2**63 - 1}") != []
    assert store.files(EXAM, where=f"patient_key > {2**63 - 1}") == []
    kinds = {table: load_table(table).column("patient_key").type for table in ("dicom.study", "dicom.series", EXAM)}
    assert set(kinds.values()) == {"BIGINT"}


# 6. Conditional PUT: on a store that ignores If-None-Match two writers overwrite each other's commits.


class _Vendor(BaseHTTPRequestHandler):
    """An S3 store of a vendor: answers every PUT with the same status, whatever its headers say."""

    status = 200

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(self.status)

    def do_DELETE(self) -> None:
        self._answer(204)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("ETag", '"d41d8cd98f00b204e9800998ecf8427e"')
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def vendor(request: pytest.FixtureRequest) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Vendor", (_Vendor,), {"status": request.param}))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("vendor", [200, 501], indirect=True, ids=["ignores If-None-Match", "refuses it"])
def test_a_store_without_conditional_put_is_refused_before_anything_is_written(
    vendor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("S3_KEY", "x")
    options = S3Options(endpoint_url=vendor, access_key="env:S3_KEY", secret_key="env:S3_KEY")
    store = TableStore("s3://bucket/tables", storage_options=options, scratch=tmp_path)
    with pytest.raises(ConfigInvalid, match="two writers could overwrite each other's commits"):
        store.commit_batch(EXAM, exams("a"), batch_id="b1")


def key(exam: str) -> pa.Table:
    return pa.table({"exam_pseudo_id": [exam]})
