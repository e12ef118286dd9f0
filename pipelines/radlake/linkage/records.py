"""What is known of the person behind each pseudonym: one record, made of all that hospitals wrote in its studies.

Records exist in memory only, while a linkage runs. A record that contradicts itself is of several persons (a mother's
number on her newborn, a number that a ward gives to everybody) and is linked with nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from radlake.linkage.identifiers import (
    birth_date_from_text,
    health_card_from_text,
    phone_from_text,
    sex_from_text,
    the_national_id,
)
from radlake.linkage.names import Name, name_from_texts

__all__ = ["Identity", "Record", "births_agree", "record_from_identities", "records_table"]

Identity = Mapping[str, Sequence[str]]  # of the vault: distinct values by attribute

_MOST_NAMES = 3
_SCHEMA = pa.schema(
    [
        ("patient_key", pa.int64()),
        ("national_id", pa.string()),
        ("health_card", pa.string()),
        ("zh", pa.string()),
        ("sound", pa.string()),
        ("birth_date", pa.string()),
        ("sex", pa.string()),
        ("phone", pa.string()),
        ("is_newborn", pa.bool_()),
        ("is_contradictory", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True, repr=False)
class Record:
    """One pseudonym and its person; it has no repr, because it identifies.

    Attributes
    ----------
    national_id, health_card, phone : str or None
        Normalised and checked; a health card with its issuer.
    zh, sound : str or None
        The name (`Name`).
    birth_date : str or None
        `YYYYMMDD`; of the national identity number when there is one, like the sex.
    sex : str or None
        `M` or `F`.
    is_newborn : bool
        A child without a name of its own.
    is_contradictory : bool
        What is told cannot be of one person.
    """

    patient_key: int
    national_id: str | None = None
    health_card: str | None = None
    zh: str | None = None
    sound: str | None = None
    birth_date: str | None = None
    sex: str | None = None
    phone: str | None = None
    is_newborn: bool = False
    is_contradictory: bool = False

    @property
    def is_comparable(self) -> bool:
        """Whether it tells enough to be compared with others by the model."""
        return bool(self.sound and (self.birth_date or self.phone)) and not (self.is_newborn or self.is_contradictory)


def record_from_identities(patient_key: int, identities: Iterable[Identity], *, today: date) -> Record:
    """The record of a pseudonym, from the identity of each of its studies; what most of them tell counts."""
    identities = list(identities)
    names: Counter[Name] = Counter()
    births: Counter[str] = Counter()
    sexes: Counter[str] = Counter()
    phones: Counter[str] = Counter()
    cards: Counter[str] = Counter()
    for identity in identities:
        if name := name_from_texts(tuple(identity.get("patient_name", ()))):
            names[name] += 1
        born = (birth_date_from_text(text, today=today) for text in identity.get("patient_birth_date", ()))
        births.update(f"{day:%Y%m%d}" for day in born if day)
        sexes.update(sex for text in identity.get("patient_sex", ()) if (sex := sex_from_text(text)))
        phones.update(one for text in identity.get("patient_telephone_numbers", ()) if (one := phone_from_text(text)))
        issuer = next(iter(identity.get("issuer_of_patient_id", ())), "")
        found = (health_card_from_text(text, issuer=issuer) for text in _numbers(identity))
        cards.update(" ".join(card) for card in found if card)
    national = the_national_id(_texts(identities, "patient_id"), today=today) or the_national_id(
        _texts(identities, "other_patient_ids"), today=today
    )
    told_birth = f"{national.birth_date:%Y%m%d}" if national else None
    sounds = {name.sound or name.zh for name in names}
    is_split = any(not births_agree(one, other) for one in births for other in births)
    is_contradictory = (
        len(sounds) > _MOST_NAMES
        or (is_split and len(sounds) > 1)
        or bool(told_birth and births and not any(births_agree(told_birth, born) for born in births))
    )
    name = _commonest(names, key=lambda one: (one.zh, one.sound))
    return Record(
        patient_key=patient_key,
        national_id=national.number if national and not is_contradictory else None,
        health_card=_commonest(cards) if len(cards) == 1 else None,
        zh=name.zh or None if name else None,
        sound=name.sound or None if name else None,
        birth_date=told_birth or _commonest(births),
        sex=national.sex if national else _commonest(sexes),
        phone=_commonest(phones),
        is_newborn=any(one.is_newborn for one in names),
        is_contradictory=is_contradictory,
    )


def births_agree(one: str, other: str) -> bool:
    """Whether two dates of birth may be of one person: equal, one digit mistyped, two neighbours exchanged, day and
    month in the other order, or one of them the first of January of that year, which stands for an unknown day.

    >>> births_agree("19640224", "19640242"), births_agree("19641002", "19640210"), births_agree("19640224", "19650304")
    (True, True, False)
    """
    if one == other:
        return True
    wrong = [place for place, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    is_exchanged = len(wrong) == 2 and wrong[1] - wrong[0] == 1 and one[wrong[0]] == other[wrong[1]] and (
        one[wrong[1]] == other[wrong[0]]
    )  # fmt: skip
    is_same_year = one[:4] == other[:4]
    is_other_order = is_same_year and one[4:6] == other[6:] and one[6:] == other[4:6]
    is_year_only = is_same_year and "0101" in (one[4:], other[4:])
    return len(wrong) == 1 or is_exchanged or is_other_order or is_year_only


def records_table(records: Iterable[Record]) -> pa.Table:
    """Records as columns."""
    rows = list(records)
    return pa.table({name: [getattr(row, name) for row in rows] for name in _SCHEMA.names}, schema=_SCHEMA)


def _numbers(identity: Identity) -> Iterable[str]:
    for attribute in ("patient_id", "other_patient_ids"):
        for text in identity.get(attribute, ()):
            yield from text.split("\\")


def _texts(identities: Sequence[Identity], attribute: str) -> list[str]:
    return [part for identity in identities for text in identity.get(attribute, ()) for part in text.split("\\")]


def _commonest(counted: Counter, *, key=lambda one: one):
    return min(counted, key=lambda one: (-counted[one], key(one)), default=None)
