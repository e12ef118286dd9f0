"""Names that are told in Chinese and repeated in letters."""

from __future__ import annotations

import pytest

from radlake.deidentify.pinyin import romanised
from support.deid import deidentified_bytes, occurrences
from support.dicom import ct_study


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("王秀兰", "wangxiulan"),
        ("黄志强", "huangzhiqiang"),
        ("杨鑫鑫", "yangxinxin"),
        ("欧阳晓燕", "ouyangxiaoyan"),
        ("诸葛梓涵", "zhugezihan"),
        ("单博", "shanbo"),
        ("单博", "danbo"),
        ("曾婷", "zengting"),
        ("吕昊", "lvhao"),
        ("吕昊", "luhao"),
        ("张伟", "weizhang"),
    ],
)
def test_usual_ways_to_write_a_name(name: str, written: str) -> None:
    assert written in romanised(name)


@pytest.mark.parametrize("text", ["", "王", "Smith", "王Smith", "龘龘"])
def test_what_is_no_chinese_name_is_not_romanised(text: str) -> None:
    assert romanised(text) == frozenset()


def test_name_told_in_chinese_is_found_in_letters() -> None:
    ds = ct_study(
        1,
        patient="杨鑫鑫",
        SoftwareVersions="R5 YangXinxin",
        ManufacturerModelName="YANG XIN XIN",
        ScanOptions="XINXIN_YANG",
    )[0]
    out = deidentified_bytes(ds)
    assert not list(occurrences("YangXinxin", out))
    assert not list(occurrences("YANG XIN XIN", out))
    assert not list(occurrences("XINXIN_YANG", out))
