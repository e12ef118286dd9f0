"""A release of real DICOM with everything that an export to OMOP tells, and OMOP CDM 5.4 in a real PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg2
import sqlalchemy as sa
from omop_cdm.constants import CDM_SCHEMA, VOCAB_SCHEMA
from omop_cdm.regular.cdm54 import tables as cdm54

from radlake.cohort.omop.concepts import concepts_file
from radlake.config import Settings
from radlake.epidemiology.reports import code_delivery
from radlake.findings import load_rules
from radlake.lake import Lake
from radlake.vault.lake_key import lake_keys
from support.cohorts import lake_of_cts
from support.dicom import ct_study, image_study, presentation_state, write

__all__ = ["HOW_TO", "N_PERSONS", "concept_rows", "lake_of_images", "load", "new_cdm"]

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "export-to-omop.md"
N_PERSONS = 6
_REPORTS = """accession_number,report_text
C0,右侧胸腔积液。未见气胸。
C1,肺炎可能。
"""


def lake_of_images(folder: Path) -> Settings:
    """Six men of one age: a chest CT of each; then an MR of the first at the same visit, and a radiograph of the second
    two months later; a presentation state, which has no images; a CT with two tube voltages; two reports.
    """
    given: dict[str, Any] = {"birth_date": "19600101", "study_date": "20260310"}
    archive = folder / "in"
    for person in range(N_PERSONS):
        who = {"patient_id": f"P{person}", "patient": f"Wang^Number{person}", **given}
        study = ct_study(n=3, study="ct", accession=f"C{person}", body_part="CHEST", seed=person, **who)
        study[0].KVP = 100 if person == 2 else 120
        if person == 0:
            study += image_study("MR", n=2, study="mr", accession="M0", body_part="KNEE", study_time="101500", **who)
            state = presentation_state(of=study[0])
            for keyword in ("StudyDate", "StudyTime", "AccessionNumber"):
                state[keyword] = study[0][keyword]
            study.append(state)
        if person == 1:
            later = who | {"study_date": "20260512"}
            study += image_study("DX", study="dx", accession="X1", body_part="HAND", **later)
        for number, ds in enumerate(study):
            write(ds, archive / f"{person}-{number}.dcm")
    settings = lake_of_cts(folder, archive)
    reports = Path(settings.restricted) / "reports.csv"
    reports.write_text(_REPORTS, encoding="utf-8")
    lake = Lake.from_settings(settings)
    code_delivery(lake, reports, hospital_id="h1", keys=lake_keys(settings), rules=load_rules())
    return settings


def concept_rows() -> list[tuple[int, str, str, str, str]]:
    """Concepts that an export may name: id, name, domain, vocabulary, code."""
    groups = [group for name, group in concepts_file().items() if name != "version"]
    known = [concept for group in groups for concept in group.values()]
    told = [(c["id"], c["name"], c["domain"], c["vocabulary"], c["code"]) for c in known]
    return [(0, "No matching concept", "Metadata", "None", "No matching concept"), *told]


def new_cdm(url: str) -> sa.Engine:
    """Every table of OMOP CDM 5.4 with all its keys, as the package omop-cdm states them, and the concepts we use."""
    engine = sa.create_engine(url).execution_options(schema_translate_map={CDM_SCHEMA: None, VOCAB_SCHEMA: None})
    cdm54.Base.metadata.create_all(engine)
    rows = concept_rows()
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")  # concept and domain name each other
        _insert(connection, "domain", ((d, d, 0) for d in {row[2] for row in rows}))
        _insert(connection, "vocabulary", ((v, v, "", "", 0) for v in {row[3] for row in rows}))
        _insert(connection, "concept_class", [("Undefined", "Undefined", 0)])
        _insert(
            connection,
            "concept",
            ((*row[:4], "Undefined", None, row[4], "1970-01-01", "2099-12-31", None) for row in rows),
        )
    return engine


def load(engine: sa.Engine, folder: Path) -> None:
    """Run what the how-to says."""
    [code] = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), flags=re.DOTALL)
    connection = psycopg2.connect(engine.url.set(drivername="postgresql").render_as_string(hide_password=False))
    try:
        exec(code, {"connection": connection, "folder": folder})
    finally:
        connection.close()


def _insert(connection: sa.Connection, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    for row in rows:
        connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(row))})", row)
