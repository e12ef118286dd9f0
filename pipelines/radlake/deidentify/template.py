"""De-identify the instances of a series by what one of them showed: only what varies is treated, by the same rules.

One instance was de-identified in full. What its constant elements became is the same for every header that matches the
template, so those bytes are copied; a varying element gets the treatment of `walk`. Whatever could make the result
another than that of the full way (an identifier that is told anew, a text that could hold one, text that is not ASCII,
a value that its rule cannot keep) is `Unfit`, and the instance goes the full way. That both ways give the same bytes
is tested with public files and under fuzzing.
"""

from __future__ import annotations

import re
import struct
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache, partial
from itertools import repeat
from typing import NamedTuple

from pydicom import Dataset
from pydicom._dicom_dict import DicomDictionary
from pydicom.tag import BaseTag

from radlake.deidentify.bulk import fits
from radlake.deidentify.checks import NUMBERS_AS_TEXT, is_number
from radlake.deidentify.dates import time_tag_of
from radlake.deidentify.elements import TEXT_VRS, dataset, dictionary_vr, raw_element
from radlake.deidentify.identity import identifying_tags
from radlake.deidentify.profile import Action, Rule
from radlake.deidentify.told import Told, identifiers_of
from radlake.deidentify.walk import SHORTEST_BULK, Walk, is_searched, uid_needle, vr_of_value
from radlake.dicom.charset import is_foreign
from radlake.dicom.reader import LAYOUT, TEXT, WIDTHS, Tokenizer
from radlake.dicom.scan import FILE_META, spans
from radlake.dicom.template import Exemplar, HeaderTemplate
from radlake.dicom.uids import is_uid
from radlake.dicom.writer import encode_ascii, encode_element, encode_meta
from radlake.errors import QuarantineError
from radlake.pixels import HEADER_TAGS

__all__ = ["Treated", "TreatedHeaders", "TreatedTemplate", "Unfit", "may_vary", "needs_whole", "tells_more"]

_CHARSET, _SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x00080005, 0x00080016, 0x00080018, 0x00020010
_POSITION = 0x00200032
_NO_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
_NEW_UID = -1  # beside the values: what the SOP Instance UID becomes
_DATASET = 0x00030000  # file meta information is below
# What decides about other elements or about the pixels: instances that differ in it have too little in common.
_DECIDING = frozenset(
    [
        *(_CHARSET, _SOP_CLASS, 0x0020000D, 0x0020000E),
        *(HEADER_TAGS - {_POSITION}),  # whether pixels are at risk; the position is another in every slice
        *(0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011, 0x00280014),  # shape of the pixels
        *(0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x7FE00001, 0x7FE00002, 0x7FE00003),
        *(0x00080020, 0x00080030, 0x00080050, 0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00101010),  # the exam
        *(0x00100040, 0x00101000, 0x00101002),  # the person
        *(0x00081030, 0x00081032, 0x00082218, 0x00180010, 0x00180012, 0x00180015, 0x00181030, 0x00200060, 0x00200062),
        *(0x00209072, 0x00321060, 0x00321064, 0x00400254, 0x00400260, 0x00400275),  # facts that classify the exam
    ]
)


class Unfit(Exception):
    """An instance that has to be de-identified in full, and why; the reason is counted and quotes no value."""


class Treated(NamedTuple):
    """What the full way made of an exemplar: its canonical bytes up to the value of Pixel Data, and the walk."""

    head: bytes
    walk: Walk


class TreatedHeaders(NamedTuple):
    """Of each header its canonical bytes up to the value of Pixel Data, and its treated elements, by tag."""

    heads: Sequence[bytes]
    elements: Mapping[int, Sequence[bytes]]


# Values of one element in several headers, and those of all elements by tag, to the bytes of the canonical elements.
_Column = Sequence[bytes]
_Columns = dict[int, _Column]
_Step = Callable[[_Column, _Columns], _Column]


class _Slot(NamedTuple):
    constant: bytes  # canonical bytes before it
    tag: int
    step: _Step


def may_vary(exemplar: Exemplar, tag: int) -> bool:
    """Whether an element may differ between instances that share a template."""
    if _is_written_anew(tag):
        return True
    group = tag >> 16
    is_creator = group & 1 and tag & 0xFFFF < 0x100
    if tag in _DECIDING or is_creator or group & 0xFF00 in (0x5000, 0x6000):
        return False
    return identifying_tags().get(tag) in (None, "uid") and exemplar.vr(tag) != "PN"


