"""Potential cost and causal change of repeats, and bytes that are measured: from tables of a lake."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.lake import Lake
from radlake.stats.benefit.repeats import causal_repeats, potential_cost
from radlake.stats.benefit.storage import stored_bytes
from radlake.stats.duplicates.packs import load_packs, load_windows
from radlake.stats.duplicates.rates import repeat_rates
from radlake.stats.duplicates.sequence import Observed, build_sequence
from support.rows import rows
from support.statistics import exams

MONTHS = (202501, 202502, 202503, 202504)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")


def counted(lake: Lake, *given: dict[str, Any]) -> None:
    fixed = {"rule_pack": "clinical_v1", "window_days": 30, "modality_group": "CT"}
    table = load_table("stats.repeat_rate")
    lake.restricted_tables.overwrite(table, rows("stats.repeat_rate", *(fixed | row for row in given)), batch_id="r")


def laid_out(lake: Lake, table: str) -> None:
    lake.tables.commit_batch("core.exam", exams(table), batch_id="exams")
    year = Observed(date(2025, 1, 1), date(2025, 12, 31))
    build_sequence(lake, date_offsets=lambda keys: np.zeros(len(keys), np.int64), observed=year, workers=1)


REPEATED = """
    patient | hospital | modality | body_part     | date
    p1      | h1       | CT       | CHEST         | 2025-02-10
    p1      | h2       | CT       | CHEST         | 2025-02-20     # before any price
    p2      | h1       | CT       | CHEST         | 2025-05-01
    p2      | h1       | CT       | CHEST         | 2025-05-11
    p2      | h2       | CT       | CHEST         | 2025-05-21
    p3      | h1       | CT       | HEAD          | 2025-05-01
    p3      | h1       | CT       | HEAD          | 2025-05-09
    p4      | h1       | CT       | ABDOMEN+CHEST | 2025-05-01
    p4      | h1       | CT       | ABDOMEN+CHEST | 2025-06-20     # 50 days after
    p5      | h1       | MR       | KNEE          | 2025-05-01
    p5      | h1       | MR       | KNEE          | 2025-05-03
    p6      | h1       | CT       | CHEST         | 2025-08-01
    p6      | h2       | CT       | CHEST         | 2025-08-05
"""


def test_repeats_are_priced_by_body_part_or_modality_and_those_without_a_price_are_told(lake: Lake) -> None:
    laid_out(lake, REPEATED)
    ct = {"item": "exam", "modality_group": "CT", "valid_from": date(2025, 3, 1)}
    of_all = ct | {"price_fen": 25_000, "source": "tariff 1"}
    of_head = ct | {"body_part_code": "HEAD", "price_fen": 18_000, "source": "tariff 2"}
    lake.tables.commit_batch("ref.price", rows("ref.price", of_all, of_head), batch_id="p")
    found, mr = potential_cost(lake, rule_pack="clinical_v1", window_days=30)
    assert (found.modality_group, found.n_potential, found.n_unpriced) == ("CT", 5, 1)
    assert found.cost_fen == 3 * 25_000 + 18_000
    assert [(one.body_part_code, one.source, n) for one, n in found.priced] == [
        ("HEAD", "tariff 2", 1),
        ("all", "tariff 1", 3),
    ]
    assert (mr.modality_group, mr.n_potential, mr.n_unpriced, mr.cost_fen, mr.priced) == ("MR", 1, 1, 0, ())
    assert potential_cost(lake, rule_pack="no_such_pack", window_days=30) == []
    assert potential_cost(lake, rule_pack="clinical_v1", window_days=31) == []


@pytest.mark.parametrize("window", load_windows().days)
@pytest.mark.parametrize("pack", load_packs())
def test_what_is_priced_is_what_the_repeat_rates_count(lake: Lake, pack: str, window: int) -> None:
    laid_out(lake, REPEATED)
    rates = repeat_rates(lake, workers=1).to_pylist()
    counted = Counter[str]()
    for row in rates:
        if (row["rule_pack"], row["window_days"]) == (pack, window) and row["n_potential"]:
            counted[row["modality_group"]] += row["n_potential"]
    found = potential_cost(lake, rule_pack=pack, window_days=window)
    assert {one.modality_group: one.n_potential for one in found} == counted
    assert counted["CT"] > 0


def test_a_roll_out_that_halves_repeats_is_found(lake: Lake) -> None:
    """Hospitals a and b begin in March and go from 8 to 4 of 100; c and d never begin and rise by one in April."""
    levels = {"a": (8, 8, 4, 5), "b": (10, 10, 6, 7), "c": (8, 8, 8, 9), "d": (6, 6, 6, 7)}
    levels |= {"short": (5, 5, 5)}
    counted(
        lake,
        *(
            {"hospital_id": hospital, "exam_month": month, "n_exams": 100, "n_potential": n}
            for hospital, counts in levels.items()
            for month, n in zip(MONTHS, counts, strict=False)
        ),
    )
    began = [{"intervention_code": "reminder", "hospital_id": name, "began_month": 202503} for name in "ab"]
    lake.tables.commit_batch("ref.roll_out", rows("ref.roll_out", *began), batch_id="r")
    found = causal_repeats(lake, intervention="reminder", rule_pack="clinical_v1", window_days=30)
    assert found is not None
    assert found.effect.overall is not None
    assert found.effect.overall.estimate == pytest.approx(-4)
    assert {time: one.estimate for time, one in found.effect.by_event_time.items()} == pytest.approx(
        {-2: 0, 0: -4, 1: -4}
    )
    assert (found.n_hospitals, found.left_out) == (4, ("short",))
    assert causal_repeats(lake, intervention="cloud", rule_pack="clinical_v1", window_days=30) is None


def test_repeats_that_nobody_counted_are_told(lake: Lake) -> None:
    with pytest.raises(ContractBroken, match="run `radlake duplicates build`"):
        potential_cost(lake, rule_pack="clinical_v1", window_days=30)


def test_bytes_are_those_of_the_objects_and_what_hospitals_keep_is_apart(lake: Lake) -> None:
    def series(number: int, modality: str, n_bytes: int, residency: str = "central") -> dict[str, Any]:
        row = {"hospital_id": "h1", "study_instance_uid": f"1.{number // 2}", "series_instance_uid": f"2.{number}"}
        return row | {
            "modality": modality,
            "series_bytes": n_bytes - 1,
            "object_bytes": n_bytes,
            "residency": residency,
        }

    given = [series(0, "CT", 300), series(1, "CT", 100), series(2, "CT", 50, "index"), series(3, "SR", 7)]
    lake.tables.commit_batch("dicom.series", rows("dicom.series", *given), batch_id="s")
    ct, sr = stored_bytes(lake, by="modality")
    assert (ct.group, ct.n_studies, ct.n_objects, ct.central_bytes, ct.kept_bytes) == ("CT", 2, 3, 400, 50)
    assert (ct.bytes_per_study, ct.instance_bytes) == (225, 447)
    assert (sr.group, sr.central_bytes) == ("SR", 7)
    (level,) = stored_bytes(lake, by="hospital_level")
    assert (level.group, level.central_bytes) == ("UNKNOWN", 407)
