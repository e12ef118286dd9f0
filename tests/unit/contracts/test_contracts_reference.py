"""The reference page is what the contracts say today."""

from __future__ import annotations

from pathlib import Path

from radlake.contracts import load_tables
from radlake.contracts.reference import markdown

PAGE = Path(__file__).parents[3] / "docs/reference/tables.md"


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == markdown(load_tables().values()), (
        "run: python -m radlake.contracts.reference > docs/reference/tables.md"
    )


def test_every_column_is_on_it():
    page = PAGE.read_text(encoding="utf-8")
    for table in load_tables().values():
        section = page.partition(f"### {table.full_name}\n")[2].partition("\n### ")[0]
        assert [name for name in table.column_names if f"| `{name}` |" not in section] == []
