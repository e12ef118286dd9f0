"""The folder that a committee reads: one page in Chinese and English, offline, and the same figures as JSON.

Small counts are masked: the folder leaves the restricted zone with the people who decide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment

from radlake.lake.store import make_folder, write_whole
from radlake.stats.policy import Policy

__all__ = ["questions_of", "write_review"]

_TEMPLATE = Path(__file__).with_name("review.html")

# Why something is not in a release -> (zh, en).
REASONS: Mapping[str, tuple[str, str]] = {
    "small_class": (
        "人群过小，准标识会使其可识别",
        "quasi-identifiers would single the person out: fewer than k are alike",
    ),
    "referee": ("独立裁判发现残留标识", "the referee found something that should not be there"),
    "identifier_left": ("写出后仍含湖内假名或 UID", "a pseudonym or UID of the lake was left in it"),
    "pixels_changed": ("像素与湖内不一致", "its pixels were not those of the lake"),
    "source_damaged": ("湖内原对象损坏", "the lake's own object is damaged"),
}


def questions_of(content: Mapping[str, Any], against: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What only people can answer, in Chinese and English."""
    risk, found = content["risk"], []
    intervals = risk["intervals"]
    if intervals["n_unique"]:
        n, several = intervals["n_unique"], intervals["n_several"]
        found.append(
            (
                f"{several} 人有多次检查，其中 {n} 人的检查间隔天数在本次发布中独一无二："
                "知道其全部检查日期者可认出他们。研究是否需要间隔？",
                f"{several} persons have several exams; the days between those of {n} are unique in this release:"
                " somebody who knows all days of their exams recognises them. Does the research need the intervals?",
            )
        )
    if risk["l_diversity"] < 2 and risk["n_classes"]:
        found.append(
            (
                "至少有一个等价类中所有人检查内容相同（l=1）：知道某人在其中即知其检查内容。可以接受吗？",
                "In one class at least everybody had the same examined (l = 1): who knows that a person is in it"
                " knows what was examined. Is that acceptable?",
            )
        )
    if content["telltales"] or content["referee"]:
        found.append(
            (
                "裁判在表格或影像头中发现疑点（见下），是否已逐条核实？",
                "The referee found something in tables or headers (see below). Has each of it been looked at?",
            )
        )
    for other, told in against.items():
        if told["is_same_project"]:
            found.append(
                (
                    f"{other} 属同一项目，密钥相同，可与本次合并。是否有意？",
                    f"{other} is of the same project and has the same keys: its data can be joined with these."
                    " Is that meant?",
                )
            )
        elif told["columns"]:
            columns = ", ".join(told["columns"])
            found.append(
                (
                    f"与 {other} 相比，以下非标识列含有能指向单个人的相同值：{columns}。两者会由同一方持有吗？",
                    f"Beside {other} these columns, which are no identifiers, have values of one person in both:"
                    f" {columns}. Will one party hold both?",
                )
            )
    found.append(
        (
            "像素逐位不变：同时持有两次发布像素者可比对像素。接收方是否承诺不比对、不再识别？",
            "Pixels are what they were: who holds those of two releases can compare them. Has the holder promised"
            " not to compare, and not to re-identify?",
        )
    )
    return found


def write_review(
    folder: Path, content: Mapping[str, Any], *, against: Mapping[str, Mapping[str, Any]], policy: Policy
) -> None:
    """Write `index.html` and `review.json`; numbers below the threshold are masked."""
    shown = dict(content)
    small = f"<{policy.threshold}"

    def count(n: int | None) -> str:
        return small if n is None or policy.is_small(n) else f"{n:,}"

    shown["rejected"] = {reason: count(n) for reason, n in content["rejected"].items()}
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        c=content,
        count=count,
        reasons=REASONS,
        questions=questions_of(content, against),
        definition=json.dumps(content["definition"], ensure_ascii=False, indent=2, sort_keys=True),
    )
    make_folder(folder)
    write_whole(folder / "index.html", page)
    told = {**shown, "against": dict(against), "questions": [en for _, en in questions_of(content, against)]}
    write_whole(folder / "review.json", json.dumps(told, ensure_ascii=False, indent=1, sort_keys=True) + "\n")
