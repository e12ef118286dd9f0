"""Chinese names as hospitals write them."""

from __future__ import annotations

import pytest

from radlake.linkage.names import name_from_texts


@pytest.mark.parametrize(
    "text",
    ["劉^曉梅", "刘 晓梅", "刘晓梅", "LIU^XIAOMEI", "Xiaomei Liu", "LIUXIAOMEI", "liu xiao mei", "Liu, Xiao-Mei",
     "Liu^Xiaomei=劉^曉梅"],
)  # fmt: skip
def test_one_name_has_one_sound_however_it_is_written(text: str) -> None:
    name = name_from_texts((text,))
    assert name is not None
    assert name.sound == "liu mei xiao"
    assert name.zh in ("刘晓梅", "")


def test_traditional_and_simplified_characters_are_the_same() -> None:
    one, other = name_from_texts(("呂國華",)), name_from_texts(("吕国华",))
    assert one == other


def test_the_umlaut_is_written_in_three_ways() -> None:
    assert len({name.sound for text in ("Lv Min", "Lu Min", "Lyu Min", "Lü Min", "吕敏") if (name := name_from_texts((text,)))}) == 1  # fmt: skip  # noqa: E501


@pytest.mark.parametrize(
    ("zh", "letters"),
    [
        ("曾伟", "Zeng Wei"),
        ("單偉", "SHAN^WEI"),
        ("朴明", "Piao Ming"),
        ("區健", "OU JIAN"),
        ("卜建国", "BuJianguo"),
        ("解放", "Xie Fang"),
        ("阚清", "KAN^QING"),
        ("尉迟恭", "Yuchi Gong"),
        ("尉^建国", "WEI^JIANGUO"),
        ("长孙明", "ZHANGSUN MING"),
        ("欧阳娜娜", "Ouyang Nana"),
    ],
)
def test_a_surname_is_read_as_a_surname(zh: str, letters: str) -> None:
    """Readings of surnames by 现代汉语词典."""
    one, other = name_from_texts((zh,)), name_from_texts((letters,))
    assert one is not None
    assert other is not None
    assert one.sound == other.sound


@pytest.mark.parametrize(
    "text", ["", "^", "UNKNOWN", "UNKNOWN^PATIENT", "无名氏", "无名", "匿名", "TEST01", "ANONYMOUS", "李", "000000"]
)
def test_nobody_has_no_name(text: str) -> None:
    assert name_from_texts((text,)) is None


@pytest.mark.parametrize(
    "text", ["王芳之子", "王芳之次女", "王芳女婴", "王芳双A", "Baby of Wang Fang", "Son of^Wang Fang"]
)
def test_a_newborn_bears_its_mothers_name(text: str) -> None:
    name = name_from_texts((text,))
    assert name is not None
    assert name.is_newborn


@pytest.mark.parametrize("text", ["李子", "张爱女", "陈军 Chen Jun", "赵之", "Wang Fang"])
def test_who_has_a_name_is_no_newborn(text: str) -> None:
    name = name_from_texts((text,))
    assert name is not None
    assert not name.is_newborn


def test_a_name_shows_nothing_of_itself() -> None:
    assert "刘" not in repr(name_from_texts(("刘晓梅",)))


def test_a_foreign_name_stays_words() -> None:
    one, other = name_from_texts(("Müller^Hans",)), name_from_texts(("HANS MULLER",))
    assert one is not None
    assert one == other
