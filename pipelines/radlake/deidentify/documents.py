"""Encapsulated documents (PS3.3 A.45, A.85): what can be proven to hold no text stays, the rest is set aside.

A PDF is a picture with text in it: no rule can tell that nothing is left, so a profile can only set it aside. Of a CDA
the codes and measured values stay. Of a model for a printer (STL, OBJ, MTL) the geometry and the colours stay.
"""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from pydicom import Dataset

from radlake.deidentify.codes import is_code
from radlake.deidentify.elements import text_of
from radlake.errors import QuarantineError

__all__ = ["cleaned_document"]

_SOP_CLASS, _DOCUMENT, _MIME_TYPE = 0x00080016, 0x00420011, 0x00420012
_DOCUMENT_CLASSES = "1.2.840.10008.5.1.4.1.1.104."
_KINDS = {"1": "pdf", "2": "cda", "3": "stl", "4": "obj", "5": "mtl"}
_STL_HEADER, _STL_FACET = 84, 50
# Lines of OBJ and MTL that hold numbers only: vertices, normals, faces; colours, reflection, transparency.
_OBJ_NUMBERS = re.compile(rb"(?:v|vt|vn|vp|f|l|p|s)(?:[ \t]+(?:[-+0-9.eE/]+|off))+")
_MTL_NUMBERS = re.compile(rb"(?:Ka|Kd|Ks|Ke|Ns|Ni|d|Tr|Tf|illum|Pr|Pm|Ps|Pc)(?:[ \t]+[-+0-9.eE]+)+")
# Attributes of CDA elements that say what a thing is. Identifiers, times, addresses and texts are none of them.
_CDA_FACTS = frozenset(["classCode", "moodCode", "typeCode", "unit", "negationInd"])
_CDA_PEOPLE = frozenset(
    ["recordTarget", "author", "dataEnterer", "informant", "custodian", "informationRecipient", "legalAuthenticator",
     "authenticator", "participant", "performer", "documentationOf", "inFulfillmentOf", "componentOf",
     "relatedDocument"]
)  # fmt: skip
# Code systems that name nobody, by their OID, and what their codes look like.
_CODE_SYSTEMS = {
    "2.16.840.1.113883.6.1": re.compile(r"\d{1,5}-\d"),  # LOINC
    "2.16.840.1.113883.6.96": None,  # SNOMED CT: by its check digit
    "1.2.840.10008.2.16.4": re.compile(r"\d{6}"),  # DCM
}
_WORD = re.compile(r"[A-Za-z%/.*\[\]{}0-3]{1,12}")  # of units and of classes of HL7
_HL7 = "urn:hl7-org:v3"


def cleaned_document(ds: Dataset, policies: Mapping[str, str]) -> bytes | None:
    """The document of a data set without its texts; None when the data set is no document.

    Raises
    ------
    QuarantineError
        `document_not_cleanable`, when the profile or the document leaves no other way.
    """
    sop_class = text_of(ds, _SOP_CLASS)
    if _DOCUMENT not in ds and not sop_class.startswith(_DOCUMENT_CLASSES):
        return None
    kind = _KINDS.get(sop_class.removeprefix(_DOCUMENT_CLASSES), "") if sop_class.startswith(_DOCUMENT_CLASSES) else ""
    policy = policies.get("model" if kind in ("stl", "obj", "mtl") else kind, "quarantine")
    elem = ds.get_item(_DOCUMENT)
    value = elem.value if elem is not None else None
    if policy == "quarantine" or not isinstance(value, bytes):
        raise QuarantineError(reason="document_not_cleanable", detail=f"encapsulated {kind or 'document'}")
    cleaned = {"cda": _facts_of_cda, "stl": _facets_of_stl, "obj": _numbers_of_obj, "mtl": _numbers_of_mtl}[kind](value)
    if cleaned is None:
        raise QuarantineError(reason="document_not_cleanable", detail=f"an encapsulated {kind} of another form")
    return cleaned


def _facets_of_stl(document: bytes) -> bytes | None:
    """A binary STL with an empty header, without attribute bytes and without what follows the last facet."""
    if len(document) < _STL_HEADER:
        return None
    (n_facets,) = struct.unpack_from("<I", document, 80)
    end = _STL_HEADER + n_facets * _STL_FACET
    if not n_facets or end > len(document):
        return None
    out = bytearray(80) + document[80:end]
    for byte in (48, 49):  # of each facet: two bytes that nobody needs
        out[_STL_HEADER + byte :: _STL_FACET] = bytes(n_facets)
    return bytes(out)


def _numbers_of_obj(document: bytes) -> bytes | None:
    """The lines of an OBJ that are geometry; names of objects, groups, materials and files go."""
    lines = [line for line in document.splitlines() if _OBJ_NUMBERS.fullmatch(line.strip())]
    return b"\n".join(lines) + b"\n" if lines else None


def _numbers_of_mtl(document: bytes) -> bytes | None:
    """The colours of an MTL; its materials are numbered, and pictures are not referred to."""
    lines, n_materials = [], 0
    for line in document.splitlines():
        if line.strip().startswith(b"newmtl"):
            n_materials += 1
            lines.append(b"newmtl %d" % n_materials)
        elif _MTL_NUMBERS.fullmatch(line.strip()):
            lines.append(line)
    return b"\n".join(lines) + b"\n" if n_materials else None


def _facts_of_cda(document: bytes) -> bytes | None:
    """A CDA with its codes and measured values: no text, no person, no identifier, no time."""
    if b"<!DOCTYPE" in document or b"<!ENTITY" in document:  # an entity may be anything
        return None
    try:
        root = ET.fromstring(document.strip(b" \0"))
    except ET.ParseError:
        return None
    if root.tag != f"{{{_HL7}}}ClinicalDocument":
        return None
    _strip_cda(root)
    ET.register_namespace("", _HL7)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def _strip_cda(element: ET.Element) -> None:
    element.text = element.tail = None
    element.attrib = {name: value for name, value in element.attrib.items() if _is_fact(element, name, value)}
    for child in list(element):
        space, _, name = str(child.tag).rpartition("}")
        if space != f"{{{_HL7}" or name in _CDA_PEOPLE:
            element.remove(child)
        else:
            _strip_cda(child)


def _is_fact(element: ET.Element, name: str, value: str) -> bool:
    if name == "value":  # a measured quantity has a unit; anything else is a time or a telephone
        return "unit" in element.attrib and re.fullmatch(r"[-+]?\d{1,7}(\.\d+)?", value) is not None
    if name in ("code", "codeSystem"):
        system = element.get("codeSystem", "")
        if system not in _CODE_SYSTEMS:
            return False
        pattern = _CODE_SYSTEMS[system]
        return name == "codeSystem" or (
            is_code(value, scheme="SCT") if pattern is None else bool(pattern.fullmatch(value))
        )
    return name in _CDA_FACTS and _WORD.fullmatch(value) is not None
