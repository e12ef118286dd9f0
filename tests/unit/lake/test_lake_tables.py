"""Tables: rows go in once, come out as they were, and are replaced in one step."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from radlake.commit_points import listening
from radlake.contracts import Table, load_table, load_tables
from radlake.errors import CommitRefused, ConfigInvalid, ContractBroken, SourceMissing, StoreFull
from radlake.lake import Lake, deltalog, duck, parquet
from radlake.lake.tables import TableRows, TableStore
from support.rows import rows

EXAM = "core.exam"


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(str(tmp_path / "tables"))


def exams(*ids: str, month: int = 202603, **more: object) -> pa.Table:
    return rows(EXAM, *({"exam_pseudo_id": name, "study_month": month, **more} for name in ids))


def content(store: TableStore, table: str = EXAM, **when: int) -> pa.Table:
    """What a reader sees, in the order of the key."""
    contract = load_table(table)
    with duckdb.connect() as connection:
        order = ", ".join(f'"{name}"' for name in contract.key)
        relation = parquet.scan(contract, store.files(table, **when))
        return connection.sql(f"FROM {relation} ORDER BY {order}").to_arrow_table()


def ids(store: TableStore, **when: int) -> list[str]:
    return content(store, **when).column("exam_pseudo_id").to_pylist()


def parquet_files(store: TableStore) -> list[Path]:
    return sorted(Path(store.root).rglob("*.parquet"))


def test_a_table_that_does_not_exist_has_no_version_and_no_files(store: TableStore):
    assert not store.exists(EXAM)
    assert store.version(EXAM) is store.log_version(EXAM) is None
    assert store.files(EXAM) == []
    assert not Path(store.root).exists()


def test_the_version_is_told_by_the_names_in_the_log(store: TableStore):
    store.commit_batch(EXAM, exams("a"), batch_id="b1")
    assert store.exists(EXAM)
    store.commit_batch(EXAM, exams("b"), batch_id="b2")
    for known in (None, 0, 1, 2):
        assert store.log_version(EXAM, known=known) == store.version(EXAM) == 2
    assert store.log_version(EXAM, known=9) == 2  # a table that was made anew
    shutil.rmtree(Path(store.root) / "core")
    assert store.log_version(EXAM, known=2) is None


def test_rows_come_out_as_they_went_in(store: TableStore):
    data = rows(
        EXAM,
        {"exam_pseudo_id": "a", "study_month": 202603, "study_at": datetime(2026, 3, 1, 23, 59, 59, 123456)},
        {"exam_pseudo_id": "b", "study_month": 202512, "patient_key": 2**63 - 1, "patient_age_years": None},
        {"exam_pseudo_id": "c", "study_month": 190001, "study_at": None, "has_contrast": False},
        {"exam_pseudo_id": "王'\"\\", "study_month": 202603, "region_code": ""},
    )
    assert store.commit_batch(EXAM, data, batch_id="b1")
    got = content(store)
    assert got.cast(data.schema).to_pylist() == data.to_pylist()
    assert got.schema.types == data.schema.types
    assert sorted({Path(file).parent.name for file in store.files(EXAM)}) == [
        "study_month=190001",
        "study_month=202512",
        "study_month=202603",
    ]


@pytest.mark.parametrize("folder", ["影像 湖", "it's", "x#y?z", "[a]*", "a&b+c=d", '"'])
def test_a_lake_may_lie_in_any_folder(tmp_path: Path, folder: str):
    lake = Lake(url=str(tmp_path / folder), restricted=tmp_path / folder / "restricted")
    lake.tables.commit_batch(EXAM, exams("a", "b"), batch_id="b1")
    lake.tables.commit_batch(EXAM, exams("c"), batch_id="b2", replace=pa.table({"exam_pseudo_id": ["a"]}))
    lake.tables.compact(EXAM)
    assert lake.tables.vacuum(EXAM, retention=timedelta(0)) == 1
    with duck.connect(lake) as connection:
        found = connection.execute("SELECT exam_pseudo_id FROM core.exam ORDER BY 1").fetchall()
    assert found == [("b",), ("c",)]


def test_a_folder_that_the_log_cannot_open_is_refused(tmp_path: Path):
    with pytest.raises(ConfigInvalid, match="percent sign"):
        TableStore(str(tmp_path / "100%25")).commit_batch(EXAM, exams("a"), batch_id="b1")


@pytest.mark.parametrize("table", ["dicom.instance", "dicom.series", "dicom.study", "ref.price", "stats.exam_volume"])
def test_tables_of_every_shape(store: TableStore, table: str):
    data = rows(table, {})
    assert store.commit_batch(table, data, batch_id="b1")
    assert content(store, table).to_pylist() == data.to_pylist()


def test_a_batch_is_committed_once(store: TableStore):
    assert store.commit_batch(EXAM, exams("a", "b"), batch_id="b1") is True
    assert store.commit_batch(EXAM, exams("a", "b"), batch_id="b1") is False
    assert store.commit_batch(EXAM, exams("c"), batch_id="b2") is True
    assert ids(store) == ["a", "b", "c"]
    assert [file.name[:5] for file in parquet_files(store)] == ["b-b1-", "b-b2-"]


def test_a_batch_without_rows_is_committed_once_too(store: TableStore):
    assert store.commit_batch(EXAM, exams(), batch_id="b1") is True
    assert store.commit_batch(EXAM, exams("a"), batch_id="b1") is False
    assert ids(store) == []
    assert store.version(EXAM) == 1


LEVELS = ["dicom.instance", "dicom.series", "dicom.study"]


def test_tables_of_one_batch_become_visible_step_by_step(store: TableStore):
    instance, series, study = (TableRows(name, rows(name, {})) for name in LEVELS)
    seen = []
    for name in store.commit_batches([instance, series], [study], batch_id="b1"):
        seen.append((name, [store.version(level) for level in LEVELS]))
    assert seen == list(zip(LEVELS, ([1, 1, 0], [1, 1, 0], [1, 1, 1]), strict=True))
    assert list(store.commit_batches([instance], [], [series, study], batch_id="b1")) == LEVELS
    assert [store.version(level) for level in LEVELS] == [1, 1, 1]
    assert len(parquet_files(store)) == 3


def test_a_table_that_changes_after_it_was_prepared_is_prepared_again(store: TableStore):
    store.commit_batch(EXAM, exams("a", month=202601), batch_id="b1")
    replaced = TableRows(EXAM, exams("a", month=202602), pa.table({"exam_pseudo_id": ["a"]}))
    making = store.commit_batches([TableRows(LEVELS[0], rows(LEVELS[0], {}))], [replaced], batch_id="b2")
    assert next(making) == LEVELS[0]
    TableStore(store.root).commit_batch(EXAM, exams("a", "b", month=202603), batch_id="other")
    assert list(making) == [EXAM]
    found = content(store).select(["exam_pseudo_id", "study_month"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [("a", 202602), ("b", 202603)]


def test_a_table_that_cannot_be_prepared_leaves_nothing_of_the_others(store: TableStore):
    store.commit_batch(EXAM, exams("a"), batch_id="b1")
    log = Path(store.root) / "core/exam_v1/_delta_log/00000000000000000000.json"
    log.write_text(log.read_text(encoding="utf-8").replace("n_series", "n_serien"), encoding="utf-8")
    before = parquet_files(store)
    parts = [TableRows(LEVELS[0], rows(LEVELS[0], {})), TableRows(EXAM, exams("b"))]
    with pytest.raises(ContractBroken, match="in the lake"):
        list(store.commit_batches(parts, batch_id="b2"))
    assert store.version(LEVELS[0]) == 0
    assert parquet_files(store) == before


def test_tables_are_made_ahead_once_and_whoever_comes_first(store: TableStore):
    store.commit_batch(LEVELS[0], rows(LEVELS[0], {}), batch_id="b1")
    came: list[str] = []
    with listening(came.append):
        with store.making(LEVELS):
            store.commit_batch(LEVELS[1], rows(LEVELS[1], {}), batch_id="b1")
        with store.making(LEVELS):
            pass
    assert [store.version(level) for level in LEVELS] == [1, 1, 0]
    assert came.count("table.created") == 2


def test_of_several_who_make_a_table_one_does(store: TableStore):
    table, uri = load_table(EXAM), store.store.uri("core/exam_v1")
    Path(uri).mkdir(parents=True)
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: deltalog.create_log(uri, table, options=None), range(4)))
    assert sum(one is not None for one in made) == 1
    assert store.version(EXAM) == 0


def test_a_table_that_cannot_be_made_ahead_is_left_to_who_commits(tmp_path: Path):
    store = TableStore(str(tmp_path / "100%25"))
    with store.making([EXAM]):
        pass
    with pytest.raises(ConfigInvalid, match="percent sign"):
        store.commit_batch(EXAM, exams("a"), batch_id="b1")


def test_replace_removes_the_rows_of_a_key_and_no_other(store: TableStore):
    store.commit_batch(EXAM, exams("a", "b", month=202601), batch_id="b1")
    store.commit_batch(EXAM, exams("c", "d", month=202602), batch_id="b2")
    before = set(parquet_files(store))
    data = exams("a", "e", month=202603, n_series=7)
    keys = pa.table({"hospital_id": ["x", "x"], "exam_pseudo_id": ["a", "e"]})
    assert store.commit_batch(EXAM, data, batch_id="b3", replace=keys)
    got = content(store).select(["exam_pseudo_id", "study_month", "n_series"]).to_pylist()
    assert [tuple(row.values()) for row in got] == [
        ("a", 202603, 7),
        ("b", 202601, 1),
        ("c", 202602, 1),
        ("d", 202602, 1),
        ("e", 202603, 7),
    ]
    untouched = [file for file in before if "202602" in str(file)]
    assert set(untouched) == before & set(map(Path, store.files(EXAM)))


@pytest.mark.parametrize("table", load_tables())
def test_rows_of_every_table_are_replaced_by_their_key(store: TableStore, table: str):
    data = rows(table, {})
    store.commit_batch(table, data, batch_id="b1")
    assert store.commit_batch(table, data.slice(0, 0), batch_id="b2", replace=data.select(load_table(table).key))
    assert content(store, table).num_rows == 0


def test_a_key_may_hold_any_character(store: TableStore):
    strange = "王'\"\\%_\n"
    store.commit_batch(EXAM, exams(strange, "b"), batch_id="b1")
    store.commit_batch(EXAM, exams(), batch_id="b2", replace=pa.table({"exam_pseudo_id": [strange]}))
    assert ids(store) == ["b"]


def test_replace_with_the_partition_leaves_other_months_alone(store: TableStore):
    store.commit_batch(EXAM, exams("a", month=202601), batch_id="b1")
    keys = exams("a", month=202602).select(["exam_pseudo_id", "study_month"])
    store.commit_batch(EXAM, exams(), batch_id="b2", replace=keys)
    assert ids(store) == ["a"]


def test_replace_by_many_keys_reads_ranges_of_the_log(store: TableStore):
    many = [f"e{i:04d}" for i in range(500)]
    store.commit_batch(EXAM, exams(*many), batch_id="b1")
    store.commit_batch(EXAM, exams(), batch_id="b2", replace=pa.table({"exam_pseudo_id": many[:499]}))
    assert ids(store) == ["e0499"]


def test_overwrite_replaces_everything_once(store: TableStore):
    store.commit_batch(EXAM, exams("a", "b"), batch_id="b1")
    assert store.overwrite(EXAM, exams("c", month=202601), batch_id="o1") == 2
    assert ids(store) == ["c"]
    assert store.overwrite(EXAM, exams(), batch_id="o2") == 3
    assert store.files(EXAM) == []
    assert store.overwrite(EXAM, exams("c"), batch_id="o1") == 2
    assert ids(store) == []
    assert ids(store, version=2) == ["c"]


def test_an_older_version_stays_readable(store: TableStore):
    store.commit_batch(EXAM, exams("a"), batch_id="b1")
    store.commit_batch(EXAM, exams("b"), batch_id="b2", replace=pa.table({"exam_pseudo_id": ["a"]}))
    assert (ids(store, version=1), ids(store, version=2)) == (["a"], ["b"])
    with pytest.raises(SourceMissing, match="version 9"):
        store.files(EXAM, version=9)


def test_the_log_tells_which_files_cannot_hold_a_person_or_a_month(store: TableStore):
    for i, month in enumerate((202601, 202602, 202603)):
        low = 2**62 + i * 1000
        data = rows(
            EXAM,
            *(
                {"exam_pseudo_id": f"e{i}{j}", "study_month": month, "patient_key": low + j, "study_at": at(j, i)}
                for j in range(5)
            ),
        )
        store.commit_batch(EXAM, data, batch_id=f"b{i}")
    assert len(store.files(EXAM)) == 3
    assert months(store, f"patient_key = {2**62 + 1004}") == ["202602"]
    assert months(store, f"patient_key = {2**62 + 1005}") == []
    assert months(store, "study_month >= 202602") == ["202602", "202603"]
    assert months(store, f"study_month = 202601 AND patient_key = {2**62 + 1000}") == []
    assert months(store, "exam_pseudo_id = 'e21'") == ["202603"]
    assert months(store, "study_at < '2026-01-01 00:00:00.000001'") == ["202601"]
    log = Path(store.root) / "core/exam_v1/_delta_log/00000000000000000001.json"
    assert '\\"study_at\\": \\"2026-01-01T00:00:04\\"' in log.read_text(encoding="utf-8"), "as Delta's protocol says it"
    # a column without statistics leaves out nothing
    assert months(store, "exam_bytes = 12345") == ["202601", "202602", "202603"]


def at(second: int, day: int) -> datetime:
    return datetime(2026, 1, 1 + day, 0, 0, second)


def months(store: TableStore, where: str) -> list[str]:
    return [Path(file).parent.name.removeprefix("study_month=") for file in store.files(EXAM, where=where)]


def test_the_same_rows_give_the_same_bytes_in_any_order(tmp_path: Path):
    """Also when they are many and DuckDB could use several threads."""
    n = 150_000
    numbers = pa.array(range(n))
    data = exams("x").take(pa.array([0]).take(pc.multiply(numbers, 0)))
    names = pc.binary_join_element_wise("e", pc.cast(numbers, pa.string()), "")
    months = pc.add(202601, pc.cast(pc.bit_wise_and(numbers, 1), pa.int32()))
    data = changed(changed(data, "exam_pseudo_id", names), "study_month", months)
    shuffled = data.take(pc.array_sort_indices(pc.bit_wise_xor(numbers, 0x15555)))
    found = []
    for name, given in (("one", data), ("two", shuffled)):
        store = TableStore(str(tmp_path / name))
        store.commit_batch(EXAM, given, batch_id="b1")
        found.append(sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in parquet_files(store)))
    assert found[0] == found[1]
    assert len(found[0]) == 2


def test_rows_that_sort_alike_have_an_order_too(tmp_path: Path):
    given = rows("dicom.series", *({"object_path": f"p{i * 7 % 100}"} for i in range(100)))
    store = TableStore(str(tmp_path))
    store.commit_batch("dicom.series", given, batch_id="b1")
    (file,) = store.files("dicom.series")
    assert pq.read_table(file).column("object_path").to_pylist() == sorted(given.column("object_path").to_pylist())


def changed(data: pa.Table, column: str, values: pa.ChunkedArray | pa.Array) -> pa.Table:
    index = data.column_names.index(column)
    return data.set_column(index, data.schema.field(column), values.cast(data.schema.field(column).type))


def test_rows_lie_in_the_order_of_the_contract(store: TableStore):
    data = rows(EXAM, *({"exam_pseudo_id": f"e{i}", "patient_key": (i * 37) % 100} for i in range(100)))
    store.commit_batch(EXAM, data, batch_id="b1")
    (file,) = store.files(EXAM)
    assert pq.read_table(file).column("patient_key").to_pylist() == list(range(100))


def test_rows_that_break_the_contract_are_refused(store: TableStore):
    with pytest.raises(ContractBroken, match="n_series: below 1 in row 1"):
        store.commit_batch(EXAM, exams("a", n_series=0), batch_id="b1")
    with pytest.raises(ContractBroken, match="replace needs columns of this table"):
        store.commit_batch(EXAM, exams("a"), batch_id="b1", replace=pa.table({"patient_name": ["x"]}))
    assert store.version(EXAM) is None


@pytest.mark.parametrize("batch_id", ["", "../x", "a/b", "a" * 129, "-a"])
def test_a_batch_id_is_a_plain_name(store: TableStore, batch_id: str):
    with pytest.raises(CommitRefused, match="a batch id is"):
        store.commit_batch(EXAM, exams("a"), batch_id=batch_id)


@pytest.mark.parametrize("feature", ["deletionVectors", "columnMapping", "somethingNew"])
def test_a_table_that_another_engine_changed_is_not_read(store: TableStore, feature: str):
    store.commit_batch(EXAM, exams("a"), batch_id="b1")
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7}
    features = {"readerFeatures": ["timestampNtz", feature], "writerFeatures": ["timestampNtz", feature]}
    log = Path(store.root) / "core/exam_v1/_delta_log/00000000000000000002.json"
    log.write_text(json.dumps({"protocol": protocol | features}) + "\n", encoding="utf-8")
    with pytest.raises(ContractBroken, match=feature):
        store.files(EXAM)
    with pytest.raises(ContractBroken, match=feature):
        store.commit_batch(EXAM, exams("b"), batch_id="b2")


def test_a_contract_that_changed_needs_a_new_version(store: TableStore):
    store.commit_batch(EXAM, exams("a"), batch_id="b1")
    log = Path(store.root) / "core/exam_v1/_delta_log/00000000000000000000.json"
    log.write_text(log.read_text(encoding="utf-8").replace("n_series", "n_serien"), encoding="utf-8")
    with pytest.raises(ContractBroken, match="column n_series is None in the lake"):
        store.files(EXAM)


def older(table: str) -> Table:
    """The contract before columns were added to it."""
    contract = load_table(table)
    return replace(contract, columns=tuple(column for column in contract.columns if column.default is None))


def test_a_lake_that_is_older_than_a_column_is_read_and_written(store: TableStore):
    before, table = older("dicom.series"), load_table("dicom.series")
    assert set(table.column_names) - set(before.column_names) == {"residency"}
    given = rows("dicom.series", {"object_path": "old"}).drop_columns(["residency"])
    store.commit_batch(before, given, batch_id="b1")
    assert content(store, "dicom.series").column("residency").to_pylist() == ["central"]
    store.commit_batch(table, rows("dicom.series", {"object_path": "new", "residency": "index"}), batch_id="b2")
    store.commit_batch(table, given.set_column(0, "hospital_id", [["h2"]]), batch_id="staged-before")
    assert content(store, "dicom.series").select(["hospital_id", "object_path", "residency"]).to_pylist() == [
        {"hospital_id": "h2", "object_path": "old", "residency": "central"},
        {"hospital_id": given["hospital_id"][0].as_py(), "object_path": "new", "residency": "index"},
        {"hospital_id": given["hospital_id"][0].as_py(), "object_path": "old", "residency": "central"},
    ]
    names = [field.name for field in DeltaTable(f"{store.root}/dicom/series_v1").schema().fields]
    assert names[-1] == "residency"
    assert store.compact(table) == 1
    assert sorted(content(store, "dicom.series").column("residency").to_pylist()) == ["central", "central", "index"]
    assert content(store, "dicom.series", version=1).column("residency").to_pylist() == ["central"]


def test_a_row_of_a_lake_that_is_older_than_a_column_of_its_key_is_replaced(store: TableStore):
    before, table = older("ref.price"), load_table("ref.price")
    before = replace(before, **{name: tuple(set(getattr(table, name)) & set(before.column_names)) for name in ("key", "sort")})  # fmt: skip  # noqa: E501
    row = {"item": "exam", "modality_group": "CT", "price_fen": 1}
    store.commit_batch(before, rows("ref.price", row).drop_columns(["body_part_code"]), batch_id="b1")
    newer = rows("ref.price", row | {"price_fen": 2}, row | {"body_part_code": "HEAD", "price_fen": 3})
    store.commit_batch(table, newer, batch_id="b2", replace=newer.select(table.key))
    assert sorted(content(store, "ref.price").column("price_fen").to_pylist()) == [2, 3]


def test_a_crowded_month_becomes_one_sorted_file(store: TableStore):
    for i in range(5):
        store.commit_batch(EXAM, exams(f"e{i}", f"f{i}", month=202601, patient_key=100 - i), batch_id=f"b{i}")
    store.commit_batch(EXAM, exams("z", month=202602), batch_id="z")
    before = content(store)
    assert store.compact(EXAM) == 1
    assert [Path(file).parent.name for file in store.files(EXAM)] == ["study_month=202601", "study_month=202602"]
    assert content(store) == before
    assert pq.read_table(store.files(EXAM)[0]).column("patient_key").to_pylist() == [*sorted([96, 97, 98, 99, 100] * 2)]
    assert store.compact(EXAM) == 0
    assert not store.commit_batch(EXAM, exams("e0"), batch_id="b0"), "compaction must not forget batches"


def test_vacuum_keeps_what_is_live_pinned_or_young(store: TableStore):
    store.commit_batch(EXAM, exams("a"), batch_id="b1")
    store.overwrite(EXAM, exams("b"), batch_id="b2")
    store.overwrite(EXAM, exams("c"), batch_id="b3")
    store.pin("cohort-1", {"core.exam_v1": 2})
    uncommitted = Path(store.root) / "core/exam_v1/study_month=202603/b-b9-other-writer.parquet"
    uncommitted.write_bytes(b"half")
    version = store.version(EXAM)
    assert store.vacuum(EXAM) == 0, "nothing is a week old"
    assert store.vacuum(EXAM, retention=timedelta(0)) == 1
    assert store.vacuum(EXAM, retention=timedelta(0)) == 0
    assert store.version(EXAM) == version
    assert [file.name[:5] for file in parquet_files(store)] == ["b-b2-", "b-b3-", "b-b9-"]
    assert (ids(store), ids(store, version=2)) == (["c"], ["b"])
    store.unpin("cohort-1")
    store.vacuum(EXAM, retention=timedelta(0))
    assert [file.name[:5] for file in parquet_files(store)] == ["b-b3-", "b-b9-"]
    assert ids(store) == ["c"]


def test_a_pin_is_of_a_version_that_exists_and_never_changes(store: TableStore):
    store.commit_batch(EXAM, exams("a"), batch_id="b1")
    assert store.pins() == {}
    store.pin("cohort-1", {"core.exam_v1": 1})
    store.pin("cohort-1", {"core.exam_v1": 1})
    store.pin("cohort-1", {"core.exam": 1})
    assert store.pins() == {"cohort-1": {"core.exam_v1": 1}}
    with pytest.raises(CommitRefused, match="exists with other versions"):
        store.pin("cohort-1", {"core.exam_v1": 0})
    with pytest.raises(CommitRefused, match="there is no version"):
        store.pin("cohort-2", {"dicom.study_v1": 1})
    with pytest.raises(SourceMissing, match="version 7"):
        store.pin("cohort-2", {"core.exam_v1": 7})
    with pytest.raises(CommitRefused, match="a pin is named by"):
        store.pin("../x", {"core.exam_v1": 1})


def test_vacuum_sweeps_what_dead_writers_left_long_ago(store: TableStore):
    store.commit_batch(EXAM, exams("a"), batch_id="b1")
    folder = Path(store.root) / "core/exam_v1/study_month=202603"
    staging = Path(store.root) / ".staging"
    for path in (folder / "b-old.parquet", folder / "b-young.parquet", staging / "tables-1/x", staging / "tables-2/x"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    long_ago = time.time() - 8 * 86400
    for path in (folder / "b-old.parquet", staging / "tables-1"):
        os.utime(path, (long_ago, long_ago))
    assert store.vacuum(EXAM) == 1
    assert [file.name[:4] for file in parquet_files(store)] == ["b-b1", "b-yo"]
    assert [entry.name for entry in staging.iterdir()] == ["tables-2"]
    assert ids(store) == ["a"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_publishes_nothing_and_loses_nothing(small_disk: Path):
    store = TableStore(str(small_disk))
    store.commit_batch(EXAM, exams("a"), batch_id="b1")
    noise = [f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}{i * 0xC2B2AE3D27D4EB4F % 2**64:016x}" for i in range(60_000)]
    too_much = exams(*noise)
    with pytest.raises(StoreFull):
        store.commit_batch(EXAM, too_much, batch_id="b2")
    assert ids(store) == ["a"]
    assert len(parquet_files(store)) == 1
    assert store.commit_batch(EXAM, exams("b"), batch_id="b2")
    assert ids(store) == ["a", "b"]


def test_a_disk_that_is_full_for_the_log_alone_publishes_nothing(small_disk: Path):
    store = TableStore(str(small_disk / "tables"))
    store.commit_batch(EXAM, exams("a"), batch_id="b1")
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:  # noqa: PT012
        while True:
            file.write(b"\0" * 4096)
    refused = 0
    for _ in range(6):
        try:
            store.commit_batch(EXAM, exams("b"), batch_id="b2")
        except StoreFull:
            refused += 1
            assert ids(store) == ["a"]
            assert len(parquet_files(store)) == 1
        with filler.open("r+b") as file:
            file.truncate(filler.stat().st_size - 4096)
    assert refused >= 2, "the Parquet file and then the log must have met a full disk"
    assert ids(store) == ["a", "b"]
