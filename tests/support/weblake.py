"""A lake of published tables for the pages: counts by formula, no random ones, small ones withheld.

`scale` sets how many exams there are: at 40 nearly nothing is withheld, at 1 about half of the cells are.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

import duckdb
import pyarrow as pa

from radlake.contracts import load_table
from radlake.lake import Lake
from radlake.web.snapshot import Copy, copying

HARVESTED_AT = datetime(2026, 11, 20, 22, 30)
HOLDS = {"last_year": 9999, "successor_region_code": "NONE"}
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
COUNTIES = {"h06": "320481", "h07": "320402"}  # the others are registered at their city

STATISTICS = (
    "stats.exam_volume", "stats.duplicate_exam", "stats.film_saving", "stats.exam_rate", "stats.upload_compliance",
    "stats.report_turnaround", "stats.retrieval", "stats.reminder", "stats.dose",
    "stats.repeat_dose", "stats.repeat_window", "stats.data_quality", "stats.measure",
)  # fmt: skip

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
    sum(CASE scope WHEN 'any' THEN n_any WHEN 'within_hospital' THEN n_within ELSE n_any - n_within END)::BIGINT
        AS n_duplicates,
    n_duplicates / sum(n) AS duplicate_share, n_duplicates BETWEEN 1 AND 9 OR sum(n) < 10 AS is_masked
FROM (
    SELECT
        exam.*, window_days,
        floor(n * (0.03 + window_days / 2500 + hash(hospital_id) % 100 / 3000)) AS n_any, floor(n_any * 0.7) AS n_within
    FROM exam CROSS JOIN (VALUES (30), (90)) AS w (window_days)
)
CROSS JOIN (VALUES ('any'), ('within_hospital'), ('across_hospitals')) AS s (scope)
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


_SERVED = """
CREATE TABLE served AS
SELECT
    coalesce(exam_month, 'all') AS month, coalesce(hospital_id, 'all') AS hospital_id, sum(n)::BIGINT AS n,
    round(sum(n * (0.99 - hash(hospital_id) % 100 / 700 - hash(exam_month) % 10 / 200)) / sum(n), 2) AS share,
    sum(n) < 10 AS is_masked
FROM exam
WHERE exam_month != 'unknown'
GROUP BY CUBE (exam_month, hospital_id)
"""

_COMPLIANCE = """
SELECT
    month AS exam_month, hospital_id, n // 10 * 10 AS n_exams, n_exams AS n_due,
    (n * share)::BIGINT // 10 * 10 AS n_in_time, n // 300 * 10 AS n_late, n // 500 * 10 AS n_waiting,
    CASE WHEN hospital_id = 'h05' THEN n // 100 * 10 ELSE 0 END AS n_never_uploaded, 0 AS n_pending, 0 AS n_clock_ahead,
    CASE WHEN n >= 40 THEN share END AS in_time_share, 1.5 AS p50_hours, 20 * (1.1 - share) AS p95_hours,
    40 * (1.1 - share) AS p99_hours, CASE hospital_id WHEN 'all' THEN 'mixed' WHEN 'h05' THEN 'orders' ELSE 'listed' END
        AS denominator, is_masked
FROM served
"""

_TURNAROUND = """
SELECT
    month AS exam_month, hospital_id, reader_id, reading_place, n // 10 * 10 AS n_exams,
    (n * share)::BIGINT // 10 * 10 AS n_reported, 10 AS n_open, share - 0.1 AS within_24_hours_share,
    3 + 10 * (1 - share) AS p50_hours, CASE WHEN share > 0.9 THEN 30.0 END AS p90_hours, is_masked
FROM served
CROSS JOIN (VALUES ('all', 'all'), ('h01', 'remote'), ('UNKNOWN', 'unknown')) AS r (reader_id, reading_place)
WHERE reader_id = 'all' OR hospital_id IN ('all', 'h06')
"""

_RETRIEVAL = """
SELECT
    month AS retrieval_month, hospital_id, n // 100 * 10 AS n_retrievals, n // 5000 * 10 AS n_failed,
    n // 300 * 10 AS n_from_cache, share - 0.05 AS within_3_seconds_share, 1.2 AS p50_seconds,
    12 * (1.05 - share) AS p95_seconds, is_masked
