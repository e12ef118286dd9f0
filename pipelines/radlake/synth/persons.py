"""Synthetic persons: names, identity numbers, telephone numbers.

Nothing here can be a real person: the region digits of every identity number (3299xx; of many persons also those down
to 3230xx) are assigned to no county and every telephone number is of a range (141) that is not issued to subscribers.
What an identity number looks like, its check digit included, is real, because de-identification and linkage must work
on it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta

__all__ = ["Person", "make_person", "national_id"]

# Family names, the frequent ones first, and given names, with their spelling. Some characters are rare on purpose:
# outside GB 2312, and outside the basic plane of Unicode (4 bytes in GB 18030).
_FAMILY = """
王Wang 李Li 张Zhang 刘Liu 陈Chen 杨Yang 黄Huang 赵Zhao 吴Wu 周Zhou 徐Xu 孙Sun 马Ma 朱Zhu 胡Hu 郭Guo 何He 林Lin 高Gao
罗Luo 郑Zheng 梁Liang 谢Xie 宋Song 唐Tang 许Xu 韩Han 冯Feng 邓Deng 曹Cao 彭Peng 曾Zeng 萧Xiao 田Tian 董Dong 潘Pan
袁Yuan 蔡Cai 蒋Jiang 余Yu 于Yu 杜Du 叶Ye 程Cheng 魏Wei 苏Su 吕Lyu 丁Ding 任Ren 沈Shen 姚Yao 卢Lu 姜Jiang 崔Cui 钟Zhong
谭Tan 陆Lu 汪Wang 范Fan 欧阳Ouyang 諸葛Zhuge 龑Yan
"""
_GIVEN_F = """
芳Fang 娜Na 敏Min 静Jing 丽Li 秀Xiu 英Ying 玉Yu 兰Lan 霞Xia 燕Yan 玲Ling 桂Gui 梅Mei 雪Xue 婷Ting 慧Hui 红Hong 月Yue
莉Li 琴Qin 颖Ying 洁Jie 瑶Yao
"""
_GIVEN_M = """
伟Wei 强Qiang 磊Lei 军Jun 勇Yong 杰Jie 涛Tao 明Ming 超Chao 刚Gang 平Ping 辉Hui 建Jian 国Guo 华Hua 东Dong 文Wen 志Zhi
海Hai 波Bo 宁Ning 鹏Peng 浩Hao 喆Zhe 𬱖Wei
"""
# Persons examined in hospital by 10-year band of age: more of the old than live in the province.
_AGE_WEIGHTS = (4, 4, 8, 12, 13, 17, 19, 14, 8, 1)
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


@dataclass(frozen=True, slots=True)
class Person:
    """One person of the province; `person_id` is the ground truth that no header shows."""

    person_id: str
    name: str
    sex: str
    birth_date: date
    national_id: str
    phone: str

    @property
    def name_spelled(self) -> str:
        """The alphabetic component group alone, for systems that know no Chinese."""
        return self.name.partition("=")[0]

    @property
    def name_zh(self) -> str:
        """The name as people write it, without the component delimiter."""
        return self.name.partition("=")[2].replace("^", "")


def national_id(first17: str) -> str:
    """Append the check digit of a Chinese citizen identity number (GB 11643-1999, ISO 7064 MOD 11-2).

    >>> national_id("11010519491231002")
    '11010519491231002X'
    """
    total = sum(int(digit) * weight for digit, weight in zip(first17, _ID_WEIGHTS, strict=True))
    return first17 + "10X98765432"[total % 11]


def make_person(number: int, *, rng: random.Random, today: date) -> Person:
    """Draw the person with this number; `today` is the day on which the ages are meant."""
    sex = rng.choice("FM")
    age_days = (rng.choices(range(10), _AGE_WEIGHTS)[0] + rng.random()) * 3652.5
    birth_date = today - timedelta(days=int(age_days))
    families = _FAMILY.split()
    family_zh, family = _split(rng.choices(families, range(len(families) + 6, 6, -1))[0])
    given = [_split(part) for part in rng.sample((_GIVEN_F if sex == "F" else _GIVEN_M).split(), rng.choice((1, 2, 2)))]
    spelled = "".join(spelling for _, spelling in given).capitalize()
    # Number of the person in region and sequence, so that no two of 3.5 million persons share an identity number.
    prefecture, county = 3299 - number // 50_000 % 70, number // 500 % 100
    sequence = number % 500 * 2 + (sex == "M")
    return Person(
        person_id=f"p{number:07d}",
        name=f"{family}^{spelled}={family_zh}^{''.join(character for character, _ in given)}",
        sex=sex,
        birth_date=birth_date,
        national_id=national_id(f"{prefecture}{county:02d}{birth_date:%Y%m%d}{sequence:03d}"),
        phone=f"141{number % 10**8:08d}",
    )


def _split(entry: str) -> tuple[str, str]:
    spelled = entry.lstrip("".join(character for character in entry if not character.isascii()))
    return entry.removesuffix(spelled), spelled
