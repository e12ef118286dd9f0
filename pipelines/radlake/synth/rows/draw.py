"""Draw the exams of a run of persons: courses of illness, each about one body part, with what hospitals wrote down.

A person has few courses and few have many. A course is one exam, or several with a known relation between them: taken
again on the same day, in the same stay, with another modality, for a lawful or clinical ground, or for none. No person
has two courses of one body part, so that exams of different courses never concern each other.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np

from radlake.stats.duplicates.packs import load_grounds
from radlake.synth.rows.exams import BOTH, LEFT, NOT_STATED, RIGHT, Exams, Period, joined
from radlake.synth.rows.places import KINDS, MODALITIES, PARTS, Places

__all__ = ["DIRTY_EXAMS", "draw_exams"]

DIRTY_EXAMS = 1_500  # least rows of the number that many share: more than any rule pack takes for a person

# Patients by 5-year band of age, 00-04 to 85+: children, and many who are old.
_AGE_WEIGHTS = np.array([3.5, 2.5, 2, 2, 3, 4, 5, 5.5, 6, 7, 9, 9.5, 9.5, 10, 9, 6.5, 4, 2.5])
_FIRST, _SAME_DAY, _SAME_STAY, _OTHER_MODALITY, _GROUND, _NO_GROUND = range(6)
_LINKS = np.array([0.06, 0.12, 0.12, 0.42, 0.28])  # of same day, same stay, other modality, ground, no ground
_GAPS = ((1, 7, 0.25), (8, 30, 0.35), (31, 90, 0.25), (91, 180, 0.10), (181, 400, 0.05))
_GROUND_WEIGHTS = {
    "condition_changed": 6, "rapid_change": 5, "decisive_step": 10, "emergency": 22, "appraisal": 2, "other_lawful": 1,
    "trauma": 5, "intensive_care": 5, "oncology": 16, "screening": 5, "follow_up_recommended": 14,
    "earlier_not_retrievable": 4, "patient_requested": 5,
}  # fmt: skip
_NO_OPERATION = -1
_MODALITY = {name: number for number, name in enumerate(MODALITIES)}
_PART = {name: number for number, name in enumerate(PARTS)}


def draw_exams(n: int, *, seed: int, chunk: int, places: Places, period: Period, n_shared: int = 0) -> Exams:
    """Draw `n` exams of persons that no other chunk has; the same arguments give the same exams.

    Parameters
    ----------
    n_shared : int
        So many of them bear one patient number that many persons share.
    """
    rng = np.random.default_rng([seed, chunk])
    exams = _courses(rng, n - n_shared, places=places, period=period)
    exams = _spoil(rng, exams, period=period)
    return _with_shared_number(rng, exams, n_shared, places=places, period=period) if n_shared else exams


def _courses(rng: np.random.Generator, n: int, *, places: Places, period: Period) -> Exams:
    n_persons = max(1, n // 2)  # more than enough: what is too much is cut off
    person, kind, sex, age = _illnesses(rng, n_persons)
    n_courses = len(person)
    length = _lengths(rng, n_courses)
    keep = np.searchsorted(np.cumsum(length), n) + 1
    person, kind, length = person[:keep], kind[:keep], length[:keep].copy()
    n_courses = len(person)

    course = np.repeat(np.arange(n_courses, dtype=np.int32), length)
    first = np.repeat(np.cumsum(length) - length, length)
    index = np.arange(len(course))
    position = (index - first).astype(np.int32)
    link = _links(rng, position)
    gap = np.where(link <= _SAME_DAY, 0, _gaps(rng, len(link)))
    stay = link == _SAME_STAY
    gap[stay] = rng.integers(1, 11, int(stay.sum()))
    passed = np.cumsum(gap)
    start = period.draw(rng, n_courses)
    day = (start[course] + passed - passed[first]).astype(np.int32)

    is_same_place = (link == _SAME_DAY) | stay
    home = places.draw(rng, n_courses)
    moves = (position > 0) & ~is_same_place & (rng.random(len(link)) < 0.35)
    drawn = home[course].copy()
    drawn[moves] = places.draw(rng, int(moves.sum()))
    hospital = drawn[np.maximum.accumulate(np.where(is_same_place, 0, index))]

    modality = _modalities(rng, kind[course], link, first)
    age_now = np.clip(age[person[course]] + day // 365, 0, 90)
    is_child_ct = (modality == _MODALITY["CT"]) & (age_now < 14) & (kind[course] == _PART["CHEST"])
    modality[is_child_ct] = _MODALITY["DX"]
    second = _seconds(rng, link)
    encounter = _encounters(rng, link)
    bits, operation_days = _grounds(rng, link)
    is_pregnant = (kind[course] == _PART["UTERUS"]) & (age_now >= 18) & (age_now < 45)
    bits[is_pregnant & (rng.random(len(bits)) < 0.6)] |= 1 << load_grounds()["pregnancy"].bit

    inside = np.flatnonzero(day < period.n_days)[:n]
    n_lost = n - len(inside)  # exams after the end of the period: a few courses more, of new persons
    more = _courses(rng, n_lost, places=places, period=period) if n_lost else None
    _, recorded = np.unique(person[course[inside]], return_inverse=True)
    exams = Exams(
        person=recorded.astype(np.int32), position=position[inside], day=day[inside], second=second[inside],
        hospital=hospital[inside], modality=modality[inside], part=kind[course[inside]].astype(np.int32),
        side=_sides(rng, kind[course[inside]], course[inside]), is_dated=np.ones(len(inside), bool),
        is_known=np.ones(len(inside), bool), is_shared_number=np.zeros(len(inside), bool),
        encounter=encounter[inside], ground_bits=bits[inside], operation_days=operation_days[inside],
        sex=sex[person[course[inside]]], age=age_now[inside].astype(np.int16),
        contrast=_contrast(rng, modality[inside]), size=rng.integers(0, 16, len(inside)).astype(np.int16),
        n_persons=int(recorded.max()) + 1,
    )  # fmt: skip
    return exams if more is None else joined(exams, more)


def _illnesses(rng: np.random.Generator, n_persons: int) -> tuple[np.ndarray, ...]:
    """Person and kind of each course, and sex and age of each person."""
    sex = (rng.random(n_persons) < 0.5).astype(np.int8)  # 1 is F
    band = rng.choice(len(_AGE_WEIGHTS), n_persons, p=_AGE_WEIGHTS / _AGE_WEIGHTS.sum())
    age = np.where(band < 17, band * 5 + rng.integers(0, 5, n_persons), rng.integers(85, 100, n_persons))
    n_courses = np.minimum(12, (1 - rng.random(n_persons)) ** (-1 / 1.25)).astype(np.int32)
    person = np.repeat(np.arange(n_persons, dtype=np.int32), n_courses)
    weights = np.array([sum(weight for _, weight in kind.modalities) for kind in KINDS])
    kind = rng.choice(len(KINDS), len(person), p=weights / weights.sum())
    for number, one in enumerate(KINDS):
        if one.sex != "FM":
            kind[(kind == number) & (sex[person] != (one.sex == "F"))] = _PART["ABDOMEN"]
    _, unique = np.unique(person.astype(np.int64) * len(KINDS) + kind, return_index=True)
    unique.sort()
    return person[unique], kind[unique], sex, age


def _lengths(rng: np.random.Generator, n: int) -> np.ndarray:
    """Most courses are one exam; some are a few; a few of the chronically ill have dozens."""
    length = np.where(rng.random(n) < 0.84, 1, 1 + rng.geometric(0.6, n))
    long = rng.random(n) < 0.0002
    length[long] = rng.integers(12, 60, int(long.sum()))
    return np.minimum(length, 60)


def _links(rng: np.random.Generator, position: np.ndarray) -> np.ndarray:
    link = 1 + np.searchsorted(np.cumsum(_LINKS), rng.random(len(position)) * _LINKS.sum())
    link = np.minimum(link, _NO_GROUND)
    link[position == 0] = _FIRST
    again = (link[1:] == _SAME_DAY) & (link[:-1] == _SAME_DAY)  # twice on a day is enough
    link[1:][again] = _NO_GROUND
    return link


def _gaps(rng: np.random.Generator, n: int) -> np.ndarray:
    shares = np.cumsum([share for *_, share in _GAPS])
    which = np.minimum(np.searchsorted(shares, rng.random(n)), len(_GAPS) - 1)
    low, high = np.array([low for low, _, _ in _GAPS]), np.array([high for _, high, _ in _GAPS])
    return rng.integers(low[which], high[which] + 1)


def _modalities(rng: np.random.Generator, kind: np.ndarray, link: np.ndarray, first: np.ndarray) -> np.ndarray:
    """That of the course, or another one of the same body part where the link says so."""
    usual = np.zeros(len(kind), np.int32)
    other = np.zeros(len(kind), np.int32)
    chance = rng.random(len(kind))[first]  # one number for each course
    for number, one in enumerate(KINDS):
        mine = kind == number
        shares = np.cumsum([weight for _, weight in one.modalities])
        which = np.minimum(np.searchsorted(shares / shares[-1], chance[mine]), len(shares) - 1)
        codes = np.array([_MODALITY[name] for name, _ in one.modalities], np.int32)
        usual[mine] = codes[which]
        other[mine] = codes[(which + 1) % len(codes)]
    return np.where(link == _OTHER_MODALITY, other, usual)


def _seconds(rng: np.random.Generator, link: np.ndarray) -> np.ndarray:
    second = 28_800 + (rng.beta(1.6, 2.2, len(link)) * 34_200).astype(np.int32)
    at_night = rng.random(len(link)) < 0.12
    second[at_night] = rng.integers(0, 82_800, int(at_night.sum()))
    again = np.flatnonzero(link == _SAME_DAY)
    second[again] = second[again - 1] + rng.integers(60, 1_500, len(again))
    return second


def _encounters(rng: np.random.Generator, link: np.ndarray) -> np.ndarray:
    """Exams of one stay share its number; of other exams one in four has the number of a visit."""
    index = np.arange(len(link))
    joins = (link == _SAME_STAY) | ((link == _SAME_DAY) & (rng.random(len(link)) < 0.7))
    begin = np.maximum.accumulate(np.where(joins, 0, index))
    is_joined = joins.copy()
    is_joined[:-1] |= joins[1:]
    has_number = is_joined | (rng.random(len(link)) < 0.25)
    return np.where(has_number, begin, -1).astype(np.int64)


def _grounds(rng: np.random.Generator, link: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    grounds = load_grounds()
    bits = np.zeros(len(link), np.int32)
    operation_days = np.full(len(link), _NO_OPERATION, np.int16)
    for code, share in (("emergency", 0.08), ("oncology", 0.03), ("screening", 0.02), ("trauma", 0.01)):
        bits[rng.random(len(bits)) < share] |= 1 << grounds[code].bit
    codes = list(_GROUND_WEIGHTS)
    shares = np.cumsum(list(_GROUND_WEIGHTS.values()))
    for_ground = np.flatnonzero(link == _GROUND)
    which = np.searchsorted(shares / shares[-1], rng.random(len(for_ground)))
    for number, code in enumerate(codes):
        later = for_ground[which == number]
        if code == "decisive_step":  # an operation is on record by its date, sometimes one that is too far away
            operation_days[later] = rng.integers(0, 45, len(later))
            continue
        told_by = later if grounds[code].of == "later" else later - 1
        bits[told_by] |= 1 << grounds[code].bit
    return bits, operation_days


def _sides(rng: np.random.Generator, kind: np.ndarray, course: np.ndarray) -> np.ndarray:
    """Of paired parts: one side, or both in turn, and one in eight without a statement."""
    is_paired = np.array([one.side == "paired" for one in KINDS])[kind]
    is_both = np.array([one.side == "both" for one in KINDS])[kind]
    chance = rng.random(int(course.max()) + 1)[course]
    side = np.where(chance < 0.4, LEFT, np.where(chance < 0.8, RIGHT, rng.integers(LEFT, RIGHT + 1, len(course))))
    side[rng.random(len(course)) < 0.125] = NOT_STATED
    return np.where(is_paired, side, np.where(is_both, BOTH, NOT_STATED)).astype(np.int16)


def _contrast(rng: np.random.Generator, modality: np.ndarray) -> np.ndarray:
    """1 given, 0 not given, -1 not stated."""
    may = (modality == _MODALITY["CT"]) | (modality == _MODALITY["MR"])
    drawn = rng.random(len(modality))
    return np.where(may, np.where(drawn < 0.25, 1, np.where(drawn < 0.9, 0, -1)), -1).astype(np.int8)


def _spoil(rng: np.random.Generator, exams: Exams, *, period: Period) -> Exams:
    """Missing and wrong fields, in last exams of courses only: what they hide stays easy to tell."""
    is_last = np.append(exams.position[1:] == 0, True)
    drawn = np.where(is_last, rng.random(len(exams)), 1.0)
    part, is_known, person, is_dated, day = (
        column.copy() for column in (exams.part, exams.is_known, exams.person, exams.is_dated, exams.day)
    )
    part[drawn < 0.03] = _PART["UNKNOWN"]
    nameless = np.flatnonzero((drawn >= 0.03) & (drawn < 0.035))
    is_known[nameless] = False
    person[nameless] = exams.n_persons + np.arange(len(nameless))
    is_dated[(drawn >= 0.035) & (drawn < 0.0355)] = False
    day[(drawn >= 0.0355) & (drawn < 0.0356)] = (date(1970, 1, 1) - period.start).days  # a clock that lost its battery
    changed = {"part": part, "is_known": is_known, "person": person, "is_dated": is_dated, "day": day}
    return replace(exams, n_persons=exams.n_persons + len(nameless), **changed)


def _with_shared_number(rng: np.random.Generator, exams: Exams, n: int, *, places: Places, period: Period) -> Exams:
    """Rows of one number that a hospital's staff enter when they do not know better."""
    drawn = _courses(rng, n, places=places, period=period)
    shared = replace(
        drawn, person=np.zeros(n, np.int32), is_shared_number=np.ones(n, bool),
        position=np.zeros(n, np.int32), encounter=np.full(n, -1, np.int64), n_persons=1,
    )  # fmt: skip
    return joined(exams, shared)
