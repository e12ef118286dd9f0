"""Cells: the values of a table on a page, and how they are written on a screen and in a file.

A cell may be a plain value, withheld, a lower limit, or not available; each is written differently and none is
ever blank. A file holds the same values as the screen, in full precision and without separators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Literal

from radlake.web.i18n import Words

__all__ = ["CHINA", "MASKED", "AtLeast", "Cell", "Kind", "Masked", "Writer", "is_alarming"]

CHINA = timezone(timedelta(hours=8))

Kind = Literal[
    "text", "hospital", "region", "modality", "month", "day", "scope", "reason", "remedy", "level", "policy", "outcome",
    "reader", "denominator", "place", "ground", "topic", "topic_remedy", "part", "yes_no", "problem", "volume",
    "certificate", "role", "audit_outcome", "side", "sex", "age", "tier", "basis", "days", "quantity",
    "count", "share", "percent", "hundred", "fen", "bytes", "rate", "decimal", "time",
]  # fmt: skip
NUMBERS = frozenset({"count", "share", "percent", "hundred", "fen", "bytes", "rate", "decimal"})


_ALARMING = {"volume": ("dark",), "certificate": ("differs", "none", "old"), "audit_outcome": ("4", "8")}


class Masked(Enum):
    """Withheld by disclosure control."""

    MASKED = "masked"


MASKED = Masked.MASKED


@dataclass(frozen=True)
class AtLeast:
    """A sum of which some terms are withheld: no less than `value`."""

    value: int


Cell = str | int | float | bool | datetime | AtLeast | Masked | None


def is_alarming(cell: Cell, kind: Kind) -> bool:
    """Whether a state is one that a person should look at."""
    return cell != "ok" if kind == "outcome" else cell in _ALARMING.get(kind, ())


@dataclass(frozen=True)
class Writer:
    """Writes cells in one language.

    Attributes
    ----------
    words : Words
        Catalogue of the language.
    hospitals, regions : mapping
        Names by code in this language; an unregistered code is written as it is.
    """

    words: Words
    hospitals: Mapping[str, str]
    regions: Mapping[str, str]

    def screen(self, cell: Cell, kind: Kind) -> str:
        """A cell as a person reads it: thousands separators, names for codes, China time."""
        if cell is None:
            return self.words("cell.none")
        if isinstance(cell, Masked):
            return self.words("cell.masked")
        if isinstance(cell, AtLeast):
            return self.words("cell.at_least", value=self.screen(cell.value, kind))
        if isinstance(cell, datetime):
            return f"{cell.replace(tzinfo=UTC).astimezone(CHINA):%Y-%m-%d %H:%M}"
        if isinstance(cell, str):
            return self._name(cell, kind)
        if kind == "share":
            return f"{cell:.2%}"
        if kind == "fen":
            return f"{Decimal(cell) / 100:,.0f}"
        if kind == "bytes":
            return _bytes(cell)
        if kind == "decimal" and 0 < abs(cell) < 1:
            return f"{cell:.2g}"
        form = {"rate": ",.2f", "decimal": ",.1f", "percent": ".0%"}.get(kind, ",")
        return f"{100 * cell:,.0f}" if kind == "hundred" else f"{cell:{form}}"

    def plain(self, cell: Cell, kind: Kind) -> str | int | float | Decimal:
        """A cell as a spreadsheet reads it: the number itself, yuan with two decimals, bytes as bytes."""
        if isinstance(cell, AtLeast):
            return f">={self.plain(cell.value, kind)}"
        if cell is None or isinstance(cell, (str, Masked, datetime)):
            text = self.screen(cell, kind)
            return f"'{text}" if isinstance(cell, str) and text[:1] in "=+-@" else text  # never a formula
        if kind == "hundred":
            return 100 * cell
        return Decimal(cell) / 100 if kind == "fen" else cell

    def compact(self, cell: Cell, kind: Kind) -> str:
        """A large number for a tile: 万 and 亿 in Chinese, K, M and B in English, from four digits up."""
        if not isinstance(cell, int | float) or kind not in ("count", "fen"):
            return self.screen(cell, kind)
        value = cell / 100 if kind == "fen" else cell
        steps = ((10**8, "亿"), (10**4, "万")) if self.words.language == "zh-CN" else ((10**9, "B"), (10**6, "M"))
        for step, sign in steps:
            if abs(value) >= step:
                return f"{value / step:,.2f} {sign}"
        return self.screen(cell, kind)

    def _name(self, code: str, kind: Kind) -> str:
        if kind in ("hospital", "reader"):
            return self.hospitals.get(code) or self.words.get(f"hospital.{code}") or code
        if kind == "part":
            return self.words("cell.and").join(self.words.get(f"part.{part}") or part for part in code.split("+"))
        if kind == "days":
            return self.words("cell.days", days=code)
        if kind == "region":
            return self.regions.get(code) or self.words.get(f"region.{code}") or code
        if kind in ("text", "time", "age") and code not in ("all", "UNKNOWN"):
            return code
        return self.words.get(f"{kind}.{code}") or code


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(n) < 1000:
            return f"{n:,.0f} {unit}" if unit == "B" else f"{n:,.2f} {unit}"
        n /= 1000
    return f"{n:,.2f} PB"
