"""The league of data quality, and the letter that tells a hospital what to repair and how. Pure.

Rows are those of stats.data_quality with exact counts: a hospital is told of its own exams.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any, Literal

import yaml

from radlake.contracts.reasons import reasons
from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root

__all__ = ["Fault", "Standing", "Topic", "gate_faults", "letter", "standings", "topics"]

Language = Literal["zh", "en"]
_MONTH = re.compile(r"\d{4}-\d\d")
_HELD = re.compile(r"^month \d{6} is held back: ")
_WORDS: Mapping[Language, Mapping[str, str]] = {
    "zh": {
        "title": "数据质量反馈：{name}",
        "intro": "日期：{day}。评分 {score:.1f}（满分 100），在 {n} 家医院中列第 {rank} 位。",
        "none": "没有发现问题。谢谢。",
        "table": "| 问题 | 贵院 | 占比 | 全省 | 最近两月 |",
        "repair": "## 如何修复",
        "gate": "质量闸门未通过的规则：",
        "outro": "计数为截至今日的全部检查；以隔离区为准的问题按影像数计。更正后重新发送，平台会自动重新检查。",
    },
    "en": {
        "title": "Data quality of {name}",
        "intro": "Date: {day}. Score {score:.1f} of 100, place {rank} of {n} hospitals.",
        "none": "Nothing was found. Thank you.",
        "table": "| fault | yours | share | province | last two months |",
        "repair": "## How to repair it",
        "gate": "Rules of the quality gate that were not met:",
        "outro": "Counts are of all exams until today, of what was set aside of images. Send again what you corrected; "
        "the platform checks it anew.",
    },
}


@dataclass(frozen=True)
class Topic:
    """A fault, what it weighs, and its words by language."""

    code: str
    weight: float
    title: Mapping[str, str]
    remedy: Mapping[str, str]


@dataclass(frozen=True)
class Fault:
    """A fault of one hospital, with the share of the province; `months` are the shares of its last two months."""

    topic: Topic
    n_checked: int
    n_failed: int
    share: float
    share_of_all: float
    months: tuple[float, ...]


@dataclass(frozen=True)
class Standing:
    """A hospital in the league; equal scores have equal ranks."""

    hospital_id: str
    score: float
    rank: int
    faults: tuple[Fault, ...]


@cache
def topics() -> Mapping[str, Topic]:
    """Faults by code: those of schemas/quality/topics.yaml, and the reasons of the quarantine.

    Raises
    ------
    ConfigInvalid
        A comma ends an unquoted text in YAML, and what follows would be lost unseen.
    """
    path = schemas_root() / "quality" / "topics.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    if problems := [
        f"{code}: needs a title and a remedy in {' and '.join(_WORDS)}, and nothing else; quote texts with a comma"
        for code, row in data["topics"].items()
        if set(row) != {"weight", *_WORDS} or any(set(row[key]) != {"title", "remedy"} for key in _WORDS)
    ]:
        raise ConfigInvalid(path=path, problems=problems)
    found = {
        code: Topic(
            code,
            row["weight"],
            title={key: row[key]["title"] for key in _WORDS},
            remedy={key: row[key]["remedy"] for key in _WORDS},
        )
        for code, row in data["topics"].items()
    }
    for reason in reasons().values():
        title = {"zh": reason.meaning_zh, "en": reason.meaning_en}
        remedy = {"zh": reason.remedy_zh, "en": reason.remedy_en}
        found[reason.code] = Topic(reason.code, data["quarantine_weight"], title, remedy)
    return found


def standings(rows: Iterable[Mapping[str, Any]]) -> list[Standing]:
    """The league, best first; faults of each by what they cost it."""
    of: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        of.setdefault((row["hospital_id"], row["topic_code"]), {})[row["exam_month"]] = row
    found = []
    for hospital in sorted({hospital for hospital, _ in of} - {"all"}):
        faults = [
            _fault(topic, of[hospital, code], share_of_all=of["all", code]["all"]["failed_share"])
            for code, topic in topics().items()
            if "all" in of.get((hospital, code), ())
        ]
        faults = [fault for fault in faults if fault.n_failed]
        faults.sort(key=lambda fault: (-fault.topic.weight * fault.share, fault.topic.code))
        score = max(0.0, 100 - sum(fault.topic.weight * 100 * fault.share for fault in faults))
        found.append((hospital, score, tuple(faults)))
    found.sort(key=lambda one: (-one[1], one[0]))
    scores = [score for _, score, _ in found]
    return [Standing(hospital, score, scores.index(score) + 1, faults) for hospital, score, faults in found]


def _fault(topic: Topic, of_month: Mapping[str, Mapping[str, Any]], *, share_of_all: float) -> Fault:
    """A fault of a hospital from its rows by month."""
    last = sorted(filter(_MONTH.fullmatch, of_month))[-2:]
    row, months = of_month["all"], tuple(of_month[month]["failed_share"] for month in last)
    return Fault(topic, row["n_checked"], row["n_failed"], row["failed_share"], share_of_all, months)


def gate_faults(details: Collection[str]) -> list[str]:
    """Rules of the quality gate that were not met, by the details of what it held back, most frequent first."""
    told = Counter(part for detail in details for part in _HELD.sub("", detail).split("; ") if part)
    return [part for part, _ in sorted(told.items(), key=lambda item: (-item[1], item[0]))]


def letter(
    standing: Standing, *, name: str, language: Language, n_hospitals: int, day: date, gate: Sequence[str] = ()
) -> str:
    """The letter to a hospital, as Markdown: no exam and no person is in it."""
    words = _WORDS[language]
    intro = words["intro"].format(day=day, score=standing.score, n=n_hospitals, rank=standing.rank)
    lines = [f"# {words['title'].format(name=name)}", "", intro, ""]
    if not standing.faults:
        return "\n".join([*lines, words["none"], ""])
    lines += [words["table"], "|---|---:|---:|---:|---|"]
    for fault in standing.faults:
        trend = " → ".join(f"{share:.1%}" for share in fault.months)
        counts = f"{fault.n_failed:,} / {fault.n_checked:,}"
        title = fault.topic.title[language].rstrip("。.")
        lines.append(f"| {title} | {counts} | {fault.share:.1%} | {fault.share_of_all:.1%} | {trend} |")
    lines += ["", words["repair"], ""]
    for number, fault in enumerate(standing.faults, 1):
        title = fault.topic.title[language].rstrip("。.")
        lines.append(f"{number}. **{title}** — {fault.topic.remedy[language]}")
        if fault.topic.code == "quality_gate" and gate:
            lines += [f"   {words['gate']}", *(f"   - {rule}" for rule in gate)]
    return "\n".join([*lines, "", words["outro"], ""])
