"""Identifiers that the data set told are found where they do not belong; nothing else is."""

from __future__ import annotations

import pytest

from radlake.deidentify.codes import clean_meaning
from radlake.deidentify.identity import identifying_concepts, identifying_tags, identities_from

TOLD = identities_from(
    frozenset(
        {
            ("name", "Wang^XiuLan=王^秀兰"),
            ("name", "欧阳晓燕"),
            ("id", "ZY12736053"),
            ("id", "512345"),
            ("id", "20240001234"),
            ("date", "19640224"),
            ("text", "苏州样例第一医院"),
            ("text", "Suzhou First People's"),
            ("text", "UIH"),
            ("text", "GE MEDICAL SYSTEMS"),
            ("text", "CHEST"),
            ("id", "1"),
            ("id", "0000000"),
            ("name", "Li^Na"),
            ("name", "李^娜"),
            ("name", "吕晓燕"),
        }
    )
)


@pytest.mark.parametrize(
    "value",
    [
        "WangXiulan",
        "wang xiulan CT",
        "XIULAN WANG",
        "Wang^Xiulan",
        "for xiulan",
        "王秀兰",
        "胸部 王 秀兰",
        "欧阳晓燕",
        "zy12736053",
        "ZY-127 36053",
        "xZY12736053x",
        "id 512345",
        "1964-02-24",
        "1964/02/24 v2",
        "UIH (苏州样例第一医院)",
        "suzhou first people's CT1",
        "OuyangXiaoyan",
        "xiaoyan ouyang",
        "LI NA",
        "for Li-Na",
        "NaLi",
        "LvXiaoyan",
        "Lu Xiao Yan",
        "CT512345",
        "no 12736053 of today",
        "24-FEB-1964",
        "1964FEB24",
        "Feb 24 1964",
        "1964.2.24",
        "02/24/1964",
        "SZYLDYYY CT1",
        "suzhouyanglidiyiyiyuan",
    ],
)
def test_found(value: str) -> None:
    assert TOLD.is_in(value.encode())
    assert TOLD.may_be_in(f"CHEST\n{value}\nAXIAL".encode())


@pytest.mark.parametrize(
    "value",
    [
        "CHEST",
        "UIH",
        "GE MEDICAL SYSTEMS",
        "1",
        "0000000",
        "9512345",
        "512345678",
        "LI",
        "AXIAL",
        "Xiulandia",
        "胸部平扫",
    ],
)
def test_left_alone(value: str) -> None:
    assert not TOLD.is_in(value.encode())


# Uyghur, Tibetan and Mongolian names in Chinese characters: with a dot between them, or two of two characters each.
@pytest.mark.parametrize(
    "value",
    [
        "ABUDULA MAIMAITI",
        "MaimaitiAbudula",
        "R5 abudula",
        "阿卜杜拉•买买提",
        "阿卜杜拉・买买提",
        "买买提",
        "CT Dunzhu",
        "ZhaxiDunzhu",
    ],
)
def test_names_of_several_words_in_chinese(value: str) -> None:
    told = identities_from(frozenset({("name", "阿卜杜拉·买买提"), ("name", "扎西顿珠")}))
    assert told.is_in(value.encode())


def test_a_hospital_whose_characters_are_read_in_two_ways_by_its_initials() -> None:
    assert identities_from(frozenset({("text", "拉萨样例藏医院")})).is_in(b"LSYLZYY-CT1")


@pytest.mark.parametrize("codec", ["utf-8", "gb18030"])
@pytest.mark.parametrize("name", ["Göteborg", "米勒", "乌兰图雅·巴特尔"])
def test_names_among_bytes(name: str, codec: str) -> None:
    told = identities_from(frozenset({("name", name)}))
    assert told.is_in_bytes(name.encode(codec))
    assert not told.is_in_bytes(bytes(len(name.encode(codec))))


def test_identifiers_do_not_run_across_values() -> None:
    assert not TOLD.may_be_in(b"ZY12736\n053")


def test_numbers_are_compared_as_a_whole() -> None:
    assert TOLD.is_number(b"512345 ")
    assert not TOLD.is_number(b"512345.0")
    assert not TOLD.is_number(b"1")


def test_every_listed_attribute_is_one_of_the_standard() -> None:
    assert identifying_tags()[0x00100020] == "id"
    assert identifying_tags()[0x00080080] == "text"
    assert set(identifying_concepts().values()) <= {"name", "id", "text", "date", "age"}


@pytest.mark.parametrize(
    ("meaning", "value", "scheme", "expected"),
    [
        ("Source WangXiulan", "121322", "DCM", "Source image for image processing operation"),
        ("Brain", "T-A0100", "SRT", "Brain"),
        ("brain of 王秀兰", "T-A0100", "SRT", "Brain structure"),
        ("检查报告", "18748-4", "LN", "Diagnostic Imaging Report"),
        ("mGy.cm", "mGy.cm", "UCUM", "mGy.cm"),
        ("王秀兰", "99999", "DCM", "REMOVED"),
        ("胸部平扫 王秀兰", "CT01", "99HIS", "胸部平扫"),
        ("Source WangXiulan", "121322", "", "REMOVED"),
        ("Redlands Clinic", "2230", "99_OFFIS_DCMTK", "REMOVED"),
    ],
)
def test_code_meanings(meaning: str, value: str, scheme: str, expected: str) -> None:
    assert clean_meaning(meaning, value=value, scheme=scheme) == expected
