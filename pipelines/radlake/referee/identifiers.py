"""Every identifier that an original tells: by attribute of Table E.1-1, by VR, and by what its free text looks like.

What an option of the standard may keep (descriptions, sizes, sex) is no identifier as a whole; the names and numbers
in it are. A value that everybody has (a vocabulary word, Anonymous, 0) identifies nobody and is not searched for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache

from pydicom._uid_dict import UID_dictionary

from radlake.referee.instance import BULK_VRS, Instance, Value, keyword_of
from radlake.referee.standard import table_row
from radlake.vocab import clean_description, manufacturer_group

__all__ = ["Identifier", "identifiers_of", "identifiers_told", "is_class_uid", "national_ids", "nobody", "telltales"]

MARKS = " \t\r\n\f^=,._-/()[]{}:;'\"·、，。；：（）"
_UNMARK = {ord(mark): None for mark in MARKS}
_MIN = {"digits": 5, "latin": 4, "other": 2}
_MIN_UID = 12
_DOCUMENT, _MODEL = 0x00420011, 0x00081090
_ALWAYS = frozenset(["Occupation"])  # an option may keep it; it names an employer all the same
_TEXT_KINDS = (
    (re.compile("Telephone|Telecom|Phone|Fax"), "phone"),
    (re.compile("Address|Location|Residence|Region|Country"), "address"),
    (re.compile("Institution|Department|Organization|Service|Sponsor|Site|Center|Committee|Facility"), "institution"),
    (re.compile("Station|AE|Network|Device|Serial|Detector|Plate|Cassette|Gantry|Machine|System"), "device"),
)
# What consoles, phantoms, test data and earlier de-identification write instead of an identity.
_NOBODY = re.compile(
    r"(anonym\w*|removed?|deidentified|de-?identified|none|null|nil|n/?a|unknown|unspecified|undefined|other|test\w*|"
    r"patient|phantom|volunteer|research|dummy|default|sample|example|not ?specified|no ?name|name|doctor|physician|"
    r"hospital|clinic|radiology|department|operator|admin|user|male|female|yes|no|匿名|未知|无名氏?|患者|病人|医院|放射科|"
    r"影像科|超声科|检查科|本院|门诊|急诊|住院|"
    r"cardiology|neurology|oncology|pa?ediatrics|surgery|orthop\w*|urology|gyn\w*ology|emergency|mammography|ultrasound|"
    r"nuclearmedicine|pathology|radiotherapy|outpatients?|inpatients?|icu|"
    r"container|text|num|code|date|time|datetime|uidref|pname|composite|image|waveform|scoord|scoord3d|tcoord|table)\d*"
)
_CORPORATE = re.compile(
    r"\b(medical|systems?|healthcare|health|care|inc|corp\w*|co|ltd|gmbh|ag|company|imaging|electronics|international)\b"
)
_NATIONAL = re.compile(r"(?<![0-9A-Za-z])[1-9]\d{5}(?:18|19|20)\d{9}[0-9Xx](?![0-9A-Za-z])")
_MOBILE = re.compile(r"(?<![0-9A-Za-z.+-])(?:\+?86[- ]?)?(1[3-9]\d[- ]?\d{4}[- ]?\d{4})(?![0-9A-Za-z.])")
_LANDLINE = re.compile(r"(?<![0-9A-Za-z.])(0\d{2,3}[-－ ]\d{7,8})(?![0-9A-Za-z.])")
_TITLED = re.compile(
    r"(?:姓名|患者|病人|医师|医生|主任|技师|护士|家属|联系人|Name|Patient|Dr\.?)\s*[:：]\s*"
    r"([\u4e00-\u9fff]{2,4}|[A-Z][a-z]+[ ^][A-Z][a-z]+)"
)
# The hundred commonest family names are those of 85 % of all Chinese; the others are found through their PN.
_SURNAME = (
    "(?:欧阳|司马|上官|诸葛|东方|皇甫|尉迟|公孙|慕容|令狐|司徒|夏侯|端木|宇文|[王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁"
    "谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙"
    "史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤])"
)
_SURNAMED = re.compile(
    _SURNAME + r"[\u4e00-\u9fff]{1,2}(?=(?:副?主任|医生|医师|大夫|护士|技师|教授|院长|先生|女士|小姐))|"
    r"(?<=Dr\. )[A-Z][a-z]{3,}|(?<=Dr )[A-Z][a-z]{3,}"
)
_BED = re.compile(r"\d{1,3}\s*(?:病区|病房|病室|楼)\s*\d{1,3}\s*床")
_WRITTEN_DATE = re.compile(r"((?:19|20)\d{2})\s*[年\-/.]\s*(\d{1,2})\s*[月\-/.]\s*(\d{1,2})(?!\d)")
_KINDS_OF_ATTRIBUTES = {
    "patient_id": "id",
    "other_patient_ids": "id",
    "accession_number": "id",
    "patient_name": "name",
    "patient_telephone_numbers": "phone",
    "patient_birth_date": "date",
}
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


@dataclass(frozen=True, slots=True)
class Identifier:
    """Something that an original tells. Its repr shows no text.

    Attributes
    ----------
    kind : str
        name, id, national-id, phone, address, institution, device, date, time, uid.
    is_strong : bool
        Long enough that it identifies wherever it stands, not only in the objects of the same study.
    """

    kind: str
    text: str
    is_strong: bool = False

    def __repr__(self) -> str:
        return f"Identifier({self.kind})"


def identifiers_of(instance: Instance) -> set[Identifier]:
    """What a file tells about people, places, devices and times."""
    found: set[Identifier] = set()
    for value in instance.values:
        if value.data:
            found.update(_of_value(value))
    # A station called Dimensions is no secret where every such machine is a Selenia Dimensions.
    model = fold_text(instance.text(_MODEL))
    return {told for told in found if told.kind != "device" or fold_text(told.text) not in model}


def identifiers_told(identity: Mapping[str, Iterable[str]]) -> set[Identifier]:
    """Those of a person of whom the vault tells attributes (`patient_id`, `patient_name`, ...), several values each.

    A whole name is strong here, however short: it is searched for in texts that are not of that person too.
    """
    found: set[Identifier] = set()
    for attribute, kind in _KINDS_OF_ATTRIBUTES.items():
        for text in (part for value in identity.get(attribute, ()) for part in value.split("\\")):
            if kind == "date":
                found |= {Identifier(kind, text)} if _day(text) else set()
                continue
            told = set(_identifier(kind, text))
            found |= {replace(one, is_strong=True) for one in told} if kind == "name" else told
    return found


def _of_value(value: Value) -> Iterator[Identifier]:
    row = table_row(value.tag)
    vr = value.vr
    if value.tag == _DOCUMENT:
        yield from _told_in((value.data or b"").decode("utf-8", "replace"), with_dates=True)
    if vr in BULK_VRS and not (row and vr == "UN"):
        return
    if vr == "UI" or (row is not None and row.vr == "UI"):
        yield from _uids(value)
        return
    if vr in ("DS", "IS", "AS"):
        return
    for text in value.texts:
        if vr == "PN" or (row is not None and row.vr == "PN"):
            for one in text.split("\\"):
                yield from _identifier("name", one)
        elif vr in ("DA", "DT", "TM"):
            for one in text.split("\\"):
                yield from _dates(one, vr)
        elif row is not None and (row.is_identifier or row.keyword in _ALWAYS) and vr != "CS":
            kind = next((kind for pattern, kind in _TEXT_KINDS if pattern.search(row.keyword)), "id")
            for one in [text] if vr in ("LT", "ST", "UT", "UR") else text.split("\\"):
                yield from _identifier(kind, one)
        is_free = row is not None and "clean_descriptors" in row.options
        yield from _told_in(text, with_dates=is_free)


def _uids(value: Value) -> Iterator[Identifier]:
    if is_class_uid(value.tag):
        return
    for uid in (value.data or b"").decode("ascii", "replace").split("\\"):
        uid = uid.strip(" \0")
        if uid not in UID_dictionary and len(uid.replace(".", "")) >= _MIN_UID:
            yield Identifier("uid", uid, is_strong=True)


def is_class_uid(tag: int) -> bool:
    """Whether the UID names a class of things (a SOP class, a coding scheme), not one thing."""
    row = table_row(tag)
    if row is not None and "U" in row.basic:
        return False
    keyword = keyword_of(tag)
    ends = (
        "ClassUID",
        "SchemeUID",
        "ResourceUID",
        "ContextUID",
        "TransferSyntaxUID",
        "ContextGroupExtensionCreatorUID",
    )
    return keyword.endswith(ends) or "SOPClasses" in keyword


def _dates(text: str, vr: str) -> Iterator[Identifier]:
    text = text.strip()
    digits = re.sub(r"[.\-/:]", "", text) if vr != "TM" else text.replace(":", "")
    if vr == "TM":
        if re.fullmatch(r"\d{6}(\.\d+)?", digits) and not digits.startswith(("0000", "1200")) and digits[2:6] != "0000":
            yield Identifier("time", digits)
        return
    if (day := _day(digits[:8])) is not None and day.year > 1900:
        yield Identifier("date", f"{day:%Y%m%d}")


def _day(digits: str) -> date | None:
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) if len(digits) == 8 else None
    except ValueError:
        return None


def _told_in(text: str, *, with_dates: bool) -> Iterator[Identifier]:
    """Names, numbers and places that free text tells; its dates too, where they are not those of a software."""
    for number in national_ids(text):
        yield Identifier("national-id", number, is_strong=True)
    for found in (*_MOBILE.findall(text), *_LANDLINE.findall(text)):
        yield Identifier("phone", re.sub(r"\D", "", found), is_strong=True)
    for name in _TITLED.findall(text):
        yield from _identifier("name", name)
    for name in _SURNAMED.findall(text):
        yield from _identifier("name", name)
    for bed in _BED.findall(text):
        yield Identifier("address", bed)
    for year, month, day in _WRITTEN_DATE.findall(text) if with_dates else ():
        if _day(digits := f"{year}{int(month):02d}{int(day):02d}"):
            yield Identifier("date", digits)


def _identifier(kind: str, text: str) -> Iterator[Identifier]:
    text = unicodedata.normalize("NFKC", text).strip()
    if kind == "name" and "^" not in text and "," in text:
        text = text.replace(",", "^", 1)
    if nobody(text):
        return
    folded = fold_text(text)
    strong = len(folded) >= 8 if folded.isascii() else len(folded) >= 5 or (kind == "name" and len(folded) >= 3)
    yield Identifier(kind, text, is_strong=strong)
    if kind in ("address", "institution"):
        for piece in re.split(r"[,，;；\s]+", text):
            if piece != text and len(fold_text(piece)) >= (10 if piece.isascii() else 5) and not nobody(piece):
                yield Identifier(kind, piece, is_strong=True)


def fold_text(text: str) -> str:
    """Lower case, without marks and spaces."""
    return unicodedata.normalize("NFKC", text).casefold().translate(_UNMARK)


@lru_cache(maxsize=65536)
def nobody(text: str) -> bool:
    """Whether a text is too short or too common to identify anybody or anything."""
    folded = fold_text(text)
    shortest = _MIN["digits"] if folded.isdigit() else _MIN["latin"] if folded.isascii() else _MIN["other"]
    if len(folded) < shortest or len(set(folded)) == 1:
        return True
    if _NOBODY.fullmatch(folded) or fold_text(clean_description(text) or "") == folded:
        return True
    if folded.isascii() and manufacturer_group(text) != "OTHER":
        words = _CORPORATE.sub(" ", text.casefold())
        return len(re.findall(r"[a-z]{2,}", words)) <= 2
    return False


def telltales(text: str) -> Iterator[str]:
    """Kinds of identifier that a text looks like, whoever it belongs to.

    >>> list(telltales("电话 138-1234-5678, 11010519491231002X"))
    ['national-id', 'phone']
    """
    if any(True for _ in national_ids(text)):
        yield "national-id"
    if _MOBILE.search(text) or _LANDLINE.search(text):
        yield "phone"
    if any(not nobody(name) for name in _TITLED.findall(text)):
        yield "name"
    if "医院" in text:
        yield "institution"


def national_ids(text: str) -> Iterable[str]:
    """Identity numbers (GB 11643-1999) whose checksum (ISO 7064 MOD 11-2) and date hold."""
    for number in _NATIONAL.findall(text):
        total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number, strict=False))
        if "10X98765432"[total % 11] == number[17].upper() and _day(number[6:14]):
            yield number
