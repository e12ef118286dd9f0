"""Contracts are read strictly: what is wrong is told, all of it, before anything uses it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import duckdb
import pyarrow as pa
import pytest

from radlake.contracts import Disclosure, load_table, load_tables
from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root

GOOD = """
    table: ref.thing
    version: 1
    zone: lake
    grain: one row per thing
    description: Things.
    key: [thing_id]
    sort: [thing_id]
    columns:
      - {name: thing_id, type: VARCHAR, required: true, privacy: public, description: Key.}
      - {name: thing_month, type: INTEGER, required: true, privacy: public, description: Month.}
      - {name: note, type: VARCHAR, required: false, privacy: public, description: Note.}
"""


def write(root: Path, text: str, *, name: str = "ref/thing_v1.yaml") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text), encoding="utf-8")
    return root


def problems_of(root: Path) -> list[str]:
    with pytest.raises(ConfigInvalid) as raised:
        load_tables(root=root)
    return raised.value.facts["problems"]


def test_every_contract_of_the_repository_is_valid_and_described():
    files = [path for path in schemas_root().glob("*/*_v*.yaml") if path.parent.name not in ("profiles", "definitions")]
    tables = load_tables()
    assert len(tables) == len(files) >= 18
    assert all(column.description.endswith(".") for table in tables.values() for column in table.columns)


def test_every_ddl_is_accepted_by_duckdb_and_gives_the_arrow_schema():
    with duckdb.connect() as connection:
        for table in load_tables().values():
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{table.layer}"; {table.ddl()}')
            actual = connection.sql(f"FROM {table.full_name}").to_arrow_table().schema
            assert actual.names == table.arrow_schema().names
            assert actual.types == table.arrow_schema().types


def test_a_table_is_found_by_its_versioned_and_its_plain_name():
    assert load_table("dicom.study_v1") == load_table("dicom.study")
    assert load_table("dicom.study").full_name == "dicom.study_v1"
    with pytest.raises(ConfigInvalid, match=r"no contract of a table named dicom\.studies"):
        load_table("dicom.studies")


def test_the_plain_name_is_the_latest_version(tmp_path: Path):
    write(tmp_path, GOOD)
    write(tmp_path, GOOD.replace("version: 1", "version: 10"), name="ref/thing_v10.yaml")
    write(tmp_path, GOOD.replace("version: 1", "version: 2"), name="ref/thing_v2.yaml")
    assert load_table("ref.thing", root=tmp_path).version == 10


def test_values_of_a_contract():
    table = load_table("stats.exam_volume")
    assert table.disclosure == Disclosure(
        dimensions=("exam_month", "hospital_id", "modality_group"),
        counts=("n_exams", "n_patients"),
        dependent=("n_instances", "exam_bytes"),
    )
    instance = load_table("dicom.instance")
    assert instance.partition == "study_month"
    assert instance.column("patient_key").type == "BIGINT"
    assert instance.arrow_schema().field("acquired_at") == pa.field("acquired_at", pa.timestamp("us"))
    assert not instance.arrow_schema().field("patient_key").nullable


def test_a_column_of_the_key_may_be_added_later_and_the_partition_not(tmp_path: Path):
    added = GOOD.replace("Month.}", "Month., default: 1}").replace("key: [thing_id]", "key: [thing_id, thing_month]")
    assert load_table("ref.thing", root=write(tmp_path / "key", added)).key == ("thing_id", "thing_month")
    problems = problems_of(write(tmp_path / "part", added.replace("sort:", "partition: thing_month\n    sort:")))
    assert [text.partition(": ")[2] for text in problems] == ["column thing_month is the partition and cannot be added later"]  # fmt: skip  # noqa: E501


@pytest.mark.parametrize(
    ("change", "to", "problem"),
    [
        ("zone: lake", "zone: pond", "zone is pond, must be one of lake, restricted"),
        ("zone: lake", "zone: lake\nowner: me", "unknown field owner"),
        ("grain: one row per thing", "grain: ''", "grain must be a str, and not empty"),
        ("version: 1", "version: true", "version must be a int, and not empty"),
        ("version: 1", "version: 2", "says ref.thing, version 2; its file name says ref.thing, version 1"),
        ("table: ref.thing", "table: ref.thin", "says ref.thin, version 1; its file name says ref.thing, version 1"),
        ("zone: lake\n", "zone: lake\nzone: lake\n", "line 5: 'zone' is given twice"),
        ("key: [thing_id]", "key: []", "key is empty"),
        ("key: [thing_id]", "key: [thing]", "key names thing, which is not a column"),
        ("key: [thing_id]", "key: [note]", "column note is in the key or the partition and must be required"),
        ("sort: [thing_id]", "sort: [thing_id, thing_id]", "sort names a column twice"),
        ("sort: [thing_id]", "sort: [thing_id]\npartition: thing_id", "the partition column must be INTEGER"),
        ("name: note", "name: thing_id", "column thing_id is given twice"),
        ("name: note", "name: Note", "column Note: name is not snake_case"),
        ("VARCHAR, required: false", "TEXT, required: false", "column note: type TEXT is not one of BOOLEAN"),
        ("VARCHAR, required: false", "UINTEGER, required: false", "column note: type UINTEGER is not one of BOOLEAN"),
        ("required: false", "required: 0", "column note: required must be a bool, and not empty"),
        ("required: false, privacy: public", "required: false, privacy: secret", "column note: privacy secret is not"),
        ("description: Note.", "description: Note., pattern: '['", "column note: pattern is not an RE2 expression"),
        ("description: Note.", "description: Note., minimum: 1", "column note: minimum and maximum need a number type"),
        ("description: Month.", "description: Month., minimum: 2, maximum: 1", "minimum is above maximum"),
        ("description: Month.", "description: Month., pattern: a", "column thing_month: pattern needs type VARCHAR"),
        ("description: Note.", "description: Note., values: [a, a]", "column note: values must be distinct"),
        ("description: Note.", "description: Note., values: [1]", "column note: values must be distinct and fit type"),
        ("description: Note.", "description: A, b and c.", "column note: unknown field b and c."),
        (
            "sort: [thing_id]",
            "sort: [thing_id]\ndisclosure: {dimensions: [x], counts: []}",
            "disclosure: dependent is missing",
        ),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, change: str, to: str, problem: str):
    text = dedent(GOOD)
    assert change in text
    found = problems_of(write(tmp_path, text.replace(change, to, 1)))
    assert [line for line in found if problem in line], found
    assert all(line.startswith("ref/thing_v1.yaml: ") for line in found)


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path):
    write(tmp_path, GOOD.replace("privacy: public", "privacy: nobody"))
    write(tmp_path, "just text", name="ref/other_v1.yaml")
    assert problems_of(tmp_path)[0] == "ref/other_v1.yaml: is not a mapping"
    assert len(problems_of(tmp_path)) == 4
