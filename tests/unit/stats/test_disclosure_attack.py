"""Attack the masked statistics: solve for every withheld count from everything that is shown.

The attacker knows the SQL, the threshold and the labels of all rows. Linear programming gives the exact interval of
every withheld count; a small count must be able to be anything below the threshold. The attack is told nothing by the
code under test: it adds up cells by their labels.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import linprog

from radlake.contracts import load_table
from radlake.resources import schemas_root
from radlake.sqlrun.reference import read_csv
from radlake.stats import disclosure, linked, release
from radlake.stats.policy import Policy
from support.rows import rows
from support.statistics import tables

TABLES = ("stats.exam_volume", "stats.duplicate_exam", "stats.film_saving", "stats.exam_rate")
HOSPITALS = {"h1": "320500", "h2": "320583", "h3": "320100", "h4": "UNKNOWN"}
THRESHOLD = 10
POLICY = Policy(threshold=THRESHOLD)


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


def system(name: str, exact: pa.Table, count: str) -> tuple[np.ndarray, np.ndarray, list[tuple[float, None]]]:
    """(matrix, values, bounds): the count of every row as a sum of the cells of the table."""
    table = load_table(name)
    assert table.disclosure is not None
    dimensions = list(table.disclosure.dimensions)
    found = exact.to_pylist()
    additive = [d for d in dimensions if d not in ("window_days", "exam_year")]
    if count == "n_exams" and name == "stats.duplicate_exam":
        additive.remove("scope")  # every scope shows the same exams

    def is_cell(row: dict[str, Any]) -> bool:
        return all(row[d] not in ("all", "any") for d in additive) and row.get("scope", "any") in (
            {"any"} if "scope" not in additive else {"within_hospital", "across_hospitals"}
        )

    cells = [row for row in found if is_cell(row)]
    matrix = np.zeros((len(found), len(cells)))
    for i, row in enumerate(found):
        for j, cell in enumerate(cells):
            if name == "stats.exam_rate" and row["region_code"] == "all" and cell["n_residents"] is None:
                continue
            is_in = all(row[d] in ("all", "any", cell[d]) if d in additive else True for d in dimensions)
            matrix[i, j] = is_in and all(row[d] == cell[d] for d in dimensions if d not in (*additive, "scope"))
    values = np.array([row[count] for row in found], dtype=float)
    assert np.array_equal(matrix @ np.array([cell[count] for cell in cells]), values), "the attack adds up wrongly"
    floor = 0.0 if count == "n_duplicates" else 1.0
    return matrix, values, [(floor, None)] * len(cells)


def intervals(
    matrix: np.ndarray, values: np.ndarray, bounds: list[tuple[float, None]], *, shown: np.ndarray
) -> dict[int, tuple[float, float]]:
    """What every row that is not shown can be: (least, most)."""
    options = {"A_eq": matrix[shown], "b_eq": values[shown], "bounds": bounds, "method": "highs"}
    found = {}
    for row in np.flatnonzero(~shown):
        least = linprog(matrix[row], **options)
        most = linprog(-matrix[row], **options)
        assert least.status in (0, 3), least.message
        assert most.status in (0, 3), most.message
        found[int(row)] = (least.fun if least.status == 0 else 0.0, -most.fun if most.status == 0 else np.inf)
    return found


def attack(name: str, exact: pa.Table, masked: pa.Table, count: str) -> list[str]:
    """What can be told of withheld counts that should not."""
    matrix, values, bounds = system(name, exact, count)
    shown = ~np.array(masked.column("is_masked").to_pylist(), dtype=bool)
    told = []
    for row, (least, most) in intervals(matrix, values, bounds, shown=shown).items():
        value = values[row]
        lowest = max(1.0, bounds[0][0] * matrix[row].sum())  # every cell of a total is at least one
        if 0 < value < THRESHOLD and (least > lowest + 1e-6 or most < THRESHOLD - 1 - 1e-6):
            told.append(f"row {row}: is {value:.0f}, between {least:.1f} and {most:.1f}")
    return told


COUNTS = [
    (name, count) for name in TABLES for count in ("n_exams", "n_duplicates") if count in load_table(name).column_names
]


@pytest.mark.parametrize(("seed", "n"), [(1, 250), (2, 900), (3, 3000)])
def test_nothing_withheld_can_be_told_from_what_is_shown(seed: int, n: int) -> None:
    exact = statistics(seed, n=n)
    masked = release.mask(exact, policy=POLICY)
    n_withheld = 0
    for name, count in COUNTS:
        assert attack(name, exact[name], masked[name], count) == [], (name, count)
        n_withheld += sum(masked[name].column("is_masked").to_pylist())
    assert n_withheld > 20


def together(exact: dict[str, pa.Table]) -> tuple[np.ndarray, list[tuple[str, int, int]]]:
    """All numbers of exams of all tables as sums of the same cells: (matrix, table and position and count of each row).

    A cell is a month, hospital and modality, split by the longest window for which its exams are counted.
    """
    labels = ("exam_month", "hospital_id", "modality_group")
    volume = exact["stats.exam_volume"].to_pylist()
    region_of = {row["hospital_id"]: row["region_code"] for row in volume}
    observed = {
        (row["window_days"], *(row[label] for label in labels)): row["n_exams"]
        for row in exact["stats.duplicate_exam"].to_pylist()
        if row["scope"] == "any"
    }
    cells, numbers = [], []
    for row in volume:
        key = tuple(row[label] for label in labels)
        if "all" not in key:
            n_exams = [row["n_exams"], observed.get((30, *key), 0), observed.get((90, *key), 0), 0]
            for window, more, fewer in zip((0, 30, 90), n_exams, n_exams[1:], strict=False):
                if more > fewer:
                    cells.append((key, window))
                    numbers.append(more - fewer)
    film = {tuple(r[label] for label in labels) for r in exact["stats.film_saving"].to_pylist()}
    rate = exact["stats.exam_rate"].to_pylist()
    populated = {(row["exam_year"], row["region_code"]) for row in rate if row["n_residents"] is not None}

    def is_in(name: str, row: dict[str, Any], key: tuple[str, ...], window: int) -> bool:
        month, hospital, modality = key
        if name == "stats.exam_rate":
            region = region_of[hospital] if region_of[hospital] == "UNKNOWN" else region_of[hospital][:4] + "00"
            year = month if month == "unknown" else month[:4]
            if row["region_code"] not in (region, "all") or (
                row["region_code"] == "all" and (year, region) not in populated
            ):
                return False
            return row["exam_year"] == year and row["modality_group"] in (modality, "all")
        if name == "stats.film_saving" and key not in film:
            return False
        return window >= row.get("window_days", 0) and all(
            row[label] in (one, "all") for label, one in zip(labels, key, strict=True)
        )

    rows = [(name, i, row) for name in TABLES for i, row in enumerate(exact[name].to_pylist())]
    matrix = np.array([[float(is_in(name, row, *cell)) for cell in cells] for name, _, row in rows])
    assert np.array_equal(matrix @ np.array(numbers), [row["n_exams"] for *_, row in rows]), (
        "the attack adds up wrongly"
    )
    return matrix, [(name, i, row["n_exams"]) for name, i, row in rows]


def calculated(exact: dict[str, pa.Table], masked: dict[str, pa.Table]) -> list[tuple[str, int, int]]:
    """Small withheld numbers of exams that follow from everything shown in all tables."""
    matrix, rows = together(exact)
    hidden = {name: masked[name].column("is_masked").to_pylist() for name in TABLES}
    is_shown = np.array([not hidden[name][i] for name, i, _ in rows])
    _, singular, right = np.linalg.svd(matrix[is_shown], full_matrices=True)
    free = right[int((singular > 1e-9).sum()) :].T
    follows = np.abs(matrix @ free).max(axis=1, initial=0.0) < 1e-7
    return [
        row
        for row, fixed, shown in zip(rows, follows, is_shown, strict=True)
        if fixed and not shown and 0 < row[2] < THRESHOLD
    ]


@pytest.mark.parametrize(("seed", "n"), [(1, 250), (2, 900), (3, 3000)])
@pytest.mark.parametrize("few_cells", [600, 0], ids=["all cells at once", "some hospitals at a time"])
def test_no_difference_of_two_tables_gives_a_small_number_away(
    seed: int, n: int, few_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linked, "_FEW_CELLS", few_cells)
    exact = statistics(seed, n=n)
    assert calculated(exact, release.mask(exact, policy=POLICY)) == []


def test_the_attack_across_tables_succeeds_when_each_table_is_masked_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "withhold_linked", lambda *_, **__: None)
    exact = statistics(3, n=3000)
    assert len(calculated(exact, release.mask(exact, policy=POLICY))) > 10


def test_the_attack_succeeds_against_masking_small_counts_alone() -> None:
    """The attack has teeth: without complementary suppression it reads withheld counts."""
    exact = statistics(2, n=900)["stats.exam_volume"]
    table = load_table("stats.exam_volume")
    small = disclosure.small_rows(table, exact.to_pylist(), policy=POLICY)
    told = attack("stats.exam_volume", exact, disclosure.withhold(table, exact, small), "n_exams")
    assert any(line.endswith(f"is {n}, between {n}.0 and {n}.0") for line in told for n in range(1, THRESHOLD))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_masked_and_what_is_not(seed: int) -> None:
    exact = statistics(seed, n=900)
    for name, masked in release.mask(exact, policy=POLICY).items():
        table = load_table(name)
        assert table.disclosure is not None
        assert table.problems(masked) == []
        before_masking = exact[name].sort_by([(d, "ascending") for d in table.disclosure.dimensions]).to_pylist()
        for before, after in zip(before_masking, masked.to_pylist(), strict=True):
            counts = [before[count] for count in table.disclosure.counts]
            hidden = [*table.disclosure.counts, *table.disclosure.dependent]
            if any(0 < count < THRESHOLD for count in counts):
                assert after["is_masked"]
            if after["is_masked"]:
                assert all(after[column] is None for column in hidden)
                assert all(after[c] == before[c] for c in table.column_names if c not in (*hidden, "is_masked"))
            else:
                assert after == before


def test_grand_totals_stay_and_zero_is_shown() -> None:
    exact = statistics(2, n=900)
    masked = release.mask(exact, policy=POLICY)
    grand = [
        row
        for row in masked["stats.exam_volume"].to_pylist()
        if row["exam_month"] == row["hospital_id"] == row["modality_group"] == "all"
    ]
    assert [row["n_exams"] for row in grand] == [900]
    assert 0 in masked["stats.duplicate_exam"].column("n_duplicates").to_pylist()


def test_the_threshold_is_a_policy() -> None:
    exact = statistics(2, n=900)
    n_masked = [
        sum(
            sum(table.column("is_masked").to_pylist())
            for table in release.mask(exact, policy=Policy(threshold=t)).values()
        )
        for t in (1, 5, 10)
    ]
    assert n_masked[0] == 0
    assert n_masked[1] < n_masked[2]


def test_the_same_statistics_are_masked_the_same() -> None:
    exact = statistics(1, n=250)
    shuffled = {name: table.take(list(range(table.num_rows - 1, -1, -1))) for name, table in exact.items()}
    masked, again = release.mask(exact, policy=POLICY), release.mask(shuffled, policy=POLICY)
    assert again == masked
