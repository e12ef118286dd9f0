"""A lake of published tables for the pages: counts by formula, no random ones, small ones withheld.

`scale` sets how many exams there are: at 40 nearly nothing is withheld, at 1 about half of the cells are.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import duckdb
import pyarrow as pa

from radlake.contracts import load_table
from radlake.lake import Lake

HARVESTED_AT = datetime(2026, 11, 20, 22, 30)
HOSPITALS = (
    ("h01", "示例省人民医院", "Example Provincial Hospital", "320100", "3A", 100),
    ("h02", "示例市第一人民医院", "First Hospital of Example City", "320200", "3A", 62),
    ("h03", "示例大学附属医院", "Example University Hospital", "320100", "3A", 55),
    ("h04", "示例市中医院", "Example Hospital of Chinese Medicine", "320300", "3B", 34),
    ("h05", "示例市妇幼保健院", "Example Women's and Children's Hospital", "320300", "3B", 21),
    ("h06", "示例县人民医院", "Example County Hospital", "320400", "2A", 16),
    ("h07", "示例区中心医院", "Example District Central Hospital", "320400", "2A", 12),
    ("h08", "示例镇中心卫生院", "Example Township Health Centre", "UNKNOWN", "UNKNOWN", 3),
)

_EXAMS = """
CREATE TABLE exam AS
WITH modality (modality_group, weight) AS (
    VALUES ('CT', 1.0), ('DX', 0.85), ('US', 0.7), ('MR', 0.35), ('MG', 0.12), ('NM', 0.03), ('UNKNOWN', 0.02)
),
month AS (
    SELECT strftime(DATE '2025-09-01' + to_months(i::INTEGER), '%Y-%m') AS exam_month, i AS position
    FROM range(15) AS r (i)
    UNION ALL SELECT 'unknown', 6
)
SELECT
    exam_month, hospital_id, modality_group, region_code, position,
    floor({scale} * size / 10 * weight * (1 + position * 0.02)
        * (0.85 + hash(exam_month || hospital_id || modality_group) % 1000 / 3333)
        * CASE exam_month WHEN '2026-11' THEN 0.6 WHEN 'unknown' THEN 0.01 ELSE 1 END)::BIGINT AS n
FROM hospital CROSS JOIN modality CROSS JOIN month
WHERE n > 0
"""

_VOLUME = """
SELECT
    coalesce(exam_month, 'all') AS exam_month, coalesce(hospital_id, 'all') AS hospital_id,
    coalesce(modality_group, 'all') AS modality_group,
    CASE WHEN hospital_id IS NULL THEN 'all' ELSE any_value(region_code) END AS region_code, sum(n) AS n_exams,
    ceil(sum(n) * CASE WHEN exam_month IS NULL THEN 0.6 ELSE 0.9 END) AS n_patients, sum(n) * 205 AS n_instances,
    sum(n) * 31_000_000 AS exam_bytes, sum(n) < 10 AS is_masked
