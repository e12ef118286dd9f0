"""The search of everything that is left for whatever was withdrawn: values of columns, and bytes of files.

Nothing that removes is used here: tables are searched in all their files, whatever the log says, objects, caches, logs
and databases byte by byte, and what is packed in a column or a file as what it unpacks to. The audit trail keeps
pseudonyms that somebody looked up: those are counted, not remnants, because the chain that proves who looked must stay
whole.
"""

from __future__ import annotations

import gzip
import sqlite3
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from radlake.contracts import load_tables
from radlake.contracts.check import compute
from radlake.contracts.table import quoted
from radlake.lake import Lake, parquet
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import METADATA, VAULT_AUDIT
from radlake.lake.purge import log_files
from radlake.lake.statements import in_parts
from radlake.lake.store import Store, open_store
from radlake.lake.tables import TableStore
from radlake.withdrawal.names import Names, automaton_of, hits, spans
from radlake.withdrawal.subject import Subject

__all__ = ["Remnant", "Verification", "verify"]

_HOSPITALS = "demo"  # folder of the simulated hospitals: theirs is what they keep, as any hospital's archive is
_CHUNK = 8 << 20
_OVERLAP = 4096
_ROWS = 1000  # of a database that are held at once
_ZLIB = b"\x78"  # how what is packed in a column begins (RFC 1950)
_KINDS = {"VARCHAR": "texts", "BIGINT": "numbers"}  # columns that are searched, by type


@dataclass(frozen=True, order=True)
class Remnant:
    """Something that is left: where, of which kind, how often; never the value.

    Attributes
    ----------
    place : str
        With every name of the subject left out; `full` has them.
    """

    place: str
    kind: str
    n: int = 1
    full: str = field(default="", repr=False)

    def told(self, place: str) -> str:
        return f"{place}: {self.kind}, {self.n} times"


@dataclass
class Verification:
    """What was searched and found.

    Attributes
    ----------
    searched : Counter
        Files, bytes and rows by kind of place.
    n_names, n_short : int
        Values that were searched for, and those that are too short to be searched for in bytes.
    n_audit : int
        Entries of the audit trail that name a pseudonym of the subject; they stay.
    """

    remnants: list[Remnant] = field(default_factory=list)
    searched: Counter[str] = field(default_factory=Counter)
    n_names: int = 0
    n_short: int = 0
    n_audit: int = 0
    seconds: float = 0.0


def verify(
    lake: Lake, ledger: Ledger, subject: Subject, *, others: Sequence[tuple[sa.Engine, sa.MetaData]] = ()
) -> Verification:
    """Search everything that is left for a subject; every hit is told with its place.

    Parameters
    ----------
    others : sequence of (engine, tables)
        Databases of the restricted zone beside the ledger.
    """
    begin = time.monotonic()
    names = Names(subject)
    done = Verification(n_names=len(names), n_short=names.n_short)
    found: Counter[tuple[str, str]] = Counter()
    seen: set[str] = set()  # files that are searched as tables and databases
    for zone, store in (("lake", lake.tables), ("restricted", lake.restricted_tables)):
        for place, kind, n in _in_tables(store, zone, names, done, seen):
            found[place, kind] += n
    for engine, tables in ((ledger.engine, METADATA), *others):
        for place, kind, n in _in_database(engine, tables, names, done, seen):
            found[place, kind] += n
    root = open_store(lake.url, options=lake.storage_options)
    for name in _stored(root, lake):
        if _seen(root.uri(name)) not in seen:
            for kind in (*_in_name(names.public, name), *_in_stored(root, name, names, done)):
                found[name, kind] += 1
    folders = {lake.restricted, lake.cache.root}
    for path in sorted({path for folder in folders for path in _files(folder)} | {*_beside(lake, ledger)}):
        if _seen(path) not in seen:
            place = _place(path, lake)
            for kind in (*_in_name(names.own, place), *_in_file(path, names, done)):
                found[place, kind] += 1
    told = [Remnant(names.masked(place), kind, n, place) for (place, kind), n in found.items()]
    done.remnants = sorted(told)
    done.seconds = time.monotonic() - begin
    return done


