"""Repeats by window and body part, as tables that anybody can read (docs/reference/definitions).

Every table is a whole lake; exams are known from 2025-01-01 to 2025-12-31. `days` is the shortest window in which the
exam is a repeat that nothing excuses; `-` is an exam that is none in any.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa

from radlake.lake import Lake
from radlake.stats.duplicates.packs import load_windows
from radlake.stats.duplicates.rates import WINDOWS, repeat_rates, repeat_windows
from radlake.stats.duplicates.sequence import Observed, build_sequence
from radlake.stats.policy import Policy
from radlake.stats.release import mask
from support.statistics import exams, parsed

YEAR = Observed(date(2025, 1, 1), date(2025, 12, 31))


def windows_of(tmp_path, table: str) -> pa.Table:
    lake = Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")
    lake.tables.commit_batch("core.exam", exams(table), batch_id="exams")
    build_sequence(lake, date_offsets=lambda keys: np.zeros(len(keys), np.int64), observed=YEAR, workers=1)
    return repeat_windows(lake, rates=repeat_rates(lake, workers=1), workers=1)


def spec(tmp_path, table: str) -> None:
    """Of every modality, body part and window the exams and repeats that the column `days` tells."""
    told = parsed(table)
    found = {
        (row["modality_group"], row["body_part_code"], row["window_days"]): (row["n_exams"], row["n_potential"])
        for row in windows_of(tmp_path, table).to_pylist()
        if row["rule_pack"] == "clinical_v1"
        and row["exam_year"] == "2025"
        and row["n_exams"]
        and row["region_code"] == row["hospital_level"] == "all"
    }
    expected = {}
    for window in load_windows().days:
        for line in told:
            if (date.fromisoformat(line["date"]) - YEAR.first).days < window:
                continue  # the window begins before exams are known
            for modality in (line["modality"], "all"):
                for part in (line["body_part"], "all"):
                    n_exams, n_repeats = expected.get((modality, part, window), (0, 0))
                    is_in = line["days"] != "-" and int(line["days"]) <= window
                    expected[modality, part, window] = n_exams + 1, n_repeats + is_in
    assert found == expected


def test_a_repeat_is_in_every_window_from_the_shortest_that_reaches_it(tmp_path):
    table = """
        patient | hospital | modality | body_part | date       | days
        p1      | h1       | CT       | CHEST     | 2025-08-01 | -
        p1      | h2       | CT       | CHEST     | 2025-08-08 | 7      # 7 days after
        p1      | h1       | CT       | CHEST     | 2025-08-16 | 14     # 8 days after
        p1      | h1       | CT       | HEAD      | 2025-08-16 | -      # another body part
        p1      | h1       | CT       | HEAD      | 2025-11-13 | 90     # 89 days after
        p2      | h1       | MR       | HEAD      | 2025-08-16 | -      # another person and modality
        p1      | h1       | CT       | CHEST     | 2025-12-01 | 180    # 107 days after
        """
    spec(tmp_path, table)


def test_an_exam_counts_in_windows_that_lie_in_the_observed_days(tmp_path):
    table = """
        patient | modality | body_part | date       | days
        p1      | DX       | KNEE      | 2025-01-03 | -    # no window: what lies before is not known
        p1      | DX       | KNEE      | 2025-01-10 | 7    # the window of 7 days alone
        p1      | DX       | KNEE      | 2025-02-05 | 30   # windows up to 30 days
        """
    spec(tmp_path, table)


def test_repeats_are_released_in_rounded_counts_and_their_exams_not_at_all(tmp_path):
    line = "\n        p{n} | CT | {part} | 2025-08-{day:02} | -"
    told = "patient | modality | body_part | date | days" + "".join(
        line.format(n=n, day=day, part="CHEST" if n < 12 else "HEAD") for n in range(14) for day in (1, 9)
    )
    found = mask({WINDOWS: windows_of(tmp_path, told)}, policy=Policy(threshold=5))[WINDOWS].to_pylist()
    of_ct = {
        row["body_part_code"]: (
            row["n_exams"],
            row["n_repeats"],
            row["n_potential_across_hospitals"],
            row["repeat_share"],
        )
        for row in found
        if (row["rule_pack"], row["window_days"], row["exam_year"]) == ("lawful_v1", 14, "2025")
        and row["modality_group"] == "CT"
        and row["region_code"] == row["hospital_level"] == "all"
    }
    # 12 of 24 exams of the chest; four of the head are left out; of 28 no share is told
    assert of_ct == {"CHEST": (None, 10, 0, None), "all": (None, 10, 0, None)}
