"""Identifiers in every attribute of the standard, at every depth, under every VR: none is readable afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import cycle, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from radlake.contracts.reasons import reasons
from radlake.deidentify.identity import identifying_tags
from radlake.errors import QuarantineError
from support.deid import deidentified_bytes, occurrences, read_output
from support.dicom import ct_study
from support.planting import PERSONAS, Persona, attributes, item_bytes, sent, texts_of

# What an object is no object without, what decides whether its pixels are looked at, and samples.
_SPARED = """SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID PixelData FloatPixelData
    DoubleFloatPixelData WaveformData EncapsulatedDocument SamplesPerPixel PhotometricInterpretation Rows Columns
    BitsAllocated BitsStored HighBit PixelRepresentation NumberOfFrames PlanarConfiguration Modality ImageType
    ConversionType SeriesDescription BurnedInAnnotation SpecimenLabelInImage"""
SPARED = set(map(tag_for_keyword, _SPARED.split()))
WIDTHS = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "UV": 8, "SV": 8, "FL": 4, "FD": 8, "AT": 4}
WIDTHS |= {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
SAFE = [(tag, vr) for tag, vr in attributes() if tag not in SPARED and tag >> 16 not in (0x0004, 0x0042) and vr != "SQ"]
SEQUENCES = [tag for tag, vr in attributes() if vr == "SQ" and tag >> 16 != 0x0004]
CODECS = ("gb18030", "utf-8", "utf-8")
each_persona = pytest.mark.parametrize(
    ("persona", "codec"), list(zip(PERSONAS, CODECS, strict=True)), ids=["zh", "pinyin", "de"]
)


def _value(text: str, vr: str, codec: str) -> tuple[str, bytes]:
    value = text.encode(codec)
    return vr, value + b" " * (-len(value) % WIDTHS.get(vr, 1))


def _told(persona: Persona, codec: str) -> dict[int | str, tuple[str, bytes]]:
    charset = b"GB18030" if codec == "gb18030" else b"ISO_IR 192"
    told = {keyword: (dictionary_VR(keyword), text.encode(codec)) for keyword, text in persona.told.items()}
    return {"SpecificCharacterSet": ("CS", charset), **told}


def _forms(persona: Persona) -> list[str]:
    return [form for forms in texts_of(persona).values() for form in forms]


def _readable(texts: list[str], data: bytes) -> Iterator[tuple[str, str]]:
    """(text, attribute) of what can be read."""
    found = [text for text in texts if list(occurrences(text, data))]
    for text in found:
        yield text, "file"
        for elem in read_output(data).iterall():
            raw = elem.value if isinstance(elem.value, bytes) else str(elem.value).encode()
            if elem.VR != "SQ" and list(occurrences(text, raw)):
                yield text, keyword_for_tag(elem.tag)


@pytest.mark.parametrize("turn", range(3))
@each_persona
def test_every_attribute_of_the_standard(persona: Persona, codec: str, turn: int) -> None:
    """Each attribute holds another form of an identifier; every turn shifts them by some."""
    forms = _forms(persona)
    turning = islice(cycle(forms), turn * len(forms) // 3, None)
    planted = {tag: _value(text, vr, codec) for (tag, vr), text in zip(SAFE, turning, strict=False)}
    out = deidentified_bytes(sent(ct_study(1)[0], planted | _told(persona, codec)))
    assert list(_readable(forms, out)) == []


@pytest.mark.parametrize("vr", ["UN", "OB", "LO", "UT", "CS", "PN", "AE"])
def test_every_attribute_under_a_wrong_vr(vr: str) -> None:
    persona = PERSONAS[0]
    forms = _forms(persona)
    planted = {
        tag: (vr, _value(text, known, "gb18030")[1]) for (tag, known), text in zip(SAFE, cycle(forms), strict=False)
    }
    out = deidentified_bytes(sent(ct_study(1)[0], planted | _told(persona, "gb18030")))
    assert list(_readable(forms, out)) == []


@each_persona
def test_every_sequence_of_the_standard(persona: Persona, codec: str) -> None:
    """In each an item that holds identifiers, and in that an item of each kind of text again."""
    forms = cycle(_forms(persona))
    kinds = "PersonName TextValue CodeMeaning CodeValue LongCodeValue ReferencedSOPClassUID InstitutionName "
    kinds += "ManufacturerModelName SoftwareVersions ScanOptions KVP SeriesNumber Rows RedPaletteColorLookupTableData "
    kinds += "ContentDate AcquisitionTime PatientAge RetrieveURL StationAETitle SegmentLabel"
    tags = [(int(tag_for_keyword(kind) or 0), dictionary_VR(kind).split(" ")[0]) for kind in kinds.split()]
    planted: dict[int | str, tuple[str, bytes]] = {}
    for tag in SEQUENCES:
        inner = {child: _value(next(forms), vr, codec) for child, vr in tags}
        outer = {child: _value(next(forms), vr, codec) for child, vr in tags}
        planted[tag] = ("SQ", item_bytes(outer | {0x00081250: ("SQ", item_bytes(inner))}))
    out = deidentified_bytes(sent(ct_study(1)[0], planted | _told(persona, codec)))
    assert list(_readable(_forms(persona), out)) == []


UNTOLD = [
    "王秀兰", "胸部 张伟民", "12床 3病区", "南京市鼓楼区样例路496号", "苏A12345", "微信 abc", "2024年3月5日",
    "三月五日",
    "ZHANG XIULAN", "Zhang^Xiulan", "OuyangXiaoyan", "zhangxiulan", "13800138000", "+86 138-0013-8000", "138 0013 8000",
    "025-83714511", "32010219640224382x", "320102 19640224 382X", "li.lei@example.cn", "http://pacs/wado?x=1",
    "/data/pacs/wang/1.dcm", "D:/PACS/wang", "192.168.12.7", "2024.3.5", "2024-03-05", "05-MAR-2024", "5 Mar 2024",
    "Suzhou Hospital", "First People's", "Dr. Smith", "Ward 7", "WARD-7", "bed 12", "QQ:123456", "wxid_abcdef",
    "ZY12736053", "Z O U S H U L I N", "MRN890137", "Patient: 919801", "Dr Zou", "Pan Qinghua", "Shufang Hu",
    "Jun 22, 1981", "Oct 3 1938", "6 FEB 04", "14-NOV-71", "21/01/92", "1/21/92", "10/25/1938",
    "1981APR02", "2024-MAR-05", "Maimaiti Tuerxun", "AINIWAER_KADIER", "Bayinmenghe Wulantuya", "SZRMYY", "JSSZYY CT1",
    "12 Tran Phu, Hue", "THZeTHY=", "4c695e4e61", "4f27436f6e6e6f725e53696f6268616e",
    "e4b98ce585b0e59bbee99b85c2b7e5b7b4e789b9e5b094",
    "V2FuZ15YaXVsYW4=", "57616e675e5869756c616e", "%E7%8E%8B%E7%A7%80", "&#29579;&#31168;", "zfXQ48C8", "546L56eA5YWw",
]  # fmt: skip


@pytest.mark.parametrize("turn", range(4))
def test_what_looks_like_somebody_stays_nowhere(turn: int) -> None:
    """Identifiers that the data set tells nowhere by right, in every attribute that keeps its text."""
    numbers = {*WIDTHS, "OB", "PN"}  # nobody can tell a short text from a few numbers
    places = [(tag, vr) for tag, vr in SAFE if tag not in identifying_tags() and vr not in numbers]
    texts = islice(cycle(UNTOLD), turn * 9, None)
    planted = {tag: _value(text, vr, "utf-8") for (tag, vr), text in zip(places, texts, strict=False)}
    out = deidentified_bytes(sent(ct_study(1)[0], {"SpecificCharacterSet": ("CS", b"ISO_IR 192")} | planted))
    assert list(_readable(UNTOLD, out)) == []


@st.composite
def plantings(draw: st.DrawFn) -> tuple[Persona, dict[int | str, tuple[str, bytes]]]:
    """A persona, and texts of it in attributes, VRs, words and depths that nobody expects."""
    persona, codec = draw(st.sampled_from(list(zip(PERSONAS, CODECS, strict=True))))
    places = draw(st.lists(st.sampled_from(SAFE), min_size=1, max_size=12, unique=True))
    elements: dict[int | str, tuple[str, bytes]] = {}
    for tag, vr in places:
        text = draw(st.sampled_from(["{}", "CHEST {}", "x{}", "A\\{}\\B", "{}\0{}", "{0}{0}"])).format(
            draw(st.sampled_from(_forms(persona))), "y"
        )
        elements[tag] = (draw(st.sampled_from([vr, vr, "UN", "LO", "UT"])), _value(text, vr, codec)[1])
    for _ in range(draw(st.integers(0, 3))):
        sequence = draw(st.sampled_from(SEQUENCES))
        elements = {sequence: ("SQ", item_bytes(elements)), **dict(list(elements.items())[:4])}
    elements.pop("SpecificCharacterSet", None)
    return persona, elements | _told(persona, codec)


def _outcome(data: bytes) -> tuple[bytes | None, str]:
    try:
        return deidentified_bytes(data), ""
    except QuarantineError as error:
        return None, error.reason


@settings(max_examples=150)
@given(plantings())
def test_no_planting_survives_and_twice_keeps_what_once_kept(
    planting: tuple[Persona, dict[int | str, tuple[str, bytes]]],
) -> None:
    persona, elements = planting
    once, reason = _outcome(sent(ct_study(1)[0], elements))
    assert once is not None or reason in reasons()
    if once is None:
        return
    forms = _forms(persona)
    assert list(_readable(forms, once)) == []
    twice = deidentified_bytes(once)
    assert list(_readable(forms, twice)) == []
    assert [elem.tag for elem in read_output(once)] == [elem.tag for elem in read_output(twice)]


def test_personas_are_what_a_naive_search_misses() -> None:
    """The adversary plants what equals none of the told values."""
    for persona in PERSONAS:
        values = set(dataclasses.astuple(persona))
        assert sum(form not in values for form in _forms(persona)) > 8
