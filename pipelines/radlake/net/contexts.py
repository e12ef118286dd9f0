"""Which presentation contexts to propose and to accept, so that instances travel as they are stored (PS3.5 10.1).

A node that must send in a transfer syntax which was not agreed either decodes the pixels or gives up. So each SOP
class is proposed once per transfer syntax, and the 127 places of an association are filled in order of need.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from radlake.dicom.uids import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    is_image_class,
    is_storage_class,
    transfer_syntax,
)
from radlake.net.pdu import MAX_CONTEXTS, Proposal, Refusal

__all__ = ["VERIFICATION", "choose_transfer_syntax", "plan_contexts"]

VERIFICATION = "1.2.840.10008.1.1"

_FEW = 12  # that many classes can have each transfer syntax in a place of its own

# Commonest in archives first.
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

# Storage SOP classes below 1.2.840.10008.5.1.4.1.1 that devices of a modality make, commonest first.
_OF_MODALITY = {
    "CT": ("2", "2.1"),
    "MR": ("4", "4.1", "4.3", "4.2"),
    "CR": ("1", "1.1"),
    "DX": ("1.1", "1", "1.1.1"),
    "MG": ("1.2", "1.2.1", "13.1.3", "88.50"),
    "US": ("6.1", "3.1", "6.2", "6", "3"),
    "XA": ("12.1", "12.1.1", "13.1.1"),
    "RF": ("12.2", "12.2.1"),
    "NM": ("20", "5"),
    "PT": ("128", "130"),
    "IO": ("1.3", "1.3.1", "1.1"),
    "PX": ("1.1", "1"),
    "ES": ("77.1.1", "77.1.1.1"),
    "GM": ("77.1.2",),
    "SM": ("77.1.3", "77.1.6"),
    "XC": ("77.1.4", "77.1.4.1"),
    "OP": ("77.1.5.1", "77.1.5.2"),
    "OPT": ("77.1.5.4",),
    "SR": ("88.67", "88.11", "88.22", "88.33", "88.34", "88.65", "88.69"),
    "KO": ("88.59",),
    "PR": ("11.1", "11.2"),
    "DOC": ("104.1",),
    "SEG": ("66.4",),
    "REG": ("66.1",),
    "ECG": ("9.1.1", "9.1.2"),
    "RTIMAGE": ("481.1",),
    "RTDOSE": ("481.2",),
    "RTSTRUCT": ("481.3",),
    "RTPLAN": ("481.5",),
    "OT": ("7.1", "104.1", "66"),
}
_OF_ANY = ("7", "7.2", "7.3", "7.4")  # secondary capture: every modality's archive has some


def plan_contexts(sop_classes: Iterable[str], *, modalities: Iterable[str] = ()) -> list[Proposal]:
    """Storage contexts of a C-GET for a study of these SOP classes.

    When the node does not tell the classes, those that the study's modalities are stored as; when it tells no
    modality either, or an unknown one, the commonest of all. Uncompressed comes first for every class, then one
    compressed transfer syntax after the other.
    """
    classes = sorted(set(sop_classes)) or _likely_classes(sorted(set(modalities)))
    if len(classes) <= _FEW:
        plain = [
            (uid, (syntax,)) for syntax in (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN) for uid in classes
        ]
    else:
        plain = [(uid, (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)) for uid in classes]
    pixels = [uid for uid in classes if is_image_class(uid) or not is_storage_class(uid)]
    compressed = [(uid, (syntax,)) for syntax in _COMPRESSED for uid in pixels[:_FEW]]
    room = MAX_CONTEXTS - 1  # one is for C-GET itself
    return [Proposal(uid, syntaxes, is_scp=True) for uid, syntaxes in [*plain, *compressed][:room]]


def _likely_classes(modalities: list[str]) -> list[str]:
    """The first class of each modality before the second of any."""
    if not modalities or not _OF_MODALITY.keys() >= set(modalities):
        modalities = list(_OF_MODALITY)
    ranks = itertools.zip_longest(*(_OF_MODALITY[modality] for modality in modalities), _OF_ANY)
    return [f"1.2.840.10008.5.1.4.1.1.{suffix}" for suffix in dict.fromkeys(itertools.chain(*ranks)) if suffix]


def choose_transfer_syntax(abstract_syntax: str, offered: Sequence[str]) -> str | Refusal:
    """Our storage SCP's answer to one proposed context: the sender's first choice that the standard names.

    Every storage class is welcome, private ones too: what is of no use is set aside later, with a reason.
    """
    is_private = not abstract_syntax.startswith("1.2.840.10008.")
    if not (is_private or is_storage_class(abstract_syntax) or abstract_syntax == VERIFICATION):
        return Refusal.ABSTRACT_SYNTAX
    known = [uid for uid in offered if transfer_syntax(uid) is not None]
    return next((uid for uid in known if uid != EXPLICIT_VR_BIG_ENDIAN), next(iter(known), Refusal.TRANSFER_SYNTAXES))
