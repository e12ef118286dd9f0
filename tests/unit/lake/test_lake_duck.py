"""The one reader: typed views of a zone's tables, nothing else of the machine, and errors for people."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake.contracts import load_tables
from radlake.errors import QueryInvalid, SourceMissing
from radlake.lake import Lake, duck
from support.rows import rows

EXAM = "core.exam"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "lake" / "restricted")


def one(lake: Lake, sql: str, **how: object) -> list[tuple]:
    with duck.connect(lake, **how) as connection:
        return connection.execute(sql).fetchall()


def test_every_contract_is_a_typed_view_even_of_a_lake_that_does_not_exist(lake: Lake):
    with duck.connect(lake) as connection:
        for table in load_tables().values():
            for view in (table.full_name, table.view_name):
                described = connection.execute(f"DESCRIBE {view}").fetchall()
                assert [(name, kind) for name, kind, *_ in described] == [(c.name, c.type) for c in table.columns]
                assert connection.execute(f"SELECT count(*) FROM {view}").fetchall() == [(0,)]
    assert not Path(lake.url).exists()


def test_columns_have_the_order_and_type_of_the_contract_when_there_are_files(lake: Lake):
    lake.tables.commit_batch(EXAM, rows(EXAM, {}), batch_id="b1")
    with duck.connect(lake) as connection:
        relation = connection.sql("FROM core.exam")
        contract = load_tables()["core.exam_v1"]
        assert tuple(relation.columns) == contract.column_names
        assert [str(kind) for kind in relation.types] == [column.type for column in contract.columns]


def test_the_restricted_zone_shows_exact_statistics_and_the_lake_masked_ones(lake: Lake):
    exact = rows("stats.exam_volume", {"exam_month": "2026-03", "n_exams": 3, "is_masked": False})
    masked = rows("stats.exam_volume", {"exam_month": "2026-03", "n_exams": None, "is_masked": True})
    lake.restricted_tables.overwrite("stats.exam_volume", exact, batch_id="b1")
    lake.tables.overwrite("stats.exam_volume", masked, batch_id="b1")
    lake.tables.commit_batch(EXAM, rows(EXAM, {}), batch_id="b1")
    question = "SELECT n_exams, is_masked FROM stats.exam_volume"
    assert one(lake, question) == [(None, True)]
    assert one(lake, question, zone="restricted") == [(3, False)]
    assert one(lake, "SELECT count(*) FROM core.exam", zone="restricted") == [(1,)]


def test_a_snapshot_names_versions(lake: Lake):
    lake.tables.commit_batch(EXAM, rows(EXAM, {"exam_pseudo_id": "a"}), batch_id="b1")
    lake.tables.commit_batch(EXAM, rows(EXAM, {"exam_pseudo_id": "b"}), batch_id="b2")
    count = "SELECT count(*) FROM core.exam"
    assert one(lake, count) == [(2,)]
    assert one(lake, count, snapshot={"core.exam_v1": 1}) == one(lake, count, snapshot={"core.exam": 1}) == [(1,)]
    assert one(lake, count, zone="restricted", snapshot={"core.exam_v1": 1}) == [(1,)]
    with pytest.raises(SourceMissing, match="version 9"):
        duck.connect(lake, snapshot={"core.exam_v1": 9})


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_parquet('{lake}/tables/../restricted/tables/**/*.parquet')",
        "SELECT * FROM read_text('{lake}/restricted/root.key')",
        "COPY (SELECT 1) TO '/radlake-copied.csv'",
        "ATTACH '/radlake-attached.db'",
        "EXPORT DATABASE '/radlake-exported'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET allowed_directories = ['/']",
        "SELECT * FROM read_parquet('http://127.0.0.1:9/x.parquet')",
        "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
    ],
)
def test_the_rest_of_the_machine_is_closed(lake: Lake, sql: str):
    lake.restricted.mkdir(parents=True)
    (lake.restricted / "root.key").write_text("secret", encoding="utf-8")
    lake.restricted_tables.commit_batch(EXAM, rows(EXAM, {}), batch_id="b1")
    sql = sql.format(lake=lake.url)
    with duck.connect(lake) as connection, pytest.raises(QueryInvalid), duck.readable_errors(sql):
        connection.execute(sql).fetchall()


def test_a_variable_of_the_program_is_not_a_table(lake: Lake):
    secret = rows(EXAM, {})
    assert secret.num_rows
    with duck.connect(lake) as connection, pytest.raises(QueryInvalid, match="there is no table secret"):
        duck.select(connection, "SELECT * FROM secret")


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT * FROM core.exams", "there is no table exams. Did you mean core.exam or core.exam_dose?"),
        ("SELECT * FROM exam", "there is no table exam. Did you mean core.exam?"),
        ("SELECT * FROM cor.exam", "there is no table cor.exam. Did you mean core.exam or core.exam_dose?"),
        ("SELECT * FROM core.exam_v2", "Did you mean core.exam_v1?"),
        ("SELECT * FROM nothing_like_it", "there is no table nothing_like_it. `SHOW ALL TABLES` lists them."),
        ("SELECT patient_ky FROM core.exam", "there is no column patient_ky. Did you mean patient_key"),
        ("SELECT e.patient_ky FROM core.exam AS e", "there is no column patient_ky. Did you mean patient_key"),
        ("SELECT * FROM read_csv('/etc/passwd')", "only the tables of the lake can be read here"),
        ("SELECT 1; SELECT 2", "give one statement, not 2"),
        ("-- nothing", "give one statement, not 0"),
        ("SELECT 1 FROM WHERE", 'syntax error at or near "WHERE"\n\n  SELECT 1 FROM WHERE\n                ^^^^^'),
        ("CREATE TABLE t (a INTEGER)", "the lake is only read here"),
        ("DROP VIEW core.exam", "the lake is only read here"),
        ("INSERT INTO core.exam VALUES (1)", "the lake is only read here"),
        ("COPY core.exam TO '{lake}/tables/x.parquet'", "the lake is only read here"),
        ("SET threads = 1", "the lake is only read here"),
        ("EXPLAIN ANALYZE COPY core.exam TO '{lake}/tables/x.csv'", "the lake is only read here"),
        ("EXPLAIN (ANALYZE, FORMAT json) COPY core.exam TO '{lake}/tables/x.csv'", "the lake is only read here"),
        ("EXPLAIN /**/ ANALYZE COPY core.exam TO '{lake}/tables/x.csv'", "the lake is only read here"),
        ("COPY (PIVOT core.exam ON modality_group USING count(*)) TO '{lake}/x.csv'", "the lake is only read here"),
        ("CREATE TABLE t AS PIVOT core.exam ON modality_group USING count(*)", "the lake is only read here"),
    ],
)
def test_a_query_that_cannot_run_is_told_in_words(lake: Lake, sql: str, words: str):
    with duck.connect(lake) as connection, pytest.raises(QueryInvalid) as raised:
        duck.select(connection, sql.format(lake=lake.url))
    assert words in str(raised.value)
    assert "Error:" not in str(raised.value)


def test_an_error_while_rows_are_computed_is_told_in_words_too(lake: Lake):
    lake.tables.commit_batch(EXAM, rows(EXAM, {}), batch_id="b1")
    sql = "SELECT exam_pseudo_id::INTEGER FROM core.exam"
    with duck.connect(lake) as connection:
        relation = duck.select(connection, sql)
        with pytest.raises(QueryInvalid, match="Could not convert string 'x' to INT32"), duck.readable_errors(sql):
            relation.fetchall()


@pytest.mark.parametrize(
    "sql",
    [
        "FROM core.exam",
        "WITH e AS (SELECT 1 AS a) SELECT a FROM e",
        "DESCRIBE core.exam",
        "SHOW ALL TABLES",
        "SUMMARIZE core.exam",
        "EXPLAIN SELECT 1",
        "explain analyze FROM core.exam",
        "EXPLAIN PIVOT core.exam ON modality_group USING count(*)",
        "-- why\nWITH e AS (PIVOT core.exam ON modality_group USING count(*)) SELECT * FROM e",
        "PIVOT core.exam ON modality_group USING count(*)",
        "VALUES (1)",
        "SELECT 1;",
    ],
)
def test_what_reads_is_allowed(lake: Lake, sql: str):
    lake.tables.commit_batch(EXAM, rows(EXAM, {}), batch_id="b1")
    with duck.connect(lake) as connection:
        assert duck.select(connection, sql).fetchall()


def test_rows_of_the_program_can_be_lent_to_a_connection(lake: Lake):
    """The build registers tables that never touch the disk."""
    with duck.connect(lake) as connection:
        connection.register("date_offset", rows(EXAM, {"exam_pseudo_id": "a"}))
        assert connection.execute("SELECT exam_pseudo_id FROM date_offset").fetchall() == [("a",)]
