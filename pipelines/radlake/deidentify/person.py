"""Who the patient of a study is: the one text that the person's pseudonym is made from.

A person has one pseudonym in every hospital when the national identity number is known. Which names and numbers must
then disappear from the data set is decided in `identity`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

from pydicom import Dataset

from radlake.deidentify.elements import items_of, text_of
from radlake.deidentify.keys import KeyRing

_T = TypeVar("_T", str, tuple[str, str])

__all__ = ["Person", "identify_person", "identity_conflict", "names_nobody", "national_ids"]

_PATIENT_ID = 0x00100020
_ISSUER = 0x00100021
_NAME, _BIRTH_DATE = 0x00100010, 0x00100030
_OTHER_IDS = 0x00101000
_OTHER_IDS_SEQUENCE = 0x00101002
_STUDY_UID = 0x0020000D

_NATIONAL_ID = re.compile(r"(?<![0-9A-Z])[1-9]\d{16}[0-9X](?![0-9A-Z])")
_TELLING_DIGITS = 6
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK_DIGITS = "10X98765432"
# What a console writes when nobody typed an identifier. One such "identifier" is many persons.
_NOBODY = re.compile(
    r"((.)\2*|(UNKNOWN|ANONYMOUS|ANONYMIZED|ANON|NONE|NULL|NA|TEST|PATIENT|NOID|无名氏?|匿名|未知)\d*)?"
)


@dataclass(frozen=True)
class Person:
    """The patient of a study.

    Attributes
    ----------
    patient_key : int
        Keyed pseudonym of 63 bits.
    is_known : bool
        False when the study names nobody; the pseudonym is then of this study alone.
    """

    patient_key: int
    is_known: bool

    @property
    def patient_id(self) -> str:
        """Patient ID of the de-identified objects: the pseudonym as 16 hexadecimal digits."""
        return f"{self.patient_key:016x}"


def identify_person(datasets: Sequence[Dataset], *, hospital_id: str, keys: KeyRing) -> Person:
    """Find out whose study this is.

    In this order: the one national identity number (GB 11643-1999, checksum verified) in Patient ID, else in Other
    Patient IDs; the hospital's Patient ID with its issuer; the study itself. Two national numbers beside a Patient ID
    that is neither (mother and child, mostly) identify nobody, and the Patient ID decides.

    Parameters
    ----------
    datasets : sequence of Dataset
        Instances of one study, identified. Order does not matter; one data set may stand for several.
    """
    own: Counter[str] = Counter()
    others: set[str] = set()
    local: Counter[tuple[str, str]] = Counter()
    distinct = {id(ds): ds for ds in datasets}
    for key, n in Counter(map(id, datasets)).items():  # the instances of a series mostly share one header
        ds = distinct[key]
        patient_id = _normal(text_of(ds, _PATIENT_ID))
        own.update(dict.fromkeys(national_ids(patient_id), n))
        for text in _other_ids(ds):
            others.update(national_ids(_normal(text)))
        if patient_id and not _NOBODY.fullmatch(re.sub(r"[\W_]", "", patient_id)):
            local[_normal(text_of(ds, _ISSUER)), patient_id] += n
    if own:
        return Person(keys.patient_key(f"national\x1f{_commonest(own)}"), is_known=True)
    if len(others) == 1:
        return Person(keys.patient_key(f"national\x1f{others.pop()}"), is_known=True)
    if local:
        issuer, patient_id = _commonest(local)
        return Person(keys.patient_key(f"hospital\x1f{hospital_id}\x1f{issuer}\x1f{patient_id}"), is_known=True)
    studies = sorted(text for ds in distinct.values() if (text := text_of(ds, _STUDY_UID)))
    return Person(keys.patient_key(f"study\x1f{hospital_id}\x1f{studies[0] if studies else ''}"), is_known=False)


def identity_conflict(datasets: Sequence[Dataset]) -> str | None:
    """Why the data sets of one study cannot be of one person; None when they can.

    Two Patient IDs are of one person when they differ in letters and leading zeros only, when one is among the Other
    Patient IDs of the other, or when name and date of birth agree. A header without a Patient ID contradicts nobody.
    """
    persons: list[set[str]] = []
    for ds in {id(ds): ds for ds in datasets}.values():
        marks = _marks_of(ds)
        if marks:
            same = [person for person in persons if person & marks]
            persons = [person for person in persons if not person & marks] + [marks.union(*same)]
    return f"{len(persons)} persons by Patient ID, name and date of birth" if len(persons) > 1 else None


def _marks_of(ds: Dataset) -> set[str]:
    """What makes two headers one person's; nothing for a header without a Patient ID."""
    patient_id = _normal(text_of(ds, _PATIENT_ID))
    if not patient_id or _NOBODY.fullmatch(re.sub(r"[\W_]", "", patient_id)):
        return set()
    marks = set()
    for number in (patient_id, *map(_normal, _other_ids(ds))):
        digits = re.sub(r"\D", "", number).lstrip("0")
        marks |= (
            {f"id {number}", *([f"digits {digits}"] if len(digits) >= _TELLING_DIGITS else [])} if number else set()
        )
    born = re.sub(r"\D", "", text_of(ds, _BIRTH_DATE))
    for group in _normal(text_of(ds, _NAME)).split("="):
        if (name := re.sub(r"[\W_]", "", group)) and born:
            marks.add(f"name {name} {born}")
    return marks


def national_ids(text: str) -> list[str]:
    """Valid 18-digit identity numbers in a text.

    >>> national_ids("ID 11010519491231002X"), national_ids("110105194912310021")
    (['11010519491231002X'], [])
    """
    return [found for found in _NATIONAL_ID.findall(text.upper()) if _is_national_id(found)]


def names_nobody(text: str) -> bool:
    """Whether it is what a console writes when nobody typed a name or number: UNKNOWN, 0000, 无名氏."""
    return _NOBODY.fullmatch(re.sub(r"[\W_]", "", _normal(text))) is not None


def _is_national_id(number: str) -> bool:
    """Checksum (ISO 7064 MOD 11-2) and a possible date of birth."""
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number, strict=False))
    if _CHECK_DIGITS[total % 11] != number[17]:
        return False
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    return born.year >= 1850


def _other_ids(ds: Dataset) -> Iterator[str]:
    yield from text_of(ds, _OTHER_IDS).split("\\")
    for item in items_of(ds.get_item(_OTHER_IDS_SEQUENCE)):
        yield text_of(item, _PATIENT_ID)


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).upper().split())


def _commonest(counted: Counter[_T]) -> _T:
    return min(counted, key=lambda item: (-counted[item], item))
