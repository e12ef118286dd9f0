"""Purge: rows go out of every version of a table, so that no way back in time leads to them.

The latest version gets a commit without them first: a writer that read them before conflicts and plans again. Then
every Parquet file of an older version that holds one is written again under its own name, and the log is told its new
size; versions keep their numbers, pins stay readable. Limits in the log that such a row may have set go too: all of
a file that is written again or that is no longer there, and elsewhere those that are values of such a row.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from radlake.commit_points import reached
from radlake.contracts import Table
from radlake.contracts.table import quoted
from radlake.contracts.types import ARROW_TYPES
from radlake.lake import parquet
from radlake.lake.tables import TableStore

__all__ = ["HEADS", "Gone", "Purged", "holders", "log_files", "purge", "reissued"]

Gone = Mapping[str, Collection[Any]]  # column -> values; a row with any of them goes

HEADS = {"core.person_link_v1": ("person_key", "patient_key")}  # a column that names a group by its smallest member

_LOG = "_delta_log"
_REISSUED = ".reissued"
_ROW_GROUP = 24_576


@dataclass(frozen=True)
class Purged:
    """What of a table holds rows that go.

    Attributes
    ----------
    n_rows : int
        In the latest version.
    n_old_rows : int
        In files that only older versions need.
    n_files, n_bytes : int
        Files that hold such rows.
    pins : tuple of str
        Pins of versions that hold them.
    """

    n_rows: int = 0
    n_old_rows: int = 0
    n_files: int = 0
    n_bytes: int = 0
    pins: tuple[str, ...] = ()


def holders(store: TableStore, table: Table, gone: Gone) -> tuple[Purged, dict[str, int]]:
    """What of a table holds rows that go, and how many each file has, by name in the store."""
    wanted = _of_table(table, gone)
    folder = table.full_name.replace(".", "/")
    latest = set(store.files(table))
    if not wanted or (not latest and not store.exists(table)):
        return Purged(), {}
    there = [name for name in store.store.list(f"{folder}/") if name.endswith(".parquet") and f"/{_LOG}/" not in name]
    if not there:
        return Purged(), {}
    uris = {store.store.uri(name): name for name in there}
    with parquet.one_thread(filesystem=store.filesystem) as connection:
        where = _where(connection, table, wanted)
        scanned = parquet.scan(table, sorted(uris), extra=', filename AS "radlake file"')
        rows = connection.execute(
            f'SELECT "radlake file", count(*) FROM {scanned} WHERE {where} GROUP BY ALL ORDER BY ALL'
        ).fetchall()
    found = {uris[uri]: int(n) for uri, n in rows}
    hit = {store.store.uri(name) for name in found}
    pins = [
        name
        for name, versions in sorted(store.pins().items())
        if table.full_name in versions and hit & set(store.files(table, version=versions[table.full_name]))
    ]
    n_rows = sum(n for name, n in found.items() if store.store.uri(name) in latest)
    n_bytes = sum(store.store.size(name) or 0 for name in found)
    return Purged(n_rows, sum(found.values()) - n_rows, len(found), n_bytes, tuple(pins)), found


def purge(store: TableStore, table: Table, gone: Gone, *, names: Collection[str] = (), name: str, day: str) -> None:
    """Take rows out of the latest version, of every older one and of the log; running it again goes on.

    Parameters
    ----------
    names : collection of str
        UIDs that the log may not tell as limits of other columns.
    name : str
        Of what asks for it: batch ids begin with it, and re-issued pins tell it.
    day : str
        When, for those pins.
    """
    wanted = _of_table(table, gone)
    if not wanted or (version := store.version(table)) is None:
        return
    for column, values in wanted.items():
        keys = pa.table({column: pa.array(sorted(values), ARROW_TYPES[table.column(column).type])})
        if parquet.files_with(table, store.files(table), keys=keys, filesystem=store.filesystem):
            empty = table.arrow_schema().empty_table()
            store.commit_batch(table, empty, batch_id=f"{name}-{column}-{version}", replace=keys)
    reached("purge.committed")
    told, found = holders(store, table, gone)
    for pin in told.pins:
        _tell_reissued(store, pin, table, name=name, day=day)
    with store.staging() as folder:
        written = {file: _without(store, table, file, wanted, folder=folder) for file in sorted(found)}
        is_new = _rewrite_log(store, table, wanted, written, names=frozenset(names), folder=folder)
        for file, (path, _, _) in written.items():
            store.store.put({file: path})
            store.store.forget_older(file)
            reached("purge.rewritten")
        if is_new and (snapshot := store.snapshot(table)) is not None:
            snapshot.checkpoint()


def reissued(store: TableStore, pin: str) -> list[dict[str, Any]]:
    """What was taken out of the versions of a pin since it was made: by which withdrawal, when, of which table."""
    path = f"{_REISSUED}/{pin}.json"
    if (size := store.store.size(path)) is None:
        return []
    return json.loads(store.store.read(path, offset=0, length=size))


def log_files(store: TableStore, table: Table) -> list[str]:
    """Names of the files of a table's log."""
    return list(store.store.list(f"{table.full_name.replace('.', '/')}/{_LOG}/"))


def _of_table(table: Table, gone: Gone) -> dict[str, Collection[Any]]:
    return {column: gone[column] for column in table.column_names if gone.get(column)}


def _where(connection: Any, table: Table, wanted: Mapping[str, Collection[Any]]) -> str:
    terms = []
    for column, values in wanted.items():
        array = pa.array(sorted(values), ARROW_TYPES[table.column(column).type])
        connection.register(f"gone_{column}", pa.table({"value": array}))
        terms.append(f"{quoted(column)} IN (SELECT value FROM {quoted(f'gone_{column}')})")
    return " OR ".join(terms)