def tells_more(exemplar: Exemplar, tag: int, element: bytes, *, told: Told) -> bool:
    """Whether a sequence tells an identifier beyond `told`: the whole study has to be searched for it."""
    if _telling().search(element) is None:
        return False
    try:
        ds, _ = _read_beside(exemplar, tag, element)
    except QuarantineError:
        return True
    return not identifiers_of([ds]) <= told


def needs_whole(exemplar: Exemplar, tag: int) -> bool:
    """Whether treating an element takes its header: sequences, and what may turn out to be one."""
    return not _is_written_anew(tag) and exemplar.vr(tag) in ("SQ", "UN")


def _read_beside(exemplar: Exemplar, tag: int, element: bytes) -> tuple[Dataset, list[str]]:
    """The data set of an element and what decides how to read it, and deviations."""
    around = [_CHARSET, tag & 0xFFFF0000 | (tag & 0xFFFF) >> 8] if tag >> 16 & 1 else [_CHARSET]
    beside = [exemplar.whole(other) for other in around if other in exemplar.elements]
    tokenizer = Tokenizer(b"".join((*beside, element)), is_implicit=exemplar.is_implicit, is_big_endian=False)
    return tokenizer.read(0), tokenizer.notes


@cache
def _telling() -> re.Pattern[bytes]:
    """The VR of a name, and the tags of what identifies somebody, little endian."""
    names = (tag for tag in DicomDictionary if dictionary_vr(tag) == "PN")
    tags = {*names, *(tag for tag, kind in identifying_tags().items() if kind != "uid")}
    encoded = (struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in sorted(tags))
    return re.compile(b"|".join([b"PN", *map(re.escape, encoded)]))


