"""What a repeated exam is, and what excuses it, as tables that anybody can read (docs/reference/definitions).

Every table is a whole lake; exams are known from 2025-01-01 to 2025-12-31. `expect` is the class of each exam by the
rule pack `clinical`, looking back 30 days; `-` is an exam that repeats nothing.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from radlake.contracts import load_table
from radlake.lake import Lake
from radlake.stats.duplicates.packs import load_packs, load_windows
from radlake.stats.duplicates.rates import repeat_rates
from radlake.stats.duplicates.sequence import Observed, build_sequence
from support.rows import rows
from support.statistics import exams, number_of, parsed

YEAR = Observed(date(2025, 1, 1), date(2025, 12, 31))
MEASURES = {
    "same_episode": "n_same_episode",
    "follow_up": "n_follow_up",
    "justified": "n_justified",
    "potential": "n_potential",
}


def orders(table: str) -> pa.Table:
    """Rows of ref.exam_order: encounter, grounds (joined by +) and days to an operation of each exam."""
    told = [
        {
            "hospital_id": line.get("hospital", "h1"),
            "exam_pseudo_id": f"e{number}",
            "patient_key": number_of(line["patient"]),
            "encounter_pseudo_id": line.get("encounter") or None,
            "ground_codes": line.get("grounds", ""),
            "operation_days": int(line["operation"]) if line.get("operation") else None,
            "evidence_source": "order",
        }
        for number, line in enumerate(parsed(table), 1)
    ]
    return rows("ref.exam_order", *told)


def rates_of(tmp_path: Path, table: str, *, observed: Observed = YEAR) -> list[dict[str, object]]:
    lake = Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")
    lake.tables.commit_batch("core.exam", exams(table), batch_id="exams")
    lake.tables.commit_batch("ref.exam_order", orders(table), batch_id="orders")
    build_sequence(lake, date_offsets=lambda keys: np.zeros(len(keys), np.int64), observed=observed, workers=1)
    return repeat_rates(lake, workers=1).to_pylist()


def spec(tmp_path: Path, table: str, *, window: int = 30, pack: str = "clinical_v1") -> None:
    """Counts of the window, by class, are those of the column `expect`."""
    expected = dict.fromkeys(MEASURES, 0)
    for line in parsed(table):
        if line["expect"] != "-":
            expected[line["expect"]] += 1
    found = [row for row in rates_of(tmp_path, table) if (row["rule_pack"], row["window_days"]) == (pack, window)]
    assert {name: sum(row[measure] for row in found) for name, measure in MEASURES.items()} == expected


def test_the_latest_earlier_exam_of_the_same_kind_is_repeated(tmp_path):
    table = """
        patient | hospital | modality | body_part | date             | expect
        p1      | h1       | CT       | CHEST     | 2025-03-01       | -
        p1      | h2       | CT       | CHEST     | 2025-03-31       | potential      # 30 days after
        p1      | h1       | CT       | CHEST     | 2025-05-01       | -              # 31 days after
        p1      | h1       | DX       | CHEST     | 2025-05-02       | -              # another modality
        p1      | h1       | CT       | HEAD      | 2025-05-02       | -              # another body part
        p2      | h1       | CT       | CHEST     | 2025-05-02       | -              # another person
        """
    spec(tmp_path, table)


def test_one_day_and_one_encounter_are_one_episode(tmp_path):
    table = """
        patient | hospital | date             | encounter | expect
        p1      | h1       | 2025-03-01T08:00 |           | -
        p1      | h1       | 2025-03-01T08:20 |           | same_episode   # taken again on the same day
        p1      | h2       | 2025-03-09       |           | potential      # counted once, after the second of that day
        p2      | h1       | 2025-03-01       | stay7     | -
        p2      | h1       | 2025-03-05       | stay7     | same_episode
        p2      | h2       | 2025-03-09       | stay7     | potential      # a number of another hospital
        """
    spec(tmp_path, table)


def test_left_and_right_do_not_repeat_each_other_and_an_unstated_side_repeats_any(tmp_path):
    table = """
        patient | modality | body_part | side | date       | expect
        p1      | DX       | KNEE      | L    | 2025-03-01 | -
        p1      | DX       | KNEE      | R    | 2025-03-05 | -
        p1      | DX       | KNEE      | L    | 2025-03-09 | potential   # of the left one, 8 days before
        p1      | DX       | KNEE      | NONE | 2025-03-12 | potential
        p1      | DX       | KNEE      | R    | 2025-03-20 | potential   # of the one without a side
        p1      | DX       | KNEE      | B    | 2025-03-22 | potential
        """
    found = rates_of(tmp_path, table)
    spec(tmp_path / "again", table)
    at_30 = [row for row in found if (row["rule_pack"], row["window_days"]) == ("clinical_v1", 30)]
    assert sum(row["n_side_unknown"] for row in at_30) == 2


def test_pseudonyms_that_are_of_one_person_repeat_each_other(tmp_path):
    """Exams of a pseudonym keep their own record, whoever stands for the person."""
    table = """
        patient | hospital | date       | encounter | grounds   | expect
        p1      | h1       | 2025-03-01 |           |           | -
        p2      | h2       | 2025-03-09 |           |           | potential   # p2 is p1 in another hospital
        p3      | h3       | 2025-03-12 |           |           | -           # another person
        p2      | h2       | 2025-03-20 |           | oncology  | justified
        """
    person, other = sorted((number_of("p1"), number_of("p2")))
    lake = Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")
    link = rows("core.person_link", {"patient_key": other, "person_key": person})
    lake.tables.overwrite("core.person_link", link, batch_id="person-link-1")
    spec(tmp_path, table)
    assert not list(lake.scratch.glob("moved-*"))


@pytest.mark.parametrize("ground", ["emergency", "oncology", "appraisal", "patient_requested", "condition_changed"])
def test_a_ground_of_the_repeat_excuses_it(tmp_path, ground):
    table = f"""
        patient | date       | grounds  | expect
        p1      | 2025-03-01 | {ground} | -           # not of the first exam
        p1      | 2025-03-09 | {ground} | justified
        p1      | 2025-03-19 |          | potential
        """
    spec(tmp_path, table)


def test_what_the_earlier_report_or_its_images_say_excuses_the_next_exam(tmp_path):
    table = """
        patient | date       | grounds                 | expect
        p1      | 2025-03-01 | follow_up_recommended   | -
        p1      | 2025-03-09 |                         | follow_up
        p2      | 2025-03-01 | earlier_not_retrievable | -
        p2      | 2025-03-09 |                         | justified
        """
    spec(tmp_path, table)


def test_an_operation_soon_after_excuses_and_a_late_one_does_not(tmp_path):
    table = """
        patient | date       | operation | expect
        p1      | 2025-03-01 |           | -
        p1      | 2025-03-09 | 30        | justified
        p2      | 2025-03-01 |           | -
        p2      | 2025-03-09 | 31        | potential
        """
    spec(tmp_path, table)


def test_the_lawful_grounds_alone_excuse_less(tmp_path):
    table = """
        patient | date       | grounds   | expect
        p1      | 2025-03-01 |           | -
        p1      | 2025-03-09 | emergency | justified
        p2      | 2025-03-01 |           | -
        p2      | 2025-03-09 | oncology  | potential
        """
    spec(tmp_path, table, pack="lawful_v1")


def test_who_or_what_is_unknown_matches_nothing_and_is_counted(tmp_path):
    table = """
        patient | body_part | date       | expect
        ?p1     | CHEST     | 2025-03-01 | -
        ?p1     | CHEST     | 2025-03-09 | -
        p2      | UNKNOWN   | 2025-03-01 | -
        p2      | UNKNOWN   | 2025-03-09 | -
        """
    spec(tmp_path, table)
    found = [row for row in rates_of(tmp_path / "again", table) if row["window_days"] == 30]
    assert {(row["rule_pack"], row["n_exams"], row["n_unmatchable"]) for row in found} == {
        (name, n, n) for name in load_packs() for n in (4,)
    }


def test_exams_near_the_ends_are_in_no_denominator(tmp_path):
    table = """
        patient | date       | expect
        p1      | 2025-01-30 | -
        p1      | 2025-01-31 | potential   # 30 days after the first day: its whole window is known
        p2      | 2025-12-01 | -           # 30 days before the last day
        p2      | 2025-12-02 | potential
        """
    found = [row for row in rates_of(tmp_path, table) if (row["rule_pack"], row["window_days"]) == ("lawful_v1", 30)]
    assert sum(row["n_exams"] for row in found) == 3
    assert sum(row["n_repeats"] for row in found) == 2
    assert sum(row["n_indexed"] for row in found) == 3
    assert sum(row["n_indexed_repeated"] for row in found) == 2


def test_across_hospitals_cities_and_levels(tmp_path):
    table = """
        patient | hospital | date
        p1      | a1       | 2025-03-01
        p1      | a1       | 2025-03-05
        p1      | a2       | 2025-03-09
        p1      | b3       | 2025-03-13
        """
    places = {"a1": ("320106", "3A"), "a2": ("320111", "3A"), "b3": ("320506", "2A")}
    hospitals = [
        {"hospital_id": name, "region_code": region, "hospital_level": level}
        for name, (region, level) in places.items()
    ]
    lake = Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")
    lake.tables.commit_batch("ref.hospital", rows("ref.hospital", *hospitals), batch_id="hospitals")
    lake.tables.commit_batch("core.exam", exams(table), batch_id="exams")
    build_sequence(lake, date_offsets=lambda keys: np.zeros(len(keys), np.int64), observed=YEAR, workers=1)
    found = repeat_rates(lake, workers=1).to_pylist()
    at_30 = {row["hospital_id"]: row for row in found if (row["rule_pack"], row["window_days"]) == ("lawful_v1", 30)}
    across = {
        name: (row["n_repeats"], row["n_potential_across_hospitals"], row["n_potential_across_cities"],
               row["n_potential_across_levels"])
        for name, row in at_30.items()
    }  # fmt: skip
    assert across == {"a1": (1, 0, 0, 0), "a2": (1, 1, 0, 0), "b3": (1, 1, 1, 1)}
    assert at_30["b3"]["region_code"] == "320500"


def test_the_windows_are_those_of_the_table():
    windows = load_windows()
    assert windows.days == (7, 14, 30, 90, 180)
    assert windows.headline_days == (30, 90)
    assert all(pack.windows == windows for pack in load_packs().values())
    assert load_table("stats.repeat_rate").zone == "restricted"
