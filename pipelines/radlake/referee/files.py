"""Everything that is no object: archives, Parquet, logs, JSON, taken apart until only bytes and text are left."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["Part", "archive_members", "archive_rest", "is_object", "parts_of"]

_FOOTER = 8
_JOINED = 4 << 20
Part = tuple[str, str, bytes]  # path within the file, what may stand there (text, bulk), bytes


def is_object(head: bytes, name: str) -> bool:
    """Whether a file is to be judged as DICOM, by its first 132 bytes or its suffix."""
    return head[128:132] == b"DICM" or name.lower().endswith((".dcm", ".dicom"))


def parts_of(file: BinaryIO, name: str) -> Iterator[Part]:
    """Searchable parts of a file that is neither an object nor an archive."""
    head = file.read(4)
    file.seek(0)
    if head == b"PAR1":
        yield from _parquet(file)
        return
    data = file.read()
    if head[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
        name = name.removesuffix(".gz")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        yield "", "bulk", data
        return
    if name.endswith((".json", ".jsonl", ".ndjson")) or "_delta_log/" in name:
        yield "", "bulk", data
        strings = [string for line in _json_values(text) for string in _strings(line)]
        yield "", "text", "\x1e".join(strings).encode("utf-8", "surrogatepass")
    else:
        yield "", "text", data


def _parquet(file: BinaryIO) -> Iterator[Part]:
    """Every string and binary column, the footer as it stands (statistics, key-value metadata, schema)."""
    file.seek(-_FOOTER, io.SEEK_END)
    length = int.from_bytes(file.read(4), "little")
    file.seek(-_FOOTER - length, io.SEEK_END)
    yield "footer", "bulk", file.read(length)
    file.seek(0)
    for batch in pq.ParquetFile(file).iter_batches():
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            joined, n_bytes = [], 0
            for value in _leaves(column):
                joined.append(value)
                n_bytes += len(value)
                if n_bytes > _JOINED:
                    yield f"column {name}", "text", b"\x1e".join(joined)
                    joined, n_bytes = [], 0
            yield f"column {name}", "text", b"\x1e".join(joined)


def _leaves(column: pa.Array) -> Iterator[bytes]:
    """Distinct strings and binaries of a column, also those in lists, maps and structs."""
    kind = column.type
    if isinstance(column, pa.DictionaryArray):
        yield from _leaves(column.dictionary)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        yield from (str(value).encode("utf-8", "surrogatepass") for value in column.unique().to_pylist() if value)
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        yield from (value for value in column.unique().to_pylist() if value)
    elif pa.types.is_nested(kind):
        for value in column.to_pylist():
            yield from (string.encode("utf-8", "surrogatepass") for string in _strings(value))


def _json_values(text: str) -> Iterator[Any]:
    for part in (text, *text.splitlines()):
        try:
            yield json.loads(part)
        except ValueError:
            continue
        if part is text:
            return


def _strings(value: Any) -> Iterator[str]:
    """Strings and keys at any depth, also in JSON within a string (the statistics of a Delta log)."""
    if isinstance(value, str):
        yield value
        if value[:1] in ("{", "["):
            for inner in _json_values(value):
                yield from _strings(inner)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")


def archive_members(archive: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every member."""
    for info in archive.infolist():
        if not info.is_dir():
            yield info.filename, archive.read(info)


def archive_rest(file: BinaryIO, archive: zipfile.ZipFile) -> bytes:
    """Every byte of a ZIP that is not the content of a member: headers, names, comments, extra fields, gaps."""
    rest, position = [], 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        file.seek(info.header_offset + 26)
        n_name, n_extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
        start = info.header_offset + 30 + n_name + n_extra
        file.seek(position)
        rest.append(file.read(start - position))
        position = start + info.compress_size
    file.seek(position)
    rest.append(file.read())
    return b"\x1e".join(rest)
