"""What may leave in a description: words of the vocabulary, and nothing that could be a person."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pydicom
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from radlake.resources import schemas_root
from radlake.vocab import clean_description

SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈"
    "左双和正平常全钟关"
)
GIVEN = "伟芳娜敏静强增平正全高明军磊洋艳勇杰娟涛超秀兰霞刚桂英心和双左右部位常规延动态三维片"
# Pinyin of the most frequent surnames: no English word of the vocabulary may be one of them.
PINYIN = """
    WANG LI ZHANG LIU CHEN YANG HUANG ZHAO WU ZHOU XU SUN MA ZHU HU GUO HE GAO LIN LUO ZHENG LIANG XIE SONG TANG
    HAN FENG DENG CAO PENG ZENG XIAO TIAN DONG YUAN PAN YU JIANG CAI DU YE CHENG SU WEI LV LU DING REN SHEN YAO
    JIA XIA FU FANG ZOU XIONG BAI MENG QIN QIU HOU YIN XUE LEI SHI LONG TAO DUAN HAO GU MAO GONG SHAO WAN QIAN YAN
    LAI TAN KONG CUI KANG TSE LEE WONG CHAN HO LAM CHEUNG NG YIP LAU CHOI
"""


def words() -> tuple[set[str], set[str]]:
    """(zh, en) words, read from the files by other code than the library's."""
    zh: set[str] = set()
    en: set[str] = set()

    def walk(node: object) -> None:
        if isinstance(node, dict):
            zh.update(node.get("zh", []))
            en.update(node.get("en", []))
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    for name in ("body_parts", "words"):
        data = yaml.safe_load((schemas_root() / "vocab" / f"{name}.yaml").read_text(encoding="utf-8"))
        walk(data)
        if name == "words":
            zh.update(data["joining"])
            en.update(data["slice_thicknesses"])
            en.update(data["field_strengths"])
    return zh, en


ZH, EN = words()
IS_CHINESE_WORDS = re.compile(f"(?:{'|'.join(sorted(ZH, key=len, reverse=True))})+")


def assert_only_words(cleaned: str | None) -> None:
    en_tokens = {token for phrase in EN for token in phrase.split()}
    for piece in (cleaned or "").split():
        assert piece in en_tokens or IS_CHINESE_WORDS.fullmatch(piece), piece
    assert len(cleaned or "") <= 64


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        pytest.param("胸部CT平扫", "胸部 CT 平扫", id="chinese"),
        pytest.param("双膝关节正侧位片", "双膝关节正侧位片", id="a whole Chinese run stays together"),
        pytest.param("上腹部CT平扫+增强+三维重建", "上腹部 CT 平扫 增强 三维重建", id="joined by plus"),
        pytest.param("胸部ＣＴ 5ｍｍ", "胸部 CT 5MM", id="full width"),
        pytest.param("CT, HEAD/BRAIN WO CONTRAST", "CT HEAD BRAIN WO CONTRAST", id="english"),
        pytest.param("PELVIS W/O CONT", "PELVIS WO CONT", id="abbreviation"),
        pytest.param("C-spine x-ray 2 views", "C SPINE X RAY VIEWS", id="a free number goes"),
        pytest.param("Brain MRI 3.0T 5 mm", "BRAIN MRI 3.0T 5MM", id="numbers of the closed lists stay"),
        pytest.param("", None, id="empty"),
        pytest.param("e+1", None, id="nothing known"),
        # persons
        pytest.param("胸部CT平扫 胡玉珍 黄伟岩医生", "胸部 CT 平扫", id="patient and doctor"),
        pytest.param("胸部CT平扫胡玉珍", "胸部 CT", id="a name glued to a word takes the word with it"),
        pytest.param("张增强", None, id="given name is a word"),
        pytest.param("增强 张增强", "增强", id="word stays, name goes"),
        pytest.param("左心 双和 和平 左右正", None, id="names of vocabulary characters"),
        pytest.param("Chest HeYutong 5mm", "CHEST 5MM", id="pinyin"),
        pytest.param("XR CHEST AP PORTABLE for Douglas Davidson", "XR CHEST AP PORTABLE", id="english name"),
        pytest.param("Halchenko_Yarik^950_bids_test4", None, id="name in a protocol path"),
        # identifiers, dates, places
        pytest.param("胸部 320106197001020011", "胸部", id="national id"),
        pytest.param("胸部13800138000", "胸部", id="phone glued to a word"),
        pytest.param("CHEST 138-0013-8000", "CHEST", id="phone in groups"),
        pytest.param("ZY19511029 HEAD^ROUTINE", "HEAD ROUTINE", id="admission number"),
        pytest.param("急诊 何雨桐 1病区57床", None, id="ward and bed"),
        pytest.param("胸部 2024年3月5日 2024-03-05 20240305", "胸部", id="dates"),
        pytest.param("13.80mm 01.38mm 00mm", None, id="digits spelled as thickness"),
        pytest.param("5mm 5mm 3mm CHEST", "CHEST", id="more than two numbers"),
        pytest.param("苏州样例第一医院 胸部", "胸部", id="hospital"),
        pytest.param("ÐØ²¿CTÆ½É¨ ÍõË¼Ô´", None, id="undecoded GBK"),
    ],
)
def test_survivors(text: str, cleaned: str | None) -> None:
    assert clean_description(text) == cleaned


