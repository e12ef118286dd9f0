"""A release in OMOP: what a row is, what is left out and told so, and a folder that is whole or not there."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from resource import RLIMIT_FSIZE, getrlimit, setrlimit
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omop_cdm.regular.cdm54 import tables as cdm54
from sqlalchemy.dialects import postgresql
from typer.testing import CliRunner

from radlake.cli.cohort import app
from radlake.cohort.approval import revoke
from radlake.cohort.columns import RELEASED
from radlake.cohort.omop import export_omop
from radlake.cohort.omop.convert import Converted, convert
from radlake.cohort.omop.model import tables
from radlake.cohort.pull import Release, ReleaseClosed, open_release
from radlake.cohort.pull.released import Damaged
from radlake.config import Settings, StoreSettings
from radlake.contracts.types import ARROW_TYPES
from radlake.errors import ConfigInvalid, SourceMissing, StoreFull
from support.cohorts import CONTACT, NOW, approved, built_everybody, lake_of_cts, released, write_cts
from support.killing import run_killed
from support.pulling import TODAY

Rows = list[dict[str, Any]]
DOCUMENT = {
    "release_id": "knees.v1.0.alpha",
    "title": {"zh": "膝", "en": "Knees"},
    "contact": CONTACT,
    "approval": {"approved_at": "2026-11-22T08:00:00", "holder": "institute", "purpose": "knees",
                 "licence": "DUA 3", "expires_on": "2027-01-01"},
}  # fmt: skip


def person(name: str, age: tuple[int, int] | None = (60, 64), region: str = "320100") -> dict[str, Any]:
    first, last = age or (None, None)
    return {"person_pseudo_id": name, "patient_sex": "F", "age_from_years": first, "age_to_years": last,
            "region_code": region}  # fmt: skip


def exam(name: str, of: str, at: datetime | None = datetime(2026, 3, 1, 9), **given: Any) -> dict[str, Any]:
    return {"exam_pseudo_id": name, "person_pseudo_id": of, "site_pseudo_id": "s1", "role": "index", "study_at": at,
            "modality_group": "CT", "body_part_code": "KNEE", "laterality_code": "L", "contrast_code": "WITHOUT",
            "confidence_code": "HIGH", "loinc_code": "NONE", **given}  # fmt: skip


def series(name: str, of: str, person: str, **given: Any) -> dict[str, Any]:
    return {"series_instance_uid": name, "study_instance_uid": f"{name}.0", "exam_pseudo_id": of,
            "person_pseudo_id": person, "modality": "CT", "object_path": name, "body_part_examined": "KNEE",
            "series_at": None, **given}  # fmt: skip


def instance(of: str, **given: Any) -> dict[str, Any]:
    return {"series_instance_uid": of, "pixel_offset": 100, **given}


def converted(**given: Rows) -> Converted:
    """Tables with a person p1 and an exam e1 unless they are given."""
    rows: dict[str, Rows] = {"person": [person("p1")], "exam": [exam("e1", "p1")], "finding": [], "series": [],
                             "instance": []} | given  # fmt: skip
    return convert({name: arrow(name, found) for name, found in rows.items()}, DOCUMENT)


def arrow(name: str, rows: Rows) -> pa.Table:
    return pa.Table.from_pylist(rows, pa.schema([(column.name, ARROW_TYPES[column.type]) if column.type in ARROW_TYPES
                                                 else (column.name, pa.list_(pa.string())) for column in RELEASED[name]]))  # fmt: skip  # noqa: E501


def told(done: Converted, table: str, *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in done.tables[table].select(columns).to_pylist()]


def left_out(done: Converted) -> Mapping[str, int]:
    return dict(done.left_out)


def test_columns_types_and_keys_are_those_of_another_statement_of_the_specification() -> None:
    """The package omop-cdm, which has the newest 5.4: numbers of events are bigint there."""
    theirs = {table.name: table for table in cdm54.Base.metadata.tables.values()}
    ours = {name: table for name, table in tables().items() if not name.startswith("image_")}
    for name, table in ours.items():
        assert [c.name for c in table.columns] == [c.name for c in theirs[name].columns]
        for column, other in zip(table.columns, theirs[name].columns, strict=True):
            kind = other.type.compile(dialect=postgresql.dialect()).lower()
            kind = "integer" if kind == "bigint" else kind.removesuffix(" without time zone")
            assert (column.name, column.type, column.is_required) == (other.name, kind, not other.nullable)
            named = {key.column.table.name for key in other.foreign_keys} - {"provider", "visit_detail"}
            assert {column.references} - {""} == named, column
            assert column.is_key == (other.primary_key and name != "cdm_source")


def test_a_year_of_birth_is_from_the_middle_of_the_band_at_the_first_index_exam() -> None:
    exams = [exam("e2", "p1", datetime(2029, 1, 1)), exam("e1", "p1"), exam("e0", "p1", datetime(2020, 1, 1), role="follow_up")]  # fmt: skip  # noqa: E501
    done = converted(exam=exams)
    assert told(done, "person", "person_source_value", "year_of_birth", "gender_concept_id") == [("p1", 1964, 8532)]
    period = ("observation_period_start_date", "observation_period_end_date")
    assert told(done, "observation_period", *period) == [(date(2020, 1, 1), date(2029, 1, 1))]


def test_who_has_no_age_or_no_date_is_left_out_with_everything_and_told() -> None:
    done = converted(
        person=[person("p1"), person("p2", age=None), person("p3")],
        exam=[exam("e1", "p1"), exam("e2", "p2"), exam("e3", "p3", None)],
        series=[series("1", "e1", "p1"), series("2", "e2", "p2"), series("3", "e3", "p3")],
        instance=[instance("1"), instance("2"), instance("3")],
        finding=[{"exam_pseudo_id": "e2", "person_pseudo_id": "p2", "finding_code": "a", "certainty_code": "PRESENT"}],
    )
    assert told(done, "person", "person_source_value") == [("p1",)]
    assert told(done, "image_occurrence", "image_series_uid") == [("1",)]
    assert done.tables["observation"].num_rows == 0
    assert left_out(done) == {
        "exams without a date": 1,
        "exams of persons left out": 1,
        "persons without an age": 1,
        "persons without a dated index exam": 1,
        "findings of exams or persons left out": 1,
        "series of exams or persons left out": 2,
    }


def test_a_release_that_tells_no_ages_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match="tells nobody's age and date"):
        converted(person=[person("p1", age=None)])


def test_a_visit_is_what_a_person_had_at_one_site_on_one_day() -> None:
    morning, noon, later = datetime(2026, 3, 1, 9), datetime(2026, 3, 1, 12), datetime(2026, 3, 2, 9)
    done = converted(
        person=[person("p1"), person("p2")],
        exam=[
            exam("e1", "p1", morning),
            exam("e2", "p1", noon),
            exam("e3", "p1", noon, site_pseudo_id="s2"),
            exam("e4", "p1", later),
            exam("e5", "p2", morning),
        ],
    )
    columns = ("person_id", "visit_start_datetime", "care_site_id")
    assert told(done, "visit_occurrence", *columns) == [
        (1, morning, 1), (1, noon, 2), (1, later, 1), (2, morning, 1),
    ]  # fmt: skip
    assert told(done, "procedure_occurrence", "visit_occurrence_id") == [(1,), (1,), (2,), (3,), (4,)]


def test_a_site_is_where_its_index_exams_were() -> None:
    """The first exam of a person by one calendar need not be the first by another: most persons are right."""
    done = converted(
        person=[person("p0", region="320200"), person("p1"), person("p2", region="UNKNOWN"), person("p3")],
        exam=[exam(f"e{n}", f"p{n}", site_pseudo_id="s2" if n == 2 else "s1") for n in range(4)],
    )
    assert told(done, "location", "location_id", "location_source_value") == [(1, "320100")]
    assert told(done, "care_site", "care_site_source_value", "location_id") == [("s1", 1), ("s2", None)]


def test_a_series_is_told_once_and_only_with_images() -> None:
    at = datetime(2026, 3, 5, 23, 59)
    done = converted(
        series=[
            series("1", "e1", "p1", object_path="a", series_at=at),
            series("1", "e1", "p1", object_path="b", series_at=at),
            series("2", "e1", "p1", modality="PR"),
            series("3", "e1", "p1", modality="DX"),
        ],
        instance=[instance("1"), instance("1"), instance("2", pixel_offset=None), instance("3")],
    )
    columns = ("image_series_uid", "image_occurrence_date", "modality_concept_id", "local_path")
    assert told(done, "image_occurrence", *columns) == [
        ("1", date(2026, 3, 5), 4300757, "dicom/p1/1.0/1"),
        ("3", date(2026, 3, 1), 0, "dicom/p1/3.0/3"),
    ]
    assert left_out(done) == {"series without images": 1}
    assert {group: dict(found) for group, found in done.unmapped.items()} == {
        "modality": {"DX": 1},
        "body_part": {"KNEE": 2},
        "procedure": {"CT KNEE": 1},
        "dicom_attribute": {"Modality": 2, "BodyPartExamined": 2},
    }


def test_what_headers_tell_lies_in_the_visit_although_a_series_began_after_midnight() -> None:
    """Tools of OHDSI leave out what lies outside an observation period; Series Date is what MI-CDM suggests."""
    done = converted(
        exam=[exam("e1", "p1", datetime(2026, 3, 1, 23, 50))],
        series=[series("1", "e1", "p1", series_at=datetime(2026, 3, 2, 0, 10))],
        instance=[instance("1", kvp=120.0)],
    )
    [visit] = told(done, "visit_occurrence", "visit_start_date", "visit_end_date")
    [period] = told(done, "observation_period", "observation_period_start_date", "observation_period_end_date")
    assert visit == period == (date(2026, 3, 1), date(2026, 3, 1))
    assert told(done, "measurement", "measurement_date") == [(date(2026, 3, 1),)] * 3
    assert told(done, "image_occurrence", "image_occurrence_date") == [(date(2026, 3, 2),)]


def test_a_series_of_which_no_instance_is_known_is_told_as_one_without_images() -> None:
    done = converted(series=[series("1", "e1", "p1")])
    assert done.tables["image_occurrence"].num_rows == 0
    assert left_out(done) == {"series without images": 1}


def test_an_exam_that_two_pseudonyms_of_a_person_have_is_the_dated_one() -> None:
    done = converted(exam=[exam("e1", "p1", None), exam("e1", "p1", datetime(2026, 3, 1, 9))])
    assert told(done, "procedure_occurrence", "procedure_date") == [(date(2026, 3, 1),)]
    assert left_out(done) == {}


def test_a_finding_names_the_table_of_its_exam() -> None:
    found = {"exam_pseudo_id": "e1", "person_pseudo_id": "p1", "finding_code": "a", "certainty_code": "PRESENT"}
    done = converted(finding=[found])
    assert told(done, "observation", "observation_event_id", "obs_event_field_concept_id") == [(1, 1147082)]


def test_what_instances_of_a_series_differ_in_is_not_told() -> None:
    done = converted(
        series=[series("1", "e1", "p1", body_part_examined=None)],
        instance=[instance("1", kvp=100.0, slice_thickness_mm=5.0), instance("1", kvp=120.0, slice_thickness_mm=5.0)],
    )
    columns = ("measurement_source_value", "value_as_number", "unit_source_value", "value_source_value")
    assert told(done, "measurement", *columns) == [
        ("Modality", None, None, "CT"),
        ("SliceThickness", 5.0, "mm", None),
    ]
    assert told(done, "image_feature", "image_occurrence_id", "image_feature_event_id") == [(1, 1), (1, 2)]
    assert left_out(done) == {"KVP that differs within a series": 1}


def test_a_source_value_that_is_too_long_is_cut_and_told() -> None:
    parts = "+".join(["ABDOMEN", "CHEST", "CSPINE", "KNEE", "LSPINE", "PELVIS", "SHOULDER", "TSPINE"])
    done = converted(exam=[exam("e1", "p1", body_part_code=parts)])
    assert told(done, "procedure_occurrence", "procedure_source_value") == [(f"CT {parts}"[:50],)]
    assert left_out(done) == {"ends of procedure_occurrence.procedure_source_value": 1}


def test_the_order_of_rows_changes_nothing() -> None:
    persons = [person(f"p{n}") for n in range(9)]
    exams = [exam(f"e{n}", f"p{n % 9}", datetime(2026, 3, 1 + n % 5, 9), site_pseudo_id=f"s{n % 2}") for n in range(20)]
    many = [series(f"{n}", f"e{n % 20}", f"p{n % 20 % 9}") for n in range(40)]
    found = [{"exam_pseudo_id": f"e{n}", "person_pseudo_id": "", "finding_code": c, "certainty_code": "ABSENT"}
             for n in range(3) for c in "ab"]  # fmt: skip
    whole = {"person": persons, "exam": exams, "series": many, "finding": found}
    whole["instance"] = [instance(f"{n % 40}", kvp=float(n % 40)) for n in range(80)]
    first = converted(**whole)
    mixed = {name: random.Random(3).sample(rows, len(rows)) for name, rows in whole.items()}
    assert converted(**mixed).tables == first.tables
    assert first.tables["image_occurrence"].num_rows == 40


# From here on with a real release.


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("omop")
    settings = lake_of_cts(folder, write_cts(folder / "in", persons=5, slices=2))
    approved(settings, released(settings, built_everybody(settings)).release_id)
    return settings


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> StoreSettings:
    """A lake with nothing but the release, which a test may damage."""
    shutil.copytree(Path(settings.lake) / "releases", tmp_path / "own" / "releases")
    return StoreSettings(lake=str(tmp_path / "own"))


def opened(settings: StoreSettings) -> Release:
    [path] = (Path(settings.lake) / "releases").glob("*.alpha")
    return open_release(settings, path.name, today=TODAY)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def export_here(lake: str, folder: Path) -> None:
    """Also in a process of its own, which a test kills."""
    export_omop(opened(StoreSettings(lake=lake)), folder)


def test_the_same_release_gives_the_same_bytes(settings: Settings, tmp_path: Path) -> None:
    told = export_omop(opened(settings), tmp_path / "a")
    assert export_omop(opened(settings), tmp_path / "b") == told
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    assert {"ddl.sql", "export.json", "person.parquet", "image_feature.parquet"} <= bytes_of(tmp_path / "a").keys()
    assert told["tables"]["image_occurrence"]["n_rows"] == 5


def test_the_command_tells_rows_and_what_has_no_concept(settings: Settings, tmp_path: Path) -> None:
    release_id = opened(settings).release_id
    result = CliRunner().invoke(app, ["export", release_id, str(tmp_path / "out"), "--as", "omop"], obj=settings)
    assert result.exit_code == 0, result.exception
    assert ["image_occurrence.parquet", "5"] in [line.split() for line in result.stdout.splitlines()]
    assert "no concept: 5 values of procedure (1 different)" in result.stdout
    for arguments, error in (
        ([release_id, str(tmp_path / "out"), "--as", "omop"], "it is there already"),
        ([release_id, str(tmp_path / "new"), "--as", "omop", "--type", "Patient"], "--type is for another form"),
        ([release_id, str(tmp_path / "new"), "--as", "i2b2"], "there are fhir, mado, omop"),
    ):
        again = CliRunner().invoke(app, ["export", *arguments], obj=settings)
        assert isinstance(again.exception, ConfigInvalid)
        assert error in str(again.exception)
    assert not (tmp_path / "new").exists()


def test_an_export_that_was_stopped_does_not_promise_to_go_on(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("radlake.cohort.omop.export.reached", stopped)
    arguments = ["export", opened(settings).release_id, str(tmp_path / "out"), "--as", "omop"]
    result = CliRunner().invoke(app, arguments, obj=settings)
    assert (result.exit_code, result.stderr) == (130, "stopped. The same command begins anew.\n")
    assert not list(tmp_path.iterdir())


def test_who_may_not_pull_may_not_export(settings: Settings, tmp_path: Path) -> None:
    def refusal(release_id: str) -> str:
        arguments = ["export", release_id, str(tmp_path / "out"), "--as", "omop"]
        result = CliRunner().invoke(app, arguments, obj=settings)
        assert isinstance(result.exception, (ReleaseClosed, SourceMissing)), result.exception
        return str(result.exception)

    made = released(settings, built_everybody(settings), "beta")
    assert "waits for approval" in refusal(made.release_id)
    approved(settings, made.release_id, now=datetime(2020, 1, 1), expires_on=date(2020, 2, 1))
    assert f"expired on 2020-02-01. Ask {CONTACT}" in refusal(made.release_id)
    revoke(settings, made.release_id, by="committee", why="2026-18", now=NOW)
    assert "was revoked" in refusal(made.release_id)
    assert refusal("no.such.release")
    assert not (tmp_path / "out").exists()


def test_a_table_that_is_not_what_was_approved_ends_it(own: StoreSettings, tmp_path: Path) -> None:
    path = Path(opened(own).store.uri("tables/exam.parquet"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Damaged, match="its SHA-256 differs"):
        export_omop(opened(own), tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


def test_of_instances_only_what_is_told_is_read(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release has millions of them."""
    read, table = {}, Release.table

    def reading(self: Release, name: str, *columns: Any) -> pa.Table:
        found = table(self, name, *columns)
        read[name] = set(found.column_names)
        return found

    monkeypatch.setattr(Release, "table", reading)
    export_omop(opened(settings), tmp_path / "out")
    assert "series_instance_uid" in read["instance"]
    assert not {"sop_instance_uid", "object_path", "digest"} & read["instance"]


