"""Which presentation contexts to propose and to accept, so that instances travel as they are stored (PS3.5 10.1).

A node that must send in a transfer syntax which was not agreed either decodes the pixels or gives up. So each SOP
class is proposed once per transfer syntax, and the 127 places of an association are filled in order of need.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from radlake.dicom.uids import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    is_image_class,
    is_storage_class,
    transfer_syntax,
)
from radlake.net.upper_layer import MAX_CONTEXTS, Proposal

__all__ = ["VERIFICATION", "choose_transfer_syntax", "plan_contexts"]

VERIFICATION = "1.2.840.10008.1.1"

# Commonest first: what PACS store, by what the vendors of their archives compress with.
_COMPRESSED = (
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.51",  # JPEG extended
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.201",  # HTJ2K lossless
    "1.2.840.10008.1.2.4.202",  # HTJ2K lossless, RPCL
    "1.2.840.10008.1.2.4.203",  # HTJ2K
    "1.2.840.10008.1.2.4.102",  # MPEG-4 AVC
    "1.2.840.10008.1.2.4.103",
    "1.2.840.10008.1.2.4.100",  # MPEG-2
    "1.2.840.10008.1.2.4.101",
    "1.2.840.10008.1.2.4.107",  # HEVC
)

# SOP classes below 1.2.840.10008.5.1.4.1.1, commonest first.
_COMMON_IMAGES = (
    *("2", "4", "1", "1.1", "7", "1.2", "6.1", "3.1", "12.1", "12.2", "2.1", "4.1", "20", "128", "13.1.3"),
    *("1.3", "1.1.1", "1.2.1", "6.2", "77.1.1", "77.1.2", "77.1.4", "77.1.5.1", "77.1.5.2", "77.1.5.4"),
    *("7.1", "7.2", "7.3", "7.4", "12.1.1", "12.2.1", "13.1.1", "130", "66.4", "30", "481.1", "6", "3", "5"),
)
_COMMON_OTHERS = (
    *("88.67", "88.11", "88.22", "88.33", "88.34", "88.50", "88.59", "88.65", "88.69", "11.1", "11.2", "104.1"),
    *("66", "66.1", "481.2", "481.3", "481.5", "9.1.1", "9.1.2"),
)
_COMMON_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.{suffix}" for suffix in (*_COMMON_IMAGES, *_COMMON_OTHERS))


def plan_contexts(sop_classes: Iterable[str]) -> list[Proposal]:
    """Storage contexts of a C-GET for a study of these SOP classes; of the commonest when they are not known.

    Uncompressed comes first for every class, then one compressed transfer syntax after the other.
    """
    classes = sorted(sop_classes) or list(_COMMON_CLASSES)
    room = MAX_CONTEXTS - 1  # one is for C-GET itself
    if 2 * len(classes) <= room:
        plain = [
            (uid, (syntax,)) for syntax in (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN) for uid in classes
        ]
    else:
        plain = [(uid, (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)) for uid in classes]
    pixels = [uid for uid in classes if is_image_class(uid) or not is_storage_class(uid)]
    compressed = [(uid, (syntax,)) for syntax in _COMPRESSED for uid in pixels]
    return [Proposal(uid, syntaxes, is_scp=True) for uid, syntaxes in [*plain, *compressed][:room]]


def choose_transfer_syntax(abstract_syntax: str, offered: Sequence[str]) -> str | None:
    """Our storage SCP's answer to one proposed context: the sender's first choice that the standard names.

    Every storage class is welcome, private ones too: what is of no use is set aside later, with a reason.
    """
    is_private = not abstract_syntax.startswith("1.2.840.10008.")
    if not (is_private or is_storage_class(abstract_syntax) or abstract_syntax == VERIFICATION):
        return None
    known = [uid for uid in offered if transfer_syntax(uid) is not None]
    return next((uid for uid in known if uid != EXPLICIT_VR_BIG_ENDIAN), next(iter(known), None))
