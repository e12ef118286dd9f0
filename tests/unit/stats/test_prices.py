"""Which row of ref.price an exam has."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from radlake.lake import Lake
from radlake.stats.prices import ExamPrices, load_exam_prices
from support.rows import rows
from support.statistics import parsed

PRICES = """
    modality | part          | from       | to         | fen
    CT       | all           | 2025-01-01 | -          | 20000
    CT       | HEAD          | 2025-03-01 | 2025-06-30 | 15000
    CT       | HEAD          | 2025-07-01 | -          | 16000
    CT       | ABDOMEN+CHEST | 2025-01-01 | -          | 35000
    MR       | KNEE          | 2025-01-01 | -          | 50000
"""


@pytest.fixture
def prices(tmp_path: Path) -> ExamPrices:
    lake = Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")
    given = [
        {
            "item": "exam",
            "modality_group": line["modality"],
            "body_part_code": line["part"],
            "valid_from": date.fromisoformat(line["from"]),
            "valid_to": None if line["to"] == "-" else date.fromisoformat(line["to"]),
            "price_fen": int(line["fen"]),
        }
        for line in parsed(PRICES)
    ]
    sheets = given[0] | {"item": "sheets_per_exam", "price_fen": 3}
    lake.tables.commit_batch("ref.price", rows("ref.price", *given, sheets), batch_id="p")
    return load_exam_prices(lake)


@pytest.mark.parametrize(
    ("modality", "part", "day", "fen"),
    [
        ("CT", "CHEST", date(2025, 5, 20), 20_000),
        ("CT", "HEAD", date(2025, 5, 20), 15_000),
        ("CT", "HEAD", date(2025, 2, 28), 20_000),
        ("CT", "HEAD", date(2025, 7, 1), 16_000),
        ("CT", "ABDOMEN+CHEST", date(2025, 5, 20), 35_000),
        ("CT", "UNKNOWN", date(2025, 5, 20), 20_000),
        ("MR", "KNEE", date(2025, 5, 20), 50_000),
        ("MR", "HEAD", date(2025, 5, 20), None),
        ("CT", "CHEST", date(2024, 12, 31), None),
    ],
    ids=[
        "of the modality",
        "of the body part",
        "before the price of the body part",
        "the next price of the body part",
        "both parts together",
        "an unknown body part",
        "of a body part alone",
        "the modality has none",
        "before any price",
    ],
)
def test_the_price_of_the_body_part_wins(
    prices: ExamPrices, modality: str, part: str, day: date, fen: int | None
) -> None:
    found = prices.of_exam(modality, part, day=day)
    assert (found.price_fen if found else None) == fen


def test_a_month_has_the_price_of_its_first_day(tmp_path: Path) -> None:
    lake = Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")
    row = {"item": "exam", "modality_group": "CT", "valid_from": date(2025, 3, 2), "price_fen": 1}
    lake.tables.commit_batch("ref.price", rows("ref.price", row), batch_id="p")
    prices = load_exam_prices(lake)
    assert prices.of_exam("CT", "HEAD", day=date(2025, 3, 31)) is None
    assert prices.of_exam("CT", "HEAD", day=date(2025, 4, 1)) is not None


def test_a_lake_without_prices_has_none(tmp_path: Path) -> None:
    lake = Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")
    assert load_exam_prices(lake) == ExamPrices({})
