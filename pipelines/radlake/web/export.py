"""A figure as a file: CSV that Excel opens with Chinese intact, or a workbook."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from decimal import Decimal
from urllib.parse import quote

from radlake.web.cells import Writer
from radlake.web.grid import Grid

__all__ = ["FORMATS", "attachment", "csv_from", "xlsx_from"]

FORMATS = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


def csv_from(grid: Grid, writer: Writer) -> bytes:
    """UTF-8 with byte order mark and CRLF (RFC 4180): without the mark Excel reads Chinese as GBK."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow([column.title(writer) for column in grid.columns])
    table.writerows(_lines(grid, writer))
    return text.getvalue().encode("utf-8-sig")


def xlsx_from(grid: Grid, writer: Writer, *, title: str) -> bytes:
    """A workbook with one sheet; numbers are numbers."""
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    sheet = book.create_sheet(re.sub(r"[\[\]:*?/\\]", " ", title)[:31])
    sheet.append([column.title(writer) for column in grid.columns])
    for line in _lines(grid, writer):
        sheet.append([float(cell) if isinstance(cell, Decimal) else cell for cell in line])
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _lines(grid: Grid, writer: Writer) -> Iterator[list[str | int | float | Decimal]]:
    for row in grid.rows:
        yield [writer.plain(cell, column.kind) for cell, column in zip(row, grid.columns, strict=True)]
    if grid.total:
        cells = zip(grid.total, grid.columns[1:], strict=True)
        yield [writer.words("column.total"), *(writer.plain(cell, column.kind) for cell, column in cells)]


def attachment(name: str, *, title: str, period: str, suffix: str) -> str:
    """Content-Disposition with the title and period as file name, in any script (RFC 6266, RFC 5987)."""
    full = re.sub(r'[\\/:*?"<>|\s]+', "_", f"{title}_{period}" if period else title)
    plain = f"{name}_{period}" if period else name
    return f"attachment; filename=\"{plain}.{suffix}\"; filename*=UTF-8''{quote(full, safe='')}.{suffix}"
