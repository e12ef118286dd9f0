"""From the identifiers that a caller sends to pseudonyms: the only place of the reminder that sees a value of one.

Nothing here keeps, logs or tells a value. A number that a hospital used for several persons names nobody: to show one
patient the exam of another is worse than to be silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from radlake.deidentify import KeyRing, identify_person
from radlake.lake.vault import VaultRows
from radlake.vault.record import patient_alias

__all__ = ["Identifier", "Links", "PersonFound", "find_person"]


@dataclass(frozen=True, repr=False)
class Identifier:
    """A number of the patient, with the issuer that the hospital's DICOM objects give it; it has no repr."""

    value: str
    issuer: str = ""


@dataclass(frozen=True)
class PersonFound:
    """Pseudonyms of the patient, or why there are none: PERSON_UNKNOWN, PERSON_AMBIGUOUS."""

    patient_keys: tuple[int, ...] = ()
    verdict: str = ""


class Links:
    """Pseudonyms that are of one person (core.person_link), looked up in sorted arrays."""

    def __init__(self, patient_keys: np.ndarray, person_keys: np.ndarray) -> None:
        by_own, by_person = np.argsort(patient_keys), np.argsort(person_keys, kind="stable")
        self._own, self._person_of = patient_keys[by_own], person_keys[by_own]
        self._person, self._own_of = person_keys[by_person], patient_keys[by_person]

    @classmethod
    def none(cls) -> Links:
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))

    def person_of(self, patient_key: int) -> int:
        at = int(np.searchsorted(self._own, patient_key))
        return int(self._person_of[at]) if at < len(self._own) and self._own[at] == patient_key else patient_key

    def keys_of(self, person_key: int) -> set[int]:
        low, high = (int(np.searchsorted(self._person, person_key, side)) for side in ("left", "right"))
        return {person_key, *self._own_of[low:high].tolist()}


def find_person(
    identifiers: Sequence[Identifier], *, hospital_id: str, keys: KeyRing, vault: VaultRows, links: Links
) -> PersonFound:
    """Every pseudonym that the patient's exams may bear.

    The caller vouches that all identifiers are of one patient; the vault tells which persons the hospital called by
    each of them.
    """
    own: set[int] = set()
    used: set[int] = set()
    for identifier in identifiers:
        asked = Dataset()
        asked.PatientID, asked.IssuerOfPatientID = identifier.value, identifier.issuer
        person = identify_person([asked], hospital_id=hospital_id, keys=keys)
        if not person.is_known:
            continue
        own.add(links.person_of(person.patient_key))
        alias = patient_alias(keys, hospital_id=hospital_id, patient_id=identifier.value)
        used |= _persons(vault.patient_keys(alias), links)
    if not own:
        return PersonFound(verdict="PERSON_UNKNOWN")
    if len(used) > 1 and len(used & own) != 1:
        return PersonFound(verdict="PERSON_AMBIGUOUS")
    persons = own | (used & own if len(used) > 1 else used)
    return PersonFound(tuple(sorted(set().union(*(links.keys_of(person) for person in persons)))))


def _persons(patient_keys: Iterable[int], links: Links) -> set[int]:
    return {links.person_of(key) for key in patient_keys}