def test_cleaning_twice_changes_nothing() -> None:
    for text in ("上腹部CT平扫+增强", "CHEST PA LAT W/WO CONTRAST", "双膝正侧位 3.0T 5mm"):
        once = clean_description(text)
        assert clean_description(once or "") == once


@given(st.text(max_size=80))
def test_any_text(text: str) -> None:
    assert_only_words(clean_description(text))


@given(
    before=st.sampled_from(["", "胸部CT平扫", "增强", "双膝", "CHEST ", "左", "平扫及"]),
    surname=st.sampled_from(SURNAMES),
    given_name=st.text(alphabet=GIVEN, min_size=1, max_size=2),
    after=st.sampled_from(["", "医生", "增强", " 平扫", "12床", "13800138000", "部", "关节"]),
)
def test_a_chinese_name_never_survives(before: str, surname: str, given_name: str, after: str) -> None:
    """Wherever a name is glued to words; only where surname and given name spell words themselves are they words."""
    name = surname + given_name
    cleaned = clean_description(before + name + after) or ""
    assert_only_words(cleaned)
    if IS_CHINESE_WORDS.fullmatch(name) is None and not any(name in word for word in ZH):
        assert name not in cleaned


@given(st.lists(st.sampled_from("0123456789.- mMtT床号"), max_size=60).map("".join))
def test_digits_come_only_from_the_closed_lists(text: str) -> None:
    cleaned = clean_description(text) or ""
    pieces = [piece for piece in cleaned.split() if any(char.isdigit() for char in piece)]
    assert len(pieces) <= 2
    assert set(pieces) <= EN


def test_no_english_word_is_a_frequent_surname() -> None:
    assert not {token for phrase in EN for token in phrase.split()} & set(PINYIN.split())


def test_no_single_chinese_character_is_a_frequent_surname_outside_the_guarded_ones() -> None:
    """左 and 双 stand only before a paired body part, 和 only between two words."""
    assert {word for word in ZH if len(word) == 1} & set(SURNAMES) == {"左", "双", "和"}


@pytest.mark.corpus
def test_nothing_planted_survives(corpus: Path) -> None:
    """Every description of the planted files, against every identifier planted anywhere."""
    lines = (corpus / "planted" / "ANSWER_KEY.jsonl").read_text(encoding="utf-8").splitlines()
    planted = {str(json.loads(line)["phi"]).upper() for line in lines}
    keywords = (
        "StudyDescription",
        "SeriesDescription",
        "ProtocolName",
        "RequestedProcedureDescription",
        "Manufacturer",
    )
    n_texts = 0
    for path in sorted((corpus / "planted").rglob("*.dcm")):
        try:
            ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        except Exception:
            continue
        for keyword in keywords:
            try:
                text = str(ds.get(keyword) or "")
            except Exception:
                continue
            n_texts += bool(text)
            cleaned = clean_description(text) or ""
            assert_only_words(cleaned)
            assert not [phi for phi in planted if len(phi) > 1 and phi in cleaned]
    assert n_texts > 50