class TreatedTemplate:
    """Turns the varying elements of a matching header into the canonical header of the de-identified instance.

    Attributes
    ----------
    tags : frozenset of int
        The attributes that are treated.

    Parameters
    ----------
    treated : Treated
        What the full way made of the template's exemplar.
    scratch : callable
        Makes a new walk for the same person and hospital.

    Raises
    ------
    Unfit
        If what the exemplar showed does not carry over to others.
    """

    def __init__(self, template: HeaderTemplate, treated: Treated, *, scratch: Callable[[], Walk]) -> None:
        self._exemplar = exemplar = template.exemplar
        self._tags = template.tags
        self._walk = treated.walk
        self._scratch = scratch
        self._identities = treated.walk.identities
        self._told_numbers = self._identities.numbers
        self._told = treated.walk.told - {("uid", _uid_text(exemplar.value(_SOP_INSTANCE)))}
        self._digits = _digits(treated.walk.kept_text)
        self._sop_class = _uid_text(exemplar.value(_SOP_CLASS))
        found = spans(treated.head, FILE_META)
        syntax = next(span for span in found if span.tag == _TRANSFER_SYNTAX)
        self._syntax = _uid_text(treated.head[syntax.value : syntax.end])

        varying = [tag for tag in self._tags if tag > _DATASET]
        dates = {tag for tag in exemplar.elements if time_tag_of(tag) in varying}
        beside = {*dates, *filter(None, map(time_tag_of, varying)), _SOP_INSTANCE}.difference(varying)
        self._constants = {tag: exemplar.value(tag) for tag in beside}
        end = next(span.start for span in found if span.tag > _DATASET)
        self._slots: list[_Slot] = []
        for tag in sorted(dates.union(varying)):
            begin = end
            end = max((span.end for span in found if _DATASET < span.tag < tag), default=begin)
            self._slots.append(_Slot(treated.head[begin:end], tag, self._step(tag)))
            end = next((span.end for span in found if span.tag == tag), end)
        self._rest = treated.head[end:]
        self.tags = frozenset(slot.tag for slot in self._slots)
        if self.treat([template.own_values]).heads != [treated.head]:
            raise Unfit("the exemplar itself comes out differently")

    def treat(self, values: Sequence[Sequence[bytes]]) -> TreatedHeaders:
        """De-identify headers, from the `Match.values` of each: an element of all of them at once, which is cheaper.

        Raises
        ------
        Unfit
            One of them goes the full way; which one, and why, only comes out when each is given alone.
        """
        columns: _Columns = dict(zip(self._tags, zip(*values, strict=True), strict=True))
        columns |= {tag: [value] * len(values) for tag, value in self._constants.items()}
        uids = list(map(_uid_text, columns[_SOP_INSTANCE]))
        if not all(map(is_uid, uids)):
            raise Unfit("an invalid UID")
        if any(needle and needle in self._digits for needle in map(uid_needle, uids)):
            raise Unfit("a UID that stands in a text")
        if not all(columns.get(_POSITION, (b"-",))):
            raise Unfit("an image without a position")
        columns[_NEW_UID] = new_uids = [self._walk.new_uid(uid).encode("ascii") for uid in uids]
        pieces: list[Iterable[bytes]] = [[self._preamble(uid) for uid in new_uids]]
        elements = {tag: step(columns[tag], columns) for _, tag, step in self._slots}
        for constant, tag, _ in self._slots:
            pieces += (repeat(constant), elements[tag])
        pieces.append(repeat(self._rest))
        return TreatedHeaders(list(map(b"".join, zip(*pieces, strict=False))), elements)

    def _preamble(self, new_uid: bytes) -> bytes:
        """Preamble and file meta information."""
        before, after = _meta_around(self._sop_class, self._syntax, len(new_uid))
        return before + new_uid + after

    def _step(self, tag: int) -> _Step:
        if _is_written_anew(tag):
            return _nothing
        if tag == _SOP_INSTANCE:
            return partial(_new_uids, tag)
        vr, rule = self._exemplar.vr(tag), self._walk.rule(tag)
        if vr in ("SQ", "UN") or (rule is None and tag >> 16 & 1 and self._walk.has_safe_private):
            return partial(_one_by_one, partial(self._whole, tag))
        if rule is None or rule.action is Action.REMOVE:
            return _nothing
        if vr_of_value(vr, rule.vr) != vr:
            raise Unfit("another VR than the standard's")
        if vr in WIDTHS and rule.action is Action.KEEP and rule.vr not in TEXT_VRS:
            return partial(self._numbers, tag, vr)
        if vr in NUMBERS_AS_TEXT and rule.action is Action.KEEP and not rule.values:
            return partial(self._number_texts, vr, _lead(tag, vr))
        if vr == "DA" and rule.action is Action.SHIFT:
            return partial(self._dates, time_tag_of(tag), _lead(tag, vr))
        if vr in ("DT", "TM") and rule.action is Action.SHIFT:
            shift = self._walk.shift
            return partial(self._moments, shift.of_time if vr == "TM" else shift.of_datetime, _lead(tag, vr))
        if vr in TEXT_VRS and rule.vr != "SQ":
            return partial(_one_by_one, partial(self._text, tag, vr, rule))
        raise Unfit("bulk data that vary")

    def _number_texts(self, vr: str, head: bytes, values: _Column, _: _Columns) -> _Column:
        """DS and IS that stay: most of what varies."""
        texts = [value.strip(b" ") for value in values]
        numbers = b"\\".join(texts)
        if b" " in numbers or not is_number(numbers, vr) or not self._told_numbers.isdisjoint(numbers.split(b"\\")):
            raise Unfit("no number, or one that names somebody")
        return _short(head, texts)

    def _numbers(self, tag: int, vr: str, values: _Column, _: _Columns) -> _Column:
        """Binary numbers that stay."""
        for value in values:
            if not fits(tag, vr, value) or (len(value) >= SHORTEST_BULK and self._identities.is_in_bytes(value)):
                raise Unfit("numbers that do not fit, or that spell somebody")
        return [encode_element(tag, vr, value) for value in values]

    def _dates(self, time: int | None, head: bytes, values: _Column, columns: _Columns) -> _Column:
        """Dates that are shifted, with the times that belong to them."""
        times = columns.get(time, ()) if time is not None else ()
        at = [_ascii(value, b"\0 ") for value in times or [b""] * len(values)]
        of_date = self._walk.shift.of_date
        return _moved(head, [of_date(_ascii(value, b" "), time=time) for value, time in zip(values, at, strict=True)])

    def _moments(self, shifted: Callable[[str], str | None], head: bytes, values: _Column, _: _Columns) -> _Column:
        """Times that are shifted."""
        return _moved(head, [shifted(_ascii(value, b" ")) for value in values])

    def _text(self, tag: int, vr: str, rule: Rule, value: bytes, uid: bytes) -> bytes:
        if vr in TEXT and is_foreign(value):
            raise Unfit("text that is not ASCII")
        elem = raw_element(tag, vr, value)
        made = self._walk.text(elem, rule, vr, dataset({elem.tag: elem}))
        if made is None:
            return b""
        if made and is_searched(rule, vr) and self._is_told(made, vr, uid):
            raise Unfit("a text that may name somebody")
        return encode_element(tag, vr, made)

    def _is_told(self, text: bytes, vr: str, uid: bytes) -> bool:
        """Whether a text that stays may hold what the data set told elsewhere; True may be wrong."""
        if vr in NUMBERS_AS_TEXT:
            return any(map(self._identities.is_number, text.split(b"\\")))
        needle = uid_needle(_uid_text(uid))
        return self._identities.may_be_in(text) or (bool(needle) and needle in _digits(text))

    def _whole(self, tag: int, element: bytes, uid: bytes) -> bytes:
        """An element that is read and walked on its own, beside what decides how to read it."""
        told = self._told | {("uid", _uid_text(uid))}
        try:
            walk = self._scratch()
            walk.tell(told)
            ds, notes = _read_beside(self._exemplar, tag, element)
            made = walk.treat(ds).get(BaseTag(tag))
            walk.drop_identifiers()
        except QuarantineError:
            raise Unfit("an element that cannot be read") from None
        if walk.told != told or (made is not None and tag >> 16 & 1):
            raise Unfit("an identifier in a sequence, or a private attribute that stays")
        encoded = encode_ascii(dataset({made.tag: made})) if made is not None else b""
        if encoded is None or notes:
            raise Unfit("text that is not ASCII")
        return encoded