@pytest.mark.parametrize("name", ["out", "[o]ut"])
def test_what_a_killed_export_left_goes_after_a_day_and_nothing_else(
    settings: Settings, tmp_path: Path, name: str
) -> None:
    left, own = tmp_path / f".{name}.{'0' * 32}.part", tmp_path / ".out.my.part"
    for folder in (left, own):
        folder.mkdir()
        os.utime(folder, (0, 0))
    export_omop(opened(settings), tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {name, own.name}


@contextmanager
def files_of_at_most(n_bytes: int) -> Iterator[None]:
    before = getrlimit(RLIMIT_FSIZE)
    setrlimit(RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        setrlimit(RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    release = opened(settings)
    with files_of_at_most(2000), pytest.raises(StoreFull):
        export_omop(release, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    export_omop(release, tmp_path / "out")


def test_a_kill_leaves_no_folder_and_the_same_command_makes_it(own: StoreSettings, tmp_path: Path) -> None:
    run_killed(export_here, own.lake, tmp_path / "out", point="export.written")
    assert not (tmp_path / "out").exists()
    [part] = tmp_path.glob(".out.*.part")
    export_here(own.lake, tmp_path / "out")
    export_here(own.lake, tmp_path / "again")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "again")
    assert bytes_of(part).keys() == bytes_of(tmp_path / "out").keys()
    assert pq.read_table(tmp_path / "out" / "person.parquet").num_rows == 5