FROM served
WHERE hospital_id IN ('all', 'h02', 'h03')
"""

_REMINDERS = """
SELECT
    month AS reminder_month, hospital_id, n // 10 * 10 AS n_orders, n // 200 * 10 AS n_shown,
    CASE hospital_id WHEN 'h04' THEN n // 200 * 10 ELSE 0 END AS n_muted, n // 800 * 10 AS n_accepted,
    n // 600 * 10 AS n_overridden, n // 900 * 10 AS n_ignored, n // 1000 * 10 AS n_opened, 0.05 AS shown_share,
    share - 0.6 AS accepted_share, 0.41 AS condition_changed_share, 0.2 AS rapid_change_share,
    0.12 AS decisive_step_share, 0.1 AS emergency_share, 0.01 AS appraisal_share,
    0.06 AS earlier_not_retrievable_share, 0.1 AS other_lawful_share, 34.0 AS p50_open_seconds, is_masked
FROM served
WHERE hospital_id IN ('all', 'h01', 'h02', 'h04')
"""

# The exams of all hospitals are those of each, and their median lies between theirs.
_DOSE = """
WITH part (modality_group, body_part_code, level, msv_per_mgy_cm, share) AS (
    VALUES ('CT', 'CHEST', 15, 0.014, 0.4), ('CT', 'HEAD', 60, 0.0021, 0.25), ('CT', 'ABDOMEN+PELVIS', 20, 0.015, 0.15),
        ('CT', 'EAR', NULL, NULL, 0.002), ('DX', 'CHEST', NULL, NULL, 0.4), ('MG', 'BREAST', NULL, NULL, 0.6)
),
reported AS (
    SELECT
        hospital_id, modality_group, body_part_code, level, msv_per_mgy_cm, floor(sum(n * share))::BIGINT AS n,
        0.7 + hash(hospital_id) % 50 / 100 AS wide
    FROM exam JOIN part USING (modality_group)
    WHERE exam_month LIKE '2026-%'
    GROUP BY ALL
)
SELECT
    '2026' AS exam_year, coalesce(hospital_id, 'all') AS hospital_id, modality_group, body_part_code,
    sum(n)::BIGINT AS n_reported, n_reported * 2 AS n_events, level * sum(n * wide) / sum(n) AS ctdi_vol_median_mgy,
    ctdi_vol_median_mgy * 1.3 AS ctdi_vol_p75_mgy, level AS ctdi_vol_drl_mgy,
    ctdi_vol_median_mgy * 24 AS dlp_median_mgy_cm, ctdi_vol_median_mgy * 33 AS dlp_p75_mgy_cm,
    level * 25 AS dlp_drl_mgy_cm, ctdi_vol_median_mgy > level AS is_above_drl,
    CASE WHEN level IS NOT NULL THEN false END AS is_drl_verified,
    CASE modality_group WHEN 'DX' THEN 1.1e-5 END AS dap_median_gy_m2,
    CASE modality_group WHEN 'MG' THEN 2.9 END AS agd_median_mgy,
    dlp_median_mgy_cm * msv_per_mgy_cm AS effective_dose_median_msv, n_reported < 10 AS is_masked
FROM reported
WHERE n > 0
GROUP BY modality_group, body_part_code, level, msv_per_mgy_cm, CUBE (hospital_id)
"""

_REPEAT_DOSE = """
SELECT
    '2026' AS exam_year, modality_group, body_part_code, dose_basis, n_repeats, n_repeats * dlp AS dlp_mgy_cm,
    n_repeats * msv AS effective_dose_msv, n_repeats * msv * 0.6 AS effective_dose_low_msv,
    n_repeats * msv * 2 AS effective_dose_high_msv, CASE dose_basis WHEN 'typical' THEN 'MSD Manual 2023' END
    AS typical_source, NULL AS largest_share, FALSE AS is_masked
