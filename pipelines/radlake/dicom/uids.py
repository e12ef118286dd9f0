"""UIDs: what is a valid one, which transfer syntaxes and storage SOP classes the standard names.

Replacing UIDs is de-identification and lives there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from pydicom._uid_dict import UID_dictionary

__all__ = [
    "DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN",
    "EXPLICIT_VR_BIG_ENDIAN",
    "EXPLICIT_VR_LITTLE_ENDIAN",
    "IMPLICIT_VR_LITTLE_ENDIAN",
    "MEDIA_DIRECTORY",
    "TransferSyntax",
    "has_leading_zero",
    "is_image_class",
    "is_instance_uid",
    "is_storage_class",
    "is_uid",
    "transfer_syntax",
]

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"

_NOT_ENCAPSULATED = {
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
}
# In the standard, but younger than pydicom's table: deflated frames, JPEG XL, high-throughput video.
_YOUNG = {
    "1.2.840.10008.1.2.8.1",
    "1.2.840.10008.1.2.4.110",
    "1.2.840.10008.1.2.4.111",
    "1.2.840.10008.1.2.4.112",
}
# JPIP names a server instead of carrying pixels; real-time streams, mail and Papyrus are not Part 10 data sets.
_NOT_STORED = re.compile(r"1\.2\.840\.10008\.1\.(2\.4\.(94|95|204|205)$|2\.[67]\.|20$)")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_LEADING_ZERO = re.compile(r"(^|\.)0[0-9]")
_IMAGE_WITHOUT_THAT_NAME = {
    "1.2.840.10008.5.1.4.1.1.30",  # Parametric Map
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
    "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation
    "1.2.840.10008.5.1.4.1.1.6.2",  # Enhanced US Volume
}


@dataclass(frozen=True, slots=True)
class TransferSyntax:
    """How a data set is encoded (PS3.5 Annex A)."""

    uid: str
    is_implicit: bool
    is_big_endian: bool
    is_deflated: bool
    is_encapsulated: bool


@cache
def transfer_syntax(uid: str) -> TransferSyntax | None:
    """The transfer syntax of that UID; None when it is none that can be stored."""
    is_known = uid in _YOUNG or UID_dictionary.get(uid, ("", ""))[1] == "Transfer Syntax"
    if not is_known or _NOT_STORED.match(uid):
        return None
    return TransferSyntax(
        uid=uid,
        is_implicit=uid == IMPLICIT_VR_LITTLE_ENDIAN,
        is_big_endian=uid == EXPLICIT_VR_BIG_ENDIAN,
        is_deflated=uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        is_encapsulated=uid not in _NOT_ENCAPSULATED,
    )


def is_uid(text: str) -> bool:
    """Whether the text can be a UID: at most 64 of digits and dots, no empty component (PS3.5 9.1).

    A leading zero in a component breaks 9.1 too, but old devices write it and nothing is lost by it:
    it is a deviation (`has_leading_zero`), not a broken UID.

    >>> is_uid("1.2.840.10008.1.2"), is_uid("1.2..3"), is_uid("1.2.a")
    (True, False, False)
    """
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def is_instance_uid(text: str) -> bool:
    """Whether a UID can be that of one object, series or study: the standard gave it to nothing else (PS3.6 annex A).

    >>> is_instance_uid("1.2.826.0.1.3680043.8.498.1"), is_instance_uid("1.2.840.10008.1.2")
    (True, False)
    """
    return is_uid(text) and text not in UID_dictionary


def has_leading_zero(uid: str) -> bool:
    return _LEADING_ZERO.search(uid) is not None


@cache
def is_storage_class(uid: str) -> bool:
    """Whether instances of this SOP class are stored objects of a patient or a device.

    A UID below the storage arc that pydicom's table does not hold yet counts: the standard adds some every year.
    """
    name, kind = UID_dictionary.get(uid, ("", ""))[:2]
    if kind == "SOP Class":
        return "Storage" in name and "Storage Commitment" not in name
    return not name and uid.startswith(("1.2.840.10008.5.1.4.1.1.", "1.2.840.10008.5.1.4.34."))


@cache
def is_image_class(uid: str) -> bool:
    """Whether instances of this SOP class have pixels that must be there (PS3.3, Image Pixel Module)."""
    name = UID_dictionary.get(uid, ("",))[0]
    return "Image Storage" in name or uid in _IMAGE_WITHOUT_THAT_NAME
