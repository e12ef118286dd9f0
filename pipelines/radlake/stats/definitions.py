"""Write the definitions of the statistics, in Chinese and English, from what the numbers are made with.

`python -m radlake.stats.definitions DOCS/reference/definitions` writes `zh.md` and `en.md`: texts and formulas of
schemas/definitions, the columns of the contracts, the rule packs, windows and grounds, and the examples of tests/spec.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from radlake.contracts import load_table
from radlake.errors import ConfigInvalid
from radlake.resources import data_root, schemas_root
from radlake.stats.duplicates.packs import load_grounds, load_packs, load_windows

__all__ = ["definitions", "load_definitions"]

Language = Literal["zh", "en"]
_FIELDS = {"table", "title", "formulas", "text", "sources"}
_OPTIONAL = {"examples", "rules"}
_WORDS: Mapping[Language, Mapping[str, str]] = {
    "zh": {
        "title": "统计指标定义",
        "note": "由 `python -m radlake.stats.definitions` 生成；请修改 schemas 与 tests/spec。",
        "formulas": "公式",
        "columns": "列",
        "sources": "来源",
        "examples": "示例（即测试）",
        "windows": "时间窗（第 {version} 版）：{days} 日；主要报告 {headline} 日。"
        "一个号码超过 {most} 次检查即视为多人共用。",
        "pack": "规则包 {name}：{title}",
        "order": "次序 | 代码 | 情形 | 归类 | 依据在 | 来源",
        "later": "后一次检查",
        "earlier": "前一次检查",
        "operation": "，或 {days} 日内手术",
    },
    "en": {
        "title": "Definitions of the statistics",
        "note": "Written by `python -m radlake.stats.definitions`; edit schemas and tests/spec.",
        "formulas": "Formulas",
        "columns": "Columns",
        "sources": "Sources",
        "examples": "Examples (they are the tests)",
        "windows": "Windows (version {version}): {days} days; headlines use {headline} days. A number with more than"
        " {most} exams is one that many persons share.",
        "pack": "Rule pack {name}: {title}",
        "order": "order | code | ground | class | on record of | source",
        "later": "the later exam",
        "earlier": "the earlier exam",
        "operation": ", or an operation within {days} days",
    },
}


def load_definitions(root: Path | None = None) -> list[dict[str, Any]]:
    """Every file of schemas/definitions, by table.

    Raises
    ------
    ConfigInvalid
        With all problems: a field that is missing or unknown, a language that is missing, a table without contract.
    """
    folder = root or schemas_root() / "definitions"
    found, problems = [], []
    for path in sorted(folder.glob("*.yaml")):
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        if wrong := (_FIELDS - set(data)) | (set(data) - _FIELDS - _OPTIONAL):
            problems.append(f"{path.name}: missing or unknown: {', '.join(sorted(wrong))}")
            continue
        texts = [data["title"], data["text"], *(formula["name"] for formula in data["formulas"])]
        if any(set(text) != {"zh", "en"} or not all(text.values()) for text in texts):
            problems.append(f"{path.name}: every text needs zh and en")
        load_table(data["table"])
        found.append(data)
    if problems or not found:
        raise ConfigInvalid(path=folder, problems=problems or ["no definition in it"])
    return found


def definitions(language: Language, *, specs: Path) -> str:
    """The page in one language; `specs` is the folder tests/spec."""
    words = _WORDS[language]
    lines = [f"# {words['title']}", "", f"<!-- {words['note']} -->"]
    for data in load_definitions():
        table = load_table(data["table"])
        lines += ["", f"## {data['title'][language]} `{table.view_name}`", "", data["text"][language].strip()]
        lines += ["", f"### {words['formulas']}", ""]
        lines += [f"- {formula['name'][language]}: `{formula['formula']}`" for formula in data["formulas"]]
        if "rules" in data:
            lines += ["", *_rules(language)]
        lines += ["", f"### {words['columns']}", ""]
        lines += [f"- `{column.name}`: {column.description}" for column in table.columns]
        if "examples" in data:
            lines += ["", f"### {words['examples']}"]
            for title, example in _examples(specs / data["examples"]):
                lines += ["", title, "", "```", *example, "```"]
        lines += ["", f"### {words['sources']}", "", *(f"- {source}" for source in data["sources"])]
    return "\n".join(lines) + "\n"


def _rules(language: Language) -> Iterator[str]:
    words, windows = _WORDS[language], load_windows()
    yield words["windows"].format(
        version=windows.version,
        days=", ".join(map(str, windows.days)),
        headline=", ".join(map(str, windows.headline_days)),
        most=windows.max_person_exams,
    )
    grounds = load_grounds()
    for name, pack in load_packs().items():
        yield from ("", f"#### {words['pack'].format(name=name, title=pack.title[language])}", "", pack.source, "")
        yield from (f"| {words['order']} |", "|---|---|---|---|---|---|")
        for place, exclusion in enumerate(pack.exclusions, 1):
            ground = grounds[exclusion.ground.code]
            days = exclusion.operation_within_days
            more = "" if days is None else words["operation"].format(days=days)
            title = (ground.zh if language == "zh" else ground.en) + more
            yield f"| {place} | {ground.code} | {title} | {exclusion.class_} | {words[ground.of]} | {ground.source} |"


def _examples(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Name of each test in words, and its first table."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not (isinstance(node, ast.FunctionDef) and node.name.startswith("test_")):
            continue
        texts = [
            part.value
            for part in ast.walk(node)
            if isinstance(part, ast.Constant) and isinstance(part.value, str) and " | " in part.value
        ]
        if texts:
            title = node.name.removeprefix("test_").replace("_", " ")
            yield title[0].upper() + title[1:], [line.strip() for line in texts[0].strip().splitlines()]


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for language in ("zh", "en"):
        page = definitions(language, specs=data_root() / "tests" / "spec")
        (folder / f"{language}.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
