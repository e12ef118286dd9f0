"""The window SQL against a naive reference: every pair of exams, in plain Python."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime, timedelta
from itertools import product
from random import Random
from typing import Any

import pytest

from support.rows import rows
from support.statistics import tables

START = datetime(2024, 6, 1)


def random_exams(random: Random, *, n: int) -> list[dict[str, Any]]:
    """Few persons and parts, so that everything meets: ties, same days, all sides, unknown persons, parts and dates."""
    made = []
    for number in range(n):
        at = START + timedelta(days=random.randrange(200), minutes=random.choice([0, 1, 600, 1439]))
        made.append(
            {
                "hospital_id": random.choice(["h1", "h2", "h3"]),
                "exam_pseudo_id": f"e{number}",
                "patient_key": random.randrange(12),
                "true_at": None if random.random() < 0.05 else at,
                "modality_group": random.choice(["CT", "DX"]),
                "body_part_code": random.choice(["CHEST", "KNEE", "UNKNOWN"]),
                "laterality_code": random.choice(["L", "R", "B", "U", "NONE"]),
            }
        )
    return made


def is_compatible(one: str, other: str) -> bool:
    return {one, other} != {"L", "R"}


def naive(exams: list[dict[str, Any]], *, unknown: set[int]) -> Counter[tuple[Any, ...]]:
    """(window, scope, month, hospital, modality, what) -> count, with all totals."""
    dated = [exam for exam in exams if exam["true_at"] is not None]
    first = {}
    for hospital in {exam["hospital_id"] for exam in dated}:
        days = sorted(exam["true_at"].date() for exam in dated if exam["hospital_id"] == hospital)
        first[hospital] = days[math.ceil(len(days) * 0.05) - 1]
    found: Counter[tuple[Any, ...]] = Counter()
    for exam, window in product(dated, (30, 90)):
        day = exam["true_at"].date()
        if (day - first[exam["hospital_id"]]).days < window:
            continue
        is_matchable = exam["patient_key"] not in unknown and exam["body_part_code"] != "UNKNOWN"
        earlier = [
            other
            for other in dated
            if is_matchable
            and all(other[name] == exam[name] for name in ("patient_key", "modality_group", "body_part_code"))
            and is_compatible(other["laterality_code"], exam["laterality_code"])
            and other["true_at"].date() < day
        ]
        latest = max(earlier, key=lambda other: (other["true_at"], other["hospital_id"]), default=None)
        where = None
        if latest is not None and (day - latest["true_at"].date()).days <= window:
            where = "within_hospital" if latest["hospital_id"] == exam["hospital_id"] else "across_hospitals"
        for scope, month, hospital, modality in product(
            ("any", "within_hospital", "across_hospitals"),
            (f"{day:%Y-%m}", "all"),
            (exam["hospital_id"], "all"),
            (exam["modality_group"], "all"),
        ):
            key = window, scope, month, hospital, modality
            found[*key, "n_exams"] += 1
            found[*key, "n_unmatchable"] += not is_matchable
            found[*key, "n_duplicates"] += where is not None and scope in ("any", where)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_the_window_query_counts_what_every_pair_says(seed: int) -> None:
    random = Random(seed)
    exams = random_exams(random, n=260)
    unknown = {3}
    offsets = {key: -random.randrange(1, 366) for key in range(12)}
    lake = rows(
        "core.exam",
        *(
            {name: value for name, value in exam.items() if name != "true_at"}
            | {
                "study_at": exam["true_at"] and exam["true_at"] + timedelta(days=offsets[exam["patient_key"]]),
                "is_patient_known": exam["patient_key"] not in unknown,
            }
            for exam in exams
        ),
    )
    with tables({"core.exam": lake}, offsets=offsets) as db:
        db.build("stats.duplicate_exam")
        found = {
            (*key, name): value
            for *key, n_exams, n_unmatchable, n_duplicates in db.rows(
                "SELECT window_days, scope, exam_month, hospital_id, modality_group,"
                " n_exams, n_unmatchable, n_duplicates FROM stats.duplicate_exam"
            )
            for name, value in (
                ("n_exams", n_exams),
                ("n_unmatchable", n_unmatchable),
                ("n_duplicates", n_duplicates),
            )
        }
    expected = naive(exams, unknown=unknown)
    assert found == expected
    assert expected[30, "within_hospital", "all", "all", "all", "n_duplicates"] > 0
    assert expected[30, "across_hospitals", "all", "all", "all", "n_duplicates"] > 0


def test_an_empty_lake_has_empty_statistics() -> None:
    names = ("core.exam", "stats.exam_volume", "stats.duplicate_exam", "stats.film_saving", "stats.exam_rate")
    with tables({}) as db:
        db.build(*names)
        for name in names:
            assert db.rows(f"SELECT count(*) FROM {name}") == [(0,)], name
            assert db.problems(name) == []


def test_rows_come_in_no_order_but_are_the_same() -> None:
    """The same exams in another order give the same statistic."""
    made = random_exams(Random(7), n=200)
    lakes = []
    for exams in (made, made[::-1]):
        data = rows(
            "core.exam",
            *({k: v for k, v in exam.items() if k != "true_at"} | {"study_at": exam["true_at"]} for exam in exams),
        )
        with tables({"core.exam": data}) as db:
            db.build("stats.exam_volume", "stats.duplicate_exam")
            lakes.append([sorted(db.rows(f"FROM {name}")) for name in ("stats.exam_volume", "stats.duplicate_exam")])
    assert lakes[0] == lakes[1]
