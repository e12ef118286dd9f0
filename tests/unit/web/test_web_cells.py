"""How values are written on a screen, in a file and on a tile."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest

from radlake.web.cells import MASKED, AtLeast, Cell, Kind, Writer
from radlake.web.i18n import load_words

ZH = Writer(load_words("zh-CN"), {"h1": "示例省人民医院"}, {"320100": "南京市"})
EN = Writer(load_words("en"), {"h1": "Example Hospital"}, {"320100": "Nanjing"})


@pytest.mark.parametrize(
    ("cell", "kind", "zh", "en", "plain"),
    [
        (1234567, "count", "1,234,567", "1,234,567", 1234567),
        (0, "count", "0", "0", 0),
        (-4600, "count", "-4,600", "-4,600", -4600),
        (0.05754, "share", "5.75%", "5.75%", 0.05754),
        (594355850, "fen", "5,943,558", "5,943,558", Decimal("5943558.5")),
        (1_230_000_000_000, "bytes", "1.23 TB", "1.23 TB", 1_230_000_000_000),
        (999, "bytes", "999 B", "999 B", 999),
        (12.345678, "rate", "12.35", "12.35", 12.345678),
        (datetime(2026, 11, 20, 22, 30), "time", "2026-11-21 06:30", "2026-11-21 06:30", "2026-11-21 06:30"),
        (None, "count", "–", "–", "–"),
        (MASKED, "count", "*", "*", "*"),
        (AtLeast(1234), "count", "≥ 1,234", "≥ 1,234", ">=1234"),
        ("UNKNOWN", "modality", "未知", "Unknown", "Unknown"),
        ("ZZ", "modality", "ZZ", "ZZ", "ZZ"),
        ("h1", "hospital", "示例省人民医院", "Example Hospital", "Example Hospital"),
        ("h2", "hospital", "h2", "h2", "h2"),
        ("320100", "region", "南京市", "Nanjing", "Nanjing"),
        ("UNKNOWN", "region", "地区未知", "Unknown region", "Unknown region"),
        ("all", "region", "全部地区", "All regions", "All regions"),
        ("2026-11", "month", "2026-11", "2026-11", "2026-11"),
        ("unknown", "month", "日期未知", "Unknown date", "Unknown date"),
        ("SomeNewError", "outcome", "SomeNewError", "SomeNewError", "SomeNewError"),
        (
            '=HYPERLINK("http://x")',
            "text",
            '=HYPERLINK("http://x")',
            '=HYPERLINK("http://x")',
            '\'=HYPERLINK("http://x")',
        ),
    ],
)
def test_cell(cell: Cell, kind: Kind, zh: str, en: str, plain: object) -> None:
    assert ZH.screen(cell, kind) == zh
    assert EN.screen(cell, kind) == en
    assert EN.plain(cell, kind) == plain


@pytest.mark.parametrize(
    ("cell", "kind", "zh", "en"),
    [
        (9999, "count", "9,999", "9,999"),
        (10_000, "count", "1.00 万", "10,000"),
        (23_122_000, "count", "2,312.20 万", "23.12 M"),
        (30_000_000_000, "count", "300.00 亿", "30.00 B"),
        (594_355_800, "fen", "594.36 万", "5.94 M"),
        (-594_355_800, "fen", "-594.36 万", "-5.94 M"),
        (0.0575, "share", "5.75%", "5.75%"),
        (MASKED, "count", "*", "*"),
        (None, "fen", "–", "–"),
    ],
)
def test_tile(cell: Cell, kind: Kind, zh: str, en: str) -> None:
    assert ZH.compact(cell, kind) == zh
    assert EN.compact(cell, kind) == en
