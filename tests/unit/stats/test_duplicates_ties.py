"""Exams of one second, as those of studies with a date and no time, have one order however they are counted."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import pytest

from radlake.lake import Lake
from radlake.stats.duplicates.added import added_repeats, summed
from radlake.stats.duplicates.packs import load_packs, load_windows
from radlake.stats.duplicates.places import repeats_by_place
from radlake.stats.duplicates.rates import repeat_rates
from radlake.stats.duplicates.sequence import Observed, build_sequence
from radlake.stats.duplicates.unsorted import repeats_unsorted
from radlake.stats.duplicates.why import PersonExam, explain
from support.rows import rows
from support.statistics import exams, number_of

HOSPITALS = {
    "h0": ("320501", "1"),
    "h1": ("320501", "3"),
    "h2": ("320100", "3"),
    "h3": ("320502", "2"),
}
YEARS = Observed(date(2024, 1, 1), date(2027, 1, 1))
GROUNDS = ((), (), ("emergency",), ("follow_up_recommended",), ("oncology", "trauma"))


def unmoved(keys: np.ndarray) -> np.ndarray:
    return np.zeros(len(keys), np.int64)


def drawn(seed: int) -> list[tuple[str, PersonExam]]:
    """Exams of a few persons on a few days, without a time, of one knee, the other, or no stated side."""
    rng = random.Random(seed)
    return [
        (
            f"p{rng.randrange(25)}",
            PersonExam(
                hospital_id=(hospital := rng.choice(list(HOSPITALS))),
                exam_pseudo_id=f"e{number}",
                at=datetime(2025, 3, 1) + timedelta(days=rng.choice([0, 0, 7, 8, 30, 31, 61])),
                modality_group="DX",
                body_part_code="KNEE",
                laterality_code=rng.choice(["L", "R", "B", "NONE"]),
                ground_codes=frozenset(rng.choice(GROUNDS)),
                region_code=HOSPITALS[hospital][0],
                hospital_level=HOSPITALS[hospital][1],
            ),
        )
        for number in range(150)
    ]


def commit(lake: Lake, given: list[tuple[str, PersonExam]], *, batch_id: str) -> None:
    lines = ["patient | hospital | modality | body_part | side | date | exam"]
    lines += [
        " | ".join((person, one.hospital_id, "DX", "KNEE", one.laterality_code, str(one.at), one.exam_pseudo_id))
        for person, one in given
    ]
    orders = [
        {
            "hospital_id": one.hospital_id,
            "exam_pseudo_id": one.exam_pseudo_id,
            "patient_key": number_of(person),
            "ground_codes": "+".join(sorted(one.ground_codes)),
            "evidence_source": "order",
        }
        for person, one in given
    ]
    lake.tables.commit_batch("core.exam", exams("\n".join(lines)), batch_id=batch_id)
    lake.tables.commit_batch("ref.exam_order", rows("ref.exam_order", *orders), batch_id=batch_id)


@pytest.fixture
def lake(tmp_path) -> Lake:
    lake = Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")
    known = [{"hospital_id": name, "region_code": of[0], "hospital_level": of[1]} for name, of in HOSPITALS.items()]
    lake.tables.commit_batch("ref.hospital", rows("ref.hospital", *known), batch_id="hospitals")
    return lake


@pytest.mark.parametrize("seed", range(2))
def test_the_month_layout_and_every_explanation_agree_with_the_pass(lake, seed):
    given = drawn(seed)
    commit(lake, given, batch_id="all")
    build_sequence(lake, date_offsets=unmoved, observed=YEARS, workers=1)
    by_place = repeats_by_place(lake, window_days=30)
    assert by_place.equals(repeats_unsorted(lake, date_offsets=unmoved, window_days=30))

    counted: Counter[str] = Counter()
    for row in repeat_rates(lake, workers=1).to_pylist():
        if (row["rule_pack"], row["window_days"]) == ("clinical_v1", 180):
            counted.update({name: row[name] for name in row if name.startswith("n_")})
    explained: Counter[str] = Counter()
    for person, exam in given:
        others = [one for whose, one in given if whose == person and one is not exam]
        told = explain(exam, others, packs=load_packs(), windows=load_windows())
        if told.earlier is not None:
            class_ = next(one.class_ for one in told.packs if one.rule_pack == "clinical_v1")
            explained[class_.partition(":")[0].partition("(")[0]] += 1
            if class_ == "duplicative_potential":
                explained["across"] += told.earlier.hospital_id != exam.hospital_id
    names = {
        "n_same_episode": "same_episode",
        "n_follow_up": "follow_up",
        "n_justified": "justified",
        "n_potential": "duplicative_potential",
        "n_potential_across_hospitals": "across",
    }
    assert {name: counted[name] for name in names} == {name: explained[short] for name, short in names.items()}
    assert min(explained.values()) > 0


@pytest.mark.parametrize("seed", range(2))
def test_exams_that_came_later_are_taken_in_the_same_order(lake, seed):
    given = drawn(seed)
    given = [(person, replace(one, ground_codes=frozenset())) for person, one in given]
    random.Random(seed).shuffle(given)
    commit(lake, given[:100], batch_id="first")
    built = build_sequence(lake, date_offsets=unmoved, observed=YEARS, workers=1)
    before = repeats_by_place(lake, window_days=30)
    commit(lake, given[100:], batch_id="later")
    added = added_repeats(
        lake, inputs=built.inputs, version=built.version, window_days=30, date_offsets=unmoved, workers=1
    )
    assert added.rows is not None
    build_sequence(lake, date_offsets=unmoved, observed=YEARS, workers=1)
    assert summed(before, added.rows).equals(repeats_by_place(lake, window_days=30))