def _in_tables(
    store: TableStore, zone: str, names: Names, done: Verification, seen: set[str]
) -> Iterator[tuple[str, str, int]]:
    """Values of every column of text or pseudonyms, in every Parquet file that lies there; and the logs as bytes."""
    texts = pa.table({"value": pa.array(sorted(names.texts), pa.string())})
    numbers = pa.table({"value": pa.array(sorted(names.numbers), pa.int64())})
    for table in load_tables().values():
        root = table.full_name.replace(".", "/") + "/"
        listed = list(store.store.list(root))
        for name in log_files(store, table) if listed else ():
            seen.add(_seen(store.store.uri(name)))
            content = store.store.read(name, offset=0, length=store.store.size(name) or 0)
            for kind in _in_parquet(content, names) if name.endswith(".parquet") else hits(names.public, content):
                yield f"{zone} tables/{name}", kind, 1
            done.searched["log files"] += 1
        files = {store.store.uri(name): name for name in listed if _is_data(name)}
        if not files:
            continue
        seen |= set(map(_seen, files))
        done.searched["table files"] += len(files)
        searched = {column.name: _KINDS[column.type] for column in table.columns if column.type in _KINDS}
        counts = "".join(f", count_if({_names_one(name, kind)})" for name, kind in searched.items())
        scanned = parquet.scan(table, sorted(files), extra=', filename AS "radlake file"')
        with parquet.one_thread(filesystem=store.filesystem) as connection:
            connection.register("texts", texts)
            connection.register("numbers", numbers)
            # All columns at once: to open a file in object storage takes longer than to read it.
            rows = connection.execute(f'SELECT "radlake file", count(*){counts} FROM {scanned} GROUP BY ALL').fetchall()
        for uri, n_rows, *hit in rows:
            done.searched["rows"] += n_rows
            for column, n in zip(searched, hit, strict=True):
                if n:
                    yield f"{zone} tables/{files[uri]}", f"value of {column}", n


def _names_one(column: str, kind: str) -> str:
    """SQL: whether a value, or a part of a path, is a name."""
    if column.endswith("_path"):
        return f"list_has_any(string_split({quoted(column)}, '/'), (SELECT list(value) FROM {kind}))"
    return f"{quoted(column)} IN (SELECT value FROM {kind})"


def _is_data(name: str) -> bool:
    return name.endswith(".parquet") and "/_delta_log/" not in name


def _stored(root: Store, lake: Lake) -> Iterator[str]:
    """Everything in the store of the lake, but for the folders that are searched as folders; of a local one also files
    that are being written.
    """
    if "://" in lake.url:
        yield from root.list("")
        return
    inside = [folder for folder in (lake.restricted, lake.cache.root) if folder.is_relative_to(Path(lake.url))]
    skipped = tuple(f"{folder.relative_to(lake.url)}/" for folder in inside)
    written = (path.relative_to(lake.url).as_posix() for path in Path(lake.url).rglob(".*") if path.is_file())
    yield from sorted(name for name in {*root.list(""), *written} if not name.startswith(skipped))


def _seen(place: Path | str) -> str:
    """A file, however its folder is told."""
    return place if isinstance(place, str) and "://" in place else str(Path(place).resolve())


def _in_name(automaton: Any, name: str) -> Iterator[str]:
    return (f"{kind} in its name" for kind in hits(automaton, name.encode()))


def _in_stored(root: Store, name: str, names: Names, done: Verification) -> Iterator[str]:
    """The bytes of an object."""
    if (n_bytes := root.size(name)) is None:  # somebody wrote it, and it is gone
        return
    pieces = (root.read(name, offset=start, length=min(_CHUNK + _OVERLAP, n_bytes - start))
              for start in range(0, n_bytes, _CHUNK))  # fmt: skip
    if name.endswith(".parquet"):
        yield from _in_parquet(b"".join(piece[:_CHUNK] for piece in pieces), names)
    else:
        yield from _in_pieces(pieces, names.public)
    done.searched["objects"] += 1
    done.searched["object bytes"] += n_bytes


def _in_pieces(pieces: Iterable[bytes], automaton: Any) -> Iterator[str]:
    for piece in pieces:
        yield from hits(automaton, piece)


def _files(folder: Path) -> Iterator[Path]:
    """Files of a folder and its empty folders."""
    for path in folder.rglob("*"):
        if not path.is_relative_to(folder / _HOSPITALS) and (path.is_file() or not any(path.iterdir())):
            yield path


def _beside(lake: Lake, ledger: Ledger) -> Iterator[Path]:
    """Databases in the folder of the ledger, where that is another one."""
    if ledger.engine.dialect.name == "sqlite":
        folder = Path(str(ledger.engine.url.database)).resolve().parent
        if not folder.is_relative_to(lake.restricted.resolve()):
            yield from (path for path in folder.iterdir() if path.is_file() and _is_database(path))


def _place(path: Path, lake: Lake) -> str:
    for root in (lake.restricted.parent, lake.cache.root.parent):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return str(path)


