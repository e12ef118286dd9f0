"""The search of everything that is left for whatever was withdrawn: values of columns, and bytes of files.

Nothing that removes is used here: tables are searched in all their files, whatever the log says, objects, caches, logs
and databases byte by byte. The audit trail keeps pseudonyms that somebody looked up: those are counted, not remnants,
because the chain that proves who looked must stay whole.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ahocorasick
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
from radlake.withdrawal.subject import Subject

__all__ = ["Remnant", "Verification", "verify"]

_HOSPITALS = "demo"  # folder of the simulated hospitals: theirs is what they keep, as any hospital's archive is
_CHUNK = 8 << 20
_OVERLAP = 4096
_MIN_TEXT = 8  # characters of a number that is searched for in bytes: a shorter one is found by chance
_UID_BYTES = frozenset(b"0123456789.")
_WORD_BYTES = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True, order=True)
class Remnant:
    """Something that is left: where, of which kind, how often; never the value."""

    place: str
    kind: str
    n: int = 1


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


class _Names:
    """What is searched for: texts and numbers of columns, and bytes of files."""

    def __init__(self, subject: Subject) -> None:
        kinds: dict[str, str] = dict.fromkeys(subject.uids, "uid")
        kinds |= dict.fromkeys(subject.exams, "pseudonym")
        kinds |= dict.fromkeys(subject.reminders, "pseudonym")
        kinds |= dict.fromkeys(subject.more.get("release_names", ()), "name in a release")
        kinds |= {text: "pseudonym" for key in subject.patient_keys for text in (f"{key:016x}", str(key))}
        self.numbers = frozenset(subject.patient_keys)
        self.of_others = _automaton(kinds)  # of what stays though it has a number of the subject
        self.kept = frozenset(subject.kept)
        self.texts = dict(kinds)  # told exactly: a column's value, whole
        long = [text for text in subject.identifiers if len(text) >= _MIN_TEXT and any(c.isdigit() for c in text)]
        kinds |= dict.fromkeys(long, "identifier")
        self.texts |= dict.fromkeys(long, "identifier")
        names = [text for text in subject.identifiers if text not in long and len(text) > 1]
        wide = [name for name in names if len(name.encode()) >= _MIN_TEXT]
        self.public = _automaton(kinds | dict.fromkeys(wide, "identifier"))
        self.own = _automaton(kinds)  # of the restricted zone: another patient there may have the same name
        self.n_short = len(names) - len(wide)

    def __len__(self) -> int:
        return len(self.texts) + len(self.numbers)


def verify(lake: Lake, ledger: Ledger, subject: Subject) -> Verification:
    """Search everything that is left for a subject; every hit is told with its place."""
    begin = time.monotonic()
    names = _Names(subject)
    done = Verification(n_names=len(names), n_short=names.n_short)
    found: Counter[tuple[str, str]] = Counter()
    for zone, store in (("lake", lake.tables), ("restricted", lake.restricted_tables)):
        for place, kind, n in _in_tables(store, zone, names, done):
            found[place, kind] += n
    root = open_store(lake.url, options=lake.storage_options)
    for name in _stored(root, lake):
        for kind, n in _in_stored(root, name, names, done):
            found[name, kind] += n
    for folder in {lake.restricted, lake.cache.root}:
        for place, kind, n in _in_folder(folder, names, done):
            found[place, kind] += n
    for place, kind, n in _in_ledger(ledger, names, done):
        found[place, kind] += n
    done.remnants = sorted(Remnant(place, kind, n) for (place, kind), n in found.items())
    done.seconds = time.monotonic() - begin
    return done


def _automaton(kinds: Mapping[str, str]) -> Any:
    """Aho-Corasick over bytes as Latin-1; texts that are not ASCII in UTF-8 and in GB18030."""
    automaton = ahocorasick.Automaton()
    for text, kind in kinds.items():
        for encoding in ("utf-8", "gb18030"):
            data = text.encode(encoding, "replace")
            if len(data) > 3:
                automaton.add_word(data.decode("latin-1"), (data, kind))
    if len(automaton):
        automaton.make_automaton()
    return automaton


def _hits(automaton: Any, data: bytes) -> Iterator[str]:
    """Kinds of the names that stand in bytes, each whole: 1.2.3 does not stand in 1.2.34."""
    if not len(automaton):
        return
    for end, (word, kind) in automaton.iter(data.decode("latin-1")):
        around = _UID_BYTES if kind == "uid" else _WORD_BYTES
        before, after = data[end - len(word) : end - len(word) + 1], data[end + 1 : end + 2]
        if end >= len(word) and before and before[0] in around and word[0] in around:
            continue
        is_file_name = kind == "uid" and after == b"." and not data[end + 2 : end + 3].isdigit()
        if after and after[0] in around and word[-1] in around and not is_file_name:
            continue
        yield kind


def _in_tables(store: TableStore, zone: str, names: _Names, done: Verification) -> Iterator[tuple[str, str, int]]:
    """Values of every column of text or pseudonyms, in every Parquet file that lies there; and the logs as bytes."""
    texts = pa.table({"value": pa.array(sorted(names.texts), pa.string())})
    numbers = pa.table({"value": pa.array(sorted(names.numbers), pa.int64())})
    for table in load_tables().values():
        root = table.full_name.replace(".", "/") + "/"
        listed = list(store.store.list(root))
        for name in log_files(store, table) if listed else ():
            for kind in _hits(names.public, store.store.read(name, offset=0, length=store.store.size(name) or 0)):
                yield f"{zone} tables/{name}", kind, 1
            done.searched["log files"] += 1
        files = {store.store.uri(name): name for name in listed if _is_data(name)}
        if not files:
            continue
        done.searched["table files"] += len(files)
        with parquet.new_connection(threads=1, filesystem=store.filesystem) as connection:
            connection.register("texts", texts)
            connection.register("numbers", numbers)
            scanned = parquet.scan(table, sorted(files), extra=', filename AS "radlake file"')
            (n_rows,) = connection.execute(f"SELECT count(*) FROM {scanned}").fetchall()[0]
            done.searched["rows"] += n_rows
            for column in table.columns:
                against = {"VARCHAR": "texts", "BIGINT": "numbers"}.get(column.type)
                if against is None:
                    continue
                value = quoted(column.name)
                if column.name.endswith("_path"):
                    value = f"unnest(string_split({value}, '/'))"
                rows = connection.execute(
                    f'SELECT "radlake file", count(*) FROM (SELECT "radlake file", {value} AS value FROM {scanned})'
                    f" SEMI JOIN {against} USING (value) GROUP BY ALL"
                ).fetchall()
                for uri, n in rows:
                    yield f"{zone} tables/{files[uri]}", f"value of {column.name}", n


def _is_data(name: str) -> bool:
    return name.endswith(".parquet") and "/_delta_log/" not in name


def _stored(root: Store, lake: Lake) -> Iterator[str]:
    """Everything in the store of the lake but its tables, and the folders that are searched as folders."""
    skipped = ["tables/"]
    if "://" not in lake.url:
        inside = [folder for folder in (lake.restricted, lake.cache.root) if folder.is_relative_to(Path(lake.url))]
        skipped += [f"{folder.relative_to(lake.url)}/" for folder in inside]
    for name in root.list(""):
        if not name.startswith(tuple(skipped)):
            yield name
    yield from root.list("tables/.pins/")
    yield from root.list("tables/.reissued/")


def _in_stored(root: Store, name: str, names: _Names, done: Verification) -> Iterator[tuple[str, int]]:
    """The name of an object, and its bytes."""
    for kind in _hits(names.public, name.encode()):
        yield f"{kind} in its name", 1
    n_bytes = root.size(name) or 0
    pieces = (root.read(name, offset=start, length=min(_CHUNK + _OVERLAP, n_bytes - start))
              for start in range(0, n_bytes, _CHUNK))  # fmt: skip
    if name.endswith(".parquet"):
        yield from _in_parquet(pa.BufferReader(b"".join(p[:_CHUNK] for p in pieces)), names)
    else:
        for kind in _in_pieces(pieces, names.public):
            yield kind, 1
    done.searched["objects"] += 1
    done.searched["object bytes"] += n_bytes


def _in_pieces(pieces: Iterable[bytes], automaton: Any) -> Iterator[str]:
    for piece in pieces:
        yield from _hits(automaton, piece)


def _in_folder(folder: Path, names: _Names, done: Verification) -> Iterator[tuple[str, str, int]]:
    """Names and bytes of every file, but those that `_in_tables` and `_in_ledger` read."""
    ledgers = {"ledger.db", "ledger.db-wal", "ledger.db-shm"}
    for path in sorted(folder.rglob("*")):
        if path.is_relative_to(folder / _HOSPITALS):
            continue
        place = path.relative_to(folder.parent).as_posix()
        for kind in _hits(names.own, path.name.encode()):
            yield place, f"{kind} in its name", 1
        if not path.is_file() or path.is_relative_to(folder / "tables") or path.name in ledgers:
            continue
        done.searched["files"] += 1
        done.searched["file bytes"] += path.stat().st_size
        if path.suffix == ".parquet":
            for kind, n in _in_parquet(path, names):
                yield place, kind, n
            continue
        with path.open("rb") as file:
            is_kept = path.stem in names.kept
            for kind in _in_pieces(_pieces(file), names.of_others if is_kept else names.own):
                yield place, kind, 1


def _pieces(file: Any) -> Iterator[bytes]:
    tail = b""
    while block := file.read(_CHUNK):
        yield tail + block
        tail = block[-_OVERLAP:]


def _in_parquet(source: Any, names: _Names) -> Iterator[tuple[str, int]]:
    """Values of columns of text or numbers, of a Parquet file outside the tables."""
    texts, numbers = pa.array(sorted(names.texts), pa.string()), pa.array(sorted(names.numbers), pa.int64())
    file = pq.ParquetFile(source)
    for batch in file.iter_batches():
        for column, data in zip(batch.schema, batch.columns, strict=True):
            against = {pa.string(): texts, pa.int64(): numbers}.get(column.type)
            if against is not None and (n := compute.sum(compute.is_in(data, value_set=against)).as_py()):
                yield f"value of {column.name}", n


def _in_ledger(ledger: Ledger, names: _Names, done: Verification) -> Iterator[tuple[str, str, int]]:
    """Values of the ledger's readable columns, and the bytes of its file when it is SQLite's."""
    audited: set[str] = set()
    with ledger.reading() as connection:
        for table in METADATA.sorted_tables:
            for column in table.columns:
                wanted: list[Any] = []
                if isinstance(column.type, sa.String):
                    wanted = sorted(names.texts)
                elif isinstance(column.type, sa.BigInteger) and column.name.endswith("_key"):
                    wanted = sorted(names.numbers)
                for part in in_parts(wanted):
                    found = connection.execute(
                        sa.select(column, sa.func.count()).where(column.in_(part)).group_by(column)
                    ).all()
                    n = sum(count for _, count in found)
                    if table is VAULT_AUDIT:
                        audited |= {str(value) for value, _ in found}
                        done.n_audit += n
                    elif n:
                        yield "ledger", f"value of {table.name}.{column.name}", n
            done.searched["ledger tables"] += 1
    if ledger.engine.dialect.name == "sqlite":
        path = Path(str(ledger.engine.url.database))
        kept = {text: kind for text, kind in names.texts.items() if text not in audited}
        automaton = _automaton(kept)
        for one in (path, path.with_name(f"{path.name}-wal")):
            if one.exists():
                done.searched["file bytes"] += one.stat().st_size
                with one.open("rb") as file:
                    for kind in _in_pieces(_pieces(file), automaton):
                        yield one.name, kind, 1
