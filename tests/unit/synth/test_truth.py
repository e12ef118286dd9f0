from __future__ import annotations

from datetime import date, datetime
from operator import attrgetter

import duckdb
import pyarrow as pa
import pytest

from radlake.synth.persons import Person
from radlake.synth.protocols import PROTOCOLS
from radlake.synth.province import Exam, Province, make_province
from radlake.synth.truth import Scope, count_duplicates, duplicate_pairs


def exams_from(table: str) -> list[Exam]:
    """Exams of a table: person, hospital, modality, body part, side, time."""
    exams = []
    for number, line in enumerate(table.strip().splitlines()):
        person, hospital, modality, body_part, side, started_at = line.split()
        exams.append(
            Exam(
                exam_id=str(number),
                hospital_id=hospital,
                person=Person(person, "", "F", date(1980, 1, 1), f"id-{person}", ""),
                patient_id=f"{person}-in-{hospital}",
                has_national_id=True,
                accession_number="",
                started_at=datetime.fromisoformat(started_at),
                protocol=next(p for p in PROTOCOLS if (p.modality, p.body_part) == (modality, body_part)),
                laterality=side.strip("-"),
                has_body_part=True,
                is_emergency=False,
            )
        )
    return exams


def pairs(table: str, *, window_days: int = 30, scope: Scope = "any") -> list[tuple[str, str, int]]:
    found = duplicate_pairs(exams_from(table), window_days=window_days, scope=scope)
    return [(pair.earlier.exam_id, pair.later.exam_id, pair.days) for pair in found]


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        pytest.param("p1 h2 CT CHEST - 2026-03-09", [("0", "1", 8)], id="elsewhere, 8 days later"),
        pytest.param("p1 h1 CT CHEST - 2026-03-31T23:59", [("0", "1", 30)], id="the last day of the window"),
        pytest.param("p1 h1 CT CHEST - 2026-04-01", [], id="one day after the window"),
        pytest.param("p1 h1 CT CHEST - 2026-03-01T18:00", [], id="on the same day"),
        pytest.param("p1 h1 CT CHEST - 2026-03-02T00:10", [("0", "1", 1)], id="after midnight is another day"),
        pytest.param("p2 h1 CT CHEST - 2026-03-09", [], id="another person"),
        pytest.param("p1 h1 DX CHEST - 2026-03-09", [], id="another modality"),
        pytest.param("p1 h1 CT ABDOMEN - 2026-03-09", [], id="another body part"),
    ],
)
def test_a_second_exam_is_a_duplicate_of_the_first(second: str, expected: list[tuple[str, str, int]]) -> None:
    assert pairs(f"p1 h1 CT CHEST - 2026-03-01T10:00\n{second}") == expected


@pytest.mark.parametrize(
    ("one", "other", "is_duplicate"), [("L", "L", True), ("L", "R", False), ("L", "-", True), ("-", "R", True)]
)
def test_sides(one: str, other: str, is_duplicate: bool) -> None:
    table = f"p1 h1 DX KNEE {one} 2026-03-01\np1 h1 DX KNEE {other} 2026-03-09"
    assert bool(pairs(table)) is is_duplicate


def test_each_exam_repeats_the_latest_earlier_one() -> None:
    table = "p1 h1 CT CHEST - 2026-03-01\np1 h2 CT CHEST - 2026-03-09\np1 h1 CT CHEST - 2026-03-11"
    assert pairs(table) == [("0", "1", 8), ("1", "2", 2)]
    assert pairs(table, scope="within_hospital") == [("0", "2", 10)]
    assert pairs(table, scope="across_hospitals") == [("0", "1", 8), ("1", "2", 2)]


def test_an_exam_of_the_same_day_does_not_hide_an_earlier_one() -> None:
    table = "p1 h1 CT CHEST - 2026-03-01\np1 h1 CT CHEST - 2026-03-09T08:00\np1 h1 CT CHEST - 2026-03-09T09:00"
    assert pairs(table) == [("0", "1", 8), ("0", "2", 8)]


def test_the_denominator_holds_exams_whose_window_was_observed() -> None:
    exams = exams_from("p1 h1 CT CHEST - 2026-03-01\np1 h1 CT CHEST - 2026-03-30\np1 h1 CT CHEST - 2026-03-31")
    assert count_duplicates(exams, start=date(2026, 3, 1), window_days=30) == (1, 1)


@pytest.fixture(scope="module")
def province() -> Province:
    return make_province(seed=5, n_exams=400)


@pytest.mark.parametrize("window_days", [30, 90])
@pytest.mark.parametrize(
    ("scope", "condition"),
    [
        ("any", "true"),
        ("within_hospital", "a.hospital_id = b.hospital_id"),
        ("across_hospitals", "a.hospital_id <> b.hospital_id"),
    ],
)
def test_sql_finds_the_same_pairs(province: Province, window_days: int, scope: Scope, condition: str) -> None:
    """The definition once more as a join, over a whole province."""
    columns = ("exam_id", "hospital_id", "person.person_id", "started_at")
    columns += ("protocol.modality", "protocol.body_part", "laterality")
    names = ("exam_id", "hospital_id", "person", "started_at", "modality", "part", "side")
    exams = pa.table({name: list(map(attrgetter(c), province.exams)) for name, c in zip(names, columns, strict=True)})
    with duckdb.connect() as con:
        con.register("exam", exams)
        expected = con.execute(
            f"""
            SELECT b.exam_id, arg_max(a.exam_id, a.started_at)
            FROM exam AS a JOIN exam AS b USING (person, modality, part)
            WHERE a.started_at::DATE < b.started_at::DATE
              AND b.started_at::DATE - a.started_at::DATE <= {window_days}
              AND NOT (a.side IN ('L', 'R') AND b.side IN ('L', 'R') AND a.side <> b.side) AND {condition}
            GROUP BY b.exam_id
            """
        ).fetchall()
    found = duplicate_pairs(province.exams, window_days=window_days, scope=scope)
    assert {(pair.later.exam_id, pair.earlier.exam_id) for pair in found} == set(expected)
    assert len(found) > 20


def test_rates_are_near_those_of_the_literature_and_headers_show_fewer(province: Province) -> None:
    exams, true = count_duplicates(province.exams, start=province.start, window_days=30)
    _, seen = count_duplicates(
        province.exams, start=province.start, window_days=30, person_of=attrgetter("recorded_person")
    )
    assert 0.05 < true / exams < 0.2
    assert 0.75 * true < seen < true


def test_a_repeat_on_the_same_day_occurs_and_is_none(province: Province) -> None:
    keys = [
        (exam.person.person_id, exam.day, exam.protocol.modality, exam.protocol.body_part) for exam in province.exams
    ]
    assert len(set(keys)) < len(keys)
    assert all(pair.days > 0 for pair in duplicate_pairs(province.exams, window_days=90))
