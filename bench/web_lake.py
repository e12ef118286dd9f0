"""Web, the lake: statistics and operations for every page, and persons whom order entry can ask about."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from bench.measure import Done

if TYPE_CHECKING:
    from radlake.lake import Lake

__all__ = ["SYSTEM", "Caller", "asked_pages", "callers", "furnish", "parquet_files"]

SYSTEM = "urn:bench:mrn"
_BATCH = "bench-web"
_CALLERS = 8  # hospitals whose order entry asks: those with most exams
_KNOWN_DAYS = 30
_MOST_KNOWN = 50_000
_SYNTHETIC = "restricted/synth/truth.parquet"
# What order entry writes -> the exam that it is read as.
_ORDERS = {
    ("CT", "CHEST"): "胸部CT平扫",
    ("CT", "HEAD"): "头颅CT平扫",
    ("CT", "ABDOMEN"): "腹部CT平扫",
    ("MR", "HEAD"): "头颅MR平扫",
    ("MR", "LSPINE"): "腰椎MR平扫",
    ("DX", "CHEST"): "胸部正位DR",
}
_COMPLETENESS = """
WITH counted AS (
    SELECT hospital_id, count(*) AS n, sum(n_instances)::BIGINT AS n_instances FROM core.exam GROUP BY hospital_id
),
parts AS (SELECT *, n * (hash(hospital_id) % 40) // 1000 AS n_open FROM counted)
SELECT
    hospital_id, n AS n_studies, n_open // 3 AS n_discovered, n_open // 20 AS n_retrieving,
    n - n_open // 3 - n_open // 20 - n_open // 4 - n_open // 50 AS n_complete, n_open // 4 AS n_partial,
    n_open // 50 AS n_quarantined, 0 AS n_offline, 0 AS n_withdrawn, n_instances AS n_instances_expected,
    n_instances - n_instances * n_open // n AS n_instances_stored, n_open // 10 AS n_instances_quarantined,
    $now AS updated_at
FROM parts
"""
_RUNS = """
SELECT
    'run-' || hospital_id AS run_id, hospital_id, 'c-get' AS retrieve_kind, $now - INTERVAL 20 MINUTE AS started_at,
    $now AS finished_at, 40 AS n_studies_found, 38 AS n_studies_complete, 2 AS n_studies_partial,
    7900 AS n_instances_stored, 3 AS n_instances_quarantined, 0 AS n_instances_duplicate,
    1_200_000_000 AS stored_bytes, '{}' AS deidentified_by, NULL AS error_class, NULL AS error_text
FROM ref.hospital
"""
_RECENT = """
SELECT * REPLACE ('HIGH' AS confidence_code, 'WITHOUT' AS contrast_code, md5(exam_pseudo_id)[:16] AS exam_pseudo_id)
FROM core.exam
WHERE hospital_id IN (SELECT unnest($hospitals)) AND modality_group || ' ' || body_part_code IN (SELECT unnest($kinds))
    AND confidence_code = 'NONE' AND laterality_code = 'NONE' AND is_patient_known AND study_at IS NOT NULL
    AND study_month >= (SELECT max(study_month) FROM core.exam) - 200
"""


@dataclass(frozen=True)
class Caller:
    """Order entry of a hospital, and what it asks: (number of the patient, words of the order)."""

    iss: str
    key: Path
    asks: list[tuple[str, str]]


def furnish(folder: Path, _: Path) -> Callable[[], Done]:
    """Build the statistics of a synthetic province that has none, and write what harvests would have published."""
    from radlake.config import Settings
    from radlake.errors import ConfigInvalid
    from radlake.ingest.build import build_lake
    from radlake.lake import Lake, duck
    from radlake.machine import utc_now
    from radlake.sqlrun.reference import load_reference
    from radlake.synth.ledgers import population_table

    settings = Settings(lake=str(folder))
    lake = Lake.from_settings(settings)
    if not (folder / _SYNTHETIC).is_file():
        raise ConfigInvalid(
            path=folder, problems=["is no lake of `radlake synth province`: the benchmark writes to it"]
        )

    def run() -> Done:
        if lake.tables.version("stats.exam_rate") is None:
            years: Any = SimpleNamespace(start=date(2024, 1, 1), end=date(2026, 12, 31))
            load_reference(lake, "ref.population", population_table(years), batch_id=_BATCH)
            build_lake(settings, now=utc_now(), layers=["stats"])
        with duck.connect(lake, tables={"core", "ref"}) as connection:
            for name, sql in (("ops.completeness", _COMPLETENESS), ("ops.harvest_run", _RUNS)):
                _commit(lake, name, connection.sql(sql, params={"now": datetime(2026, 12, 31, 22)}).to_arrow_table())
            [(n,)] = connection.execute("SELECT count(*) FROM core.exam").fetchall()
        return Done(n)

    return run


def callers(folder: Path, keys: Path) -> tuple[list[Caller], date]:
    """Let hospitals call, and let order entry know some of their patients; returns the day that is today, too.

    Exams of a synthetic province are not read by the vocabulary and no ledger knows them. Those of the last days are
    entered again as read with certainty and complete.
    """
    import numpy as np
    import pyarrow as pa

    from radlake.config import Settings
    from radlake.contracts import load_table
    from radlake.ingest.offsets import date_offsets
    from radlake.lake import Lake, duck
    from radlake.reminder.references import INTERVENTION
    from radlake.sqlrun.reference import load_reference
    from radlake.web.cds.callers import add_caller
    from radlake.web.cds.server import ISSUERS

    settings = Settings(lake=str(folder))
    lake = Lake.from_settings(settings)
    with duck.connect(lake, tables={"core"}) as connection:
        counted = "SELECT hospital_id FROM core.exam GROUP BY ALL ORDER BY count(*) DESC, hospital_id LIMIT ?"
        hospitals = [name for (name,) in connection.execute(counted, [_CALLERS]).fetchall()]
        given = {"hospitals": hospitals, "kinds": [" ".join(kind) for kind in _ORDERS]}
        exams = connection.sql(_RECENT, params=given).to_arrow_table().cast(load_table("core.exam").arrow_schema())
    with date_offsets(settings) as offsets:
        moved = offsets(exams["patient_key"].to_numpy())
    at = exams["study_at"].to_numpy().astype("datetime64[s]") - moved.astype("timedelta64[s]")
    today = at.max().astype("datetime64[D]") + 1
    near = np.flatnonzero(at >= today - np.timedelta64(_KNOWN_DAYS - 2, "D"))[:_MOST_KNOWN]
    exams = exams.take(pa.array(near))
    lake.tables.commit_batch("core.exam", exams, batch_id=_BATCH)
    numbers = _enter(settings, exams)
    steps = [{"intervention_code": INTERVENTION, "hospital_id": one, "began_month": 202401} for one in hospitals]
    rows = pa.Table.from_pylist(steps, schema=load_table("ref.roll_out").arrow_schema())
    load_reference(lake, "ref.roll_out", rows, batch_id=_BATCH)
    issuers = settings.prepare_restricted() / ISSUERS
    issuers.unlink(missing_ok=True)
    found = []
    for hospital in hospitals:
        caller = Caller(f"https://his.{hospital}.example", keys / f"{hospital}.pem", numbers.get(hospital, []))
        add_caller(issuers, iss=caller.iss, hospital_id=hospital, systems=[SYSTEM], key=caller.key)
        found.append(caller)
    return found, today.astype(object)


def _enter(settings: Any, exams: Any) -> dict[str, list[tuple[str, str]]]:
    """What ingest leaves of each exam: its study in the ledger, its row in the vault, the alias of the number."""
    from radlake.lake.ledger import Ledger
    from radlake.lake.ledger_tables import STUDY, VAULT, VAULT_ALIAS
    from radlake.vault.lake_key import lake_keys
    from radlake.vault.record import patient_alias

    keys, at = lake_keys(settings), datetime(2026, 12, 1)
    studies, records, aliases = [], [], {}
    numbers: dict[str, list[tuple[str, str]]] = {}
    for row in exams.select(
        ["hospital_id", "exam_pseudo_id", "patient_key", "modality_group", "body_part_code"]
    ).to_pylist():
        hospital, exam, key = row["hospital_id"], row["exam_pseudo_id"], row["patient_key"]
        number = f"M{key % 10**12}"
        uid = keys.uid(f"1.2.{int(exam, 16)}")
        studies.append(
            {"hospital_id": hospital, "study_uid": f"1.2.{int(exam, 16)}", "state": "complete", "lake_study_uid": uid}
        )
        records.append({"record_id": exam, "hospital_id": hospital, "lake_study_uid": uid, "patient_key": key,
                        "exam_pseudo_id": exam, "key_version": 1, "record": b"", "entered_at": at})  # fmt: skip
        aliases[patient_alias(keys, hospital_id=hospital, patient_id=number)] = key
        numbers.setdefault(hospital, []).append((number, _ORDERS[row["modality_group"], row["body_part_code"]]))
    times = {"discovered_at": at, "updated_at": at}
    with closing(Ledger(settings.ledger)) as ledger, ledger.writing() as connection:
        known = connection.execute(VAULT.select().filter_by(record_id=records[0]["record_id"])).first()
        if not known:
            connection.execute(STUDY.insert(), [row | times for row in studies])
            connection.execute(VAULT.insert(), records)
            connection.execute(VAULT_ALIAS.insert(), [{"alias": a, "patient_key": key} for a, key in aliases.items()])
    return numbers


def asked_pages(folder: Path) -> dict[str, list[str]]:
    """URLs of every page: without a filter, with each of its filters, with all of them, and in English."""
    from radlake.config import Settings
    from radlake.lake import Lake, duck
    from radlake.web.pages import PAGES
    from radlake.web.snapshot import TABLES, copying, take_snapshot
    from radlake.web.view import View

    lake = Lake.from_settings(Settings(lake=str(folder)))
    snapshot = take_snapshot(copying(lambda: duck.connect(lake, tables=TABLES)))
    some = {
        "hospital": tuple(snapshot.hospitals),
        "first": snapshot.months[:1] * 2 + snapshot.months[6:],
        "last": snapshot.months[-1:],
        "modality": snapshot.modalities,
        "window": ("30", "90"),
        "year": snapshot.years,
        "day": snapshot.days,
    }
    found = {}
    for page in PAGES:
        values = {field: some[field] for field in page.filters if some.get(field)}
        views = [View(**{field: value}) for field, given in values.items() for value in given[:6]]
        views.append(View(**{field: given[0] for field, given in values.items()}))
        found[page.path] = [page.path, f"{page.path}?lang=en"] * 2 + [f"{page.path}?{view.query()}" for view in views]
    return found


def parquet_files(folder: Path, names: list[str]) -> str:
    """JSON: table -> its files."""
    tables = _lake(folder).tables
    return json.dumps({name: tables.files(name) for name in names})


def _lake(folder: Path) -> Lake:
    from radlake.config import Settings
    from radlake.lake import Lake

    return Lake.from_settings(Settings(lake=str(folder)))


def _commit(lake: Lake, name: str, rows: Any) -> None:
    from radlake.contracts import load_table

    table = load_table(name)
    lake.tables.overwrite(table, rows.select(table.column_names).cast(table.arrow_schema()), batch_id=_BATCH)
