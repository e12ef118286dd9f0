"""The walk over every element at every depth: look the rule up, treat the value, remember what stays and what was told.

An attribute without a rule goes, a value that its rule cannot treat goes. Afterwards every text that stayed is searched
for the identifiers that the data set told anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple, cast

from pydicom import Dataset
from pydicom._uid_dict import UID_dictionary
from pydicom.tag import BaseTag

from radlake.deidentify.codes import clean_meaning
from radlake.deidentify.dates import Shift, cap_age, time_tag_of
from radlake.deidentify.elements import (
    SINGLE_VALUED,
    TEXT_VRS,
    Element,
    dataset,
    decoded,
    items_of,
    raw_element,
    sequence_element,
    text_bytes,
    text_of,
    unshared,
)
from radlake.deidentify.identity import identifying_concepts, identifying_tags, identities_from
from radlake.deidentify.keys import KeyRing
from radlake.deidentify.person import Person
from radlake.deidentify.profile import Action, Profile, Rule
from radlake.dicom.uids import is_uid
from radlake.vocab import body_part_term, clean_description, manufacturer_group

__all__ = ["NUMBER", "NUMBERS_AS_TEXT", "Walk", "is_searched", "treat_bulk", "uid_needle"]

_CHARSET = 0x00080005
_MANUFACTURER = 0x00080070
_CODE_VALUE, _SCHEME, _MEANING, _LONG_CODE_VALUE = map(BaseTag, (0x00080100, 0x00080102, 0x00080104, 0x00080119))
_CONCEPT_NAME = BaseTag(0x0040A043)
# Values of a content item (PS3.3 C.17.3): date-time, date, time, person name, text, measured value.
_CONTENT_VALUES = frozenset([0x0040A120, 0x0040A121, 0x0040A122, 0x0040A123, 0x0040A160, 0x0040A300])
NUMBER = b"0123456789+-.eE \\"  # all characters of a DS and an IS
NUMBERS_AS_TEXT = frozenset(["DS", "IS"])
_DATE_VRS = frozenset(["DA", "DT", "TM"])
_SEARCHED = frozenset([Action.KEEP, Action.CLEAN])
_RETAINING = frozenset(["retain_institution_identity", "retain_device_identity"])
_CLOSED_VRS = _DATE_VRS | {"AS", "UI"}  # checked for what they are, and nothing else fits into them
_MIN_UID = 12  # digits; "1.1" stands in many a text by chance
_REMOVED_CODE = {_CODE_VALUE: b"REMOVED", _SCHEME: b"99RADLAKE", _MEANING: b"Removed"}


class _Kept(NamedTuple):
    """A text that stays, until the search says otherwise."""

    elements: dict[BaseTag, Element]
    rule: Rule
    vr: str
    value: bytes


class Walk:
    """The walk over one data set."""

    def __init__(self, profile: Profile, keys: KeyRing, *, person: Person, hospital_id: str) -> None:
        self._rules = profile.rules
        self._safe_private = profile.safe_private
        self._keys = keys
        self._person = person
        self._hospital_id = hospital_id
        patient_key = person.patient_key
        self._shift = Shift(keys.date_offset_days(patient_key), keys.clock_offset_seconds(patient_key))
        if profile.temporal_information == "UNMODIFIED":
            self._shift = Shift(0, 0)
        self._kinds = identifying_tags()
        self._told: set[tuple[str, str]] = set()
        self._kept: list[_Kept] = []
        self.identities = identities_from(frozenset())  # what was told, after `drop_identifiers`

    def treat(self, ds: Dataset, *, is_item: bool = False) -> dict[BaseTag, Element]:
        """What stays of a data set or item."""
        out: dict[BaseTag, Element] = {}
        names_somebody = is_item and self._names_somebody(ds)
        for elem in cast("list[Element]", list(ds.values())):
            tag, vr = elem.tag, elem.VR or ""
            rule = self._rules.get(int(tag))
            if rule is None:
                self._treat_unknown(elem, ds, out)
                continue
            if names_somebody and tag in _CONTENT_VALUES:
                rule = replace(rule, action=Action.EMPTY if vr == "SQ" else Action.DUMMY)
            if vr == "SQ" or rule.vr == "SQ":
                if rule.action is Action.EMPTY and "X" in rule.code and not is_item:
                    rule = replace(rule, action=Action.REMOVE)  # Type 2 only in items; empty, it would not be valid
                self._treat_sequence(elem, rule, out)
                continue
            if vr not in TEXT_VRS:
                if rule.vr not in TEXT_VRS:
                    treat_bulk(elem, rule, out)
                    continue
                vr = rule.vr  # text that was sent as UN or OB
            kind = "name" if vr == "PN" else self._kinds.get(int(tag))
            if kind is not None and rule.action is not Action.KEEP:
                self._tell(kind, vr, elem)
            value = self.text(elem, rule, vr, ds)
            if value is None:
                continue
            out[tag] = raw_element(tag, vr, value)
            if value and is_searched(rule, vr):
                self._kept.append(_Kept(out, rule, vr, value))
        if is_item:
            out.pop(BaseTag(_CHARSET), None)
        return out

    def rule(self, tag: int) -> Rule | None:
        return self._rules.get(tag)

    def kind_of(self, tag: int) -> str | None:
        """Kind of identifier that an attribute tells; names are known by their VR."""
        return self._kinds.get(tag)

    @property
    def kept_text(self) -> bytes:
        """All text that stayed and is searched, a line each, before identifiers were taken out of it."""
        return b"\n".join(kept.value for kept in self._kept if kept.vr not in NUMBERS_AS_TEXT)

    @property
    def told(self) -> frozenset[tuple[str, str]]:
        """Identifiers so far, (kind, text)."""
        return frozenset(self._told)

    def drop_identifiers(self) -> None:
        """Search every text that stayed for identifiers that the data set told, and take out what holds one."""
        told = identities_from(frozenset(told for told in self._told if told[0] != "uid"))
        uids = (uid_needle(text) for kind, text in self._told if kind == "uid")
        told = self.identities = replace(told, needles=told.needles + tuple(filter(None, uids)))
        texts = [kept for kept in self._kept if kept.vr not in NUMBERS_AS_TEXT]
        if told.may_be_in(b"\n".join(kept.value for kept in texts)):
            for kept in texts:
                if told.is_in(kept.value):
                    _drop(kept, told.is_in)
        if told.numbers:
            for kept in self._kept:
                if kept.vr in NUMBERS_AS_TEXT and any(map(told.is_number, kept.value.split(b"\\"))):
                    _drop(kept, told.is_number)

    def text(self, elem: Element, rule: Rule, vr: str, ds: Dataset) -> bytes | None:
        """The text that stays; None removes the attribute."""
        action = rule.action
        if action is Action.REMOVE:
            return None
        if action is Action.EMPTY:
            return b""
        if action is Action.PATIENT:
            return self._person.patient_id.encode()
        value = text_bytes(elem)
        if action is not Action.DUMMY:
            if not value:
                return b""
            treated = self._treated(action, value, rule, vr, ds)
            if treated:
                return treated
            if rule.otherwise is Action.REMOVE:
                return None
            if rule.otherwise is not Action.DUMMY:
                return b""
        return rule.dummy.encode()

    def _treated(self, action: Action, value: bytes, rule: Rule, vr: str, ds: Dataset) -> bytes | None:
        """What the action makes of a value; nothing when it cannot treat it."""
        if action is Action.KEEP and vr in _DATE_VRS:
            action = Action.SHIFT  # also a date that was sent where the standard has none
        match action:
            case Action.KEEP:
                return self._checked(value, rule, vr, ds)
            case Action.CLEAN:
                return _each(value, vr, clean_description)
            case Action.UID:
                return _each(value, vr, self._uid)
            case Action.AGE:
                return _each(value, vr, cap_age)
            case Action.PSEUDONYM:
                purpose = f"attribute/{rule.tag:08x}"
                return _each(value, vr, lambda text: self._keys.pseudo_id(purpose, f"{self._hospital_id}|{text}"))
            case Action.SHIFT if vr == "DA":
                times = _times(ds, rule.tag)
                return _each(value, vr, lambda text: self._shift.of_date(text, time=next(times, "")))
            case Action.SHIFT if vr == "TM":
                return _each(value, vr, self._shift.of_time)
            case Action.SHIFT:
                return _each(value, vr, self._shift.of_datetime)
        return None

    def _checked(self, value: bytes, rule: Rule, vr: str, ds: Dataset) -> bytes | None:
        """A value that may stay as it is, if it is what its VR and its rule say."""
        if vr in NUMBERS_AS_TEXT:
            return None if value.translate(None, NUMBER) else value
        if rule.tag == _MEANING:
            code = text_of(ds, _CODE_VALUE) or text_of(ds, _LONG_CODE_VALUE)
            return clean_meaning(decoded(value), value=code, scheme=text_of(ds, _SCHEME)).encode()
        if rule.values:
            return value if rule.values.issuperset(decoded(value).split("\\")) else None
        if rule.terms:
            return value if body_part_term(decoded(value)) else None
        if vr == "AS":
            return _each(value, vr, cap_age)
        if vr == "UI":
            return _each(value, vr, lambda uid: uid if is_uid(uid) else self._keys.uid(uid))
        if vr == "PN" or vr == "AE":
            return None
        if (value.isascii() and b"\x1b" not in value) or rule.origin in _RETAINING:
            return value
        if rule.tag == _MANUFACTURER:
            return manufacturer_group(decoded(value)).encode()
        return _each(value, vr, lambda text: text if text.isascii() else clean_description(text))

    def _uid(self, uid: str) -> str | None:
        """A keyed replacement; a UID that the standard registered (a frame of reference, a palette) names nobody."""
        return uid if uid in UID_dictionary else self._keys.uid(uid) if uid else None

    def _treat_sequence(self, elem: Element, rule: Rule, out: dict[BaseTag, Element]) -> None:
        items = items_of(elem)
        if rule.action is Action.KEEP and rule.vr == "SQ":
            out[elem.tag] = sequence_element(elem.tag, [dataset(self.treat(item, is_item=True)) for item in items])
            return
        self._tell_items(items)
        if rule.vr != "SQ" or rule.action is Action.REMOVE:
            return
        code = {BaseTag(tag): raw_element(tag, "SH", value) for tag, value in _REMOVED_CODE.items()}
        code[BaseTag(_MEANING)] = raw_element(_MEANING, "LO", _REMOVED_CODE[_MEANING])
        out[elem.tag] = sequence_element(elem.tag, [dataset(code)] if rule.action is Action.CODE else [])

    def _treat_unknown(self, elem: Element, ds: Dataset, out: dict[BaseTag, Element]) -> None:
        """An attribute without a rule goes, unless it is private and the profile names it as safe."""
        tag = elem.tag
        if elem.VR == "SQ":
            self._tell_items(items_of(elem))
        if not self._safe_private or not tag.is_private or tag.is_private_creator:
            return
        creator_tag = (tag.group << 16) | (tag.element >> 8)
        safe = self._safe_private.get((tag.group, text_of(ds, creator_tag), tag.element & 0xFF))
        if safe is None:
            return
        rule = Rule(tag, Action.KEEP, Action.REMOVE, safe.vr, origin="safe_private")
        if safe.vr in TEXT_VRS:
            value = self.text(elem, rule, safe.vr, ds)
            if value is None:
                return
            out[tag] = raw_element(tag, safe.vr, value)
            self._kept.append(_Kept(out, rule, safe.vr, value))
        else:
            out[tag] = unshared(elem)
        out[BaseTag(creator_tag)] = raw_element(creator_tag, "LO", safe.creator.encode())

    def _names_somebody(self, item: Dataset) -> bool:
        """Whether a content item's concept is a name or number of somebody; it is told then."""
        for code in items_of(cast("Element | None", item.get_item(_CONCEPT_NAME))):
            kind = identifying_concepts().get(text_of(code, _CODE_VALUE))
            if kind is not None:
                for tag in _CONTENT_VALUES & set(map(int, item.keys())):
                    elem = cast(Element, item.get_item(tag))
                    if elem.VR != "SQ":
                        self._tell(kind, elem.VR or "", elem)
                return True
        return False

    def _tell(self, kind: str, vr: str, elem: Element) -> None:
        """Remember an identifier."""
        text = decoded(text_bytes(elem))
        for part in [text] if vr in SINGLE_VALUED else text.split("\\"):
            if part := part.strip():
                self._told.add((kind, part))

    def _tell_items(self, items: list[Dataset]) -> None:
        """Remember the identifiers of a sequence that goes."""
        for item in items:
            for elem in cast("list[Element]", list(item.values())):
                vr = elem.VR or ""
                if vr == "SQ":
                    self._tell_items(items_of(elem))
                elif kind := "name" if vr == "PN" else self._kinds.get(int(elem.tag)):
                    self._tell(kind, vr, elem)


