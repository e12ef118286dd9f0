"""Reason codes of quarantine: why an object was set aside and what a person does next.

The table is `schemas/reasons.yaml`; here it is only read. Every `QuarantineError` carries one of its codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import yaml

from radlake.resources import schemas_root

__all__ = ["Reason", "reasons"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One row of the table; `meaning` and `remedy` are one sentence each."""

    code: str
    stage: Literal["read", "validate", "deidentify", "gate"]
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
