"""What a value must look like to stay: the second half of the action KEEP.

A number is a number, a UID of a class names a class, a term is one of its vocabulary, and text betrays nobody. Whether
it holds an identifier that the data set told is searched afterwards, in `walk`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pydicom import Dataset
from pydicom._uid_dict import UID_dictionary
from pydicom.tag import BaseTag

from radlake.deidentify.codes import clean_meaning, is_code
from radlake.deidentify.dates import cap_age
from radlake.deidentify.elements import SINGLE_VALUED, decoded, text_of
from radlake.deidentify.rules import Rule
from radlake.deidentify.telltales import betrays_somebody
from radlake.deidentify.terms import registered_schemes, term_of
from radlake.dicom.uids import is_uid
from radlake.vocab import clean_description

__all__ = ["NUMBERS_AS_TEXT", "RETAINING", "checked", "each", "is_class_uid", "is_number"]

NUMBERS_AS_TEXT = frozenset(["DS", "IS"])
RETAINING = frozenset(["retain_institution_identity", "retain_device_identity"])
_CODE_VALUE, _SCHEME, _MEANING, _LONG_CODE_VALUE = map(BaseTag, (0x00080100, 0x00080102, 0x00080104, 0x00080119))
_CODES, _SCHEME_VERSION = frozenset([_CODE_VALUE, _LONG_CODE_VALUE]), 0x00080103
# PS3.5 6.2. A DS may be longer than 16 characters, as many are; but 11 digits in a row are a telephone, 8 may be a day,
# and a number that begins with zeros is that of a patient.
_PERSONAL = rb"(?!(?:(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])|00\d{4,}) *(?:\\|$))"
_DS = rb"(?: *[+-]?" + _PERSONAL + rb"(?:\d{1,10}|\d{1,10}\.\d*|\.\d+)(?:[eE][+-]?\d{1,3})? *|)"
_IS = rb"(?: *[+-]?" + _PERSONAL + rb"\d{1,10} *|)"
_DS_VALUES, _IS_VALUES = (re.compile(number + rb"(?:\\" + number + rb")*") for number in (_DS, _IS))
# PS3.5 6.2: a CS has no small letters. Words with some are a sentence or a name, which no other rule may know.
_NO_CODE = re.compile(r"[a-z][^\\]*[ ,'^]+[^\\\s]|[A-Z0-9][ ,'^]+[^\\]*[a-z]")
_ROOTS = frozenset(["0.", "1.", "2."])
_MAX_ARC, _MAX_VENDOR_ARC, _N_VENDOR_ARCS, _MAX_CLASS_UID = 4, 6, 5, 44


def checked(value: bytes, rule: Rule, vr: str, ds: Dataset, *, keyed_uid: Callable[[str], str]) -> bytes | None:
    """A value that may stay as it is or in part; None when nothing of it may.

    Parameters
    ----------
    ds : Dataset
        Where the value stands: the meaning of a code is judged by its scheme.
    keyed_uid : function
        Replacement of a UID that stands where a class of the standard should.
    """
    if vr in NUMBERS_AS_TEXT:
        return value if is_number(value, vr) else None
    if rule.tag == _MEANING:
        code = text_of(ds, _CODE_VALUE) or text_of(ds, _LONG_CODE_VALUE)
        return clean_meaning(decoded(value), value=code, scheme=text_of(ds, _SCHEME)).encode()
    if rule.values:
        return value if rule.values.issuperset(decoded(value).split("\\")) else None
    if vr == "AS":
        return each(value, vr, cap_age)
    if vr == "UI":
        stays = is_uid if rule.origin == "retain_uids" else is_class_uid
        return each(value, vr, lambda uid: uid if stays(uid) else keyed_uid(uid))
    if rule.origin in RETAINING:
        return value
    if rule.terms:
        return each(value, vr, lambda text: term_of(rule.terms, text))
    if vr in ("PN", "AE"):
        return None
    if not value.isascii() or b"\x1b" in value:
        return each(value, vr, lambda text: _unless_telling(text, vr) if text.isascii() else clean_description(text))
    text = value.decode("ascii")
    if not _is_telling(text, vr) or (rule.tag in _CODES and is_code(text, scheme=text_of(ds, _SCHEME))):
        return value
    if rule.tag == _SCHEME_VERSION and text_of(ds, _SCHEME) in registered_schemes():
        return value  # the day of an edition
    left = each(value, vr, lambda text: _unless_telling(text, vr))
    return left.rstrip(b"\\") if left else None


def is_number(value: bytes, vr: str) -> bool:
    """Whether every value of a DS or IS is a number, and none is as long as a telephone number.

    >>> is_number(b"1.5\\\\2", "DS"), is_number(b"13800138000", "DS"), is_number(b"138-0013", "IS")
    (True, False, False)
    >>> is_number(b"19620704", "DS"), is_number(b"19620704\\\\2", "DS")
    (False, False)
    """
    return (_DS_VALUES if vr == "DS" else _IS_VALUES).fullmatch(value) is not None


def is_class_uid(uid: str) -> bool:
    r"""Whether a UID can be that of a class: one of the standard, or a vendor's without room for a number or a day.

    >>> is_class_uid("1.2.840.10008.5.1.4.1.1.2"), is_class_uid("1.3.12.2.1107.5.9.1")
    (True, True)
    >>> is_class_uid("1.2.156.112605.20240305.1"), is_class_uid("1.2.156.112605.12736053")
    (False, False)
    """
    if uid in UID_dictionary:
        return True
    if not is_uid(uid) or uid[:2] not in _ROOTS or len(uid) > _MAX_CLASS_UID:
        return False
    longest = [_MAX_VENDOR_ARC if n < _N_VENDOR_ARCS else _MAX_ARC for n in range(uid.count(".") + 1)]
    return all(len(arc) <= most for arc, most in zip(uid.split("."), longest, strict=True))


def each(value: bytes, vr: str, treat: Callable[[str], str | None]) -> bytes | None:
    """Treat every value of an attribute; None when nothing is left of any."""
    text = decoded(value)
    if vr in SINGLE_VALUED or "\\" not in text:
        return (treat(text.strip()) or "").encode() or None
    parts = [treat(part.strip()) or "" for part in text.split("\\")]
    return "\\".join(parts).encode() if any(parts) else None


def _unless_telling(text: str, vr: str) -> str | None:
    return None if _is_telling(text, vr) else text


def _is_telling(text: str, vr: str) -> bool:
    return (vr == "CS" and _NO_CODE.search(text) is not None) or betrays_somebody(text)
