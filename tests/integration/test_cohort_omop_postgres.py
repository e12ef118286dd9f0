"""An export of a cohort in a real PostgreSQL, with every key of OMOP CDM 5.4 and MI-CDM held."""

from __future__ import annotations

from pathlib import Path

import duckdb
import psycopg2.errors
import pytest
import sqlalchemy as sa

from radlake.cohort.omop import export_omop
from radlake.cohort.omop.model import tables
from radlake.cohort.pull import Release, open_release
from radlake.config import Settings
from support.cohorts import approved, built_everybody, released
from support.omop import N_PERSONS, concept_rows, lake_of_images, load, new_cdm
from support.postgres import new_database, postgres_cluster
from support.pulling import TODAY

__all__ = ["postgres_cluster"]

pytestmark = pytest.mark.postgres
MI_CDM = ("image_occurrence", "image_feature")
N_TOLD = N_PERSONS * 6 - 1 + 5 + 2  # of each CT (one has two voltages), of the MR, of the radiograph


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return lake_of_images(tmp_path_factory.mktemp("omop"))


@pytest.fixture(scope="module")
def release(settings: Settings) -> Release:
    return release_of(settings, "alpha")


@pytest.fixture(scope="module")
def exported(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "omop"
    export_omop(release, folder)
    return folder


@pytest.fixture(scope="module")
def cdm(exported: Path, postgres_cluster: str) -> sa.Engine:
    """The published tables, with what was exported."""
    engine = new_cdm(new_database(postgres_cluster))
    statements = (exported / "ddl.sql").read_text(encoding="utf-8").split(";\n")
    with engine.begin() as connection:
        for statement in statements:
            if any(f"CREATE TABLE {name} " in statement for name in MI_CDM):
                connection.exec_driver_sql(statement)
    load(engine, exported)
    return engine


def release_of(settings: Settings, project: str) -> Release:
    made = released(settings, built_everybody(settings), project)
    approved(settings, made.release_id)
    return open_release(settings, made.release_id, today=TODAY)


def counted(release: Release, sql: str, table: str) -> int:
    path = release.store.uri(f"tables/{table}.parquet")
    return duckdb.sql(f"SELECT {sql} FROM '{path}'").fetchall()[0][0]


def rows(cdm: sa.Engine, sql: str) -> list[tuple[object, ...]]:
    with cdm.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(sql))]


def test_postgresql_holds_what_the_cohort_holds(cdm: sa.Engine, release: Release) -> None:
    found = {name: rows(cdm, f"SELECT count(*) FROM {name}")[0][0] for name in tables()}
    with_images = "count(DISTINCT series_instance_uid) FILTER (pixel_offset IS NOT NULL)"
    assert found == {
        "location": 0,
        "care_site": 1,
        "person": counted(release, "count(*)", "person"),
        "observation_period": counted(release, "count(DISTINCT person_pseudo_id)", "exam"),
        "visit_occurrence": counted(release, "count(DISTINCT (person_pseudo_id, study_at::DATE))", "exam"),
        "procedure_occurrence": counted(release, "count(DISTINCT exam_pseudo_id)", "exam"),
        "measurement": N_TOLD,
        "observation": counted(release, "count(*)", "finding"),
        "cdm_source": 1,
        "image_occurrence": counted(release, with_images, "instance"),
        "image_feature": N_TOLD,
    }
    assert (found["person"], found["visit_occurrence"], found["procedure_occurrence"]) == (N_PERSONS, 7, 8)
    assert (found["image_occurrence"], found["observation"]) == (8, 3)


def test_every_key_is_held(cdm: sa.Engine, exported: Path) -> None:
    """Foreign keys are those of the specification, and PostgreSQL refuses what breaks them."""
    held = rows(
        cdm,
        "SELECT conrelid::regclass::text, confrelid::regclass::text, attname FROM pg_constraint"
        " JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1] WHERE contype = 'f'",
    )
    ours = {(t.name, c.references, c.name) for t in tables().values() for c in t.columns if c.references}
    elsewhere = {("provider", "provider_id"), ("visit_detail", "visit_detail_id")}
    assert {key for key in held if key[0] in tables() and key[1:] not in elsewhere} == ours
    with pytest.raises(psycopg2.errors.UniqueViolation):
        load(cdm, exported)
    image = "SELECT 99, {person}, 1, 1, 0, NULL, NULL, '2026-01-01', '1.2', '1.3', {modality}"
    for person, modality in ((99, 0), (1, 12345)):
        with pytest.raises(sa.exc.IntegrityError, match="foreign key"), cdm.begin() as connection:
            connection.exec_driver_sql(f"INSERT INTO image_occurrence {image.format(person=person, modality=modality)}")