def _is_written_anew(tag: int) -> bool:
    """File meta information, group lengths and padding."""
    return tag < _DATASET or tag & 0xFFFF == 0 or tag in LAYOUT


def _lead(tag: int, vr: str) -> bytes:
    """Tag and VR of an element whose length takes two bytes."""
    return encode_element(tag, vr, b"")[:6]


def _short(lead: bytes, values: Iterable[bytes]) -> _Column:
    """Elements of ASCII text, padded with a space (PS3.5 6.2)."""
    padded = [value + b" " if len(value) & 1 else value for value in values]
    return [lead + len(value).to_bytes(2, "little") + value for value in padded]


def _moved(lead: bytes, made: Sequence[str | None]) -> _Column:
    """Elements of dates or times that were shifted."""
    if None in made:
        raise Unfit("no date or time")
    return _short(lead, [text.encode("ascii") for text in made if text is not None])


@lru_cache(maxsize=256)
def _meta_around(sop_class: str, syntax: str, n_uid: int) -> tuple[bytes, bytes]:
    """Preamble and file meta information before and behind the SOP Instance UID."""
    placeholder = "9" * n_uid
    meta = encode_meta(sop_class_uid=sop_class, sop_instance_uid=placeholder, transfer_syntax_uid=syntax)
    before, _, after = meta.partition(placeholder.encode("ascii"))
    return before, after


def _new_uids(tag: int, _: _Column, columns: _Columns) -> _Column:
    return [encode_element(tag, "UI", uid) for uid in columns[_NEW_UID]]


def _nothing(values: _Column, _: _Columns) -> _Column:
    return [b""] * len(values)


def _one_by_one(step: Callable[[bytes, bytes], bytes], values: _Column, columns: _Columns) -> _Column:
    """A step that looks at a value and the SOP Instance UID beside it."""
    return list(map(step, values, columns[_SOP_INSTANCE]))


@lru_cache(maxsize=64)
def _digits(text: bytes) -> bytes:
    """The digits of a text, whatever marks stand between them."""
    plain = unicodedata.normalize("NFKC", text.decode("utf-8", "replace")).encode("ascii", "replace")
    return plain.translate(None, _NO_DIGITS)


def _uid_text(value: bytes) -> str:
    return _ascii(value, b"\0 ")


def _ascii(value: bytes, padding: bytes) -> str:
    return value.rstrip(padding).decode("ascii", "replace")
