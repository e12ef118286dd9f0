"""What several verbs print for people: tables and sizes. Answers of queries are in `_answers`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from radlake.ingest import HarvestSummary

__all__ = ["human_bytes", "plain_table", "summary_table", "wide_console"]

_WIDE = 200


def wide_console() -> Console:
    """Standard output; in a pipe nothing is folded."""
    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)


def plain_table(*columns: str | Text, numbers: slice = slice(0)) -> Table:
    """A table with a line below its header, the one style of every verb; it folds what is too long.

    Parameters
    ----------
    numbers : slice
        The columns that hold numbers.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for column in table.columns[numbers]:
        column.justify, column.no_wrap = "right", True
    return table


def human_bytes(n_bytes: float) -> str:
    """Bytes with a decimal unit: 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 1000 or unit == "TB":
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    raise AssertionError


def summary_table(summaries: Sequence[HarvestSummary]) -> Group:
    """Studies and instances of each run: what was found, stored, set aside and why."""
    studies = _table("This run: studies looked at, by their state now", "found", "complete", "partial", "quarantined")
    instances = _table("This run: instances it brought", "stored", "quarantined", "duplicate", "bytes")
    reasons: Counter[str] = Counter()
    for item in summaries:
        reasons += item.quarantine_by_reason
        run = (item.hospital_id, item.retrieve_kind)
        counts = (item.studies_found, item.studies_complete, item.studies_partial, item.studies_quarantined)
        studies.add_row(*run, *(f"{n:,}" for n in counts))
        counts = (item.instances_stored, item.instances_quarantined, item.instances_duplicate)
        instances.add_row(*run, *(f"{n:,}" for n in counts), human_bytes(item.stored_bytes))
    why = plain_table("this run: quarantined because", "instances", numbers=slice(1, None))
    for reason, n in reasons.most_common():
        why.add_row(reason, f"{n:,}")
    if not_dicom := sum(item.files_not_dicom for item in summaries):
        why.add_row("[dim]files that are not DICOM, left alone[/]", f"[dim]{not_dicom:,}[/]")
    return Group(studies, "", instances, *(["", why] if why.rows else []))


def _table(title: str, *numbers: str) -> Table:
    table = plain_table("hospital", "via", *numbers, numbers=slice(2, None))
    table.title, table.title_justify = title, "left"
    return table
