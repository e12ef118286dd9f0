"""Measures over a small lake: every number against a count of the same exams in plain Python, and what is shown."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from radlake.epidemiology.definition import Measure, measure_from_yaml
from radlake.epidemiology.release import Released, build_up, release_measures
from radlake.errors import ConfigInvalid
from radlake.lake import Lake, duck
from radlake.stats.intervals import byar
from radlake.stats.policy import Policy
from radlake.stats.rates import Stratum, directly_standardised_rate
from radlake.stats.standards import load_standards
from support.lakes import settings_of
from support.rows import rows

NOW = datetime(2026, 11, 22)
BANDS = [*(f"{age:02d}-{age + 4:02d}" for age in range(0, 85, 5)), "85+"]
OPEN = Policy(name="exact", threshold=1, complementary=False, rate_digits=6)
OFFSET = timedelta(days=-200)


def band_of(age: int) -> str:
    return BANDS[min(age // 5, 17)]


def people(seed: int, n: int) -> list[dict[str, Any]]:
    """Exams of persons of three prefectures, one of them without a population, over two years."""
    random = Random(seed)
    made = []
    for _ in range(n):
        person = random.randrange(n // 2)
        made.append(
            {
                "hospital_id": "h1",
                "exam_pseudo_id": f"e{len(made)}",
                "patient_key": person,
                "region_code": random.choices(["320583", "320106", "999999", "UNKNOWN"], weights=(10, 6, 1, 1))[0],
                "study_at": datetime(2024, 1, 1, 12) + timedelta(days=random.randrange(731)),
                "modality_group": random.choice(["CT", "CT", "MR"]),
                "body_part_code": random.choice(["CHEST", "ABDOMEN+CHEST", "HEAD"]),
                "patient_sex": "FM"[person % 2],
                "patient_age_years": None if person % 53 == 0 else person % 91,
            }
        )
    return made


POPULATION = {
    (year, region, sex, band): 400 + 17 * BANDS.index(band) + (sex == "F") * 30 + (year - 2024) * 5
    for year in (2024, 2025)
    for region in ("320500", "320102", "320106")
    for sex in "FM"
    for band in BANDS
}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return lake_of(tmp_path, people(1, 1500))


def lake_of(folder: Path, exams: list[dict[str, Any]], *, population: dict | None = None) -> Lake:
    lake = Lake.from_settings(settings_of(folder / "lake"))
    add_exams(lake, exams, batch_id="e1")
    figures = POPULATION if population is None else population
    data = rows(
        "ref.population",
        *(
            {"year": year, "region_code": region, "sex": sex, "age_band": band, "n_residents": n, "source": "test"}
            for (year, region, sex, band), n in figures.items()
        ),
    )
    lake.tables.commit_batch("ref.population", data, batch_id="p1")
    return lake


def add_exams(lake: Lake, exams: list[dict[str, Any]], *, batch_id: str) -> None:
    moved = [exam | {"study_at": exam["study_at"] + OFFSET} for exam in exams]
    moved = [exam | {"study_month": exam["study_at"].year * 100 + exam["study_at"].month} for exam in moved]
    lake.tables.commit_batch("core.exam", rows("core.exam", *moved), batch_id=batch_id)


def released(lake: Lake, *measures: Measure, policy: Policy = OPEN) -> Released:
    def offsets(keys: np.ndarray) -> np.ndarray:
        return np.full(len(keys), int(OFFSET.total_seconds()))

    return release_measures(lake, measures, date_offsets=nullcontext(offsets), policy=policy, now=NOW)


def measure(**changes: Any) -> Measure:
    content = {
        "measure": "m",
        "version": 1,
        "title": {"zh": "甲", "en": "A"},
        "formula": {"zh": "乙", "en": "B"},
        "numerator": {"count": "persons", "modality": ["CT"]},
        "years": "2024-2025",
        "group_by": ["year", "region"],
        "rate": {"kind": "crude", "per": 1000},
    }
    return measure_from_yaml(json.dumps(content | changes))


def by_key(released: Released, measure: Measure, *names: str) -> dict[tuple[str, ...], dict[str, Any]]:
    return {tuple(row[name] for name in names): row for row in released.rows_of(measure)}


def prefecture(exam: dict[str, Any]) -> str:
    return exam["region_code"] if exam["region_code"] == "UNKNOWN" else exam["region_code"][:4] + "00"


def test_a_county_that_became_part_of_another_has_its_residents_there(lake: Lake) -> None:
    """320102 is part of 320106 since 2025: of 2024 both have residents, and the exams are those of 320106."""
    asked = measure(region_level="county")
    joined = [
        {"region_code": "320102", "last_year": 2024, "successor_region_code": "320106"},
        {"region_code": "320106", "last_year": 9999, "successor_region_code": "NONE"},
    ]
    lake.tables.commit_batch("ref.region", rows("ref.region", *joined), batch_id="r1")
    found = by_key(released(lake, asked), asked, "exam_year", "region_code")
    figures = {
        region: sum(n for (year, code, *_), n in POPULATION.items() if (year, code) == (2024, region))
        for region in ("320102", "320106")
    }
    assert found["2024", "320106"]["person_years"] == sum(figures.values())
    before = by_key(released(lake_without_regions(lake), asked), asked, "exam_year", "region_code")
    assert before["2024", "320106"]["person_years"] == figures["320106"]


def lake_without_regions(lake: Lake) -> Lake:
    lake.tables.overwrite("ref.region", rows("ref.region"), batch_id="none")
    return lake


def test_crude_rates_of_persons(lake: Lake) -> None:
    asked = measure()
    found = by_key(released(lake, asked), asked, "exam_year", "region_code")
    persons: dict[tuple[str, str], set[tuple[int, int]]] = defaultdict(set)
    n_exams: Counter[tuple[str, str]] = Counter()
    for exam in people(1, 1500):
        if exam["modality_group"] == "CT":
            year, region = exam["study_at"].year, prefecture(exam)
            regions = [region, "all"] if region in ("320500", "320100") else [region]
            for key in ((y, r) for y in (str(year), "all") for r in regions):
                persons[key].add((exam["patient_key"], year))
                n_exams[key] += 1
    assert set(found) == set(persons)
    for key, row in found.items():
        assert (row["n_persons"], row["n_exams"]) == (len(persons[key]), n_exams[key]), key
        years = (2024, 2025) if key[0] == "all" else (int(key[0]),)
        inside = {"all": ("320500", "320102", "320106"), "320100": ("320102", "320106"), "320500": ("320500",)}
        residents = sum(
            n for (y, region, *_), n in POPULATION.items() if y in years and region in inside.get(key[1], ())
        )
        assert row["person_years"] == residents
        if residents:
            limits = byar(len(persons[key]))
            expected = [1000 * n / residents for n in (len(persons[key]), limits.low, limits.high)]
            assert [row["rate"], row["rate_low"], row["rate_high"]] == pytest.approx(expected, rel=1e-5)
        else:
            assert (row["rate"], row["problem"]) == (None, "events_without_residents")


def test_standardised_rates_of_exams_know_that_they_repeat(lake: Lake) -> None:
    asked = measure(numerator={"count": "exams", "body_part": ["CHEST"]}, group_by=["region"],
                    rate={"kind": "standardised", "standard": "segi_1960", "per": 1000})  # fmt: skip
    row = by_key(released(lake, asked), asked, "region_code")[("320500",)]
    weights = load_standards()["segi_1960"].weights

    def band(age: int) -> str:
        return "80+" if age >= 80 else band_of(age)

    of_person: Counter[tuple[str, int, int]] = Counter()
    unknown = 0
    for exam in people(1, 1500):
        if prefecture(exam) == "320500" and "CHEST" in exam["body_part_code"]:
            if exam["patient_age_years"] is None:
                unknown += 1
            else:
                of_person[band(exam["patient_age_years"]), exam["patient_key"], exam["study_at"].year] += 1
    strata = []
    for one, weight in weights.items():
        times = Counter(n for (where, *_), n in of_person.items() if where == one)
        residents = sum(n for (_, region, _, b), n in POPULATION.items()
                        if region == "320500" and (b if b < "80" else "80+") == one)  # fmt: skip
        strata.append(Stratum(residents=residents, weight=weight, persons_with=times))
    expected = directly_standardised_rate(strata, per=1000)
    assert [row["rate"], row["rate_low"], row["rate_high"]] == pytest.approx(
        [expected.value, expected.low, expected.high], rel=1e-5
    )
    assert row["n_unclassified"] == unknown > 0
    assert expected.variance > expected.value * 1000 / row["person_years"]  # pyright: ignore


def test_a_person_with_a_birthday_counts_once_at_the_younger_age(tmp_path: Path) -> None:
    person = {"hospital_id": "h1", "patient_key": 1, "region_code": "320500", "modality_group": "CT",
              "patient_sex": "F"}  # fmt: skip
    exams = [
        person | {"exam_pseudo_id": f"e{i}", "study_at": datetime(2024, 3 + i, 1), "patient_age_years": age}
        for i, age in enumerate((39, 40, 40))
    ]
    asked = measure(group_by=["region"], years=2024, rate={"kind": "standardised", "standard": "china_2000"})
    row = by_key(released(lake_of(tmp_path, exams), asked), asked, "region_code")[("320500",)]
    residents = sum(n for (y, r, _, b), n in POPULATION.items() if (y, r, b) == (2024, "320500", "35-39"))
    assert row["n_persons"] == 1
    assert row["rate"] == pytest.approx(1000 * load_standards()["china_2000"].weights["35-39"] / residents, rel=1e-5)


def test_residents_without_an_exam_have_a_rate_of_zero(tmp_path: Path) -> None:
    asked = measure(group_by=["region", "sex", "age"], numerator={"count": "persons", "age": {"from": 80}})
    lake = lake_of(tmp_path, [exam for exam in people(1, 40) if prefecture(exam) == "320500"])
    found = by_key(released(lake, asked), asked, "region_code", "patient_sex", "age_band")
    row = found["320100", "F", "85+"]
    assert (row["n_persons"], row["rate"], row["rate_low"], row["problem"]) == (0, 0, 0, "")
    assert row["rate_high"] > 0
    assert {key[2] for key in found} == {"80-84", "85+", "all"}


def test_the_ratio_of_everybody_is_one_and_those_of_regions_average_to_it(lake: Lake) -> None:
    asked = measure(group_by=["region"], rate={"kind": "ratio", "per": 100, "smooth": True})
    found = by_key(released(lake, asked), asked, "region_code")
    assert found[("all",)]["rate"] == pytest.approx(100, rel=1e-5)
    ours = [found[("320100",)], found[("320500",)]]
    expected = [row["n_persons"] * 100 / row["rate"] for row in ours]
    # those without an age are in no rate
    assert sum(expected) == pytest.approx(found[("all",)]["n_persons"], rel=0.03)
    assert all("smoothed_rate" in row for row in ours)


def test_the_trend_is_on_the_row_of_all_years(lake: Lake) -> None:
    asked = measure(rate={"kind": "crude", "trend": True})
    found = by_key(released(lake, asked), asked, "exam_year", "region_code")
    first, last = (found[year, "320500"]["rate"] for year in ("2024", "2025"))
    assert found["all", "320500"]["apc_percent"] == pytest.approx(100 * (last / first - 1), rel=1e-4)
    assert "apc_percent" not in found["2024", "320500"]


def test_without_any_population_there_are_counts_and_no_rates(tmp_path: Path) -> None:
    asked = measure(group_by=["year"])
    found = released(lake_of(tmp_path, people(1, 60), population={}), asked)
    assert {row["problem"] for row in found.rows} == {"events_without_residents"}
    assert sum(row["n_exams"] for row in found.rows if row["exam_year"] == "all") == sum(
        exam["modality_group"] == "CT" for exam in people(1, 60)
    )


def test_ages_that_no_band_begins_at_are_refused(lake: Lake) -> None:
    with pytest.raises(ConfigInvalid, match="whole bands"):
        released(lake, measure(numerator={"count": "persons", "age": {"from": 33, "to": 64}}))


def test_exact_numbers_stay_in_the_restricted_zone_and_rows_name_their_snapshot(lake: Lake) -> None:
    asked = measure(group_by=["region", "sex", "age"])
    release = released(lake, asked, policy=Policy(threshold=10))
    masked = [row for row in release.rows if row["is_masked"]]
    assert masked
    assert all("n_persons" not in row and "rate" not in row for row in masked)
    with duck.connect(lake) as connection:
        shown = connection.sql("SELECT count(*) FILTER (is_masked), count(n_persons) FILTER (is_masked), "
                               "min(n_persons) FILTER (n_persons > 0) FROM stats.measure").fetchall()  # fmt: skip
        [(snapshot, policy, definition)] = connection.sql(
            "SELECT snapshot, disclosure_policy, definition FROM stats.measure_definition"
        ).fetchall()
    assert shown == [(len(masked), 0, shown[0][2])]
    assert shown[0][2] >= 10
    assert json.loads(snapshot) == {name: lake.tables.version(name) for name in ("core.exam", "ref.population")}
    assert json.loads(policy)["threshold"] == 10
    assert measure_from_yaml(definition) == asked
    with duck.connect(lake, zone="restricted") as connection:
        [(n_masked, least)] = connection.sql(
            "SELECT count(*) FILTER (is_masked), min(n_persons) FILTER (n_persons > 0) FROM stats.measure"
        ).fetchall()
    assert (n_masked, least) == (0, 1)


# Filters that differ by little: an attacker asks one after the other.
QUESTIONS = [
    {"numerator": {"count": "persons", "modality": ["CT"]}, "group_by": ["region"]},
    {"numerator": {"count": "persons", "modality": ["CT"], "age": {"to": 84}}, "group_by": ["region"]},
    {"numerator": {"count": "persons", "modality": ["CT"], "age": {"from": 85}}, "group_by": ["region"]},
    {"numerator": {"count": "persons", "modality": ["CT"], "sex": ["F"]}, "group_by": ["region"]},
    {"numerator": {"count": "exams", "modality": ["CT"], "sex": ["F"], "age": {"to": 79}}, "group_by": ["region"]},
    {"numerator": {"count": "persons", "modality": ["CT"]}, "group_by": ["region", "sex"]},
]


def test_questions_asked_one_after_the_other_tell_no_more_than_all_at_once(tmp_path: Path) -> None:
    """An attacker solves for the persons of every combination of filters from all numbers of persons that are shown."""
    policy, exams = Policy(threshold=5), people(5, 700)
    lake = lake_of(tmp_path, exams)
    asked = [measure(measure=f"q{i}", years=2024, **question) for i, question in enumerate(QUESTIONS)]
    release = None
    shown_then: dict[Any, bool] = {}
    for one in asked:
        release = released(lake, one, policy=policy)
        now = {(row["measure_id"], row["region_code"], row["patient_sex"]): row["is_masked"] for row in release.rows}
        assert {key: now[key] for key in shown_then} == shown_then, "what is out stays out, what is not does not follow"
        shown_then = now
    assert release is not None
    sets: dict[Any, frozenset[int]] = {}
    for one, question in zip(asked, QUESTIONS, strict=True):
        for row in release.rows_of(one):
            sets[one.measure_id, row["region_code"], row["patient_sex"]] = frozenset(
                exam["patient_key"] for exam in exams if _is_in(exam, question, row)
            )
    persons = sorted(set().union(*sets.values()))
    kinds = Counter(frozenset(key for key, members in sets.items() if p in members) for p in persons)
    order, sizes = list(kinds), np.array(list(kinds.values()), dtype=float)
    matrix = {key: np.array([float(key in kind) for kind in order]) for key in sets}
    shown = [key for key, is_masked in shown_then.items() if not is_masked]
    assert len(shown) > 8
    for row in release.rows:
        key = (row["measure_id"], row["region_code"], row["patient_sex"])
        if not row["is_masked"]:
            assert row["n_persons"] == matrix[key] @ sizes, "the attack counts wrongly"
    known = {"A_eq": np.array([matrix[key] for key in shown]), "bounds": [(0, None)] * len(order)}
    known["b_eq"] = known["A_eq"] @ sizes
    for k, size in enumerate(sizes):
        if size < policy.threshold:
            most = linprog(-np.eye(len(order))[k], **known)
            assert most.status == 3 or -most.fun >= policy.threshold - 1e-6, order[k]
    for more in shown:
        for less in shown:
            if sets[less] < sets[more]:
                assert len(sets[more] - sets[less]) >= policy.threshold


def _is_in(exam: dict[str, Any], question: dict[str, Any], row: dict[str, Any]) -> bool:
    wanted = question["numerator"]
    age = wanted.get("age", {})
    years = exam["patient_age_years"]
    if age and (years is None or not age.get("from", 0) <= years <= age.get("to", 200)):
        return False
    region = prefecture(exam)
    inside = region in ("320500", "320100") if row["region_code"] == "all" else region == row["region_code"]
    return (
        exam["modality_group"] == "CT"
        and exam["study_at"].year == 2024
        and exam["patient_sex"] in wanted.get("sex", "FM")
        and row["patient_sex"] in ("all", "none", exam["patient_sex"])
        and inside
    )


def test_a_new_snapshot_releases_everything_anew(lake: Lake) -> None:
    asked = measure()
    first = released(lake, asked, policy=Policy(threshold=10))
    add_exams(lake, [exam | {"exam_pseudo_id": f"x{i}"} for i, exam in enumerate(people(9, 100))], batch_id="e2")
    second = released(lake, policy=Policy(threshold=10))
    assert [m.measure_id for m in second.measures] == [asked.measure_id]
    assert second.snapshot["core.exam"] > first.snapshot["core.exam"]
    assert sum(row.get("n_exams") or 0 for row in second.rows) > sum(row.get("n_exams") or 0 for row in first.rows)


def test_the_same_release_again_writes_the_same_rows(lake: Lake) -> None:
    asked = measure()
    policy = Policy(threshold=5)
    assert released(lake, asked, policy=policy).rows == released(lake, asked, policy=policy).rows


def test_counts_while_a_measure_is_written_are_coarse(lake: Lake) -> None:
    asked = measure(numerator={"count": "persons", "modality": ["MR"], "sex": ["F"], "age": {"from": 85}})
    steps = build_up(lake, asked, date_offsets=nullcontext(lambda keys: np.full(len(keys), -200 * 86_400)),
                     policy=Policy(threshold=20))  # fmt: skip
    assert [step.name for step, *_ in steps] == [
        "all exams",
        "years 2024, 2025",
        "modality_group",
        "patient_sex",
        "age",
    ]
    assert steps[0][1] == 1520  # 1500, rounded to 40
    assert steps[-1][0].n_persons > 0
    for step, exams, persons in steps:
        assert persons is None if step.n_persons < 20 else (persons % 40, exams % 40) == (0, 0)  # pyright: ignore


def test_the_clock_of_a_release_is_an_argument(lake: Lake) -> None:
    released(lake, measure())
    with duck.connect(lake) as connection:
        [(at,)] = connection.sql("SELECT released_at FROM stats.measure_definition").fetchall()
    assert at == NOW.replace(tzinfo=None) != datetime.now(UTC).replace(tzinfo=None)
