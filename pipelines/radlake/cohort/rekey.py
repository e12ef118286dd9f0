"""New identities for a project: the pseudonyms, UIDs and dates of one person's instances under the project's keys.

Every project derives its own from a key of its own (HKDF of the root key, `KeyRing.for_project`), so that no
identifier, UID, date or digest of one release is in another. Pixels stay bit by bit; whoever holds the pixels of two
releases can compare those, which no key prevents (docs/adr/0039-releases-under-keys-of-their-own.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import cast

from pydicom import Dataset
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from radlake.deidentify import KeyRing
from radlake.deidentify.dates import Shift, time_tag_of
from radlake.deidentify.elements import (
    TEXT_VRS,
    Element,
    dataset,
    items_of,
    raw_element,
    sequence_element,
    text_bytes,
    text_of,
    unshared,
)
from radlake.deidentify.reference_table import reference_rows

__all__ = ["NewIdentity", "ages_of_band", "new_identity", "rekeyed"]

_PATIENT_NAME, _PATIENT_ID, _AGE = 0x00100010, 0x00100020, 0x00101010
_SOP_CLASS, _SOP_INSTANCE, _MODALITY = 0x00080016, 0x00080018, 0x00080060
_SEX, _WEIGHT = 0x00100040, 0x00101030
_NEEDS_WEIGHT = ("PT", "NM")  # a standardised uptake value is computed with it
_PSEUDONYM = re.compile(rb"[0-9a-f]{16}")
_DAY = 86_400


@dataclass(frozen=True)
class NewIdentity:
    """What a project makes of one pseudonym of the lake.

    Attributes
    ----------
    person_pseudo_id : str
        Of the person, whichever pseudonyms of the lake are theirs.
    moved : timedelta
        From dates of the lake to those of the release.
    age_years : int
        Completed years that the headers tell: the first of the person's band; -1 when none may be told.
    """

    keys: KeyRing = field(repr=False)
    person_pseudo_id: str
    moved: timedelta
    age_years: int = -1

    @property
    def shift(self) -> Shift:
        """`moved` as days and seconds of the clock; the seconds may be less than none."""
        seconds = round(self.moved.total_seconds())
        days = round(seconds / _DAY)
        return Shift(days, seconds - days * _DAY)

    def uid(self, uid: str) -> str:
        """A UID that the standard registered (a SOP class, a palette) names nobody and stays."""
        return uid if not uid or uid in UID_dictionary else self.keys.uid(uid)

    def pseudo_id(self, text: str) -> str:
        """Of any pseudonym of the lake that names no person: an exam, a device, an accession number."""
        return self.keys.pseudo_id("lake", text)

    def at(self, moment: datetime | None) -> datetime | None:
        return None if moment is None else moment + self.moved


def new_identity(keys: KeyRing, *, person_key: int, lake_offset_seconds: int, age_years: int = -1) -> NewIdentity:
    """The identity that a project gives a person, for the instances of one pseudonym.

    Parameters
    ----------
    keys : KeyRing
        Of the project.
    person_key : int
        The person of the pseudonym (core.person_link): a person with two pseudonyms has one offset, so that intervals
        between all exams are true again.
    lake_offset_seconds : int
        By which the lake moved the dates of the pseudonym.
    """
    person = keys.patient_key(f"person\x1f{person_key}")
    moved = keys.offset(person) - timedelta(seconds=lake_offset_seconds)
    return NewIdentity(keys, f"{person:016x}", moved, age_years)


def ages_of_band(age: int, width: int) -> tuple[int, int]:
    """First and last completed years of the band that an age is in.

    >>> ages_of_band(63, 5), ages_of_band(90, 5)
    ((60, 64), (90, 94))
    """
    first = age // width * width
    return first, first + width - 1


def rekeyed(ds: Dataset, identity: NewIdentity) -> tuple[Dataset, set[bytes]]:
    """A data set of the lake under a new identity, and what of the old one must not be readable in it."""
    keeps_weight = text_of(ds, _MODALITY) in _NEEDS_WEIGHT
    walk = _Walk(identity, removed=_characteristics() - ({_WEIGHT} if keeps_weight else set()))
    elements = walk.treat(ds)
    _tell_patient(elements, ds, identity, walk)
    out = dataset(elements)
    out.file_meta = FileMetaDataset()
    out.file_meta.MediaStorageSOPClassUID = UID(text_of(out, _SOP_CLASS))
    out.file_meta.MediaStorageSOPInstanceUID = UID(text_of(out, _SOP_INSTANCE))
    out.file_meta.TransferSyntaxUID = UID(str(ds.file_meta.TransferSyntaxUID))
    return out, walk.old


def _tell_patient(elements: dict[BaseTag, Element], ds: Dataset, identity: NewIdentity, walk: _Walk) -> None:
    for tag, vr in ((_PATIENT_NAME, "PN"), (_PATIENT_ID, "LO")):
        walk.old.add(text_of(ds, tag).encode())
        elements[BaseTag(tag)] = raw_element(tag, vr, identity.person_pseudo_id.encode())
    elements.pop(BaseTag(_AGE), None)
    if identity.age_years >= 0:
        elements[BaseTag(_AGE)] = raw_element(_AGE, "AS", f"{identity.age_years:03d}Y".encode())


@cache
def _characteristics() -> frozenset[int]:
    """Height, weight and what else PS3.15 calls patient characteristics, but sex: a few single somebody out."""
    found = (row.number for row in reference_rows() if "retain_patient_characteristics" in row.options)
    return frozenset(number for number in found if number and number != _SEX)


class _Walk:
    """Every element at every depth: UIDs, dates and pseudonyms are replaced, everything else stays as it is."""

    def __init__(self, identity: NewIdentity, *, removed: frozenset[int]) -> None:
        self.old: set[bytes] = set()
        self._removed = removed
        self._identity = identity
        self._shift = identity.shift

    def treat(self, ds: Dataset) -> dict[BaseTag, Element]:
        elements = cast("list[Element]", list(ds.values()))
        return {BaseTag(elem.tag): self._element(elem, ds) for elem in elements if int(elem.tag) not in self._removed}

    def _element(self, elem: Element, ds: Dataset) -> Element:
        tag, vr = int(elem.tag), elem.VR or ""
        if vr == "SQ":
            return sequence_element(tag, [dataset(self.treat(item)) for item in items_of(elem)])
        if vr not in TEXT_VRS:
            return unshared(elem)
        value = text_bytes(elem)
        new = b"\\".join(self._values(tag, vr, value, ds)) if value else b""
        return unshared(elem) if new == value else raw_element(tag, vr, new)

    def _values(self, tag: int, vr: str, value: bytes, ds: Dataset) -> Iterator[bytes]:
        parts = value.split(b"\\")
        if vr == "UI":
            for part in parts:
                uid = part.strip(b" \0").decode("ascii", "replace")
                new = self._identity.uid(uid)
                if new != uid:
                    self.old.add(uid.encode())
                yield new.encode()
        elif vr in ("DA", "TM", "DT"):
            time_tag = time_tag_of(tag) if vr == "DA" else None
            times = iter(text_of(ds, time_tag).split("\\") if time_tag else [])
            for part in parts:
                text = part.decode("ascii", "replace")
                moved = {"DA": lambda t: self._shift.of_date(t, time=next(times, "")), "TM": self._shift.of_time,
                         "DT": self._shift.of_datetime}[vr](text)  # fmt: skip
                yield (moved or "").encode()  # what is no date stays nowhere
        else:
            for part in parts:
                if _PSEUDONYM.fullmatch(part.strip()):
                    self.old.add(part.strip())
                    part = self._identity.pseudo_id(part.strip().decode()).encode()
                yield part