def test_an_image_leads_to_its_exam_person_and_what_its_headers_tell(cdm: sa.Engine) -> None:
    told = rows(
        cdm,
        "SELECT concept.concept_name, person.gender_source_value, procedure_source_value, measurement_source_value,"
        "  COALESCE(value_source_value, trim_scale(value_as_number)::text || ' ' || unit_source_value)"
        " FROM image_feature AS feature JOIN image_occurrence AS image USING (image_occurrence_id)"
        " JOIN procedure_occurrence USING (procedure_occurrence_id) JOIN person ON person.person_id = image.person_id"
        " JOIN concept ON concept_id = modality_concept_id"
        " JOIN measurement ON measurement_id = image_feature_event_id"
        " WHERE image_feature_event_field_concept_id = 1147330 AND EXISTS (SELECT 1 FROM measurement AS mr"
        "  WHERE mr.visit_occurrence_id = image.visit_occurrence_id AND mr.value_source_value = 'MR') ORDER BY 1, 4",
    )
    ct, mr = ("Computed tomography", "M", "29252-4"), ("Magnetic resonance imaging", "M", "MR KNEE")
    assert told == [
        (*ct, "BodyPartExamined", "CHEST"), (*ct, "CTDIvol", "8.5 mGy"), (*ct, "KVP", "120 kV"),
        (*ct, "Modality", "CT"), (*ct, "PixelSpacing", "0.7 mm"), (*ct, "SliceThickness", "5 mm"),
        (*mr, "BodyPartExamined", "KNEE"), (*mr, "MagneticFieldStrength", "3 T"), (*mr, "Modality", "MR"),
        (*mr, "PixelSpacing", "0.7 mm"), (*mr, "SliceThickness", "5 mm"),
    ]  # fmt: skip


def test_a_finding_that_a_report_rules_out_is_told_as_absent(cdm: sa.Engine) -> None:
    found = rows(
        cdm,
        "SELECT observation_source_value, value_as_string, observation_concept_id, procedure_source_value"
        " FROM observation JOIN procedure_occurrence ON procedure_occurrence_id = observation_event_id ORDER BY 1",
    )
    assert [(finding, told, concept) for finding, told, concept, _ in found] == [
        ("pleural_effusion", "PRESENT", 0),
        ("pneumonia", "POSSIBLE", 0),
        ("pneumothorax", "ABSENT", 0),
    ]
    assert {exam for *_, exam in found} == {"29252-4"}


def test_ddl_sql_alone_does_too(exported: Path, postgres_cluster: str) -> None:
    engine = sa.create_engine(new_database(postgres_cluster))
    known = ", ".join(f"({number})" for number, *_ in concept_rows())
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE concept (concept_id integer PRIMARY KEY)")
        connection.exec_driver_sql(f"INSERT INTO concept VALUES {known}")
        connection.exec_driver_sql((exported / "ddl.sql").read_text(encoding="utf-8"))
    load(engine, exported)
    assert rows(engine, "SELECT count(*) FROM image_occurrence") == [(8,)]
    engine.dispose()


def test_two_projects_have_nothing_to_join_by(settings: Settings, exported: Path, tmp_path: Path) -> None:
    """No text, moment or day of one export is in the other, but for clinical codes; numbers count within an export."""
    export_omop(release_of(settings, "beta"), tmp_path / "beta")
    clinical = {"gender_source_value", "procedure_source_value", "modifier_source_value", "measurement_source_value",
                "unit_source_value", "value_source_value", "observation_source_value", "value_as_string"}  # fmt: skip
    common = {}
    for table in tables().values():
        for column in table.columns:
            if column.type in ("integer", "numeric") or column.name in clinical or table.name == "cdm_source":
                continue
            both = [
                f"SELECT {column.name} FROM '{folder}/{table.name}.parquet'" for folder in (exported, tmp_path / "beta")
            ]
            found = duckdb.sql(f"SELECT count(*) FROM (({both[0]}) INTERSECT ({both[1]})) WHERE COLUMNS(*) IS NOT NULL")
            if n := found.fetchall()[0][0]:
                common[table.name, column.name] = n
    assert {key: n for key, n in common.items() if not key[1].endswith("date")} == {}
    pseudonyms = [
        duckdb.sql(f"SELECT person_source_value FROM '{folder}/person.parquet' ORDER BY person_id").fetchall()
        for folder in (exported, tmp_path / "beta")
    ]
    assert pseudonyms == [sorted(found) for found in pseudonyms]
