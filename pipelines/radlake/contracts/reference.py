"""The page docs/reference/tables.md, written from the contracts.

    python -m radlake.contracts.reference > docs/reference/tables.md

A test fails while the page is not what this module writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from radlake.contracts.load import load_tables
from radlake.contracts.table import Column, Table

__all__ = ["markdown"]

_LAYERS = {
    "dicom": "what the hospitals sent, de-identified",
    "core": "exams, the unit of every statistic",
    "dose": "what machines reported of each irradiation",
    "stats": "statistics; in the lake after disclosure control, exact in the restricted zone only",
    "research": "results of research that came home, under the names of their release",
    "ref": "reference data that statistics need",
    "ops": "what the pipeline did",
}
_HEADER = """\
# Tables

<!-- written by `python -m radlake.contracts.reference`; edit schemas/ instead -->

Every table, as its contract in `schemas/` describes it. Ask them with `radlake sql`: the plain name (`dicom.study`) is
the latest version of the table (`dicom.study_v1`).
"""


def markdown(tables: Iterable[Table]) -> str:
    """The whole page."""
    by_layer: dict[str, list[Table]] = {layer: [] for layer in _LAYERS}
    for table in tables:
        by_layer[table.layer].append(table)
    parts = [_HEADER]
    for layer, members in by_layer.items():
        if members:
            parts.append(f"## {layer}: {_LAYERS[layer]}\n")
            parts += [_table(table) for table in members]
    return "\n".join(parts)


def _table(table: Table) -> str:
    facts = [f"{table.grain[0].upper()}{table.grain[1:]}.", f"Key: {_names(table.key)}."]
    if table.partition:
        facts.append(f"Partition: `{table.partition}`.")
    facts.append(f"Sorted by {_names(table.sort)}.")
    if table.disclosure:
        facts.append(f"Disclosure control counts {_names(table.disclosure.counts)}.")
    lines = [f"### {table.full_name}\n", f"{table.description}\n", " ".join(facts) + "\n"]
    lines += ["| column | type | unit | privacy | DICOM keyword | meaning |", "|---|---|---|---|---|---|"]
    lines += [_row(column) for column in table.columns]
    return "\n".join(lines) + "\n"


def _row(column: Column) -> str:
    kind = column.type + ("" if column.required else ", may be NULL")
    meaning = " ".join(filter(None, [column.description, _limits(column)]))
    cells = [f"`{column.name}`", kind, column.unit or "", column.privacy, column.keyword or "", meaning]
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _limits(column: Column) -> str:
    if column.values:
        return f"One of {_names(map(str, column.values))}."
    if column.pattern:
        return f"Matches `{column.pattern}`."
    if column.minimum is not None and column.maximum is not None:
        return f"From {column.minimum:g} to {column.maximum:g}."
    if column.minimum is not None:
        return f"At least {column.minimum:g}."
    return f"At most {column.maximum:g}." if column.maximum is not None else ""


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    sys.stdout.write(markdown(load_tables().values()))
