"""stats.repeat_dose: the dose of repeats that nothing excuses, each basis in rows of its own."""

from __future__ import annotations

import numpy as np
import pytest

from radlake.deidentify import KeyRing
from radlake.lake import Lake, duck
from radlake.sqlrun.date_offsets import register_date_offsets
from radlake.sqlrun.queries import load_queries
from radlake.stats.duplicates.rates import repeat_rates
from radlake.stats.duplicates.sequence import build_sequence
from radlake.stats.policy import Policy
from radlake.stats.release import mask
from radlake.synth.rows.write import Plan, write_chunk, write_province
from support.lakes import KEY, settings_of
from support.rows import rows
from support.statistics import exams, tables

# p0 opens and closes the period in which the hospital is observed.
EXAMS = """
    exam  | patient | modality | body_part | date
    first | p0      | CT       | HEAD      | 2025-01-01
    close | p0      | CT       | HEAD      | 2026-12-31
    a     | p1      | CT       | CHEST     | 2026-03-01
    known | p1      | CT       | CHEST     | 2026-03-09
    b     | p2      | CT       | CHEST     | 2026-04-01
    book  | p2      | CT       | CHEST     | 2026-04-20
    c     | p3      | CT       | CHEST     | 2026-04-01
    child | p3      | CT       | CHEST     | 2026-05-01
    d     | p4      | CT       | CHEST     | 2026-04-01
    late  | p4      | CT       | CHEST     | 2026-05-02 # 31 days
    e     | p5      | CT       | CHEST     | 2026-04-01
    acute | p5      | CT       | CHEST     | 2026-04-02 # an emergency
    f     | p6      | DX       | CHEST     | 2026-04-01
    none  | p6      | DX       | CHEST     | 2025-04-04
    again | p6      | DX       | CHEST     | 2026-04-03
    g     | p7      | CT       | CHEST     | 2026-04-01
    stay  | p7      | CT       | CHEST     | 2026-04-05 # of the same encounter
"""
DLP = {"dose_source": "rdsr", "effective_dose_method": "dlp", "dlp_mgy_cm": 400.0, "effective_dose_msv": 5.6,
       "effective_dose_low_msv": 3.8, "effective_dose_high_msv": 8.4}  # fmt: skip
TYPICAL = {"dose_source": "none", "effective_dose_method": "typical", "effective_dose_msv": 7.5,
           "effective_dose_low_msv": 0.3, "effective_dose_high_msv": 26.0}  # fmt: skip
UNKNOWN = {"dose_source": "none", "effective_dose_method": "none"}
DOSES = {"known": DLP, "late": DLP, "acute": DLP, "stay": DLP, "book": TYPICAL,
         "child": {"dose_source": "rdsr", "effective_dose_method": "none", "dlp_mgy_cm": 90.0}}  # fmt: skip
COLUMNS = "dose_basis, n_repeats, dlp_mgy_cm, effective_dose_msv, effective_dose_low_msv, effective_dose_high_msv"


def offsets(keys: np.ndarray) -> np.ndarray:
    return np.array(KeyRing.from_secret(KEY).offset_seconds(keys.tolist()))


@pytest.fixture
def db():
    given = exams(EXAMS)
    names = ("hospital_id", "exam_pseudo_id", "patient_key", "modality_group", "body_part_code")
    of_exam = {row["exam_pseudo_id"]: {name: row[name] for name in names} for row in given.to_pylist()}
    doses = [key | DOSES.get(exam, UNKNOWN) for exam, key in of_exam.items()]
    orders = [
        {name: of_exam[exam][name] for name in names[:3]} | {"ground_codes": ground, "encounter_pseudo_id": encounter}
        for exam, ground, encounter in (("acute", "emergency", None), ("g", "", "v1"), ("stay", "", "v1"))
    ]
    factor = {"method": "typical", "modality_group": "CT", "body_part_code": "CHEST", "factor": 7.5, "source": "a book"}
    stored = {
        "core.exam": given,
        "core.exam_dose": rows("core.exam_dose", *doses),
        "ref.exam_order": rows("ref.exam_order", *orders),
        "ref.dose_factor": rows("ref.dose_factor", factor),
    }
    with tables(stored) as made:
        made.build("stats.repeat_dose")
        yield made


