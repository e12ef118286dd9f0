"""How a number is named, so that the name holds for as long as its snapshot does (docs/adr/0037).

`stats.exam_volume_v1@12/exam_month=2026-03/hospital_id=all/modality_group=CT/n_exams`: table, version, key, column.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from radlake.contracts import Table, load_table, load_tables
from radlake.contracts.table import quoted
from radlake.errors import PermanentError
from radlake.lake import Lake, duck
from radlake.lake.tables import TableStore

__all__ = [
    "CellMasked",
    "Number",
    "NumberInvalid",
    "Shown",
    "SnapshotGone",
    "require_snapshot",
    "shown",
]

_TOTALS = ("all", "any", "none")  # labels that a key may leave out


class NumberInvalid(PermanentError):
    sentence = (
        "{number} names no number: {reason}\n"
        "A number is named TABLE@VERSION/KEY=VALUE/.../COLUMN, as stats.exam_volume@3/exam_month=2026-03/n_exams; "
        "without @VERSION the latest, and a key that is left out is its total."
    )


class CellMasked(PermanentError):
    sentence = (
        "{number} was withheld by disclosure control, and whatever leads to it would tell it. "
        "Trace a total that holds it, or ask who may see exact statistics in the restricted zone."
    )


class SnapshotGone(PermanentError):
    sentence = (
        "Version {version} of {table} cannot be read any more: {reason}.\n"
        "`radlake tidy` deletes versions that nothing keeps; a pin keeps them (docs/how-to/trace-a-number.md). "
        "The latest version is {latest}."
    )


@dataclass(frozen=True)
class Number:
    """A column of a row of a version of a table.

    Attributes
    ----------
    version : int or None
        None for the latest.
    key : mapping of str to str
        Values of columns of the table's key, as text.
    """

    table: Table
    version: int | None
    key: Mapping[str, str]
    column: str

    @classmethod
    def from_text(cls, text: str) -> Number:
        """Read a name.

        >>> str(Number.from_text("stats.exam_volume@3/exam_month=2026-03/n_exams"))
        'stats.exam_volume_v1@3/exam_month=2026-03/n_exams'

        Raises
        ------
        NumberInvalid
        """
        first, *parts = text.strip().split("/")
        name, _, version = first.partition("@")
        names = {one for table in load_tables().values() for one in (table.view_name, table.full_name)}
        if name not in names:
            raise NumberInvalid(number=text, reason=f"there is no table {name}.{_near(name, names)}")
        if version and not (version.isascii() and version.isdigit()):
            raise NumberInvalid(number=text, reason=f"{version} is no version: it is a number")
        table = load_table(name)
        if not parts or "=" in parts[-1]:
            raise NumberInvalid(number=text, reason="it ends with no column")
        *keys, column = parts
        numbers = [one for one in table.column_names if one not in table.key]
        if column not in numbers:
            raise NumberInvalid(number=text, reason=f"{table.view_name} has no {column}.{_near(column, numbers)}")
        key: dict[str, str] = {}
        for part in keys:
            label, is_given, value = part.partition("=")
            if not is_given or label not in table.key or label in key:
                reason = f"{part} is not one of {', '.join(f'{one}=...' for one in table.key)}, each once"
                raise NumberInvalid(number=text, reason=reason)
            key[label] = unquote(value)
        return cls(table, int(version) if version else None, key, column)

    def __str__(self) -> str:
        at = "" if self.version is None else f"@{self.version}"
        keys = [f"{name}={quote(self.key[name], safe='')}" for name in self.table.key if name in self.key]
        return "/".join([f"{self.table.full_name}{at}", *keys, self.column])


@dataclass(frozen=True)
class Shown:
    """A number with everything in its name, and the row that shows it."""

    number: Number
    row: Mapping[str, object]

    @property
    def value(self) -> object:
        return self.row[self.number.column]

    @property
    def version(self) -> int:
        assert self.number.version is not None
        return self.number.version


def shown(lake: Lake, number: Number) -> Shown:
    """The row of a number as it was released; of a table of the restricted zone as it is there.

    Raises
    ------
    NumberInvalid
        If no row has this key, or several do.
    CellMasked, SnapshotGone
    """
    table, store = number.table, lake.store_of(number.table)
    version = store.version(table) if number.version is None else number.version
    if version is None:
        raise NumberInvalid(number=str(number), reason=f"there is no {table.view_name} in this lake yet")
    require_snapshot(store, table, version)
    clauses, values = [], []
    for name in table.key:
        wanted = [number.key[name]] if name in number.key else list(_TOTALS)
        clauses.append(f"list_contains(?::VARCHAR[], {quoted(name)}::VARCHAR)")
        values.append(wanted)
    sql = f"SELECT * FROM {table.view_name} WHERE {' AND '.join(clauses)} LIMIT 2"
    snapshot = {table.full_name: version}
    with duck.connect(lake, zone=table.zone, snapshot=snapshot, tables=[table.full_name]) as connection:
        cursor = connection.execute(sql, values)
        names = [column[0] for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    if len(rows) != 1:
        missing = [name for name in table.key if name not in number.key]
        told = f"give {', '.join(missing)} too" if missing else "look for its key with `radlake sql`"
        raise NumberInvalid(
            number=str(number), reason=f"{'no row has' if not rows else 'several rows have'} this key; {told}"
        )
    key = {name: str(rows[0][name]) for name in table.key}
    named = Number(table, version, key, number.column)
    if rows[0].get("is_masked") and rows[0][number.column] is None:
        raise CellMasked(number=str(named))
    return Shown(named, rows[0])


def require_snapshot(store: TableStore, table: Table, version: int) -> None:
    """Refuse a version whose files are gone.

    Raises
    ------
    SnapshotGone
    """
    latest = store.version(table)
    if latest is None or version > latest:
        raise SnapshotGone(table=table.full_name, version=version, latest=latest, reason="there never was such a one")
    root = store.store.uri("").rstrip("/") + "/"
    found = store.files(table, version=version)
    if n_gone := sum(store.store.size(file.removeprefix(root)) is None for file in found):
        reason = f"{n_gone} of its {len(found)} files were deleted"
        raise SnapshotGone(table=table.full_name, version=version, latest=latest, reason=reason)


def _near(name: str, names: Collection[str]) -> str:
    close = difflib.get_close_matches(name, sorted(names), n=2)
    return f" Did you mean {' or '.join(close)}?" if close else ""