def _in_file(path: Path, names: Names, done: Verification) -> Iterator[str]:
    """Kinds of the names in a file of the restricted zone or the cache."""
    if path.is_dir():
        return
    with suppress(FileNotFoundError):  # somebody wrote it, and it is gone
        done.searched["files"] += 1
        done.searched["file bytes"] += path.stat().st_size
        if path.suffix == ".parquet":
            yield from _in_parquet(path, names)
            return
        if _is_database(path):
            yield from _in_copy(path, names)
        automaton = names.of_others if path.stem in names.kept else names.own
        with path.open("rb") as file:
            yield from _in_pieces(_pieces(file), automaton)
        with suppress(gzip.BadGzipFile, EOFError, zlib.error), gzip.open(path) as file:
            yield from _in_pieces(_pieces(file), automaton)


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _in_copy(path: Path, names: Names) -> Iterator[str]:
    """Numbers and packed values in a copy of a database of SQLite; its texts are found in the bytes."""
    uri = f"{path.absolute().as_uri()}?immutable=1"
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(uri, uri=True)) as copy:
        for (table,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for value in (value for row in copy.execute(f"SELECT * FROM {quoted(table)}") for value in row):
                if isinstance(value, int) and value in names.numbers:
                    yield f"value of {table}"
                elif isinstance(value, bytes):
                    yield from (f"{kind} in {table}" for kind in hits(names.own, _unpacked(value)))


def _unpacked(value: bytes) -> bytes:
    try:
        return zlib.decompress(value)
    except zlib.error:
        return b""


def _pieces(file: Any) -> Iterator[bytes]:
    tail = b""
    while block := file.read(_CHUNK):
        yield tail + block
        tail = block[-_OVERLAP:]


def _in_parquet(source: Path | bytes, names: Names) -> Iterator[str]:
    """Kinds of the names in the columns of a Parquet file outside the tables; in the bytes of a half written one."""
    texts, numbers = pa.array(sorted(names.texts), pa.string()), pa.array(sorted(names.numbers), pa.int64())
    try:
        file = pq.ParquetFile(source if isinstance(source, Path) else pa.BufferReader(source))
    except pa.ArrowInvalid:
        yield from hits(names.own, source.read_bytes() if isinstance(source, Path) else source)
        return
    for batch in file.iter_batches():
        for column, data in zip(batch.schema, batch.columns, strict=True):
            if (against := {pa.string(): texts, pa.int64(): numbers}.get(column.type)) is not None:
                n = compute.sum(compute.is_in(data, value_set=against)).as_py() or 0
                yield from [f"value of {column.name}"] * n
            elif not (pa.types.is_primitive(column.type) or pa.types.is_null(column.type)):  # lists, records, ...
                yield from (f"{kind} in {column.name}" for kind in hits(names.own, str(data.to_pylist()).encode()))


def _in_database(
    engine: sa.Engine, tables: sa.MetaData, names: Names, done: Verification, seen: set[str]
) -> Iterator[tuple[str, str, int]]:
    """Values of columns, what is packed in columns, and the bytes of the file when it is SQLite's."""
    place = "ledger" if tables is METADATA else "journal"
    audited: set[str] = set()
    with engine.connect() as connection:
        for column in (column for table in tables.sorted_tables for column in table.columns):
            for value, kind, n in _in_column(connection, column, names):
                if column.table is VAULT_AUDIT:
                    audited |= {value}
                    done.n_audit += n
                else:
                    yield place, f"{kind} {column.table.name}.{column.name}", n
    done.searched["database tables"] += len(tables.sorted_tables)
    if engine.dialect.name == "sqlite":
        path = Path(str(engine.url.database))
        automaton = automaton_of({text: kind for text, kind in names.texts.items() if text not in audited})
        for one in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            seen.add(str(one))
            with suppress(FileNotFoundError):
                done.searched["file bytes"] += one.stat().st_size
                if left := _words_in(one, automaton):
                    left -= _words_alive(path, automaton)
                for _, kind in left.elements():
                    yield one.name, kind, 1


def _words_in(path: Path, automaton: Any) -> Counter[tuple[bytes, str]]:
    with path.open("rb") as file:
        return Counter(
            (piece[begin:end], kind) for piece in _pieces(file) for begin, end, kind in spans(automaton, piece)
        )


def _words_alive(path: Path, automaton: Any) -> Counter[tuple[bytes, str]]:
    """What seems to stand in a copy that has nothing but the present rows, whose columns were searched.

    SQLite lays the values of a row side by side: 1.2.49 before the number 0x31 looks like 1.2.491.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        copy = Path(folder) / "copy.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("VACUUM INTO ?", (str(copy),))
        return _words_in(copy, automaton)


def _in_column(connection: sa.Connection, column: sa.Column[Any], names: Names) -> Iterator[tuple[str, str, int]]:
    """Value, kind and number of what is found in a column."""
    if isinstance(column.type, sa.LargeBinary):
        packed = sa.select(column).where(sa.func.substr(column, 1, 1) == _ZLIB).execution_options(yield_per=_ROWS)
        for (value,) in connection.execute(packed):
            for kind in hits(names.own, _unpacked(value)):
                yield "", f"{kind} in", 1
        return
    if column.table is VAULT_AUDIT and column.name == "pseudonym":  # several pseudonyms may stand in one entry
        for (value,) in connection.execute(sa.select(column)):
            for word in {*value.split()} & names.texts.keys():
                yield word, "value of", 1
        return
    wanted: list[Any] = []
    if isinstance(column.type, sa.String):
        wanted = sorted(names.texts)
    elif isinstance(column.type, sa.BigInteger) and column.name.endswith("_key"):
        wanted = sorted(names.numbers)
    for part in in_parts(wanted):
        query = sa.select(column, sa.func.count()).where(column.in_(part)).group_by(column)
        for value, n in connection.execute(query).all():
            yield str(value), "value of", n
