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

from radlake.deidentify.bulk import fits, without_text
from radlake.deidentify.checks import NUMBERS_AS_TEXT, RETAINING, checked, each
from radlake.deidentify.dates import Shift, cap_age, time_tag_of
from radlake.deidentify.elements import (
    SINGLE_VALUED,
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
from radlake.deidentify.identity import Identities, identifying_concepts, identifying_tags, identities_from
from radlake.deidentify.keys import KeyRing
from radlake.deidentify.person import Person
from radlake.deidentify.profile import Profile
from radlake.deidentify.rules import Action, Rule
from radlake.deidentify.told import Told, kind_of, tell, tell_items
from radlake.errors import QuarantineError
from radlake.vocab import clean_description

__all__ = ["SHORTEST_BULK", "Walk", "is_searched", "treat_bulk", "uid_needle", "vr_of_value"]

_CHARSET = 0x00080005
_CODE_VALUE, _SCHEME, _MEANING, _LONG_CODE_VALUE = map(BaseTag, (0x00080100, 0x00080102, 0x00080104, 0x00080119))
_CONCEPT_NAME = BaseTag(0x0040A043)
# Values of a content item (PS3.3 C.17.3): date-time, date, time, person name, text, measured value.
_CONTENT_VALUES = frozenset([0x0040A120, 0x0040A121, 0x0040A122, 0x0040A123, 0x0040A160, 0x0040A300])
_DATE_VRS = frozenset(["DA", "DT", "TM"])
_SEARCHED = frozenset([Action.KEEP, Action.CLEAN])
_CLOSED_VRS = _DATE_VRS | {"AS", "UI"}  # checked for what they are, and nothing else fits into them
_FAMILIES = (_DATE_VRS, NUMBERS_AS_TEXT, frozenset(["AS"]), frozenset(["UI"]))  # one may be sent for another of its own
_PIXEL_DATA = 0x7FE00010  # judged in radlake.pixels
_SAMPLES = frozenset([_PIXEL_DATA, 0x7FE00008, 0x7FE00009, 0x54001010])  # an object is nothing without them
SHORTEST_BULK = 4  # bytes that could spell somebody
_MIN_UID = 12  # digits; "1.1" stands in many a text by chance
_REMOVED_CODE = {_CODE_VALUE: b"REMOVED", _SCHEME: b"99RADLAKE", _MEANING: b"Removed"}


class _Kept(NamedTuple):
    """A text that stays, until the search says otherwise."""

    elements: dict[BaseTag, Element]
    rule: Rule
    vr: str
    value: bytes


class Walk:
    """The walk over one data set.

    Parameters
    ----------
    told : frozenset of (kind, text)
        What other data sets of the study told (`identifiers_of`); it is searched for here too.
    """

    def __init__(
        self,
        profile: Profile,
        keys: KeyRing,
        *,
        person: Person,
        hospital_id: str,
        told: Told = frozenset(),
    ) -> None:
        self._rules = profile.rules
        self._safe_private = profile.safe_private
        self._keys = keys
        self._person = person
        self._hospital_id = hospital_id
        patient_key = person.patient_key
        self.shift = Shift(keys.date_offset_days(patient_key), keys.clock_offset_seconds(patient_key))
        if profile.temporal_information == "UNMODIFIED":
            self.shift = Shift(0, 0)
        self._told = set(told)
        self._kept: list[_Kept] = []
        self._bulk: list[_Kept] = []
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
            vr = vr_of_value(vr, rule.vr)
            if vr not in TEXT_VRS:
                treat_bulk(elem, rule, out)
                self._remember_bulk(out, rule, vr)
                continue
            kind = kind_of(tag, vr)
            if kind is not None and rule.action is not Action.KEEP:
                tell(self._told, kind, vr, elem)
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
        """What happens to an attribute of the standard; None when it goes."""
        return self._rules.get(tag)

    @property
    def has_safe_private(self) -> bool:
        """Whether a private attribute may stay."""
        return bool(self._safe_private)

    def new_uid(self, uid: str) -> str:
        """The replacement of a UID."""
        return self._uid(uid) or ""

    def tell(self, told: Told) -> None:
        """Add identifiers, (kind, text), that are known from elsewhere."""
        self._told |= told

    def kind_of(self, tag: int) -> str | None:
        """Kind of identifier that an attribute tells; names are known by their VR."""
        return identifying_tags().get(tag)

    @property
    def kept_text(self) -> bytes:
        """All text that stayed and is searched, a line each, before identifiers were taken out of it."""
        return b"\n".join(kept.value for kept in self._kept if kept.vr not in NUMBERS_AS_TEXT)

    @property
    def told(self) -> Told:
        """Identifiers so far, (kind, text)."""
        return frozenset(self._told)

    def drop_identifiers(self) -> None:
        """Search every text that stayed for identifiers that the data set told, and take out what holds one."""
        told = identities_from(frozenset(told for told in self._told if told[0] != "uid"))
        uids = tuple(filter(None, (uid_needle(text) for kind, text in self._told if kind == "uid")))
        told = self.identities = replace(told, needles=told.needles + uids)
        texts = [kept for kept in self._kept if kept.vr not in NUMBERS_AS_TEXT]
        if told.may_be_in(b"\n".join(kept.value for kept in texts)):
            for kept in texts:
                names = self._told_without_places(uids) if kept.rule.origin in RETAINING else told
                if names.is_in(kept.value):
                    _drop(kept, names.is_in)
        if told.numbers:
            for kept in self._kept:
                if kept.vr in NUMBERS_AS_TEXT and any(map(told.is_number, kept.value.split(b"\\"))):
                    _drop(kept, told.is_number)
        for kept in self._bulk:
            if told.is_in_bytes(kept.value):
                if kept.rule.tag in _SAMPLES:
                    raise QuarantineError(reason="deidentification_failed", detail="an identifier among the samples")
                del kept.elements[BaseTag(kept.rule.tag)]

    def _told_without_places(self, uids: tuple[bytes, ...]) -> Identities:
        """What names the person or the data set: for attributes that a profile keeps because they name a place."""
        told = identities_from(frozenset(told for told in self._told if told[0] not in ("uid", "text")))
        return replace(told, needles=told.needles + uids)

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
                return checked(value, rule, vr, ds, keyed_uid=self._keys.uid)
            case Action.CLEAN:
                return each(value, vr, clean_description)
            case Action.UID:
                return each(value, vr, self._uid)
            case Action.AGE:
                return each(value, vr, cap_age)
            case Action.PSEUDONYM:
                purpose = f"attribute/{rule.tag:08x}"
                return each(value, vr, lambda text: self._keys.pseudo_id(purpose, f"{self._hospital_id}|{text}"))
            case Action.SHIFT if vr == "DA":
                times = _times(ds, rule.tag)
                return each(value, vr, lambda text: self.shift.of_date(text, time=next(times, "")))
            case Action.SHIFT if vr == "TM":
                return each(value, vr, self.shift.of_time)
            case Action.SHIFT:
                return each(value, vr, self.shift.of_datetime)
        return None

    def _uid(self, uid: str) -> str | None:
        """A keyed replacement; a UID that the standard registered (a frame of reference, a palette) names nobody."""
        return uid if uid in UID_dictionary else self._keys.uid(uid) if uid else None

    def _treat_sequence(self, elem: Element, rule: Rule, out: dict[BaseTag, Element]) -> None:
        items = items_of(elem)
        if rule.action is Action.KEEP and rule.vr == "SQ":
            out[elem.tag] = sequence_element(elem.tag, [dataset(self.treat(item, is_item=True)) for item in items])
            return
        tell_items(self._told, items)
        if rule.vr != "SQ" or rule.action is Action.REMOVE:
            return
        code = {BaseTag(tag): raw_element(tag, "SH", value) for tag, value in _REMOVED_CODE.items()}
        code[BaseTag(_MEANING)] = raw_element(_MEANING, "LO", _REMOVED_CODE[_MEANING])
        out[elem.tag] = sequence_element(elem.tag, [dataset(code)] if rule.action is Action.CODE else [])

    def _treat_unknown(self, elem: Element, ds: Dataset, out: dict[BaseTag, Element]) -> None:
        """An attribute without a rule goes, unless it is private and the profile names it as safe."""
        tag = elem.tag
        if elem.VR == "SQ":
            tell_items(self._told, items_of(elem))
        if not self._safe_private or not tag.is_private or tag.is_private_creator:
            return
        creator_tag = (tag.group << 16) | (tag.element >> 8)
        safe = self._safe_private.get((tag.group, text_of(ds, creator_tag), tag.element & 0xFF))
        if safe is None:
            return
        rule = Rule(tag, Action.KEEP, Action.REMOVE, safe.vr, origin="safe_private")
        if safe.vr == "SQ":
            out[tag] = sequence_element(tag, [dataset(self.treat(item, is_item=True)) for item in items_of(elem)])
        elif safe.vr in TEXT_VRS:
            value = self.text(elem, rule, safe.vr, ds)
            if value is None:
                return
            out[tag] = raw_element(tag, safe.vr, value)
            self._kept.append(_Kept(out, rule, safe.vr, value))
        else:
            treat_bulk(elem, rule, out)
            self._remember_bulk(out, rule, safe.vr)
            if tag not in out:
                return
        out[BaseTag(creator_tag)] = raw_element(creator_tag, "LO", safe.creator.encode())

    def _remember_bulk(self, out: dict[BaseTag, Element], rule: Rule, vr: str) -> None:
        """Bytes that stay are searched, but for Pixel Data and what is too short to spell anybody."""
        kept = out.get(BaseTag(rule.tag))
        if kept is None or rule.tag == _PIXEL_DATA:
            return
        if isinstance(value := kept.value, bytes) and len(value) >= SHORTEST_BULK:
            self._bulk.append(_Kept(out, rule, vr, value))

    def _names_somebody(self, item: Dataset) -> bool:
        """Whether a content item's concept is a name or number of somebody; it is told then."""
        for code in items_of(cast("Element | None", item.get_item(_CONCEPT_NAME))):
            kind = identifying_concepts().get(text_of(code, _CODE_VALUE))
            if kind is not None:
                for tag in _CONTENT_VALUES & set(map(int, item.keys())):
                    elem = cast(Element, item.get_item(tag))
                    if elem.VR != "SQ":
                        tell(self._told, kind, elem.VR or "", elem)
                return True
        return False


def is_searched(rule: Rule, vr: str) -> bool:
    """Whether text that a rule lets stay is searched for identifiers."""
    return rule.action in _SEARCHED and vr not in _CLOSED_VRS and not rule.values


def vr_of_value(sent: str, known: str) -> str:
    """The VR that a value is treated by: that of the standard where it was sent as something else.

    Text in the place of a number, a date or a UID is judged as that, bytes in the place of text as text.

    >>> vr_of_value("UN", "US"), vr_of_value("LO", "DS"), vr_of_value("LO", "US"), vr_of_value("IS", "DS")
    ('US', 'DS', 'US', 'IS')
    """
    if not known or sent == known:
        return sent
    if sent not in TEXT_VRS:
        return known if known in TEXT_VRS or (sent == "UN" and " " not in known) else sent
    if known not in TEXT_VRS:
        return sent if sent in NUMBERS_AS_TEXT else known
    return known if any(known in family and sent not in family for family in _FAMILIES) else sent


def uid_needle(uid: str) -> bytes:
    """What of a UID is searched for: its digits; nothing of a short one."""
    digits = uid.replace(".", "")
    return digits.encode() if len(digits) >= _MIN_UID else b""


def treat_bulk(elem: Element, rule: Rule, out: dict[BaseTag, Element]) -> None:
    """Numbers and bulk data: kept bit-identical, or not at all; of a colour profile only what computes colours."""
    if rule.action is Action.KEEP:
        value = elem.value
        if not isinstance(value, bytes) or rule.tag in _SAMPLES:
            out[elem.tag] = unshared(elem)
            return
        vr = vr_of_value(elem.VR or "", rule.vr)
        kept = without_text(rule.tag, value) if fits(rule.tag, vr, value) else None
        if kept is not None:
            same = kept is value and vr == elem.VR
            out[elem.tag] = unshared(elem) if same else raw_element(elem.tag, vr, kept)
    elif rule.action is not Action.REMOVE:
        out[elem.tag] = raw_element(elem.tag, elem.VR or rule.vr, b"\0\0" if rule.action is Action.DUMMY else b"")


def _times(ds: Dataset, date_tag: int) -> Iterator[str]:
    """Times that belong to the values of a DA attribute, in order."""
    time_tag = time_tag_of(date_tag)
    return iter(text_of(ds, time_tag).split("\\") if time_tag else [])


def _drop(kept: _Kept, is_identifier: Callable[[bytes], bool]) -> None:
    """Take out the values that name somebody; the others of a multi-valued attribute stay in their place."""
    tag = kept.rule.tag
    if kept.vr in SINGLE_VALUED:
        value = b""
    else:
        parts = kept.value.split(b"\\")
        value = b"\\".join(b"" if is_identifier(part) else part for part in parts).rstrip(b"\\")
        value = b"" if is_identifier(value) else value
    if not value and kept.rule.otherwise is Action.DUMMY:
        value = kept.rule.dummy.encode()
    kept.elements[BaseTag(tag)] = raw_element(tag, kept.vr, value)
