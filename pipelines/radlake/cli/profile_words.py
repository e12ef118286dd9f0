"""Words for people about a profile: what an action does, what an option means, and what becomes of an example.

Examples are made by the de-identifier itself, with a key that is nobody's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from pydicom import Dataset
from pydicom.datadict import dictionary_description, dictionary_keyword, tag_for_keyword
from pydicom.tag import BaseTag

from radlake.deidentify.profile import Action, Profile, Rule
from radlake.deidentify.reference_table import reference_rows
from radlake.errors import QueryInvalid

__all__ = [
    "ACTIONS",
    "Language",
    "description_of",
    "example_of",
    "fallback_of",
    "in_language",
    "keyword_of",
    "meaning_of",
    "tag_of",
    "words_for_missing_rule",
]


class Language(StrEnum):
    """Of the words; names of attributes and codes are those of the standard."""

    ZH = "zh"
    EN = "en"
    BOTH = "both"


ACTIONS = {
    Action.KEEP: {
        "zh": "保留（含身份信息则删去）；序列逐项处理",
        "en": "kept, unless it names somebody; each item of a sequence is treated",
    },
    Action.REMOVE: {"zh": "删除", "en": "removed"},
    Action.EMPTY: {"zh": "置空", "en": "emptied"},
    Action.DUMMY: {"zh": "以占位值替换", "en": "replaced by a dummy"},
    Action.UID: {"zh": "以密钥生成的 UID 替换", "en": "replaced by a keyed UID"},
    Action.SHIFT: {"zh": "按人平移", "en": "shifted by the person's constant"},
    Action.CLEAN: {"zh": "只留词表词语", "en": "reduced to vocabulary words"},
    Action.AGE: {"zh": "90 岁以上记为 90 岁", "en": "90 for all above 90"},
    Action.PATIENT: {"zh": "以患者假名替换", "en": "replaced by the person's pseudonym"},
    Action.PSEUDONYM: {"zh": "以假名替换", "en": "replaced by a pseudonym of the value"},
    Action.CODE: {"zh": "以“已删除”编码替换", "en": "replaced by a code that says removed"},
}
_MAY_FAIL = (Action.KEEP, Action.CLEAN, Action.SHIFT, Action.AGE)
_PRIVATE = {
    "zh": "私有属性（组号为奇数）一律删除，方案列明的安全属性除外。",
    "en": "Private attributes (odd group) are removed, except those that the profile lists as safe.",
}
_UNKNOWN = {"zh": "标准未收录的属性一律删除。", "en": "An attribute that the standard does not know is removed."}
_GRAPHICS = {"zh": "叠加层与曲线整组删除。", "en": "Overlays and curves are removed as a group."}
_ORIGINS = {
    "basic": {"zh": "基本保密方案", "en": "the Basic Profile"},
    "unlisted": {
        "zh": "标准表未列出，按值表示（VR）处理",
        "en": "not listed in the table, treated by its value representation",
    },
    "retain_safe_private": {"zh": "保留已知安全的私有属性", "en": "private attributes that are known to be safe stay"},
    "retain_uids": {"zh": "保留原始 UID", "en": "UIDs stay"},
    "retain_device_identity": {"zh": "保留设备身份", "en": "the identity of the device stays"},
    "retain_institution_identity": {"zh": "保留机构身份", "en": "the identity of the institution stays"},
    "retain_patient_characteristics": {
        "zh": "保留患者特征（年龄、性别、身高、体重等）",
        "en": "characteristics of the patient stay (age, sex, height, weight)",
    },
    "retain_full_dates": {"zh": "保留原始日期", "en": "dates stay as they are"},
    "retain_modified_dates": {"zh": "日期平移后保留，间隔不变", "en": "dates stay, shifted; intervals survive"},
    "clean_descriptors": {"zh": "描述文字清理后保留", "en": "descriptions stay, cleaned"},
    "clean_structured_content": {"zh": "结构化内容清理后保留", "en": "structured content stays, cleaned"},
    "clean_graphics": {"zh": "图形标注清理后保留", "en": "graphic annotations stay, cleaned"},
    "clean_pixel_data": {"zh": "像素中的文字涂黑", "en": "text in the pixels is blacked out"},
}
_EXAMPLES = {
    "AE": "PACS_WANG",
    "AS": "097Y",
    "CS": "WANGXIULAN",
    "DA": "20260301",
    "DS": "120.5",
    "DT": "20260301083000",
    "IS": "3",
    "LO": "胸部平扫 王秀兰 12床",
    "LT": "胸部平扫 王秀兰 13800138000",
    "PN": "Wang^Xiulan=王^秀兰",
    "SH": "ZY12736053",
    "ST": "南京市鼓楼区样例路89号",
    "TM": "083000",
    "UC": "王秀兰 胸部平扫",
    "UI": "1.2.156.112605.20260301.1",
    "UR": "http://pacs.example/wado?patient=ZY12736053",
    "UT": "王秀兰，胸部平扫未见异常",
}
_EXAMPLE_OF_ATTRIBUTE = {
    "PatientID": "ZY12736053",
    "PatientSex": "F",
    "PatientAge": "097Y",
    "Manufacturer": "UIH (苏州样例第一医院)",
    "ManufacturerModelName": "uCT 760 苏州样例第一医院",
    "SoftwareVersions": "R5 ZY12736053",
    "InstitutionName": "苏州样例第一医院",
    "CodingSchemeDesignator": "99_SUZHOU_RIS",
    "BodyPartExamined": "CHEST",
    "ImageType": r"ORIGINAL\PRIMARY\ZY12736053",
}


def in_language(words: Mapping[str, str], language: Language, between: str) -> str:
    chosen = (Language.ZH, Language.EN) if language is Language.BOTH else (language,)
    return between.join(words[key] for key in chosen if key in words)


def meaning_of(origin: str, language: Language) -> str:
    """What an option, or whatever else a rule comes from, is about; empty for the name of a profile."""
    return in_language(_ORIGINS.get(origin, {}), language, " / ")


def words_for_missing_rule(tag: int) -> Mapping[str, str]:
    return _PRIVATE if tag >> 16 & 1 else _GRAPHICS if tag >> 24 in (0x50, 0x60) else _UNKNOWN


def fallback_of(rule: Rule, language: Language) -> str:
    """What happens to a value that the action cannot treat; empty when it always can."""
    if rule.action is Action.DUMMY:
        return rule.dummy
    if rule.otherwise is rule.action or rule.action not in _MAY_FAIL:
        return ""
    words = in_language(ACTIONS[rule.otherwise], language, " / ")
    return f"{rule.otherwise}: {words}{f' ({rule.dummy})' if rule.otherwise is Action.DUMMY else ''}"


def example_of(profile: Profile, tag: int, *, creator: str = "") -> dict[str, str]:
    """An invented value before and after, by the de-identifier itself; empty for sequences and bulk data."""
    from radlake.deidentify.elements import decoded, raw_element, text_bytes
    from radlake.deidentify.keys import KeyRing
    from radlake.deidentify.person import Person
    from radlake.deidentify.walk import Walk

    rule = profile.rules.get(tag)
    safe = profile.safe_private.get((tag >> 16, creator, tag & 0xFF))
    vr = rule.vr if rule else safe.vr if safe else "LO"
    before = _EXAMPLE_OF_ATTRIBUTE.get(keyword_of(tag), _EXAMPLES.get(vr, ""))
    if not before:
        return {}
    ds = Dataset()
    if safe:
        tag = (tag & 0xFFFF00FF) | 0x1000
        ds.add_new((tag >> 16 << 16) | 0x10, "LO", creator)
    for told, kind, text in ((0x00100010, "PN", _EXAMPLES["PN"]), (0x00100020, "LO", "ZY12736053")):
        ds[told] = raw_element(told, kind, text.encode())
    ds[tag] = raw_element(tag, vr, before.encode())
    walk = Walk(profile, KeyRing(bytes(32)), person=Person(patient_key=1, is_known=True), hospital_id="example")
    kept = walk.treat(ds)
    walk.drop_identifiers()
    elem = kept.get(BaseTag(tag))
    after = "" if elem is None else decoded(text_bytes(elem))
    return {"before": before, "after": after or ("(removed)" if elem is None else "(empty)")}


def keyword_of(tag: int) -> str:
    try:
        return dictionary_keyword(tag)
    except KeyError:  # younger than pydicom's dictionary
        return next((row.keyword for row in reference_rows() if row.number == tag), "")


def description_of(tag: int) -> str:
    try:
        return dictionary_description(tag)
    except KeyError:
        return "not in the dictionary of pydicom"


def tag_of(text: str) -> int:
    """A tag from a keyword, `00100010`, `(0010,0010)`, `0010,0010` or `(0019,xx0C)`.

    Raises
    ------
    QueryInvalid
        With the keywords that are nearest.
    """
    digits = re.sub(r"[(), ]|0x", "", text)
    if re.fullmatch(r"[0-9A-Fa-f]{4}[xX]{2}[0-9A-Fa-f]{2}", digits):
        digits = digits[:4] + "10" + digits[6:]
    if re.fullmatch(r"[0-9A-Fa-f]{8}", digits):
        return int(digits, 16)
    tag = tag_for_keyword(text) or next((row.number for row in reference_rows() if row.keyword == text), None)
    if tag is None:
        raise QueryInvalid(reason=f"{text} is neither a tag nor the keyword of an attribute{_nearest(text)}")
    return tag


def _nearest(text: str) -> str:
    import difflib

    from pydicom.datadict import keyword_dict

    by_case = {keyword.casefold(): keyword for keyword in keyword_dict if keyword}
    near = difflib.get_close_matches(text.casefold().replace(" ", ""), by_case, n=3, cutoff=0.6)
    return f"; did you mean {', '.join(by_case[keyword] for keyword in near)}?" if near else ""
