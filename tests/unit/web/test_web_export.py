"""Files that a spreadsheet opens without a question."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from urllib.parse import unquote

from openpyxl import load_workbook

from radlake.web.cells import MASKED, AtLeast, Writer
from radlake.web.export import attachment, csv_from, xlsx_from
from radlake.web.grid import Column, Grid
from radlake.web.i18n import load_words

WRITER = Writer(load_words("zh-CN"), {"h1": "示例省人民医院"}, {})
GRID = Grid(
    [Column("hospital", "hospital"), Column("n_exams", "count"), Column("net_saving_fen", "fen")],
    [("h1", 1234, 123456), ("h,2", MASKED, None), ("h3", AtLeast(7), -50)],
    total=(9999, 1),
)


def test_csv_has_a_mark_crlf_and_plain_numbers() -> None:
    content = csv_from(GRID, WRITER)

    assert content.startswith(b"\xef\xbb\xbf")
    assert content.count(b"\r\n") == content.count(b"\n") == 5
    assert list(csv.reader(io.StringIO(content.decode("utf-8-sig")))) == [
        ["医院", "检查", "净节约（元）"],
        ["示例省人民医院", "1234", "1234.56"],
        ["h,2", "*", "–"],
        ["h3", ">=7", "-0.5"],
        ["合计", "9999", "0.01"],
    ]


def test_workbook_has_numbers_as_numbers() -> None:
    sheet = load_workbook(io.BytesIO(xlsx_from(GRID, WRITER, title="各医院：净节约/2026"))).active

    assert sheet is not None
    assert sheet.title == "各医院：净节约 2026"
    rows = list(sheet.iter_rows(values_only=True))
    assert rows[1] == ("示例省人民医院", 1234, 1234.56)
    assert rows[2] == ("h,2", "*", "–")
    assert rows[4] == ("合计", 9999, 0.01)


def test_file_name_is_the_title_in_its_own_script() -> None:
    header = attachment("film_by_hospital", title="各医院净节约", period="2026-01_2026-03", suffix="csv")

    assert header.startswith("attachment; filename=\"film_by_hospital_2026-01_2026-03.csv\"; filename*=UTF-8''")
    assert unquote(header.partition("UTF-8''")[2]) == "各医院净节约_2026-01_2026-03.csv"
    assert header.isascii()


def test_fen_are_exact() -> None:
    assert WRITER.plain(10**15 + 1, "fen") == Decimal("10000000000000.01")
