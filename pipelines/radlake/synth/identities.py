"""Patient records of a synthetic province with known truth: what hospitals write of the same persons, at a noise level.

A person has records in one or several hospitals; each hospital writes what its desk was told, as its console can. How
often something is missing or wrong is the level. Twins, newborns, namesakes of one day, and numbers that nobody has
are among them at every level.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from radlake.synth.persons import Person, make_person

__all__ = ["NOISE", "Noise", "Written", "write_records"]


@dataclass(frozen=True)
class Noise:
    """Shares of records, 0 to 1.

    Attributes
    ----------
    no_national_id, no_phone, no_birth_date : float
        It was not asked for.
    old_form : float
        Of the national numbers written: with 15 digits.
    wrong_check_digit : float
        Of the national numbers written: mistyped.
    spelled : float
        The name in letters only, in any order and spacing.
    traditional : float
        The name in traditional characters.
    homophone : float
        A character of the name is another one of the same sound.
    wrong_character : float
        A character of the name is another one altogether.
    wrong_birth_date, wrong_sex : float
        Mistyped.
    other_phone : float
        A telephone that the person did not give elsewhere.
    """

    no_national_id: float
    no_phone: float
    no_birth_date: float
    old_form: float
    wrong_check_digit: float
    spelled: float
    traditional: float
    homophone: float
    wrong_character: float
    wrong_birth_date: float
    wrong_sex: float
    other_phone: float


NOISE: Mapping[str, Noise] = {
    "low": Noise(0.30, 0.10, 0.002, 0.01, 0.002, 0.10, 0.01, 0.005, 0.002, 0.005, 0.001, 0.05),
    "medium": Noise(0.60, 0.30, 0.010, 0.03, 0.010, 0.25, 0.03, 0.015, 0.010, 0.020, 0.005, 0.15),
    "high": Noise(0.85, 0.60, 0.050, 0.05, 0.030, 0.40, 0.06, 0.040, 0.030, 0.060, 0.020, 0.30),
}


@dataclass(frozen=True)
class Written:
    """One record of one hospital: attributes as its vault record has them, and who it is in truth."""

    person_id: str
    hospital_id: str
    identity: Mapping[str, list[str]]


_RECORDS = (0.45, 0.30, 0.15, 0.07, 0.03)  # persons with 1 to 5 records
_TWINS, _NEWBORNS, _NAMESAKES, _NOBODIES = 0.01, 0.005, 0.002, 0.002  # shares of persons
_TRADITIONAL = str.maketrans(
    "张刘陈杨黄赵吴孙马罗郑谢许韩冯邓萧苏吕卢钟谭陆静丽兰红颖洁伟强军杰刚辉国华东宁鹏",
    "張劉陳楊黃趙吳孫馬羅鄭謝許韓馮鄧蕭蘇呂盧鍾譚陸靜麗蘭紅穎潔偉強軍傑剛輝國華東寧鵬",
)
_HOMOPHONES = str.maketrans(
    "芳敏静丽秀英玉燕玲慧红月莉琴洁瑶伟强军勇杰涛超刚平辉建国华文志海波宁浩梅兰霞",
    "方闽婧莉绣瑛钰艳铃惠虹悦丽芹婕尧玮蔷君永洁韬朝钢萍晖健帼骅雯智亥玻凝昊媒岚遐",
)
_OTHERS = "芳伟敏强静磊丽军秀杰"


def write_records(n_persons: int, *, noise: Noise, seed: int, today: date) -> Iterator[Written]:
    """Records of `n_persons` persons and of those beside them, in no order that tells who they are."""
    rng = random.Random(seed)
    for number in range(n_persons):
        person = make_person(number, rng=rng, today=today)
        persons = [person]
        drawn = rng.random()
        if drawn < _TWINS:
            persons.append(_twin(person, number=n_persons + number, rng=rng))
        elif drawn < _TWINS + _NEWBORNS and person.sex == "F":
            yield _newborn(person, rng=rng, today=today)
        elif drawn < _TWINS + _NEWBORNS + _NAMESAKES:
            persons.append(_namesake(person, number=n_persons + number))
        elif drawn > 1 - _NOBODIES:
            yield _nobody(number, rng=rng)
        for one in persons:
            for _ in range(rng.choices(range(1, 6), _RECORDS)[0]):
                yield _written(one, noise=noise, rng=rng)


def _written(person: Person, *, noise: Noise, rng: random.Random) -> Written:
    hospital = f"h{rng.randrange(200):03d}"
    born, sex = person.birth_date, person.sex
    if rng.random() < noise.wrong_birth_date:
        born = _mistyped(born, rng=rng)
    if rng.random() < noise.wrong_sex:
        sex = "F" if sex == "M" else "M"
    identity = {
        "patient_id": [f"{rng.randrange(10**9):09d}"],
        "patient_name": [_name(person, noise=noise, rng=rng)],
        "patient_sex": [sex],
    }
    if rng.random() >= noise.no_birth_date:
        identity["patient_birth_date"] = [f"{born:%Y%m%d}"]
    if rng.random() >= noise.no_national_id:
        identity["other_patient_ids"] = [_number(person.national_id, noise=noise, rng=rng)]
    if rng.random() >= noise.no_phone:
        is_other = rng.random() < noise.other_phone
        identity["patient_telephone_numbers"] = [f"1{rng.randrange(3 * 10**9, 10**10)}" if is_other else person.phone]
    return Written(person.person_id, hospital, identity)


def _name(person: Person, *, noise: Noise, rng: random.Random) -> str:
    spelled, _, chinese = person.name.partition("=")
    if rng.random() < noise.spelled:
        family, _, given = spelled.partition("^")
        return rng.choice((f"{family}^{given}", f"{given} {family}", f"{family}{given}".upper(), f"{family}, {given}"))
    if rng.random() < noise.traditional:
        chinese = chinese.translate(_TRADITIONAL)
    elif rng.random() < noise.homophone:
        family, mark, given = chinese.partition("^")
        chinese = family + mark + given.translate(_HOMOPHONES)
    elif rng.random() < noise.wrong_character:
        chinese = chinese[:-1] + rng.choice(_OTHERS)
    return rng.choice((chinese, chinese.replace("^", ""), chinese.replace("^", " "), f"{spelled}={chinese}"))


def _number(number: str, *, noise: Noise, rng: random.Random) -> str:
    if number[6:8] == "19" and rng.random() < noise.old_form:
        return number[:6] + number[8:17]
    if rng.random() < noise.wrong_check_digit:
        return number[:-1] + ("1" if number[-1] != "1" else "2")
    return number


def _mistyped(born: date, *, rng: random.Random) -> date:
    kind = rng.randrange(3)
    if kind == 0:
        return date(born.year, 1, 1)
    if kind == 1 and born.day <= 12:
        return date(born.year, born.day, born.month)
    return born + timedelta(days=rng.choice((1, -1, 10, -10, 365)))


def _twin(person: Person, *, number: int, rng: random.Random) -> Person:
    """Same day, sex, surname and telephone; another given name and number."""
    other = make_person(number, rng=rng, today=person.birth_date + timedelta(days=1))
    family, family_zh = person.name.split("=")[0].split("^")[0], person.name.split("=")[1].split("^")[0]
    given = [group.split("^")[1] for group in other.name.split("=")]
    return _as(other, person, name=f"{family}^{given[0]}={family_zh}^{given[1]}", phone=person.phone)


def _namesake(person: Person, *, number: int) -> Person:
    """Another person of the same name, sex and day of birth."""
    other = make_person(number, rng=random.Random(number), today=person.birth_date + timedelta(days=1))
    return _as(other, person, name=person.name, phone=other.phone)


def _as(other: Person, person: Person, *, name: str, phone: str) -> Person:
    from radlake.synth.persons import national_id

    first17 = other.national_id[:6] + f"{person.birth_date:%Y%m%d}" + other.national_id[14:16]
    last = int(other.national_id[16]) // 2 * 2 + (person.sex == "M")
    return Person(other.person_id, name, person.sex, person.birth_date, national_id(f"{first17}{last}"), phone)


def _newborn(mother: Person, *, rng: random.Random, today: date) -> Written:
    """A child without a name, entered under its mother's number."""
    born = today - timedelta(days=rng.randrange(1, 300))
    return Written(
        f"{mother.person_id}-child",
        f"h{rng.randrange(200):03d}",
        {
            "patient_id": [f"{rng.randrange(10**9):09d}"],
            "patient_name": [mother.name_zh + rng.choice(("之子", "之女", "女婴"))],
            "patient_sex": [rng.choice("FM")],
            "patient_birth_date": [f"{born:%Y%m%d}"],
            "other_patient_ids": [mother.national_id],
            "patient_telephone_numbers": [mother.phone],
        },
    )


def _nobody(number: int, *, rng: random.Random) -> Written:
    """An unconscious patient: a number of the ward, no name."""
    name = rng.choice(("无名氏", "UNKNOWN", "UNKNOWN^PATIENT", "匿名"))
    identity = {"patient_id": [f"{rng.randrange(10**9):09d}"], "patient_name": [name], "patient_sex": ["M"]}
    return Written(f"nobody{number}", f"h{rng.randrange(200):03d}", identity | {"patient_birth_date": ["19000101"]})
