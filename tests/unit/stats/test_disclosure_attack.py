"""Attack the masked statistics: solve for every withheld count from everything that is shown.

The attacker knows the SQL, the threshold and the labels of all rows. Linear programming gives the exact interval of
every withheld count. Where a policy leaves every number open, the interval of a small count must reach from the least
that it can be to just below the threshold. Where it leaves one open, integer programming must find another number.
The attack is told nothing by the code under test: it adds up cells by their labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import Bounds as Limits
from scipy.optimize import LinearConstraint, linprog, milp

from radlake.contracts import load_table
from radlake.resources import schemas_root
from radlake.sqlrun.reference import read_csv
from radlake.stats import release
from radlake.stats.policy import Policy
from support.rows import rows
from support.statistics import tables

TABLES = (
    "stats.exam_volume",
    "stats.duplicate_exam",
    "stats.film_saving",
    "stats.exam_rate",
    "stats.film_demand",
    "stats.dose",
)
Bounds = list[tuple[float, float | None]]
EXAMS = TABLES[:4]  # they count the same exams
HOSPITALS = {"h1": "320500", "h2": "320583", "h3": "320100", "h4": "UNKNOWN"}
THRESHOLD = 10
ONE, EVERY = (Policy(threshold=THRESHOLD, left_open=left_open) for left_open in ("one", "every"))
POLICIES = pytest.mark.parametrize("policy", [ONE, EVERY], ids=["one", "every"])


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
    demand = rows(
        "ref.film_demand",
        *(
            {"hospital_id": hospital, "film_month": month, "modality_group": modality, "reason_code": reason,
             "n_exams": random.choice((1, 2, 3, 8, 20, 90)), "n_sheets": 100}
            for hospital in HOSPITALS for month in (202511, 202512) for modality in ("CT", "MR")
            for reason in ("outside_visit", "operation", "own_wish") if random.random() < 0.7
        ),
    )  # fmt: skip
    doses = rows(
        "core.exam_dose",
        *(
            {key: one[key] for key in ("hospital_id", "exam_pseudo_id", "patient_key", "modality_group", "body_part_code")}  # noqa: E501
            | {"study_month": 202511, "is_adult": True, "dose_source": "rdsr", "n_events": 1}
            for one in made if one["modality_group"] == "CT" and random.random() < 0.3
        ),
    )  # fmt: skip
    prices = read_csv(schemas_root() / "ref" / "defaults" / "price.csv", name="ref.price")
    with tables({"core.exam": rows("core.exam", *made), "ref.price": prices, "ref.population": population,
                 "ref.film_demand": demand, "core.exam_dose": doses}) as db:  # fmt: skip
        db.build(*TABLES)
        exact = {name: db.connection.sql(f"FROM {name}").to_arrow_table() for name in TABLES}
        return {name: data.sort_by([(d, "ascending") for d in load_table(name).key]) for name, data in exact.items()}


@cache
def released(seed: int, *, n: int, policy: Policy) -> dict[str, pa.Table]:
    """Those statistics as they are shown: the same in every test, and seconds of work."""
    return release.mask(statistics(seed, n=n), policy=policy)


def system(name: str, exact: pa.Table, count: str) -> tuple[np.ndarray, np.ndarray, Bounds]:
    """(matrix, values, bounds): the count of every row as a sum of the cells of the table."""
    table = load_table(name)
    assert table.disclosure is not None
    dimensions = list(table.disclosure.dimensions)
    found = exact.to_pylist()
    additive = [d for d in dimensions if any(row[d] in ("all", "any") for row in found)]
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
    if count == "n_duplicates":
        return matrix, values, [(0.0, row["n_exams"] if row["n_exams"] >= THRESHOLD else None) for row in cells]
    return matrix, values, [(1.0, None)] * len(cells)


def is_told(target: np.ndarray, count: float, known: dict[str, Any], policy: Policy, *, lowest: float) -> str:
    """What can be told of a small sum of cells that should not; `lowest` is known of it if nothing is shown."""
    most = linprog(-target, **known, method="highs")
    assert most.status in (0, 3), most.message
    high = -most.fun if most.status == 0 else np.inf
    if policy.left_open == "one" and high > count + 1 - 1e-6 and is_possible(target, count + 1, np.inf, known):
        return ""
    least = linprog(target, **known, method="highs")
    assert least.status == 0, least.message
    if policy.left_open == "every":
        told = least.fun > lowest + 1e-6 or high < THRESHOLD - 1 - 1e-6
    else:
        told = least.fun > count - 1 + 1e-6 or not is_possible(target, lowest, count - 1, known)
    return f"is {count:.0f}, between {least.fun:.1f} and {high:.1f}" if told else ""


def is_possible(target: np.ndarray, low: float, high: float, known: dict[str, Any]) -> bool:
    """Whether whole numbers of things in cells fit everything known when a sum of cells lies between two numbers."""
    bounds = known["bounds"] if isinstance(known["bounds"], list) else [known["bounds"]] * len(target)
    rules = [LinearConstraint(target, low, high)]
    if "A_eq" in known:
        rules.append(LinearConstraint(known["A_eq"], known["b_eq"], known["b_eq"]))
    if "A_ub" in known:
        rules.append(LinearConstraint(known["A_ub"], -np.inf, known["b_ub"]))
    limits = Limits([a for a, _ in bounds], [np.inf if b is None else b for _, b in bounds])
    found = milp(np.zeros(len(target)), constraints=rules, bounds=limits, integrality=np.ones(len(target)))
    assert found.status in (0, 2), found.message
    return found.status == 0


def attack(name: str, exact: pa.Table, masked: pa.Table, count: str, policy: Policy) -> list[str]:
    """What can be told of withheld counts that should not."""
    matrix, values, bounds = system(name, exact, count)
    shown = ~np.array(masked.column("is_masked").to_pylist(), dtype=bool)
    known = {"A_eq": matrix[shown], "b_eq": values[shown], "bounds": bounds}
    found = {}
    for row in np.flatnonzero(~shown & (values > 0) & (values < THRESHOLD)):
        key = matrix[row].tobytes()
        if key not in found:
            lowest = max(1.0, bounds[0][0] * matrix[row].sum())  # every cell of a total is at least one
            told = is_told(matrix[row], values[row], known, policy, lowest=lowest)
            found[key] = f"row {row}: {told}" if told else ""
    return [line for line in found.values() if line]


COUNTS = [
    (name, count)
    for name in TABLES
    for count in ("n_exams", "n_duplicates", "n_exams_asked", "n_reported")
    if count in load_table(name).column_names
]


@POLICIES
@pytest.mark.parametrize(("seed", "n"), [(2, 900), (3, 3000)])
def test_nothing_withheld_can_be_told_from_what_is_shown(seed: int, n: int, policy: Policy) -> None:
    exact, masked = statistics(seed, n=n), released(seed, n=n, policy=policy)
    n_rows = 0
    for name, count in COUNTS:
        assert attack(name, exact[name], masked[name], count, policy) == [], (name, count)
        n_rows += sum(masked[name].column("is_masked").to_pylist())
    assert n_rows > 20


@dataclass(frozen=True)
class Exams:
    """All numbers of exams of all tables as sums of the same cells.

    A cell is a month, hospital and modality, split by the longest window for which its exams are counted. `matrix` has
    a line for every row of `rows` (table, position, count); `cost` has what a cell adds to the film cost of the row.
    """

    cells: np.ndarray
    matrix: np.ndarray
    cost: np.ndarray
    rows: list[tuple[str, int, int]]

    @classmethod
    def of(cls, exact: dict[str, pa.Table]) -> Exams:
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
        saving = exact["stats.film_saving"].to_pylist()
        film = {tuple(r[label] for label in labels): r["film_cost_fen"] // r["n_exams"] for r in saving if r["n_exams"]}
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

        rows = [(name, i, row) for name in EXAMS for i, row in enumerate(exact[name].to_pylist())]
        matrix = np.array([[float(is_in(name, row, *cell)) for cell in cells] for name, _, row in rows])
        prices = np.array([film.get(key, 0) / 100 for key, _ in cells], dtype=float)
        cost = np.array(
            [line * prices * (name == "stats.film_saving") for line, (name, *_) in zip(matrix, rows, strict=True)]
        )
        found = cls(np.array(numbers, dtype=float), matrix, cost, [(name, i, row["n_exams"]) for name, i, row in rows])
        assert np.array_equal(matrix @ found.cells, [n for *_, n in found.rows]), "the attack adds up wrongly"
        return found


def told(exact: dict[str, pa.Table], masked: dict[str, pa.Table], policy: Policy) -> list[str]:
    """What everything that is shown in all tables tells of small withheld numbers of exams.

    The attacker subtracts, adds and weighs all numbers and costs that are shown, rounded ones within their rounding,
    and knows that every cell holds an exam: the answer of the programs is all that can be known.
    """
    exams = Exams.of(exact)
    shown = {name: masked[name].to_pylist() for name in EXAMS}
    limits = []
    for line, cost, (name, i, _) in zip(exams.matrix, exams.cost, exams.rows, strict=True):
        row = shown[name][i]
        if not row["is_masked"]:
            is_total = all(row[d] == "all" for d in load_table(name).key)
            limits.append((line, row["n_exams"], 0.0 if is_total else policy.rounding / 2 - 0.5))
            if row.get("film_cost_fen"):
                limits.append((cost, row["film_cost_fen"] / 100, 0.0))
    matrix, values = np.array([line for line, *_ in limits]), np.array([value for _, value, _ in limits])
    within = np.array([slack for *_, slack in limits])
    exact_ones = within == 0
    known: dict[str, Any] = {"bounds": (1.0, None)}
    if exact_ones.any():
        known |= {"A_eq": matrix[exact_ones], "b_eq": values[exact_ones]}
    if not exact_ones.all():
        coarse, value, slack = matrix[~exact_ones], values[~exact_ones], within[~exact_ones]
        known |= {"A_ub": np.vstack([coarse, -coarse]), "b_ub": np.concatenate([value + slack, slack - value])}
    found = {}
    for line, (name, i, count) in zip(exams.matrix, exams.rows, strict=True):
        key = line.tobytes()
        if shown[name][i]["is_masked"] and 0 < count < THRESHOLD and key not in found:
            told = is_told(line, count, known, policy, lowest=max(1.0, line.sum()))
            found[key] = f"{name} {i}: {told}" if told else ""
    return [line for line in found.values() if line]


def pairs_that_tell(exact: dict[str, pa.Table], masked: dict[str, pa.Table]) -> int:
    """Small withheld rows that are the difference of two shown rows, of whatever tables."""
    exams = Exams.of(exact)
    hidden = {name: masked[name].column("is_masked").to_pylist() for name in EXAMS}
    of = {line.tobytes() for line, (name, i, _) in zip(exams.matrix, exams.rows, strict=True) if not hidden[name][i]}
    lines = np.array([np.frombuffer(one) for one in sorted(of)])
    small = {
        line.tobytes()
        for line, (name, i, n) in zip(exams.matrix, exams.rows, strict=True)
        if hidden[name][i] and 0 < n < THRESHOLD
    }
    return sum(any((line + np.frombuffer(one)).tobytes() in of for line in lines) or one in of for one in small)


SEEDS = [(1, 600), (2, 900), (3, 3000)]


@POLICIES
@pytest.mark.parametrize(("seed", "n"), SEEDS)
@pytest.mark.parametrize("rounding", [1, 5], ids=["exact", "rounded"])
def test_no_combination_of_tables_tells_of_few(seed: int, n: int, rounding: int, policy: Policy) -> None:
    exact = statistics(seed, n=n)
    policy = replace(policy, rounding=rounding)
    masked = released(seed, n=n, policy=policy)
    assert told(exact, masked, policy) == []
    assert pairs_that_tell(exact, masked) == 0
    assert any(not one for one in masked["stats.exam_volume"].column("is_masked").to_pylist()), "something is shown"


@POLICIES
def test_the_attack_succeeds_when_each_table_is_masked_by_itself(policy: Policy) -> None:
    exact = statistics(3, n=3000)
    alone = {name: release.mask({name: data}, policy=policy)[name] for name, data in exact.items()}
    assert len(told(exact, alone, policy)) > (10 if policy == EVERY else 3)


@POLICIES
def test_the_attack_succeeds_without_complementary_suppression(policy: Policy) -> None:
    exact = statistics(3, n=3000)
    masked = release.mask(exact, policy=replace(policy, complementary=False))
    assert pairs_that_tell(exact, masked) > 10
    assert len(told(exact, masked, policy)) > 30
    for name, count in (("stats.exam_volume", "n_exams"), ("stats.duplicate_exam", "n_duplicates")):
        assert attack(name, exact[name], masked[name], count, policy), (name, count)


def test_the_attack_succeeds_when_one_of_the_rows_withheld_besides_is_shown() -> None:
    """A masker that forgets a row: rows that hold nothing small are withheld for a reason."""
    exact = statistics(1, n=600)
    masked = released(1, n=600, policy=ONE)
    data, counts = masked["stats.exam_volume"], exact["stats.exam_volume"].column("n_exams").to_pylist()
    hidden = data.column("is_masked").to_pylist()
    besides = [i for i, n in enumerate(counts) if hidden[i] and n >= THRESHOLD][:6]
    assert len(besides) == 6
    n_told = 0
    for i in besides:
        forgotten = [
            {**row, "n_exams": counts[i], "is_masked": False} if number == i else row
            for number, row in enumerate(data.to_pylist())
        ]
        shown = pa.Table.from_pylist(forgotten, schema=data.schema)
        n_told += bool(told(exact, masked | {"stats.exam_volume": shown}, ONE))
    assert n_told > 0


def test_what_is_left_open_is_a_policy() -> None:
    """Whoever asks for every number finds that one is not enough; and every number costs more rows."""
    exact = statistics(3, n=3000)
    one, every = (released(3, n=3000, policy=policy) for policy in (ONE, EVERY))
    assert len(told(exact, one, EVERY)) > 10
    assert n_withheld(one) < n_withheld(every)


def n_withheld(masked: dict[str, pa.Table]) -> int:
    return sum(sum(table.column("is_masked").to_pylist()) for table in masked.values())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_masked_and_what_is_not(seed: int) -> None:
    exact = statistics(seed, n=900)
    for name, masked in released(seed, n=900, policy=EVERY).items():
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
    exact, masked = statistics(2, n=900), released(2, n=900, policy=EVERY)
    grand = [
        row
        for row in masked["stats.exam_volume"].to_pylist()
        if row["exam_month"] == row["hospital_id"] == row["modality_group"] == "all"
    ]
    assert [row["n_exams"] for row in grand] == [900]
    alone = release.mask(exact, policy=Policy(threshold=THRESHOLD, complementary=False))
    assert 0 in alone["stats.duplicate_exam"].column("n_duplicates").to_pylist()


def test_the_threshold_is_a_policy() -> None:
    n_masked = [n_withheld(released(2, n=900, policy=Policy(threshold=t))) for t in (1, 5, 10)]
    assert n_masked[0] == 0
    assert n_masked[1] < n_masked[2]


def test_the_same_statistics_are_masked_the_same() -> None:
    exact = statistics(1, n=600)
    shuffled = {name: table.take(list(range(table.num_rows - 1, -1, -1))) for name, table in exact.items()}
    masked, again = released(1, n=600, policy=ONE), release.mask(shuffled, policy=ONE)
    assert again == masked