FROM (
    VALUES ('CT', 'CHEST', 'estimated', 120, 400, 5.6), ('CT', 'CHEST', 'typical', 40, NULL, 7.0),
        ('DX', 'CHEST', 'typical', 300, NULL, 0.1), ('CT', 'EAR', 'unknown', 10, NULL, NULL)
) AS p (modality_group, body_part_code, dose_basis, n_repeats, dlp, msv)
"""

_REPEAT_WINDOW = """
WITH cell AS (
    SELECT modality_group, 'all' AS body_part_code, region_code, 'all' AS hospital_level, sum(n) AS n
    FROM exam GROUP BY GROUPING SETS ((), (modality_group), (region_code))
    UNION ALL
    SELECT modality_group, body_part_code, 'all', 'all', n * share FROM (
        SELECT modality_group, sum(n) AS n FROM exam WHERE modality_group IN ('CT', 'DX') GROUP BY ALL
    ) CROSS JOIN (VALUES ('CHEST', 0.5), ('HEAD', 0.3), ('UNKNOWN', 0.1)) AS p (body_part_code, share)
    UNION ALL
    SELECT NULL, 'all', 'all', hospital_level, sum(n) * share FROM exam
    CROSS JOIN (VALUES ('3A', 0.6), ('2A', 0.4)) AS l (hospital_level, share) GROUP BY hospital_level, share
)
SELECT
    'clinical_v1' AS rule_pack, window_days, exam_year, coalesce(modality_group, 'all') AS modality_group,
    body_part_code,
    coalesce(region_code, 'all') AS region_code, hospital_level, NULL AS n_exams, NULL AS n_unmatchable,
    NULL AS n_indexed, n * 0.03 * sqrt(window_days) // 10 * 10 AS n_repeats, n_repeats * 0.4 // 10 * 10 AS n_justified,
    n_repeats * 0.1 // 10 * 10 AS n_follow_up, n_repeats * 0.5 // 10 * 10 AS n_potential,
    n_repeats AS n_repeats_across_hospitals, n_potential * 0.4 // 10 * 10 AS n_potential_across_hospitals,
    n_potential * 0.2 // 10 * 10 AS n_potential_across_cities, 0 AS n_potential_across_levels, 0 AS n_same_episode,
    0 AS n_side_unknown, 0 AS n_supplementary, n_repeats AS n_indexed_repeated, n_potential AS n_indexed_potential,
    CASE WHEN n >= 1000 THEN round(0.03 * sqrt(window_days), 2) END AS repeat_share,
    CASE WHEN n >= 1000 THEN round(0.015 * sqrt(window_days) * (1 + hash(region_code) % 5 / 10), 3) END
        AS potential_share,
    CASE WHEN n >= 1000 THEN round(0.006 * sqrt(window_days), 3) END AS potential_across_share,
    CASE WHEN n >= 1000 THEN round(0.029 * sqrt(window_days), 2) END AS indexed_share, FALSE AS is_masked
FROM cell
CROSS JOIN (SELECT unnest([7, 14, 30, 90, 180]) AS window_days)
CROSS JOIN (SELECT unnest(['2026', 'all']) AS exam_year)
WHERE exam_year = 'all' OR region_code IS NULL AND hospital_level = 'all'
"""

_QUALITY = """
SELECT
    month AS exam_month, hospital_id, topic_code, n // 10 * 10 AS n_checked,
    (n * weight * (1.3 - share))::BIGINT AS n_failed,
    CASE WHEN n >= 40 THEN round(weight * (1.3 - share), 2) END AS failed_share, is_masked
FROM served
CROSS JOIN (
    VALUES ('no_date', 0.02), ('no_body_part', 0.4), ('clock_ahead', 0.05), ('other_side', 0.03), ('vr_invalid', 0.01)
) AS t (topic_code, weight)
"""

MEASURES = (
    ("ct_persons", "CT 受检人率（中标率）", "Persons examined by CT", "Σ(标准人口比例 × 率)", "sum(share x rate)"),
    ("mr_exams", "磁共振检查率", "MR exams", "检查数 ÷ 常住人口", "exams / residents"),
)

_MEASURES = """
WITH cell AS (
    SELECT * FROM (VALUES ('2024', 0.8), ('2025', 0.9), ('2026', 0.6), ('all', 0.77)) AS y (exam_year, growth)
    CROSS JOIN (
        SELECT unnest(['320100', '320200', '320300', '320400', '320500', '320600', '320700', '320800', '320900',
            '321000', '321100', '321200', '321300', 'all']) AS region_code
    )
    CROSS JOIN (
        VALUES ('all', 'all', 1.0), ('F', '40-59', 0.9), ('M', '40-59', 1.1), ('F', '60+', 1.8), ('M', '60+', 2.1)
    ) AS a (patient_sex, age_band, old)
    WHERE age_band = 'all' OR region_code = 'all'
),
rated AS (
    SELECT *, round(growth * old * (60 + hash(region_code) % 70), 2) AS rate FROM cell
)
SELECT
    '{measure_id}' AS measure_id, exam_year, region_code, patient_sex, age_band, 'none' AS modality_group,
    'none' AS body_part_code, (rate * {scale} * 8)::BIGINT AS n_exams, (rate * {scale} * 5)::BIGINT AS n_persons,
    0 AS n_unclassified, {scale} * 5000 AS person_years, rate, rate * 0.94 AS rate_low, rate * 1.06 AS rate_high,
    CASE WHEN region_code != 'all' THEN rate * 0.9 + 8 END AS smoothed_rate,
    CASE WHEN exam_year = 'all' AND region_code = 'all' AND age_band = 'all' THEN 6.1 END AS apc_percent,
    apc_percent - 2 AS apc_low, apc_percent + 2 AS apc_high, '' AS problem,
    region_code = '321300' OR ({scale} = 1 AND rate < 70) AS is_masked
