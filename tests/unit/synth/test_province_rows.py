"""A province of rows: the same seed gives the same rows, what must occur does, and the truth is the truth."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.support.lakes import KEY, settings_of

from radlake.deidentify import KeyRing
from radlake.lake import Lake, duck
from radlake.stats.duplicates.packs import load_packs
from radlake.synth.rows.draw import draw_exams
from radlake.synth.rows.exams import LEFT, RIGHT, Exams, Period
from radlake.synth.rows.places import PARTS, Places
from radlake.synth.rows.truth import MEASURES, tell_truth
from radlake.synth.rows.write import Plan, write_chunk, write_province

PLACES = Places.make(60)
PERIOD = Period(date(2025, 1, 1), date(2026, 6, 30))


def drawn(*, seed: int = 1, chunk: int = 0, n: int = 20_000, n_shared: int = 0) -> Exams:
    return draw_exams(n, seed=seed, chunk=chunk, places=PLACES, period=PERIOD, n_shared=n_shared)


def test_the_same_seed_draws_the_same_exams_and_another_one_others():
    one, again, other, next_chunk = drawn(), drawn(), drawn(seed=2), drawn(chunk=1)
    columns = [field.name for field in fields(Exams) if field.name != "n_persons"]
    assert all(np.array_equal(getattr(one, name), getattr(again, name)) for name in columns)
    assert not np.array_equal(one.day, other.day)
    assert not np.array_equal(one.day, next_chunk.day)


def test_everything_that_a_province_has_occurs():
    exams = drawn(n=60_000, n_shared=1_500)
    assert len(exams) == 60_000
    per_person = Counter(exams.person[~exams.is_shared_number].tolist())
    assert max(per_person.values()) > 20  # the chronically ill
    assert sum(count == 1 for count in per_person.values()) > len(per_person) / 3
    assert exams.is_shared_number.sum() == 1_500
    assert len(set(exams.person[exams.is_shared_number].tolist())) == 1
    assert 0.02 < (exams.part == len(PARTS) - 1).mean() < 0.05
    assert (~exams.is_known).any()
    assert (~exams.is_dated).any()
    assert (exams.day < 0).any()  # a wrong clock
    assert (exams.age < 14).mean() > 0.05
    winter, autumn = ((exams.day >= first) & (exams.day < first + 31) for first in (0, 243))
    assert winter.sum() > 1.1 * autumn.sum()


def test_the_truth_is_that_of_comparing_every_exam_of_a_person_with_every_other():
    """Quadratic, over whole persons instead of courses, exam by exam."""
    exams = drawn(n=6_000)
    counts = tell_truth(exams, places=PLACES, period=PERIOD, packs=load_packs()).counts["clinical_v1", 30]
    by_person: dict[int, list[int]] = {}
    for index, person in enumerate(exams.person.tolist()):
        by_person.setdefault(person, []).append(index)
    found: Counter[str] = Counter()
    at = exams.day.astype(np.int64) * 86_400 + exams.second
    usable = exams.is_dated & exams.is_known & (exams.part != len(PARTS) - 1)
    for of_person in by_person.values():
        for j in of_person:
            if not (exams.is_dated[j] and exams.day[j] >= 30):
                continue
            found["n_exams"] += 1
            found["n_unmatchable"] += not usable[j]
            same = [
                i
                for i in of_person
                if usable[i] and usable[j] and at[i] < at[j]
                and exams.part[i] == exams.part[j] and exams.modality[i] == exams.modality[j]
                and {int(exams.side[i]), int(exams.side[j])} != {LEFT, RIGHT}
            ]  # fmt: skip
            if not same:
                continue
            i = max(same, key=lambda index: at[index])
            gap = int(exams.day[j] - exams.day[i])
            if gap > 30:
                continue
            if gap == 0 or (exams.encounter[i] >= 0 and exams.encounter[i] == exams.encounter[j]):
                found["n_same_episode"] += 1
            else:
                found["n_repeats"] += 1
                found["n_repeats_across_hospitals"] += int(exams.hospital[i] != exams.hospital[j])
    told = dict(zip(MEASURES, counts.sum(axis=1).tolist(), strict=True))
    assert found["n_repeats"] > 200
    assert {name: n for name, n in told.items() if name in found} == dict(found)


def test_every_repeat_is_of_one_class():
    counts = tell_truth(drawn(), places=PLACES, period=PERIOD, packs=load_packs()).counts
    for measured in counts.values():
        told = dict(zip(MEASURES, measured.sum(axis=1).tolist(), strict=True))
        assert told["n_repeats"] == told["n_follow_up"] + told["n_justified"] + told["n_potential"]
        assert told["n_potential"] >= told["n_potential_across_hospitals"] >= told["n_potential_across_cities"] > 0


def write_all(lake: Lake, plan: Plan) -> Path:
    keys = KeyRing.from_secret(KEY)
    chunks = (
        write_chunk(lake, plan, chunk, date_offsets=lambda k: np.array(keys.offset_seconds(k.tolist())))
        for chunk in range(plan.n_chunks)
    )
    return write_province(lake, plan, chunks=chunks)


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.setattr("radlake.synth.rows.write._CHUNK", 20_000)
    lake = Lake.from_settings(settings_of(tmp_path / "lake"))
    plan = Plan(n_exams=50_000, n_hospitals=40)
    return lake, plan, write_all(lake, plan), KeyRing.from_secret(KEY)


def test_rows_keep_their_contract_and_a_second_run_adds_nothing(written):
    lake, plan, truth, _ = written
    write_all(lake, plan)
    with duck.connect(lake) as connection:
        counts = connection.execute(
            "SELECT count(*), count(DISTINCT exam_pseudo_id), count(DISTINCT hospital_id),"
            " count(*) FILTER (region_code NOT IN (SELECT region_code FROM ref.region)) FROM core.exam"
        ).fetchone()
        orders = connection.execute(
            "SELECT count(*), count(*) FILTER (exam_pseudo_id NOT IN (SELECT exam_pseudo_id FROM core.exam))"
            " FROM ref.exam_order"
        ).fetchone()
    assert counts == (50_000, 50_000, 40, 0)
    assert orders is not None
    assert orders[0] > 10_000
    assert orders[1] == 0
    assert pq.read_table(truth).num_rows > 1_000


def test_dates_in_the_lake_are_those_of_nobody(written):
    lake, *_, keys = written
    with duck.connect(lake) as connection:
        rows = connection.execute("SELECT patient_key, study_at FROM core.exam WHERE study_at IS NOT NULL").fetchall()
    shifted = np.array([at for _, at in rows], "datetime64[s]")
    true = shifted - np.array(keys.offset_seconds(key for key, _ in rows)).astype("timedelta64[s]")
    inside = (true >= np.datetime64("2024-01-01")) & (true < np.datetime64("2027-01-01"))
    assert inside.mean() > 0.999
    assert (shifted < true).all()
