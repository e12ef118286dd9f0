"""Reference tables from CSV: strict, all problems at once, once for a batch."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from radlake.errors import ConfigInvalid, SourceMissing
from radlake.lake import Lake, duck
from radlake.sqlrun.reference import REFERENCE_TABLES, content_id, load_defaults, load_reference, read_csv
from radlake.synth.province import PREFECTURES

HEADER = "hospital_id,film_month,modality_group,n_sheets_printed,n_sheets_unclaimed\n"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")


def csv_file(folder: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path = folder / "given.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_a_good_file(tmp_path: Path) -> None:
    path = csv_file(tmp_path, HEADER + "h1,202603,CT,12,1\r\nh2,202603,CT,0,0\r\n\r\n", encoding="utf-8-sig")
    assert read_csv(path, name="ref.film_ledger").to_pylist() == [
        {
            "hospital_id": hospital,
            "film_month": 202603,
            "modality_group": "CT",
            "n_sheets_printed": printed,
            "n_sheets_unclaimed": unclaimed,
        }
        for hospital, printed, unclaimed in (("h1", 12, 1), ("h2", 0, 0))
    ]


def test_columns_may_come_in_any_order_and_empty_cells_are_null(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path,
        "valid_to,valid_from,source,price_fen,modality_group,item\n"
        ',2021-09-01,"Notice 5, page 2",1600,all,film_sheet\n',
    )
    (row,) = read_csv(path, name="ref.price").to_pylist()
    assert row == {
        "item": "film_sheet",
        "modality_group": "all",
        "body_part_code": "all",  # the file is from before prices had one
        "valid_from": date(2021, 9, 1),
        "valid_to": None,
        "price_fen": 1600,
        "source": "Notice 5, page 2",
    }


def test_a_region_file_of_before_says_that_its_regions_hold(tmp_path: Path) -> None:
    header = "region_code,name_zh,name_en,parent_region_code"
    before = csv_file(tmp_path, f"{header}\n320100,南京市,Nanjing,320000\n")
    (row,) = read_csv(before, name="ref.region").to_pylist()
    assert (row["last_year"], row["successor_region_code"]) == (9999, "NONE")
    newer = csv_file(
        tmp_path,
        f"{header},last_year,successor_region_code\n371200,莱芜市,Laiwu,370000,2018,370100\n370100,济南市,Jinan,370000,,\n",
    )
    assert [row["last_year"] for row in read_csv(newer, name="ref.region").to_pylist()] == [2018, 9999]


def test_a_price_by_body_part_does_not_replace_that_of_the_modality(lake: Lake, tmp_path: Path) -> None:
    header = "item,modality_group,valid_from,valid_to,price_fen,source"
    before = csv_file(tmp_path, f"{header}\nexam,CT,2026-01-01,,20000,x\n")
    load_reference(lake, "ref.price", read_csv(before, name="ref.price"), batch_id="before")
    after = csv_file(tmp_path, f"{header},body_part_code\nexam,CT,2026-01-01,,15000,y,HEAD\n")
    load_reference(lake, "ref.price", read_csv(after, name="ref.price"), batch_id="after")
    corrected = csv_file(tmp_path, f"{header}\nexam,CT,2026-01-01,,21000,z\n")
    load_reference(lake, "ref.price", read_csv(corrected, name="ref.price"), batch_id="corrected")
    with duck.connect(lake) as connection:
        found = connection.execute("SELECT body_part_code, price_fen FROM ref.price ORDER BY 1").fetchall()
    assert found == [("HEAD", 15_000), ("all", 21_000)]


def test_all_problems_at_once(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path,
        "item,modality_group,valid_from,valid_to,price_fen,source\n"
        "film_sheet,all,1 March 2021,,16 yuan,x\n"
        "film_sheet,all,2021-03-01\n"
        "gold,all,2021-03-01,,99999999999999999999,x\n"
        "film_sheet,all,2022-03-01,,-5,x\n"
        "film_sheet,all,2022-03-01,,5,x\n",
    )
    with pytest.raises(ConfigInvalid) as caught:
        read_csv(path, name="ref.price")
    told = str(caught.value)
    for part in (
        "line 2, valid_from: '1 March 2021' is not a date like 2026-03-01",
        "line 2, price_fen: '16 yuan' is not a whole number that fits",
        "line 3: 3 cells, the header has 6",
        "line 4, price_fen: '99999999999999999999' is not a whole number that fits",
        "item: not one of film_sheet, cloud_film, sheets_per_exam, storage_gb_month",
        "price_fen: below 0",
        "rows repeat the key",
    ):
        assert part in told, told
    assert "NULL" not in told


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "column hospital_id is missing"),
        ("hospital_id,film_month\nh1,202603\n", "column modality_group is missing"),
        (HEADER.replace("hospital_id", "hospital"), "column 'hospital' is not in the contract"),
        (HEADER.strip() + ",hospital_id\n", "a column is given twice"),
        (HEADER + ",202603,CT,1,0\n", "hospital_id: NULL in a required column"),
    ],
)
def test_a_file_of_another_shape(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigInvalid, match=problem):
        read_csv(csv_file(tmp_path, text), name="ref.film_ledger")


def test_a_file_in_gbk_is_told_how_to_save(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "region_code,name_zh,name_en,parent_region_code\n320100,南京,Nanjing,\n", encoding="gbk")
    with pytest.raises(ConfigInvalid, match="CSV UTF-8"):
        read_csv(path, name="ref.region")


def test_a_table_that_is_not_loaded_by_hand(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="is not one of"):
        read_csv(tmp_path / "x.csv", name="ref.hospital")
    with pytest.raises(SourceMissing):
        read_csv(tmp_path / "x.csv", name="ref.region")


def test_rows_of_the_same_key_are_replaced(lake: Lake, tmp_path: Path) -> None:
    for text in ("h1,202603,CT,12,1\nh1,202604,CT,5,0\n", "h1,202604,CT,7,0\nh1,202605,CT,1,0\n"):
        data = read_csv(csv_file(tmp_path, HEADER + text), name="ref.film_ledger")
        load_reference(lake, "ref.film_ledger", data, batch_id=content_id(lake, "ref.film_ledger", data))
    with duck.connect(lake) as connection:
        found = connection.execute("SELECT film_month, n_sheets_printed FROM ref.film_ledger ORDER BY 1").fetchall()
    assert found == [(202603, 12), (202604, 7), (202605, 1)]


def test_a_file_of_before_can_be_loaded_again(lake: Lake, tmp_path: Path) -> None:
    """12 -> 13 -> 12: the third load is not taken for the first one."""
    for printed in (12, 13, 12):
        data = read_csv(csv_file(tmp_path, f"{HEADER}h1,202603,CT,{printed},1\n"), name="ref.film_ledger")
        assert load_reference(lake, "ref.film_ledger", data, batch_id=content_id(lake, "ref.film_ledger", data))
        with duck.connect(lake) as connection:
            assert connection.execute("SELECT n_sheets_printed FROM ref.film_ledger").fetchall() == [(printed,)]


def test_defaults_are_loaded_once_and_never_over_other_rows(lake: Lake) -> None:
    assert load_defaults(lake, batch_id="b1") == ["ref.dose_factor", "ref.drl", "ref.price", "ref.region"]
    versions = {name: lake.tables.version(name) for name in REFERENCE_TABLES}
    assert load_defaults(lake, batch_id="b2") == []
    assert {name: lake.tables.version(name) for name in REFERENCE_TABLES} == versions
    with duck.connect(lake) as connection:
        regions = connection.execute("SELECT region_code, name_zh FROM ref.region").fetchall()
        prices = connection.execute("SELECT DISTINCT item, price_fen FROM ref.price ORDER BY 1, 2").fetchall()
    assert {code: zh for code, zh in regions if code != "320000"} == {
        code: f"{zh}市" for code, (zh, _, _) in PREFECTURES.items()
    }
    assert prices == [
        ("cloud_film", 0),
        ("cloud_film", 2000),
        ("film_sheet", 1600),
        ("film_sheet", 1800),
        ("sheets_per_exam", 3),
        ("sheets_per_exam", 4),
        ("storage_gb_month", 12),
    ]
