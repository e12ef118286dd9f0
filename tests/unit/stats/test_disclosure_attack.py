"""Attack the masked statistics: take every published total and every published row away from one another.

The attacker knows the SQL, the threshold and the labels of all rows, and adds up rows by their labels; nothing is told
by the code under test but what it published.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from radlake.contracts import load_table
from radlake.resources import schemas_root
from radlake.sqlrun.reference import read_csv
from radlake.stats.disclosure import TOTALS, Policy, mask
from support.rows import rows
from support.statistics import tables

TABLES = ("stats.exam_volume", "stats.duplicate_exam", "stats.film_saving", "stats.exam_rate")
HOSPITALS = {"h1": "320500", "h2": "320583", "h3": "320100", "h4": "UNKNOWN"}
THRESHOLD = 10


@cache
def statistics(seed: int, *, n: int) -> dict[str, pa.Table]:
    """Exact statistics of random exams, by the real SQL: large, small and lonely cells, unknown regions and months."""
    random = Random(seed)
    n_persons = max(30, n // 4)
    made = []
    for number in range(n):
        hospital = random.choices(list(HOSPITALS), weights=(12, 6, 3, 1))[0]
        made.append(
            {
                "hospital_id": hospital,
                "exam_pseudo_id": f"e{number}",
                "patient_key": random.randrange(n_persons),
                "region_code": HOSPITALS[hospital],
                "study_at": None
                if random.random() < 0.02
                else datetime(2025, 11, 1) + timedelta(days=random.randrange(150)),
                "modality_group": random.choices(["CT", "DX", "MR", "US"], weights=(8, 8, 3, 1))[0],
                "body_part_code": random.choice(["CHEST", "HEAD"]),
                "laterality_code": "U",
            }
        )
    population = rows(
        "ref.population",
        *(
            {"region_code": region, "year": year, "sex": sex, "age_band": "00-04", "n_residents": 5000, "source": "x"}
            for region in ("320500", "320100")
            for year in ((2025, 2026) if region == "320500" else (2026,))
            for sex in "FM"
        ),
    )
    prices = read_csv(schemas_root() / "ref" / "defaults" / "price.csv", name="ref.price")
    with tables({"core.exam": rows("core.exam", *made), "ref.price": prices, "ref.population": population}) as db:
        db.build(*TABLES)
        exact = {name: db.connection.sql(f"FROM {name}").to_arrow_table() for name in TABLES}
        return {name: data.sort_by([(d, "ascending") for d in load_table(name).key]) for name, data in exact.items()}


POLICY = Policy(threshold=THRESHOLD)
ADDITIVE = {
    "stats.exam_volume": ["n_exams"],
    "stats.duplicate_exam": ["n_duplicates"],
    "stats.film_saving": ["n_exams"],
    "stats.exam_rate": ["n_exams"],
}


def by_key(name: str, data: pa.Table) -> dict[tuple[str, ...], dict[str, Any]]:
    disclosure = load_table(name).disclosure
    assert disclosure is not None
    return {tuple(str(row[d]) for d in disclosure.dimensions): row for row in data.to_pylist()}


def told_by_subtraction(name: str, exact: pa.Table, masked: pa.Table) -> Iterator[tuple[str, int]]:
    """Sums of withheld counts that a published total and the published rows beside them give away."""
    truth, shown = by_key(name, exact), by_key(name, masked)
    for count in ADDITIVE[name]:
        lines: dict[tuple[int, tuple[str, ...]], list[tuple[str, ...]]] = defaultdict(list)
        for key in truth:
            for d in range(len(key)):
                lines[d, key[:d] + key[d + 1 :]].append(key)
        for (d, _), line in lines.items():
            total = next((key for key in line if key[d] in TOTALS), None)
            if total is None or shown[total]["is_masked"]:
                continue
            hidden = [key for key in line if key != total and shown[key]["is_masked"]]
            rest = truth[total][count] - sum(truth[key][count] for key in line if key != total and key not in hidden)
            if rest and name == "stats.exam_rate" and d == 1:
                continue  # regions without a population are not in the total
            if rest and (rest < THRESHOLD or sum(1 for key in hidden if truth[key][count]) == 1):
                yield f"{name} {count} {total} along {d}", rest


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [250, 1500])
def test_no_line_gives_a_withheld_count_away(seed: int, n: int) -> None:
    exact = statistics(seed, n=n)
    masked = mask(exact, policy=POLICY)
    for name in TABLES:
        assert list(told_by_subtraction(name, exact[name], masked[name])) == []


def test_the_attack_succeeds_against_masking_small_counts_alone() -> None:
    exact = statistics(0, n=1500)
    told = []
    for name in TABLES:
        is_small = pa.array([0 < row[ADDITIVE[name][0]] < THRESHOLD for row in exact[name].to_pylist()])
        index = exact[name].schema.get_field_index("is_masked")
        told += told_by_subtraction(name, exact[name], exact[name].set_column(index, "is_masked", is_small))
    assert told


@pytest.mark.parametrize("seed", range(4))
def test_what_one_table_withholds_no_other_shows(seed: int) -> None:
    masked = mask(statistics(seed, n=1500), policy=POLICY)
    volume = by_key("stats.exam_volume", masked["stats.exam_volume"])
    withheld = {key for key, row in volume.items() if row["is_masked"]}
    film = by_key("stats.film_saving", masked["stats.film_saving"])
    assert all(row["is_masked"] for key, row in film.items() if key in withheld)
    duplicates = by_key("stats.duplicate_exam", masked["stats.duplicate_exam"])
    assert all(row["is_masked"] for key, row in duplicates.items() if key[2:] in withheld)


@pytest.mark.parametrize("seed", range(4))
def test_small_counts_are_withheld_zero_and_grand_totals_are_shown(seed: int) -> None:
    exact = statistics(seed, n=1500)
    masked = mask(exact, policy=POLICY)
    for name in TABLES:
        truth, shown = by_key(name, exact[name]), by_key(name, masked[name])
        disclosure = load_table(name).disclosure
        assert disclosure is not None
        assert truth.keys() == shown.keys()
        for key, row in truth.items():
            if any(0 < (row[count] or 0) < THRESHOLD for count in disclosure.counts):
                assert shown[key]["is_masked"]
            if shown[key]["is_masked"]:
                assert all(shown[key][column] is None for column in (*disclosure.counts, *disclosure.dependent))
            else:
                assert shown[key] == row | {"is_masked": False}
    grand = by_key("stats.exam_volume", masked["stats.exam_volume"])["all", "all", "all"]
    assert not grand["is_masked"]
    assert any(row["n_duplicates"] == 0 for row in masked["stats.duplicate_exam"].to_pylist())
