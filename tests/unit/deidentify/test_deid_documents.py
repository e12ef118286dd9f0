"""Encapsulated documents: set aside, or what is left holds no text."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from pydicom import Dataset
from pydicom.uid import UID

from radlake.deidentify import load_profile
from radlake.errors import QuarantineError
from support.deid import deidentified, deidentified_bytes, occurrences
from support.dicom import pdf_document

CLASSES = "1.2.840.10008.5.1.4.1.1.104."
CDA = """<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:x="urn:x">
 <id root="1.2.156.99" extension="ZY12736053"/>
 <code code="18748-4" codeSystem="2.16.840.1.113883.6.1" displayName="王秀兰"/>
 <title>王秀兰 胸部CT</title><effectiveTime value="20260301"/>
 <recordTarget><patientRole><id extension="ZY12736053"/>
 <patient><name>王秀兰</name></patient></patientRole></recordTarget>
 <component><structuredBody><component><section><text>王秀兰 12床 13800138000</text><x:note>王秀兰</x:note>
  <entry><observation classCode="OBS" moodCode="EVN"><code code="246112005" codeSystem="2.16.840.1.113883.6.96"/>
   <value value="12.5" unit="mm"/><value value="13800138000"/>
   <value value="13800138000" unit="mm"/><code code="ZY12736053" codeSystem="1.2.156.99"/></observation></entry>
 </section></component></structuredBody></component><!-- 王秀兰 -->
</ClinicalDocument>""".encode()
FACET = struct.pack("<12f", *range(12)) + b"Wa"
STL = b"Wang Xiulan ZY12736053".ljust(80) + struct.pack("<I", 2) + FACET * 2 + b"Wang Xiulan"
OBJ = b"# Wang Xiulan\nmtllib wang.mtl\no WangXiulan\nv 1 2 3\nv 4 5 6\nv 7 8 9 Wang\n"
OBJ += b"vn 0 0 1\nusemtl skin\nf 1//1 2//1 3//1\n"
MTL = b"# Wang Xiulan\nnewmtl WangXiulan\nKd 0.8 0.1 0.1\nmap_Kd /data/wang.png\nd 1.0\n"


def _document(kind: int, document: bytes) -> Dataset:
    ds = pdf_document()
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UID(f"{CLASSES}{kind}")
    ds.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    ds.DocumentTitle = "王秀兰 胸部CT"
    return ds


@pytest.mark.parametrize(
    ("kind", "document"), [(2, CDA), (3, STL), (4, OBJ), (5, MTL)], ids=["cda", "stl", "obj", "mtl"]
)
def test_no_text_is_left(kind: int, document: bytes) -> None:
    out = deidentified_bytes(_document(kind, document))
    told = ("王秀兰", "Wang", "ZY12736053", "12床", "13800138000", "20260301", "wang.png", "skin")
    assert [text for text in told if list(occurrences(text, out))] == []


def test_facts_of_a_cda_stay() -> None:
    left = deidentified(_document(2, CDA)).EncapsulatedDocument
    assert b'code="18748-4"' in left
    assert b'code="246112005"' in left
    assert b'value="12.5"' in left


def test_geometry_of_a_model_stays() -> None:
    stl = deidentified(_document(3, STL)).EncapsulatedDocument
    assert stl[80:132] == STL[80:132]
    assert len(stl) == 184
    obj = deidentified(_document(4, OBJ)).EncapsulatedDocument
    assert obj.rstrip(b"\0").splitlines() == [b"v 1 2 3", b"v 4 5 6", b"vn 0 0 1", b"f 1//1 2//1 3//1"]
    mtl = deidentified(_document(5, MTL)).EncapsulatedDocument
    assert mtl.rstrip(b"\0").splitlines() == [b"newmtl 1", b"Kd 0.8 0.1 0.1", b"d 1.0"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: pdf_document(),
        lambda: _document(2, b"<html/>"),
        lambda: _document(2, b'<!DOCTYPE x [<!ENTITY a "b">]><ClinicalDocument xmlns="urn:hl7-org:v3"/>'),
        lambda: _document(2, b"<ClinicalDocument"),
        lambda: _document(3, b"solid Wang Xiulan\nendsolid"),
        lambda: _document(3, STL[:100]),
        lambda: _document(4, b"Wang Xiulan"),
        lambda: _document(5, b""),
        lambda: _document(9, b"Wang"),
    ],
    ids=["pdf", "html", "doctype", "broken", "stl as text", "stl cut off", "no obj", "empty mtl", "unknown class"],
)
def test_what_cannot_be_proven_clean_is_set_aside(make: Callable[[], Dataset]) -> None:
    with pytest.raises(QuarantineError) as caught:
        deidentified(make())
    assert caught.value.reason == "document_not_cleanable"


def test_basic_profile_stores_no_document() -> None:
    with pytest.raises(QuarantineError):
        deidentified(_document(3, STL), profile=load_profile("basic"))
