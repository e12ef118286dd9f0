"""Attack the release of repeats: rounded counts, shares and doses of two tables together tell no small count.

Repeats by window, by body part and by city, and the dose of those that nothing excuses, count the same repeats. The
attacker knows the policy, that rows that are left out have few, what is part of what, exams of every modality and city
exactly, as from stats.exam_volume, and the typical doses of ref.dose_factor. Integer programming must find that every
small count could be another number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, lil_array, vstack

from radlake.contracts import load_table
from radlake.stats import release as releasing
from radlake.stats.coarse import LARGEST
from radlake.stats.policy import Policy
from radlake.stats.release import mask
from support.rows import rows

WINDOWS, DOSES = "stats.repeat_window", "stats.repeat_dose"
LABELS = {
    "modality_group": ("CT", "DX"),
    "body_part_code": ("CHEST", "HEAD", "KNEE", "NECK"),
    "region_code": ("320100", "320200"),
}
# What is counted of each cell; repeats that nothing excuses are those of all bases of their dose.
BASES = ("estimated", "typical")
ATOMS = ("n_exams", "n_repeats", *BASES, "n_potential_across_hospitals", "n_indexed", "n_indexed_repeated")
COUNTS = {name: (name,) for name in ATOMS if name not in BASES} | {"n_potential": BASES}
PARTS = (
    ("n_exams", "n_repeats"),
    ("n_repeats", "n_potential"),
    ("n_potential", "n_potential_across_hospitals"),
    ("n_indexed", "n_indexed_repeated"),
)
SHARES = {
    "repeat_share": ("n_repeats", "n_exams"),
    "potential_share": ("n_potential", "n_exams"),
    "potential_across_share": ("n_potential_across_hospitals", "n_exams"),
    "indexed_share": ("n_indexed_repeated", "n_indexed"),
}
SUMS = ("effective_dose_msv", "effective_dose_low_msv", "effective_dose_high_msv")
TYPICAL = dict(
    zip(
        product(*list(LABELS.values())[:2]),
        ((75, 3, 260), (20, 9, 40), (1, 1, 1), (59, 31, 90), (1, 1, 2), (7, 2, 30), (10, 5, 10), (2, 1, 2)),
        strict=True,
    )
)  # typical dose, low and high, in tenths of mSv
POLICIES = Policy(threshold=5), Policy(threshold=10, scope="public", left_open="every")

Key = tuple[str, ...]  # modality, body part, city
Cells = dict[Key, dict[str, int]]
CELLS: list[Key] = list(product(*LABELS.values()))
OF_WINDOWS = [
    key
    for key in product(*(("all", *labels) for labels in LABELS.values()))
    if key[2] == "all" or key[:2] == ("all", "all")
]  # by body part or by city
OF_DOSES = [key for key in OF_WINDOWS if key[2] == "all"]


def cells(seed: int) -> Cells:
    """Counts of each cell, each part of the one before it: most cells hold few repeats, in many or in few exams."""
    random = Random(seed)
    few = random.choice(((0, 0, 1, 2), (0, 1, 3, 5, 12), (0, 1, 4, 8, 30, 60)))
    found: Cells = {}
    for key in CELLS:
        estimated, typical, justified, repeated = (random.choice(few) for _ in range(4))
        if key[1] == "CHEST":
            typical += 150  # enough for a dose
        repeats = estimated + typical + justified
        others = [random.choice((0, 0, 6, 40, 3000)) for _ in range(2)]
        counts = (
            *(repeats + others[0], repeats, estimated, typical, random.randint(0, estimated + typical)),
            *(repeated + others[1], repeated),
        )
        found[key] = dict(zip(ATOMS, counts, strict=True))
    return found


def members(key: Key) -> list[Key]:
    return [one for one in CELLS if all(a in ("all", b) for a, b in zip(key, one, strict=True))]


def total(exact: Cells, key: Key, count: str) -> int:
    return sum(exact[one][atom] for one in members(key) for atom in COUNTS.get(count, (count,)))


@dataclass
class Known:
    """Sums over what is counted of all cells, and between which two numbers each lies."""

    lines: list[tuple[dict[int, float], float, float]] = field(default_factory=list)

    def add(self, sums: Sequence[tuple[float, Key, str]], low: float, high: float) -> None:
        """Counts of rows, each with a factor, add up to a number between two."""
        line: dict[int, float] = {}
        for factor, key, count in sums:
            for at in places(key, count):
                line[at] = line.get(at, 0.0) + factor
        self.lines.append((line, low, high))

    def count(self, key: Key, count: str, low: float, high: float) -> None:
        self.add([(1, key, count)], low, high)


def places(key: Key, count: str) -> list[int]:
    atoms = COUNTS.get(count, (count,))
    return [CELLS.index(one) * len(ATOMS) + ATOMS.index(atom) for one in members(key) for atom in atoms]


def release(exact: Cells, *, policy: Policy) -> dict[str, dict[Key, dict[str, Any]]]:
    """Rows of the lake by their labels; those of doses by the basis too."""
    windows, doses = [], []
    for key in OF_WINDOWS:
        counts = {count: total(exact, key, count) for count in COUNTS}
        if counts["n_exams"] or counts["n_indexed"]:
            shares = {name: counts[a] / counts[b] if counts[b] else None for name, (a, b) in SHARES.items()}
            fixed = {"rule_pack": "clinical_v1", "window_days": 30, "exam_year": "all", "hospital_level": "all"}
            windows.append(fixed | dict(zip(LABELS, key, strict=True)) | counts | shares | {"is_masked": False})
    for key, basis in product(OF_DOSES, BASES):
        row = {"exam_year": "all", "dose_basis": basis, "is_masked": False} | dict(zip(LABELS, key[:2], strict=False))
        if n := total(exact, key, basis):
            given = [TYPICAL[one[:2]] for one in members(key) for _ in range(exact[one][basis])]
            sums = [sum(column) for column in zip(*given, strict=True)]
            row |= {name: tenths / 10 for name, tenths in zip(SUMS, sums, strict=True)}
            row[LARGEST] = max(max(column) / sum(column) for column in zip(*given, strict=True))
            doses.append(row | {"n_repeats": n})
    shown = mask({WINDOWS: rows(WINDOWS, *windows), DOSES: rows(DOSES, *doses)}, policy=policy)
    found = {name: table.to_pylist() for name, table in shown.items()}
    return {
        WINDOWS: {tuple(row[name] for name in LABELS): row for row in found[WINDOWS]},
        DOSES: {(row["modality_group"], row["body_part_code"], row["dose_basis"]): row for row in found[DOSES]},
    }


def known_of(
    exact: Cells, released: Mapping[str, Mapping[Key, Mapping[str, Any]]], *, policy: Policy, tables=(WINDOWS, DOSES)
) -> Known:
    known, step = Known(), 2 * policy.threshold

    def add_rounded(key: Key, count: str, shown: int) -> None:
        known.count(key, count, max(shown - step // 2, 0), shown + step // 2 - 1)

    for modality, city in product(*(("all", *LABELS[name]) for name in ("modality_group", "region_code"))):
        for count in ("n_exams", "n_indexed"):
            if (n := total(exact, (modality, "all", city), count)) >= policy.threshold:
                known.count((modality, "all", city), count, n, n)
    for key in OF_WINDOWS if WINDOWS in tables else ():
        row = released[WINDOWS].get(key)
        if row is None:
            known.count(key, "n_exams", 0, step - 1)
            continue
        known.count(key, "n_exams", step, np.inf)
        for count in COUNTS:
            if row[count] is not None:
                add_rounded(key, count, row[count])
        for name, (part, whole) in SHARES.items():
            if (share := row[name]) is not None:
                unit = next(10**digits for digits in (2, 3, 4, 5, 6) if share == round(share, digits))
                twice = round(2 * unit * share)  # in whole numbers, which a solver does not round
                known.add([(2 * unit, key, part), (-twice - 1, key, whole)], -np.inf, 0)
                known.add([(2 * unit, key, part), (-twice + 1, key, whole)], 0, np.inf)
    for key, basis in product(OF_DOSES, BASES) if DOSES in tables else ():
        row = released[DOSES].get((*key[:2], basis))
        if row is None:
            known.count(key, basis, 0, step - 1)
        elif row["is_masked"]:
            known.count(key, basis, 1, policy.threshold - 1)
        else:
            add_rounded(key, basis, row["n_repeats"])
            for place, name in enumerate(SUMS) if basis == "typical" else ():
                if (shown := row[name]) is not None:
                    doses = [(TYPICAL[one[:2]][place], one, basis) for one in members(key)]
                    unit = unit_of(exact, key, place, step=step)
                    known.add(doses, 10 * shown - unit / 2, 10 * shown + unit / 2)
    for one, (whole, part) in product(CELLS, PARTS):
        known.add([(1, one, whole), (-1, one, part)], 0, np.inf)
    return known


def unit_of(exact: Cells, key: Key, place: int, *, step: int) -> float:
    """In what a sum of typical doses is rounded, in tenths of mSv: the attacker is told."""
    of_cell = [(TYPICAL[one[:2]], exact[one]["typical"]) for one in members(key) if exact[one]["typical"]]
    sums = sums_of(exact, key)
    largest = max(doses[at] / sums[at] for doses, _ in of_cell for at in range(len(SUMS)))
    return next(u for p in range(7) for u in (10**p, 2 * 10**p, 5 * 10**p) if u >= step * largest * sums[place])


def two_digits_of(exact: Cells, key: Key, place: int, *, step: int) -> float:
    """The same where sums have two digits, whatever the policy."""
    del step
    return 10 ** (len(str(sums_of(exact, key)[place])) - 2)


def sums_of(exact: Cells, key: Key) -> list[int]:
    """Typical doses, low and high, of a row, in tenths of mSv."""
    return [sum(TYPICAL[one[:2]][at] * exact[one]["typical"] for one in members(key)) for at in range(len(SUMS))]


def told(exact: Cells, known: Known, *, policy: Policy) -> tuple[int, list[tuple[Key, str, int]]]:
    """How many small counts there are, and those of them that cannot be another number."""
    low, high = (np.array([line[side] for line in known.lines]) for side in (1, 2))
    matrix = matrix_of([line for line, _, _ in known.lines])
    truth = np.array([exact[one][atom] for one, atom in product(CELLS, ATOMS)], dtype=float)
    assert ((matrix @ truth >= low) & (matrix @ truth <= high)).all(), "the attack adds up wrongly"
    small = [(key, count) for key in OF_WINDOWS for count in COUNTS if count not in ("n_exams", "n_indexed")]
    small += [(key, count) for key in OF_WINDOWS for count in ("n_exams", "n_indexed") if key[1] != "all"]
    small += list(product(OF_DOSES, BASES))
    small = [(key, count) for key, count in small if policy.is_small(total(exact, key, count))]
    asked = matrix_of([dict.fromkeys(places(key, count), 1.0) for key, count in small])
    numbers = asked @ truth
    is_open = np.zeros(len(small), dtype=bool)
    for at, number in enumerate(numbers):
        for other in (number + 1, number - 1):
            if is_open[at] or other < 1:
                continue
            found = milp(
                np.zeros(len(truth)),
                constraints=LinearConstraint(
                    vstack([matrix, asked[[at]]]).tocsr(), np.append(low, other), np.append(high, other)
                ),
                integrality=np.ones(len(truth)),
                bounds=Bounds(0, np.inf),
                options={"presolve": False},  # that of HiGHS calls some worlds impossible that are known
            )
            if found.status == 0:  # a world: every other small count that differs in it is open too
                world = asked @ np.round(found.x)
                is_open |= (world != numbers) & (world >= 1)
    return len(small), [(*small[at], int(numbers[at])) for at in np.flatnonzero(~is_open)]


def matrix_of(lines: Sequence[Mapping[int, float]]) -> csr_array:
    matrix = lil_array((len(lines), len(CELLS) * len(ATOMS)))
    for number, line in enumerate(lines):
        for at, factor in line.items():
            matrix[number, at] = factor
    return matrix.tocsr()


@pytest.mark.parametrize("policy", POLICIES, ids=["internal", "public"])
@pytest.mark.parametrize("seed", range(1, 5))
def test_every_small_count_could_be_another_number(seed: int, policy: Policy) -> None:
    exact = cells(seed)
    released = release(exact, policy=policy)
    for share in SHARES:
        assert any(row[share] is not None for row in released[WINDOWS].values())
    assert any(row[SUMS[0]] for (_, _, basis), row in released[DOSES].items() if basis == "typical")
    n_small, found = told(exact, known_of(exact, released, policy=policy), policy=policy)
    assert n_small > 30
    assert found == []


def test_the_attack_succeeds_when_exams_of_a_cell_are_told_too() -> None:
    policy, exact = POLICIES[0], cells(2)
    released = release(exact, policy=policy)
    known = known_of(exact, released, policy=policy)
    for key in released[WINDOWS]:
        known.count(key, "n_exams", n_exams := total(exact, key, "n_exams"), n_exams)
    assert told(exact, known, policy=policy)[1]


def test_the_attack_succeeds_when_few_doses_are_marked_instead_of_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they once were: that there is a repeat at all, and a sum in two digits, tell how many there are."""
    disclosure = load_table(DOSES).disclosure
    assert disclosure
    marked = replace(load_table(DOSES), disclosure=replace(disclosure, hidden=()))
    monkeypatch.setitem(globals(), "unit_of", two_digits_of)
    monkeypatch.setattr(releasing, "load_table", lambda name: marked if name == DOSES else load_table(name))
    policy, exact = POLICIES[0], cells(3)
    known = known_of(exact, release(exact, policy=policy), policy=policy)
    assert told(exact, known, policy=policy)[1]