def is_searched(rule: Rule, vr: str) -> bool:
    """Whether text that a rule lets stay is searched for identifiers."""
    return rule.action in _SEARCHED and vr not in _CLOSED_VRS and not (rule.values or rule.terms)


def uid_needle(uid: str) -> bytes:
    """What of a UID is searched for: its digits; nothing of a short one."""
    digits = uid.replace(".", "")
    return digits.encode() if len(digits) >= _MIN_UID else b""


def treat_bulk(elem: Element, rule: Rule, out: dict[BaseTag, Element]) -> None:
    """Numbers and bulk data: kept bit-identical, or not at all."""
    if rule.action is Action.KEEP:
        out[elem.tag] = unshared(elem)
    elif rule.action is not Action.REMOVE:
        out[elem.tag] = raw_element(elem.tag, elem.VR or rule.vr, b"\0\0" if rule.action is Action.DUMMY else b"")


def _each(value: bytes, vr: str, treat: Callable[[str], str | None]) -> bytes | None:
    """Treat every value of an attribute; None when nothing is left of any."""
    text = decoded(value)
    if vr in SINGLE_VALUED or "\\" not in text:
        return (treat(text.strip()) or "").encode() or None
    parts = [treat(part.strip()) or "" for part in text.split("\\")]
    return "\\".join(parts).encode() if any(parts) else None


def _times(ds: Dataset, date_tag: int) -> Iterator[str]:
    """Times that belong to the values of a DA attribute, in order."""
    time_tag = time_tag_of(date_tag)
    return iter(text_of(ds, time_tag).split("\\") if time_tag else [])


def _drop(kept: _Kept, is_identifier: Callable[[bytes], bool]) -> None:
    """Take out the values that name somebody; the others of a multi-valued attribute stay in their place."""
    tag = kept.rule.tag
    if tag == _MANUFACTURER:
        value = manufacturer_group(decoded(kept.value)).encode()
    elif kept.vr in SINGLE_VALUED:
        value = b""
    else:
        parts = kept.value.split(b"\\")
        value = b"\\".join(b"" if is_identifier(part) else part for part in parts).rstrip(b"\\")
        value = b"" if is_identifier(value) else value
    if not value and kept.rule.otherwise is Action.DUMMY:
        value = kept.rule.dummy.encode()
    kept.elements[BaseTag(tag)] = raw_element(tag, kept.vr, value)