FROM rated
"""


def _measures(con: duckdb.DuckDBPyConnection, *, scale: int) -> tuple[pa.Table, list[dict]]:
    """Released measures, with one city withheld, and their definitions."""
    table = load_table("stats.measure")
    hidden = {"n_exams", "n_persons", "n_unclassified", "rate", "rate_low", "rate_high", "smoothed_rate", "apc_percent",
              "apc_low", "apc_high"}  # fmt: skip
    rows, definitions = [], []
    for number, (name, title_zh, title_en, formula_zh, formula_en) in enumerate(MEASURES, 1):
        measure_id = f"{number:016x}"
        columns = ", ".join(
            f"CASE WHEN NOT is_masked THEN {c.name} END::{c.type} AS {c.name}" if c.name in hidden
            else f"{c.name}::{c.type} AS {c.name}" for c in table.columns
        )  # fmt: skip
        sql = _MEASURES.format(measure_id=measure_id, scale=scale)
        rows.append(con.sql(f"SELECT {columns} FROM ({sql})").to_arrow_table())
        definitions.append({
            "measure_id": measure_id, "measure": name, "measure_version": 1, "title_zh": title_zh, "title_en": title_en,
            "formula_zh": formula_zh, "formula_en": formula_en, "definition": '{"rate":{"per":1000}}',
            "snapshot": "{}", "disclosure_policy": "{}", "released_at": HARVESTED_AT,
        })  # fmt: skip
    return pa.concat_tables(rows), definitions


def fill(lake: Lake, *, scale: int, batch_id: str = "test") -> None:
    """Write every published table of a lake."""
    con = duckdb.connect(":memory:")
    con.execute("CREATE TABLE hospital (hospital_id VARCHAR, region_code VARCHAR, size INTEGER)")
    con.executemany(
        "INSERT INTO hospital VALUES (?, ?, ?)", [(h, region, size) for h, _, _, region, _, size in HOSPITALS]
    )
    con.execute(_EXAMS.format(scale=scale))
    con.execute(_SERVED)
    for name, sql in (
        ("stats.exam_volume", _VOLUME),
        ("stats.duplicate_exam", _DUPLICATES),
        ("stats.film_saving", _FILM),
        ("stats.exam_rate", _RATES),
        ("stats.upload_compliance", _COMPLIANCE),
        ("stats.report_turnaround", _TURNAROUND),
        ("stats.retrieval", _RETRIEVAL),
        ("stats.reminder", _REMINDERS),
        ("stats.dose", _DOSE),
        ("stats.repeat_dose", _REPEAT_DOSE),
        ("stats.repeat_window", _REPEAT_WINDOW),
        ("stats.data_quality", _QUALITY),
    ):
        _write(lake, name, _masked(con, name, sql), batch_id)
    measures, definitions = _measures(con, scale=scale)
    _write(lake, "stats.measure", measures, batch_id)
    _write(lake, "stats.measure_definition", definitions, batch_id)
    _write(lake, "ref.hospital", [
        {"hospital_id": h, "name_zh": zh, "name_en": en, "region_code": region, "hospital_level": level,
         "storage_policy": "central"}
        for h, zh, en, city, level, _ in HOSPITALS
        for region in [COUNTIES.get(h, city)]
    ], batch_id)  # fmt: skip
    _write(lake, "ref.region", [
        {"region_code": code, "name_zh": zh, "name_en": en, "parent_region_code": "320000"} | HOLDS
        for code, zh, en in (("320100", "南京市", "Nanjing"), ("320200", "无锡市", "Wuxi"),
                             ("320300", "徐州市", "Xuzhou"), ("320400", "常州市", "Changzhou"),
                             ("320500", "苏州市", "Suzhou"), ("320600", "南通市", "Nantong"),
                             ("320700", "连云港市", "Lianyungang"), ("320800", "淮安市", "Huai'an"),
                             ("320900", "盐城市", "Yancheng"), ("321000", "扬州市", "Yangzhou"),
                             ("321100", "镇江市", "Zhenjiang"), ("321200", "泰州市", "Taizhou"),
                             ("321300", "宿迁市", "Suqian"))
    ] + [
        {"region_code": code, "name_zh": zh, "name_en": en, "parent_region_code": "320400"} | HOLDS
        for code, zh, en in (("320402", "天宁区", "Tianning"), ("320481", "溧阳市", "Liyang"))
    ], batch_id)  # fmt: skip
    _write(lake, "ref.drl", [
        {"modality_group": "CT", "body_part_code": part, "quantity": "ctdi_vol_mgy", "valid_from": date(2019, 4, 1),
         "p25": level * 0.6, "p50": level * 0.8, "p75": float(level), "is_verified": False, "source": "WS/T 637-2018"}
        for part, level in (("CHEST", 15), ("HEAD", 60), ("ABDOMEN+PELVIS", 20))
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
    watch(lake, scale=scale, batch_id=batch_id)
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
    plan = []
    for year in range(2026, 2036):
        terabytes = {"hot": 900 + 60 * (year - 2026), "warm": 1700, "cold": 2100, "archive": 150 * (year - 2026)}
        terabytes["all"] = sum(terabytes.values())
        plan += [
            {"plan_year": str(year), "tier": tier, "n_bytes": size * scale * 10**9, "cost_fen": size * scale * 400,
             "coming_bytes": size * scale * 10**8 if tier == "all" else None,
             "coming_low_bytes": size * scale * 9 * 10**7 if tier == "all" else None,
             "coming_high_bytes": size * scale * 12 * 10**7 if tier == "all" else None, "updated_at": HARVESTED_AT}
            for tier, size in terabytes.items()
        ]  # fmt: skip
    _write(lake, "ops.storage", plan, batch_id)
    _write(lake, "ops.build", [
        {"run_id": "build-1", "built_table": f"{table}_v1", "built_version": 3, "inputs": '{"core.exam_v1": 7}',
         "query_sha256": "ab" * 32, "n_rows": 1234, "warnings": "[]", "disclosure_policy": "internal",
         "disclosure_threshold": 5,
         "built_at": HARVESTED_AT + timedelta(minutes=12)}
        for table in STATISTICS
    ], batch_id)  # fmt: skip


def watch(lake: Lake, *, scale: int, batch_id: str) -> None:
    """Write which hospitals are silent, and their certificates: h06 is dark, h08 is new and has none."""
    lags, certificates = [], []
    for i, (hospital, *_, size) in enumerate(HOSPITALS):
        is_new, is_dark = hospital == "h08", hospital == "h06"
        expected = None if is_new else scale * size / 3
        lags.append({
            "hospital_id": hospital, "n_studies": size, "n_waiting": i, "n_late": i, "in_time_share": 1 - i / 50,
            "oldest_waiting_hours": i * 2.5 if i else None, "p50_hours": 1.5, "p95_hours": 6.0 + i,
            "p99_hours": 9.0 + i, "p100_hours": 12.0 + i, "expected_studies": expected,
            "seen_studies": 0 if is_dark else int(expected or 2),
            "dark_probability": None if is_new else 1e-6 if is_dark else 0.5, "is_dark": is_dark, "n_future": 0,
            "skew_minutes": 0.0, "updated_at": HARVESTED_AT,
        })  # fmt: skip
        if is_new:
            continue
        n = scale * size * 10
        for number in (1, 2):
            day = HARVESTED_AT.date() - timedelta(days=7 if hospital == "h04" else 2 - number)
            certificates.append({
                "hospital_id": hospital, "certificate_number": number, "certificate_day": day,
                "issued_at": HARVESTED_AT - timedelta(days=2 - number), "n_studies": n, "n_discovered": 0,
                "n_retrieving": 0, "n_complete": n - 1 - 2 * i, "n_partial": 2 * i, "n_quarantined": 0, "n_offline": 0,
                "n_withdrawn": 1, "n_instances_expected": n * 205, "n_instances_stored": n * 205 - i,
                "n_instances_set_aside": 0, "n_instances_catalogued": n * 205 - i,
                "n_studies_disagreeing": 3 if hospital == "h05" and number == 2 else 0,
                "evidence_root": f"{i:064x}", "digest": f"{number:x}{i:063x}",
            })  # fmt: skip
    _write(lake, "ops.lag", lags, batch_id)
    _write(lake, "ops.certificate", certificates, batch_id)


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


def copy_of(**tables: list[dict]) -> Copy:
    """The same for a snapshot."""
    return copying(lambda: connection(**tables))
