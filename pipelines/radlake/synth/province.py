"""A synthetic province: hospitals, persons and exams, drawn from one seed.

Persons fall ill, are examined, are examined again, sometimes in another hospital; what each hospital writes down is
derived from that. The same arguments give the same province on every machine. Images are made in `datasets`, the
duplicates that a statistic should find in `truth`, the reference tables in `ledgers`.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cached_property

from radlake.synth.persons import Person, make_person
from radlake.synth.protocols import PROTOCOLS, Protocol, SeriesPlan

__all__ = [
    "PREFECTURES",
    "UID_ROOT",
    "Exam",
    "Hospital",
    "Province",
    "Series",
    "Study",
    "make_hospitals",
    "make_province",
]

UID_ROOT = "1.3.6.1.4.1.32473"
# GB/T 2260 codes of Jiangsu's prefectures, names, and rounded residents in ten thousands.
PREFECTURES: dict[str, tuple[str, str, int]] = {
    "320100": ("南京", "Nanjing", 932),
    "320200": ("无锡", "Wuxi", 746),
    "320300": ("徐州", "Xuzhou", 908),
    "320400": ("常州", "Changzhou", 528),
    "320500": ("苏州", "Suzhou", 1275),
    "320600": ("南通", "Nantong", 773),
    "320700": ("连云港", "Lianyungang", 460),
    "320800": ("淮安", "Huaian", 456),
    "320900": ("盐城", "Yancheng", 671),
    "321000": ("扬州", "Yangzhou", 456),
    "321100": ("镇江", "Zhenjiang", 321),
    "321200": ("泰州", "Taizhou", 451),
    "321300": ("宿迁", "Suqian", 499),
}
_MONTH_WEIGHTS = (1.25, 0.85, 1.1, 1.0, 0.95, 0.9, 0.95, 0.9, 0.95, 1.0, 1.05, 1.25)
_WEEKDAY_WEIGHTS = (1.3, 1.15, 1.1, 1.05, 1.1, 0.6, 0.4)


@dataclass(frozen=True, slots=True)
class Hospital:
    """A hospital and the habits of its PACS.

    Attributes
    ----------
    charset : str
        Specific Character Set of its objects; in `ISO_IR 100` names are spelled and descriptions English.
    transfer_syntax_uid : str
        How its objects are stored.
    uid_root : str
        Root of its UIDs, below the enterprise number that is set aside for documentation (RFC 5612).
    weight : float
        Its share of visits, relative to others.
    """

    hospital_id: str
    name_zh: str
    name_en: str
    region_code: str
    level: str
    ae_title: str
    charset: str
    transfer_syntax_uid: str
    uid_root: str
    weight: float
    digital_radiography: str = "DX"


@dataclass(frozen=True, slots=True)
class Series:
    series_instance_uid: str
    number: int
    plan: SeriesPlan
    n_instances: int


@dataclass(frozen=True, slots=True)
class Study:
    study_instance_uid: str
    started_at: datetime
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Exam:
    """One ordered examination as the hospital recorded it, with the true person beside.

    Attributes
    ----------
    person : Person
        Who it really was.
    patient_id : str
        Number of the person in this hospital; empty when the hospital did not know who came.
    has_national_id : bool
        The hospital recorded the national identity number at this visit.
    has_body_part : bool
        The modality filled in Body Part Examined.
    laterality : str
        `L`, `R`, `B`, or empty when the exam is not of one side.
    """

    exam_id: str
    hospital_id: str
    person: Person
    patient_id: str
    has_national_id: bool
    accession_number: str
    started_at: datetime
    protocol: Protocol
    laterality: str
    has_body_part: bool
    is_emergency: bool
    studies: tuple[Study, ...] = ()

    @property
    def day(self) -> date:
        return self.started_at.date()

    @property
    def recorded_person(self) -> str:
        """The person as far as the headers tell: national identity number, else number in this hospital."""
        if self.has_national_id:
            return self.person.national_id
        return f"{self.hospital_id}/{self.patient_id or self.exam_id}"

    @property
    def n_instances(self) -> int:
        return sum(series.n_instances for study in self.studies for series in study.series)


@dataclass(frozen=True)
class Province:
    """What really happened between `start` and `end` (inclusive)."""

    seed: int
    start: date
    end: date
    hospitals: tuple[Hospital, ...]
    exams: tuple[Exam, ...]

    @cached_property
    def persons(self) -> tuple[Person, ...]:
        known = {exam.person.person_id: exam.person for exam in self.exams}
        return tuple(known[key] for key in sorted(known))

    @cached_property
    def _by_hospital(self) -> dict[str, tuple[Exam, ...]]:
        ordered = sorted(self.exams, key=lambda exam: exam.hospital_id)
        return {key: tuple(group) for key, group in itertools.groupby(ordered, lambda exam: exam.hospital_id)}

    @cached_property
    def _hospital_by_id(self) -> dict[str, Hospital]:
        return {hospital.hospital_id: hospital for hospital in self.hospitals}

    def hospital(self, hospital_id: str) -> Hospital:
        return self._hospital_by_id[hospital_id]

    def exams_of(self, hospital_id: str) -> tuple[Exam, ...]:
        """Exams of one hospital in the order in which they were done."""
        return self._by_hospital.get(hospital_id, ())


_EXPLICIT, _IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
_DEMO_HOSPITALS = (
    (
        "jsa-provincial",
        "江苏省示例医院",
        "Jiangsu Example Provincial Hospital",
        "320100",
        "3A",
        "JSA_PACS",
        "GB18030",
        1.3,
    ),
    (
        "sza-municipal",
        "苏州市示例医院",
        "Suzhou Example Municipal Hospital",
        "320500",
        "3A",
        "SZA_PACS",
        "ISO_IR 192",
        1.0,
    ),
    ("xzb-county", "徐州示例县医院", "Xuzhou Example County Hospital", "320300", "2A", "XZB_PACS", "ISO_IR 100", 0.7),
)


def make_hospitals(count: int = 3) -> tuple[Hospital, ...]:
    """The three hospitals of the demo, then as many invented ones as asked for, in every prefecture."""
    hospitals = []
    for number, demo in zip(range(count), itertools.chain(_DEMO_HOSPITALS, _more_hospitals()), strict=False):
        hospital_id, name_zh, name_en, region_code, level, ae_title, charset, weight = demo
        hospitals.append(
            Hospital(
                hospital_id=hospital_id,
                name_zh=name_zh,
                name_en=name_en,
                region_code=region_code,
                level=level,
                ae_title=ae_title,
                charset=charset,
                transfer_syntax_uid=_IMPLICIT if charset == "ISO_IR 100" else _EXPLICIT,
                uid_root=f"{UID_ROOT}.{region_code}.{number + 1}",
                weight=weight,
                digital_radiography="DX" if level.startswith("3") else "CR",
            )
        )
    return tuple(hospitals)


def _more_hospitals() -> Iterator[tuple[str, str, str, str, str, str, str, float]]:
    for number in itertools.count(4):
        region_code, (zh, en, _) = list(PREFECTURES.items())[number % len(PREFECTURES)]
        level, weight = (("2A", 0.6), ("3B", 0.9), ("2B", 0.4), ("3A", 1.2))[number % 4]
        charset = ("GB18030", "ISO_IR 192", "GB18030", "ISO_IR 100", "GB18030")[number % 5]
        names = f"{zh}第{number}示例医院", f"{en} Example Hospital No. {number}"
        yield f"h{number:04d}", *names, region_code, level, f"PACS{number:04d}", charset, weight


def make_province(
    *,
    seed: int,
    hospitals: int = 3,
    n_exams: int = 400,
    start: date = date(2025, 1, 1),
    end: date = date(2025, 12, 31),
) -> Province:
    """Draw a province.

    Parameters
    ----------
    seed : int
        The same seed and arguments give the same province, down to the last byte of its images.
    hospitals : int
        Number of hospitals; the first three are those of the demo.
    n_exams : int
        Exams of a hospital on average; larger hospitals have more, the sum is exact.
    start, end : date
        First and last day of exams.
    """
    places = make_hospitals(hospitals)
    total = n_exams * hospitals
    calendar = _Calendar(start, end)
    lives = (_life(number, seed=seed, places=places, calendar=calendar) for number in itertools.count(1))
    exams = list(itertools.islice(itertools.chain.from_iterable(lives), total))
    return Province(seed=seed, start=start, end=end, hospitals=places, exams=_recorded(exams, places=places))


class _Calendar:
    """Days of the period with their share of exams: winters, and Mondays, are busy."""

    def __init__(self, start: date, end: date) -> None:
        self.days = [start + timedelta(days=number) for number in range((end - start).days + 1)]
        weights = (_MONTH_WEIGHTS[day.month - 1] * _WEEKDAY_WEIGHTS[day.weekday()] for day in self.days)
        self.cumulated = list(itertools.accumulate(weights))

    def draw(self, rng: random.Random) -> date:
        return self.days[bisect.bisect(self.cumulated, rng.random() * self.cumulated[-1])]


def _life(number: int, *, seed: int, places: tuple[Hospital, ...], calendar: _Calendar) -> Iterator[Exam]:
    """The exams of one person: few for most, many for some; about one in seven is soon repeated."""
    rng = random.Random(f"radlake/{seed}/person/{number}")
    person = make_person(number, rng=rng, today=calendar.days[0])
    home = _draw_hospital(rng, places)
    for _ in range(min(8, int(rng.paretovariate(1.5)))):
        day, hospital = calendar.draw(rng), home
        protocol, laterality = _draw_protocol(rng, person=person, day=day)
        is_emergency = rng.random() < 0.12
        while True:
            started_at = _time_on(day, rng=rng, is_emergency=is_emergency)
            yield _exam(rng, person, hospital, started_at, protocol, laterality, is_emergency=is_emergency)
            event = rng.random()
            gap = 0 if event < 0.01 else _gap_days(rng)  # taken again on the same day: no duplicate by definition
            day, is_emergency = day + timedelta(days=gap), False
            if event > 0.3 or day > calendar.days[-1]:
                break
            if event < 0.15:  # the same again, now and then with contrast instead of without
                protocol = rng.choice([p for p in PROTOCOLS if _is_same_kind(p, protocol)])
            else:  # another look at the same person
                protocol, laterality = _draw_protocol(rng, person=person, day=day)
            if gap and rng.random() < 0.35:
                hospital = _draw_hospital(rng, places)


def _exam(
    rng: random.Random,
    person: Person,
    hospital: Hospital,
    started_at: datetime,
    protocol: Protocol,
    laterality: str,
    *,
    is_emergency: bool,
) -> Exam:
    """An exam without numbers and UIDs; `patient_id` holds the true person, or nothing when nobody knew who came."""
    is_nameless = is_emergency and rng.random() < 0.05
    return Exam(
        exam_id="",
        hospital_id=hospital.hospital_id,
        person=person,
        patient_id="" if is_nameless else person.person_id,
        has_national_id=not is_nameless and rng.random() < 0.92,
        accession_number="",
        started_at=started_at,
        protocol=protocol,
        laterality=laterality,
        has_body_part=rng.random() < 0.88,
        is_emergency=is_emergency,
        studies=_studies(protocol, rng=rng),
    )


def _draw_hospital(rng: random.Random, places: tuple[Hospital, ...]) -> Hospital:
    return rng.choices(places, [place.weight for place in places])[0]


def _draw_protocol(rng: random.Random, *, person: Person, day: date) -> tuple[Protocol, str]:
    age = (day - person.birth_date).days / 365.25
    suitable = [p for p in PROTOCOLS if person.sex in p.sex and age >= p.min_age]
    winter = day.month in (12, 1, 2)
    weights = [p.weight * (1.5 if winter and p.body_part == "CHEST" else 1.0) for p in suitable]
    protocol = rng.choices(suitable, weights)[0]
    if protocol.is_paired:
        return protocol, rng.choice("LR")
    return protocol, "B" if protocol.modality == "MG" else ""


def _is_same_kind(one: Protocol, other: Protocol) -> bool:
    return (one.modality, one.body_part) == (other.modality, other.body_part)


def _gap_days(rng: random.Random) -> int:
    low, high = rng.choices(((1, 7), (8, 30), (31, 90), (91, 180)), (30, 35, 25, 10))[0]
    return rng.randint(low, high)


def _time_on(day: date, *, rng: random.Random, is_emergency: bool) -> datetime:
    seconds = rng.randrange(82_800) if is_emergency else 28_800 + int(rng.betavariate(1.6, 2.2) * 34_200)
    return datetime(day.year, day.month, day.day) + timedelta(seconds=seconds)


def _studies(protocol: Protocol, *, rng: random.Random) -> tuple[Study, ...]:
    """The series of an exam, without UIDs and times; a few exams come as two studies."""
    plans = list(protocol.series)
    if protocol.modality == "CT":
        if rng.random() < 0.3:
            plans.append(SeriesPlan("SR", "Dose Report"))
        if rng.random() < 0.04:
            plans.append(SeriesPlan("SC", "Screen Save"))
    series = [Series("", number, plan, rng.randint(plan.fewest, plan.most)) for number, plan in enumerate(plans, 1)]
    is_split = len(protocol.series) > 1 and rng.random() < 0.05
    cut = rng.randint(1, len(protocol.series) - 1) if is_split else len(series)
    return tuple(Study("", datetime.min, tuple(part)) for part in (series[:cut], series[cut:]) if part)


def _recorded(exams: list[Exam], *, places: tuple[Hospital, ...]) -> tuple[Exam, ...]:
    """Number exams, patients and studies in the order in which each hospital meets them."""
    hospitals = {place.hospital_id: place for place in places}
    patient_ids: dict[tuple[str, str], str] = {}
    counts: Counter[tuple[str, str]] = Counter()
    recorded = []
    for exam in sorted(exams, key=lambda exam: (exam.started_at, exam.hospital_id, exam.person.person_id)):
        hospital = hospitals[exam.hospital_id]
        counts[hospital.hospital_id, "exam"] += 1
        number = counts[hospital.hospital_id, "exam"]
        patient_id = exam.patient_id
        if patient_id:
            key = hospital.hospital_id, exam.person.person_id
            if key not in patient_ids:
                counts[hospital.hospital_id, "patient"] += 1
                patient_ids[key] = f"{counts[hospital.hospital_id, 'patient'] * 37 + 1000:010d}"
            patient_id = patient_ids[key]
        studies = []
        for offset, study in enumerate(exam.studies):
            counts[hospital.hospital_id, "study"] += 1
            uid = f"{hospital.uid_root}.{counts[hospital.hospital_id, 'study']}"
            series = tuple(replace(one, series_instance_uid=f"{uid}.{one.number}") for one in study.series)
            started_at = exam.started_at + timedelta(minutes=25 * offset)
            studies.append(Study(uid, started_at, series))
        recorded.append(
            replace(
                exam,
                exam_id=f"{hospital.hospital_id}/{number:06d}",
                patient_id=patient_id,
                accession_number=f"{exam.started_at:%y%m}{number:06d}",
                studies=tuple(studies),
            )
        )
    return tuple(recorded)