def _without(
    store: TableStore, table: Table, file: str, wanted: Mapping[str, Collection[Any]], *, folder: Path
) -> tuple[Path, int, int]:
    """The file again without those rows: where it lies, its bytes and its rows."""
    path = folder / f"{uuid.uuid4().hex}.parquet"
    names = [name for name in table.column_names if name != table.partition]
    order = dict.fromkeys([*table.sort, *table.key])
    with parquet.one_thread(filesystem=store.filesystem) as connection:
        where = _where(connection, table, wanted)
        columns, sort = (", ".join(map(quoted, words)) for words in (names, order))
        rows = parquet.scan(table, [store.store.uri(file)])
        if head := HEADS.get(table.full_name):
            rows, where = _headed_anew(rows, *head), f"gone OR {head[0]} = {head[1]}"
        query = f"SELECT {columns} FROM {rows} WHERE ({where}) IS NOT TRUE ORDER BY {sort}"
        options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP}"
        connection.execute(f"COPY ({query}) TO {parquet.text(str(path))} ({options})")
    return path, path.stat().st_size, pq.read_metadata(path).num_rows


def _headed_anew(rows: str, head: str, member: str) -> str:
    """Groups whose head goes get their smallest member as head; `gone` tells members that go."""
    is_gone = f"{member} IN (SELECT value FROM gone_{member})"
    smallest = f"min({member}) FILTER (WHERE NOT {is_gone}) OVER (PARTITION BY {head})"
    new = f"CASE WHEN {head} IN (SELECT value FROM gone_{head}) THEN {smallest} ELSE {head} END"
    return f"(SELECT * REPLACE ({new} AS {head}), {is_gone} AS gone FROM {rows})"


def _rewrite_log(
    store: TableStore,
    table: Table,
    wanted: Mapping[str, Collection[Any]],
    written: Mapping[str, tuple[Path, int, int]],
    *,
    names: frozenset[str],
    folder: Path,
) -> bool:
    """Tell the log of files that were written again, and take limits out of it that rows that go may have set.

    Returns
    -------
    bool
        Whether anything of it changed.
    """
    root = table.full_name.replace(".", "/") + "/"
    files: dict[str, tuple[int, int] | None] = {
        name.removeprefix(root): None for name in store.store.list(root) if name.endswith(".parquet")
    }
    files |= {name.removeprefix(root): (n_bytes, n_rows) for name, (_, n_bytes, n_rows) in written.items()}
    hidden = {column: set(values) for column, values in wanted.items()}
    head = HEADS.get(table.full_name, ("",))[0] if written else ""

    def is_hidden(column: str, limit: Any) -> bool:
        if column == head:  # it may be larger now than any was
            return True
        told = limit.split("/") if isinstance(limit, str) else ()
        return limit in hidden.get(column, ()) or not names.isdisjoint(told)

    changed: dict[str, Path] = {}
    checkpoints = []
    for name in log_files(store, table):
        base = name.rpartition("/")[2]
        if base == "_last_checkpoint" or ".checkpoint." in base:
            checkpoints.append(name)
        elif base.endswith(".json"):
            before = store.store.read(name, offset=0, length=store.store.size(name) or 0).decode()
            after = "\n".join(_entry(line, files, is_hidden) for line in before.splitlines()) + "\n"
            if after.strip() != before.strip():
                changed[name] = folder / base
                changed[name].write_text(after, encoding="utf-8")
    if changed or written:
        for name in sorted(checkpoints, reverse=True):  # _last_checkpoint first; they only repeat the log
            store.store.delete(name)
    for name, path in changed.items():
        store.store.put({name: path})
        store.store.forget_older(name)
    reached("purge.logged")
    return bool(changed or written)


def _entry(line: str, files: Mapping[str, tuple[int, int] | None], is_hidden: Callable[[str, Any], bool]) -> str:
    """One action of the log; `files` are those that are there, with bytes and rows of those that are written again."""
    action = json.loads(line) if line.strip() else {}
    kind = next((one for one in ("add", "remove") if one in action), None)
    if kind is None:
        return line
    told = action[kind]
    stats = json.loads(told["stats"]) if told.get("stats") else {}
    before = json.dumps([told.get("size"), stats], sort_keys=True)
    path = told["path"] if told["path"] in files else unquote(told["path"])
    if (again := files.get(path)) is not None:
        if told.get("size") is not None:
            told["size"] = again[0]
        if "numRecords" in stats:
            stats["numRecords"] = again[1]
            stats.pop("nullCount", None)
    for side in ("minValues", "maxValues"):
        if path not in files or again:
            stats.pop(side, None)
        elif limits := stats.get(side):
            stats[side] = {column: limit for column, limit in limits.items() if not is_hidden(column, limit)}
    if json.dumps([told.get("size"), stats], sort_keys=True) == before:
        return line
    if told.get("stats"):
        told["stats"] = json.dumps(stats)
    return json.dumps(action)


def _tell_reissued(store: TableStore, pin: str, table: Table, *, name: str, day: str) -> None:
    told = reissued(store, pin)
    entry = {"by": name, "day": day, "table": table.full_name}
    if any((one["by"], one["table"]) == (name, table.full_name) for one in told):  # on an earlier day
        return
    with store.staging() as folder:
        file = folder / "reissued.json"
        file.write_text(json.dumps([*told, entry], sort_keys=True), encoding="utf-8")
        store.store.put({f"{_REISSUED}/{pin}.json": file})
    reached("purge.reissued")
