"""stats.film_saving: the arithmetic of a published hospital, and the rules of prices.

中国医疗设备 2021-8 (a hospital in Bishan, Chongqing; year before and year after the beginning of cloud film) prints:
184,612 exams x 3 sheets x 18 yuan = 997 万; 8,863 unclaimed sheets = 16 万; 197,112 exams with cloud film at 20 yuan
and 4,625 sheets = 403 万. Here the same numbers of exams stand in a lake and the real query counts them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from radlake.resources import schemas_root
from radlake.sqlrun.reference import read_csv
from support.rows import rows
from support.statistics import Tables, exams, tables

FEN = 100
MONEY = "n_exams, n_sheets_avoided, film_cost_fen, cloud_cost_fen, printed_cost_fen, unclaimed_cost_fen, net_saving_fen"
DEFAULT_PRICES = schemas_root() / "ref" / "defaults" / "price.csv"


def ledger(*lines: tuple[int, str, int, int]):
    return rows(
        "ref.film_ledger",
        *(
            {
                "hospital_id": "h1",
                "film_month": month,
                "modality_group": modality,
                "n_sheets_printed": printed,
                "n_sheets_unclaimed": unclaimed,
            }
            for month, modality, printed, unclaimed in lines
        ),
    )


@pytest.fixture(scope="module")
def bishan() -> Iterator[Tables]:
    """Two years of exams, spread over months and over CT, DX and MR, made by DuckDB itself."""
    with tables({"ref.price": read_csv(DEFAULT_PRICES, name="ref.price")}) as db:
        db.connection.execute(
            """
            INSERT INTO core.exam_v1 BY NAME
            SELECT
                'h1' AS hospital_id, 'e' || year || '-' || number AS exam_pseudo_id, number % 1000 AS patient_key,
                '500120' AS region_code, 201801 AS study_month,
                make_date(year, 10, 1)::TIMESTAMP + to_days((number % 365)::INTEGER) AS study_at,
                ['CT', 'DX', 'MR'][1 + number % 3] AS modality_group, 'CHEST' AS body_part_code,
                'U' AS laterality_code, 'F' AS patient_sex, TRUE AS is_patient_known, 1 AS n_studies, 1 AS n_series,
                1 AS n_instances, 1 AS exam_bytes
            FROM (VALUES (2017, 184612), (2018, 197112)) AS years (year, n_exams),
                LATERAL generate_series(0, n_exams - 1) AS series (number)
            """
        )
        db.offsets(dict.fromkeys(range(1000), 0))
        # Before: every sheet of every exam was printed. After: only on demand.
        db.fill("ref.film_ledger", ledger((201802, "CT", 184_612 * 3, 8_863), (201903, "DX", 4_625, 0)))
        db.build("stats.exam_volume", "stats.film_saving")
        yield db


def test_the_numbers_of_the_article(bishan: Tables) -> None:
    columns = MONEY.split(", ")
    years = [
        bishan.rows(
            f"SELECT {', '.join(f'sum({column})::BIGINT' for column in columns)} FROM stats.film_saving"
            f" WHERE hospital_id = 'h1' AND modality_group = 'all' AND exam_month BETWEEN '{y}-10' AND '{y + 1}-09'"
        )
        for y in (2017, 2018)
    ]
    before, after = (dict(zip(columns, row, strict=True)) for (row,) in years)
    assert before["n_exams"] == 184_612
    assert before["film_cost_fen"] == 9_969_048 * FEN
    assert before["unclaimed_cost_fen"] == 159_534 * FEN
    assert before["cloud_cost_fen"] == 0
    assert before["net_saving_fen"] == 0  # everything was printed: nothing was saved
    assert after["n_exams"] == 197_112
    assert after["cloud_cost_fen"] + after["printed_cost_fen"] == 4_025_490 * FEN
    assert after["unclaimed_cost_fen"] == 0
    # "594 万": against the volume of the year before. Ours compares with the same year's volume: 661.86 万.
    assert before["film_cost_fen"] - (after["cloud_cost_fen"] + after["printed_cost_fen"]) == 5_943_558 * FEN
    assert after["net_saving_fen"] == 6_618_558 * FEN
    assert after["n_sheets_avoided"] == 197_112 * 3 - 4_625
    assert bishan.problems("stats.film_saving") == []


def test_unclaimed_sheets_are_part_of_the_printed_ones(bishan: Tables) -> None:
    (row,) = bishan.rows(
        "SELECT printed_cost_fen, unclaimed_cost_fen, film_cost_fen - cloud_cost_fen - printed_cost_fen, net_saving_fen"
        " FROM stats.film_saving WHERE exam_month = 'all' AND hospital_id = 'all' AND modality_group = 'all'"
    )
    printed, unclaimed, computed, net = row
    assert 0 < unclaimed < printed
    assert computed == net


def test_totals_are_sums_of_cells(bishan: Tables) -> None:
    sums = ", ".join(f"sum({column})::BIGINT" for column in MONEY.split(", "))
    cells, total = (
        bishan.rows(f"SELECT {sums} FROM stats.film_saving WHERE {where}")
        for where in (
            "'all' NOT IN (exam_month, hospital_id, modality_group)",
            "exam_month = 'all' AND hospital_id = 'all' AND modality_group = 'all'",
        )
    )
    assert cells == total


def price(item: str, modality: str, fen: int, valid_from: date, valid_to: date | None = None) -> dict[str, Any]:
    return {
        "item": item,
        "modality_group": modality,
        "price_fen": fen,
        "valid_from": valid_from,
        "valid_to": valid_to,
        "source": "test",
    }


PRICES = [
    price("film_sheet", "all", 1000, date(2026, 1, 1), date(2026, 2, 28)),
    price("film_sheet", "all", 2000, date(2026, 3, 1)),
    price("cloud_film", "all", 500, date(2026, 1, 1)),
    price("sheets_per_exam", "CT", 2, date(2026, 1, 1)),
]


def saving(table: str, *, prices: list[dict[str, Any]] = PRICES, film=None) -> tuple[list[Any], list[Any]]:
    given = {"core.exam": exams(table), "ref.price": rows("ref.price", *prices)}
    with tables(given | ({"ref.film_ledger": film} if film is not None else {})) as db:
        db.build("stats.exam_volume", "stats.film_saving")
        found = db.rows(
            f"SELECT exam_month, modality_group, {MONEY} FROM stats.film_saving"
            " WHERE 'all' NOT IN (exam_month, hospital_id, modality_group) ORDER BY 1, 2"
        )
        return found, db.problems("stats.film_saving")


def test_each_month_has_its_price() -> None:
    found, problems = saving("date \n 2026-02-28 \n 2026-03-01")
    assert found == [
        ("2026-02", "CT", 1, 2, 2000, 500, 0, 0, 1500),
        ("2026-03", "CT", 1, 2, 4000, 500, 0, 0, 3500),
    ]
    assert problems == []


def test_a_modality_without_sheets_has_no_film() -> None:
    found, problems = saving("modality | date \n US | 2026-02-01 \n CT | 2026-02-01")
    assert [row[:3] for row in found] == [("2026-02", "CT", 1)]
    assert problems == []


def test_months_without_a_price_are_in_no_saving_and_the_build_warns() -> None:
    found, problems = saving("date \n 2025-12-31 \n 2026-01-01", film=ledger((202512, "CT", 5, 0)))
    assert [row[:3] for row in found] == [("2026-01", "CT", 1)]
    assert [(severity, n) for severity, _, n in problems] == [("warn", 1), ("warn", 1)]


def test_sheets_printed_in_a_month_without_exams_cost_all_the_same() -> None:
    found, _ = saving("date \n 2026-02-01", film=ledger((202603, "CT", 3, 1)))
    assert found == [
        ("2026-02", "CT", 1, 2, 2000, 500, 0, 0, 1500),
        ("2026-03", "CT", 0, -3, 0, 0, 6000, 2000, -6000),
    ]


@pytest.mark.parametrize(
    ("prices", "film", "reason"),
    [
        (
            [*PRICES, price("cloud_film", "all", 600, date(2026, 5, 1))],
            None,
            "two prices of one item are valid on the same day",
        ),
        (
            [*PRICES, price("film_sheet", "CT", 600, date(2026, 5, 1))],
            None,
            "only exam and sheets_per_exam are given by modality",
        ),
        (
            [*PRICES, price("film_sheet", "all", 600, date(2026, 5, 1)) | {"body_part_code": "CHEST"}],
            None,
            "only exam is priced by body part",
        ),
        (
            [*PRICES, *(price("exam", "CT", 600, date(2026, i, 1)) | {"body_part_code": "CHEST"} for i in (4, 5))],
            None,
            "two prices of one item are valid on the same day",
        ),
        (PRICES, ledger((202602, "CT", 3, 4)), "more sheets were left unclaimed than printed"),
    ],
)
def test_wrong_reference_data_fail(prices: list[dict[str, Any]], film: Any, reason: str) -> None:
    _, problems = saving("date \n 2026-02-01", prices=prices, film=film)
    assert [text.startswith(reason) for severity, text, _ in problems if severity == "fail"] == [True]


def test_body_parts_have_prices_of_their_own_on_one_day_and_one_that_no_exam_has_is_told() -> None:
    parts = [price("exam", "CT", 600, date(2026, 1, 1)) | {"body_part_code": part} for part in ("all", "CHEST", "CHST")]
    found, problems = saving("date \n 2026-02-01", prices=[*PRICES, *parts])
    assert [row[:3] for row in found] == [("2026-02", "CT", 1)]
    assert [(severity, text.split(" ")[0], n) for severity, text, n in problems] == [("warn", "an", 1)]


def test_a_month_that_is_none_does_not_stop_the_build() -> None:
    found, problems = saving("date \n 2026-02-01", film=ledger((202613, "CT", 3, 0)))
    assert [row[:3] for row in found] == [("2026-02", "CT", 1)]
    assert [(severity, n) for severity, _, n in problems] == [("warn", 1)]