FROM exam
GROUP BY CUBE (exam_month, hospital_id, modality_group)
"""

_DUPLICATES = """
SELECT
    window_days, scope, coalesce(exam_month, 'all') AS exam_month, coalesce(hospital_id, 'all') AS hospital_id,
    coalesce(modality_group, 'all') AS modality_group, sum(n) AS n_exams, sum(n // 50) AS n_unmatchable,
    sum(floor(n * part * (0.03 + window_days / 2500 + hash(hospital_id) % 100 / 3000)))::BIGINT AS n_duplicates,
    n_duplicates / sum(n) AS duplicate_share, n_duplicates BETWEEN 1 AND 9 OR sum(n) < 10 AS is_masked
FROM exam
CROSS JOIN (VALUES (30), (90)) AS w (window_days)
CROSS JOIN (VALUES ('any', 1.0), ('within_hospital', 0.7), ('across_hospitals', 0.4)) AS s (scope, part)
WHERE exam_month != 'unknown' AND position >= window_days // 30
GROUP BY window_days, scope, CUBE (exam_month, hospital_id, modality_group)
"""

_FILM = """
SELECT
    coalesce(exam_month, 'all') AS exam_month, coalesce(hospital_id, 'all') AS hospital_id,
    coalesce(modality_group, 'all') AS modality_group, sum(n) AS n_exams,
    sum(n * 3 - printed) AS n_sheets_avoided, sum(n) * 3 * 1800 AS film_cost_fen, sum(n) * 2000 AS cloud_cost_fen,
    sum(printed) * 1800 AS printed_cost_fen, sum(printed // 20) * 1800 AS unclaimed_cost_fen,
    film_cost_fen - printed_cost_fen AS gross_saving_fen, gross_saving_fen - cloud_cost_fen AS net_saving_fen,
    sum(n) < 10 AS is_masked
FROM (SELECT *, CASE hospital_id WHEN 'h07' THEN 2 * n + 1 ELSE n // 40 END AS printed FROM exam)
WHERE modality_group IN ('CT', 'MR', 'DX') AND exam_month != 'unknown'
GROUP BY CUBE (exam_month, hospital_id, modality_group)
"""

_RATES = """
WITH counted AS (
    SELECT
        left(exam_month, 4) AS exam_year, coalesce(region_code, 'all') AS region,
        coalesce(modality_group, 'all') AS modality,
        sum(n)::BIGINT AS n_exams, ceil(sum(n) * 0.7)::BIGINT AS n_patients
    FROM exam
    WHERE exam_month != 'unknown'
    GROUP BY left(exam_month, 4), CUBE (region_code, modality_group)
),
rated AS (
    SELECT
        exam_year, region AS region_code, modality AS modality_group, n_exams, n_patients,
        CASE exam_year WHEN '2026' THEN 324 ELSE 122 END AS n_observed_days,
        CASE region WHEN 'UNKNOWN' THEN NULL WHEN 'all' THEN 400_000 ELSE 100_000 END::BIGINT AS n_residents
    FROM counted
)
SELECT
    *, n_patients / n_residents * 1000 AS rate_per_1000,
    (n_patients - 1.96 * sqrt(n_patients)) / n_residents * 1000 AS rate_low,
    (n_patients + 1.96 * sqrt(n_patients)) / n_residents * 1000 AS rate_high, n_patients < 10 AS is_masked
FROM rated
"""


def fill(lake: Lake, *, scale: int, batch_id: str = "test") -> None:
    """Write every published table of a lake."""
    con = duckdb.connect(":memory:")
    con.execute("CREATE TABLE hospital (hospital_id VARCHAR, region_code VARCHAR, size INTEGER)")
    con.executemany(
        "INSERT INTO hospital VALUES (?, ?, ?)", [(h, region, size) for h, _, _, region, _, size in HOSPITALS]
    )
    con.execute(_EXAMS.format(scale=scale))
    for name, sql in (
        ("stats.exam_volume", _VOLUME),
        ("stats.duplicate_exam", _DUPLICATES),
        ("stats.film_saving", _FILM),
        ("stats.exam_rate", _RATES),
    ):
        _write(lake, name, _masked(con, name, sql), batch_id)
    _write(lake, "ref.hospital", [
        {"hospital_id": h, "name_zh": zh, "name_en": en, "region_code": region, "hospital_level": level,
         "storage_policy": "central"}
        for h, zh, en, region, level, _ in HOSPITALS
    ], batch_id)  # fmt: skip
    _write(lake, "ref.region", [
        {"region_code": code, "name_zh": zh, "name_en": en, "parent_region_code": "320000"}
        for code, zh, en in (("320100", "南京市", "Nanjing"), ("320200", "无锡市", "Wuxi"),
                             ("320300", "徐州市", "Xuzhou"), ("320400", "常州市", "Changzhou"))
    ], batch_id)  # fmt: skip
    fill_operations(lake, scale=scale, batch_id=batch_id)


def fill_operations(lake: Lake, *, scale: int, batch_id: str) -> None:
    """Write what harvests, the gate and builds publish."""
    completeness, runs = [], []
    for i, (hospital, *_, size) in enumerate(HOSPITALS[:-1]):
        n = scale * size * 10
        partial, waiting, retrieving, quarantined, offline = n * i // 60, n // 50, n // 200, n // 300, n * i // 500
        rest = partial + waiting + retrieving + quarantined + offline + 1
        completeness.append({
            "hospital_id": hospital, "n_studies": n, "n_discovered": waiting, "n_retrieving": retrieving,
            "n_complete": n - rest, "n_partial": partial, "n_quarantined": quarantined, "n_offline": offline,
            "n_withdrawn": 1, "n_instances_expected": n * 205, "n_instances_stored": (n - rest) * 205,
            "n_instances_quarantined": quarantined * 9, "updated_at": HARVESTED_AT,
        })  # fmt: skip
        for run in range(3):
            error = {4: "NodeUnavailable", 6: "AssociationRejected"}.get(i) if run == 0 else None
            end = HARVESTED_AT - timedelta(hours=run * 24, minutes=i * 7)
            runs.append({
                "run_id": f"run-{hospital}-{run}", "hospital_id": hospital,
                "retrieve_kind": ("c-get", "c-move", "wado-rs")[i % 3],
                "started_at": end - timedelta(minutes=23), "finished_at": end, "n_studies_found": n // 300,
                "n_studies_complete": 0 if error else n // 310, "n_studies_partial": 0, "n_instances_stored": n // 2,
                "n_instances_quarantined": i, "n_instances_duplicate": i * 3, "stored_bytes": n * 65_000_000,
                "deidentified_by": "{}", "error_class": error,
            })  # fmt: skip
    _write(lake, "ops.completeness", completeness, batch_id)
    _write(lake, "ops.harvest_run", runs, batch_id)
    _write(lake, "ops.quarantine", [
        {"hospital_id": hospital, "reason": reason, "n_instances": n, "updated_at": HARVESTED_AT}
        for hospital, reason, n in (("h01", "not_dicom", 14), ("h02", "part10_truncated", 9), ("h05", "not_dicom", 3),
                                    ("h06", "vr_invalid", 1))
    ], batch_id)  # fmt: skip
    _write(lake, "ops.quality", [
        {"batch_id": f"batch{batch}", "checked_table": table, "expectation": expectation, "checked_column": column,
         "is_success": (ok := not (batch == 3 and column == "n_instances")), "n_rows": 100 + batch,
         "n_failed": 0 if ok else 2, "detail": "" if ok else "2 rows differ from their instances",
         "checked_at": HARVESTED_AT - timedelta(hours=batch)}
        for batch in range(6)
        for table, expectation, column in (
            ("dicom.study", "expect_column_values_to_be_unique", "study_instance_uid"),
            ("dicom.study", "expect_column_values_to_be_between", "n_instances"),
            ("dicom.instance", "expect_table_row_count_to_be_between", ""),
        )
    ], batch_id)  # fmt: skip
    _write(lake, "ops.build", [
        {"run_id": "build-1", "built_table": f"{table}_v1", "built_version": 3, "inputs": '{"core.exam_v1": 7}',
         "query_sha256": "ab" * 32, "n_rows": 1234, "warnings": "[]", "disclosure_policy": "internal",
         "disclosure_threshold": 5,
         "built_at": HARVESTED_AT + timedelta(minutes=12)}
        for table in ("stats.exam_volume", "stats.duplicate_exam", "stats.film_saving", "stats.exam_rate")
    ], batch_id)  # fmt: skip


def _masked(con: duckdb.DuckDBPyConnection, name: str, sql: str) -> pa.Table:
    table = load_table(name)
    assert table.disclosure
    hidden = {*table.disclosure.counts, *table.disclosure.dependent}
    columns = ", ".join(
        f"CASE WHEN NOT is_masked THEN {c.name} END::{c.type} AS {c.name}" if c.name in hidden
        else f"{c.name}::{c.type} AS {c.name}" for c in table.columns
    )  # fmt: skip
    return con.sql(f"SELECT {columns} FROM ({sql})").to_arrow_table()


def _write(lake: Lake, name: str, rows: pa.Table | list[dict], batch_id: str) -> None:
    table = load_table(name)
    if isinstance(rows, list):
        rows = pa.Table.from_pylist(rows, schema=table.arrow_schema())
    lake.tables.overwrite(table, rows.cast(table.arrow_schema()), batch_id=batch_id)


def connection(**tables: list[dict]) -> duckdb.DuckDBPyConnection:
    """A connection with the named tables (`stats_exam_volume=[row, ...]`) as a lake shows them; no files."""
    con = duckdb.connect(":memory:")
    for name, rows in tables.items():
        table = load_table(name.replace("_", ".", 1))
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {table.layer}")
        con.register("given", pa.Table.from_pylist(rows, schema=table.arrow_schema()))
        con.execute(f"CREATE TABLE {table.view_name} AS FROM given")
        con.unregister("given")
    return con