def test_reported_doses_and_typical_values_stand_apart(db) -> None:
    where = "exam_year = '2026' AND modality_group = 'CT' AND body_part_code = 'CHEST'"
    assert db.rows(f"SELECT {COLUMNS}, typical_source FROM stats.repeat_dose WHERE {where} ORDER BY 1") == [
        ("estimated", 1, 400.0, 5.6, 3.8, 8.4, None),
        ("reported", 1, 90.0, None, None, None, None),
        ("typical", 1, None, 7.5, 0.3, 26.0, "a book"),
    ]
    assert db.problems("stats.repeat_dose") == []


def test_a_repeat_without_any_dose_is_counted(db) -> None:
    total = "exam_year = 'all' AND modality_group = 'all' AND body_part_code = 'all'"
    assert db.rows(f"SELECT dose_basis, n_repeats FROM stats.repeat_dose WHERE {total} ORDER BY 1") == [
        ("estimated", 1), ("reported", 1), ("typical", 1), ("unknown", 1),
    ]  # fmt: skip


def test_what_leaves_the_restricted_zone_is_rounded_and_few_are_left_out(db) -> None:
    def released(n: int) -> list[dict]:
        sums = ", ".join(f"{name} * {n} AS {name}" for name in ("effective_dose_msv", "effective_dose_high_msv"))
        query = f"SELECT * REPLACE (n_repeats * {n} AS n_repeats, largest_share / {n} AS largest_share, {sums})"
        exact = db.connection.sql(f"{query} FROM stats.repeat_dose").to_arrow_table()
        shown = mask({"stats.repeat_dose": exact}, policy=Policy(threshold=5))["stats.repeat_dose"].to_pylist()
        return [row for row in shown if row["exam_year"] == "2026" and row["modality_group"] == "CT"]

    assert released(9) == []
    found = {row["dose_basis"]: row for row in released(124) if row["body_part_code"] == "all"}
    told = [(row["n_repeats"], row["effective_dose_msv"], row["largest_share"]) for row in found.values()]
    # 694.4 mSv of 5.6 each in steps of 100, which are 10 exams or more; 930 of 7.5 each too
    assert told == [(120, 700.0, None), (120, None, None), (120, 900.0, None)]
    assert [row["effective_dose_msv"] for row in released(23)] == [None] * 6  # too few to tell doses


def test_they_are_the_potential_repeats_of_the_engine(tmp_path) -> None:
    lake = Lake.from_settings(settings_of(tmp_path))
    plan = Plan(n_exams=6_000, n_hospitals=10, seed=3)
    write_province(lake, plan, chunks=[write_chunk(lake, plan, 0, date_offsets=offsets)])
    build_sequence(lake, date_offsets=offsets, workers=1)
    query = next(query for query in load_queries() if query.name == "stats.repeat_dose")
    with duck.connect(lake, zone="restricted", tables={*query.reads, "dicom.study", "core.person_link"}) as connection:
        register_date_offsets(connection, offsets)
        connection.register("rates", repeat_rates(lake))
        found = connection.execute(
            f"SELECT exam_year, modality_group, n_repeats FROM ({query.sql})"
            " WHERE body_part_code = 'all' AND exam_year <> 'all' AND modality_group <> 'all' ORDER BY ALL"
        ).fetchall()
        counted = connection.execute(
            "SELECT (exam_month // 100)::VARCHAR, modality_group, sum(n_potential) FROM rates"
            " WHERE rule_pack = 'clinical_v1' AND window_days = 30 AND n_potential > 0"
            " AND modality_group IN ('CT', 'DX', 'MG', 'NM', 'PT', 'RF', 'XA') GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    assert found == counted
    assert sum(n for *_, n in found) > 100
