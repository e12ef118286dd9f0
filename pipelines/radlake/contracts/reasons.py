"""Reason codes of quarantine: why an object was set aside and what a person does next.

The table is `schemas/reasons.yaml`; here it is only read. Every `QuarantineError` carries one of its codes.
`python -m radlake.contracts.reasons > docs/reference/quarantine-reasons.md` writes it for people.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from typing import Literal

import yaml

from radlake.resources import schemas_root

__all__ = ["Reason", "reasons", "reference_page"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One row of the table; `meaning` and `remedy` are one sentence each."""

    code: str
    stage: Literal["read", "validate", "deidentify", "verify", "gate", "fetch"]
    is_replayable: bool
    meaning_zh: str
    meaning_en: str
    remedy_zh: str
    remedy_en: str


@cache
def reasons() -> dict[str, Reason]:
    """All reason codes in the order of the table."""
    rows = yaml.safe_load((schemas_root() / "reasons.yaml").read_text(encoding="utf-8"))
    return {
        code: Reason(
            code=code,
            stage=row["stage"],
            is_replayable=row["is_replayable"],
            meaning_zh=row["zh"]["meaning"],
            meaning_en=row["en"]["meaning"],
            remedy_zh=row["zh"]["remedy"],
            remedy_en=row["en"]["remedy"],
        )
        for code, row in rows.items()
    }


def reference_page() -> str:
    """The table as Markdown, Chinese and English."""
    lines = [
        "# 隔离原因 / Reasons for quarantine",
        "",
        "一个对象被隔离时，`radlake quarantine list` 显示下列代码之一；原始字节保留在受限区。",
        "标有 ↻ 的，改好规则、方案或决定之后可用 `radlake quarantine replay` 重放；其余须由医院先发送新的对象。",
        "",
        "When an object is set aside, `radlake quarantine list` shows one of these codes; its bytes stay in the",
        "restricted zone. Those marked ↻ can be replayed with `radlake quarantine replay` once a rule, a profile or a",
        "decision has changed; for the others the hospital must send a new object first.",
        "",
        "| 代码 / code | 阶段 / stage | 原因与处理 | meaning and what to do |",
        "|---|---|---|---|",
    ]
    for reason in reasons().values():
        code = f"`{reason.code}`" + (" ↻" if reason.is_replayable else "")
        zh = f"{reason.meaning_zh}{reason.remedy_zh}"
        lines.append(f"| {code} | {reason.stage} | {zh} | {reason.meaning_en} {reason.remedy_en} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference_page())
