"""Text: the declared character set is believed unless the bytes prove it wrong."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from radlake.dicom.charset import choose_decoder, readable_terms
from radlake.dicom.part10 import encode_instance, notes, read_bytes
from radlake.errors import QuarantineError
from support.dicom import ct_study, dicom_bytes

HOSPITAL = "苏州样例第一医院"


def decoded(declared: list[str], *values: bytes) -> list[str]:
    decode = choose_decoder(declared, values)
    return [decode(value) for value in values]


@pytest.mark.parametrize(
    "text", [HOSPITAL, "李雷", "欧阳^雪", "朱镕基", "陈瑀", "陳大文", "刘琳婷^", "CT平扫 T2加权", "𠮷野"]
)
@pytest.mark.parametrize(
    ("declared", "codec"),
    [
        (["GB18030"], "gb18030"),
        (["GBK"], "gb18030"),
        ([], "gb18030"),
        ([""], "gb18030"),
        (["ISO_IR 100"], "gb18030"),
        (["ISO_IR 192"], "gb18030"),
        (["ISO_IR_100"], "gb18030"),
        (["", "ISO 2022 IR 58"], "gb18030"),
        (["ISO_IR 192"], "utf-8"),
        (["GB18030"], "utf-8"),
        (["ISO_IR 100"], "utf-8"),
        ([], "utf-8"),
    ],
    ids=lambda value: "+".join(value) or "nothing" if isinstance(value, list) else value,
)
def test_chinese_is_found_under_any_label(text: str, declared: list[str], codec: str) -> None:
    assert decoded(declared, text.encode(codec)) == [text]


@pytest.mark.parametrize(
    ("declared", "codec", "text"),
    [
        (["ISO_IR 100"], "latin_1", "Müller^Jürgen"),
        (["ISO_IR 100"], "latin_1", "image créée à 37°C ±2µm"),
        ([], "latin_1", "Noël"),
        (["ISO_IR 192"], "latin_1", "Müller"),
        (["ISO_IR 101"], "iso8859_2", "Wałęsa"),
        (["ISO_IR 144"], "iso8859_5", "Люкceмбypг"),
        (["ISO_IR 126"], "iso8859_7", "Διονυσιος"),
        (["ISO_IR 127"], "iso8859_6", "قباني"),
        (["ISO_IR 138"], "iso8859_8", "שרון"),
        (["ISO_IR 166"], "tis_620", "นามสกุล"),
        (["ISO_IR 100"], "big5", "台北榮民總醫院"),
        (["GB18030"], "gb18030", "㐀𠀀"),
        (["ISO_IR 100"], "gb18030", "一"),  # valid UTF-8 too, but Cyrillic then
        (["GB18030"], "gb18030", "一"),
        (["ISO_IR 100"], "utf-8", "Müller"),
    ],
)
def test_other_scripts_stay_what_they_are(declared: list[str], codec: str, text: str) -> None:
    assert decoded(declared, text.encode(codec)) == [text]


@pytest.mark.parametrize(
    ("declared", "value", "text"),
    [
        (["", "ISO 2022 IR 58"], b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=", "Zhang^XiaoDong=张^小东="),
        (["", "ISO 2022 IR 58"], b"\x1b$)A\xd5\xc5\x1b(B AB", "张 AB"),
        (["", "ISO 2022 IR 87"], b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田"),
        (["", "ISO 2022 IR 149"], b"Hong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong=洪^吉洞"),
        ([], b"Hong=\x1b$)C\xfb\xf3", "Hong=洪"),
    ],
    ids=["IR 58", "IR 58 and ASCII", "IR 87", "IR 13 and 87", "IR 149", "undeclared"],
)
def test_escape_sequences(declared: list[str], value: bytes, text: str) -> None:
    assert decoded(declared, value) == [text]


def test_all_values_decide_together() -> None:
    """One name alone could be Western; with the hospital beside it, it is not."""
    assert decoded(["ISO_IR 100"], "玥".encode("gbk"), HOSPITAL.encode("gbk")) == ["玥", HOSPITAL]


@pytest.mark.parametrize("codec", ["gb18030", "utf-8"])
def test_a_value_cut_in_a_character_loses_only_that(codec: str) -> None:
    decode = choose_decoder(["GB18030" if codec == "gb18030" else "ISO_IR 192"], [(HOSPITAL * 2).encode(codec)[:-1]])

    assert decode((HOSPITAL * 2).encode(codec)[:-1]) == (HOSPITAL * 2)[:-1] + "\ufffd"
    assert decode.n_lost == 1


def test_text_in_no_character_set_is_refused_without_showing_it() -> None:
    with pytest.raises(QuarantineError) as caught:
        choose_decoder(["ISO_IR 192", "李雷"], [b"ZZPHI\xff\xfe\x81\xff\xff"])

    assert caught.value.facts == {"reason": "charset_unknown", "detail": r"declared as ISO_IR 192\an undefined term"}


def test_only_defined_terms_are_shown() -> None:
    assert readable_terms(["", "ISO 2022 IR 58"]) == "ISO 2022 IR 58"
    assert readable_terms(["张三"]) == "an undefined term"
    assert readable_terms([""]) == "nothing"


def with_charset(charset: str, *, bytes_of: str | None = None) -> bytes:
    """A file written in `charset`, whose label then is `bytes_of`."""
    data = dicom_bytes(ct_study(n=1, patient="王 小明^", charset=charset)[0])
    if bytes_of is None:
        return data
    label = charset.encode() + b" " * (len(charset) % 2)
    return data.replace(label, bytes_of.encode().ljust(len(label)), 1)


@pytest.mark.parametrize(
    "data",
    [
        with_charset("ISO_IR 192"),
        with_charset("GB18030"),
        with_charset("GB18030", bytes_of="GBK"),
        with_charset("ISO_IR 192", bytes_of="ISO_IR 100"),
    ],
    ids=["utf-8", "gb18030", "gbk", "utf-8 as latin"],
)
def test_one_data_set_whatever_its_character_set(data: bytes) -> None:
    ds = read_bytes(data)

    assert (ds.SpecificCharacterSet, ds.PatientName, ds.InstitutionName) == ("ISO_IR 192", "王 小明^", HOSPITAL)
    assert encode_instance(ds) == encode_instance(read_bytes(with_charset("ISO_IR 192")))


def test_repairs_are_noted_and_plain_utf8_is_not() -> None:
    assert notes(read_bytes(with_charset("ISO_IR 192"))) == ()
    assert notes(read_bytes(with_charset("GB18030"))) == ("text recoded from gb18030, declared as GB18030",)
    assert notes(read_bytes(with_charset("GB18030", bytes_of="GBK"))) == ("text recoded from gb18030, declared as GBK",)


def test_an_item_may_have_its_own_character_set() -> None:
    item = Dataset()
    item.SpecificCharacterSet = "GB18030"
    item.CodeMeaning = "平扫"
    ds = ct_study(n=1, patient="Müller", charset="ISO_IR 100", hospital="", description="", ReferringPhysicianName="")[
        0
    ]
    ds.ProcedureCodeSequence = Sequence([item])

    found = read_bytes(dicom_bytes(ds))

    assert (found.PatientName, found.ProcedureCodeSequence[0].CodeMeaning) == ("Müller", "平扫")
    assert found.ProcedureCodeSequence[0].SpecificCharacterSet == "ISO_IR 192"


def test_an_undefined_term_over_ascii_becomes_a_defined_one() -> None:
    data = dicom_bytes(
        ct_study(n=1, patient="Li", hospital="", description="", ReferringPhysicianName="", charset="ISO_IR 100")[0]
    )

    ds = read_bytes(data.replace(b"ISO_IR 100", b"ISO-IR 100"))

    assert ds.SpecificCharacterSet == "ISO_IR 192"
    assert notes(ds) == ("undefined term in Specific Character Set",)
