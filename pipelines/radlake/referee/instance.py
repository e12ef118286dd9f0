"""One Part-10 file as the referee sees it: elements at any depth by pydicom, everything else by its offsets.

pydicom alone reads here, never the reader that the de-identifier uses: two readers that agree are worth more than one.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import cast

import pydicom
from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_has_tag, dictionary_keyword, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from radlake.referee.layout import Layout, LayoutBroken, scan
from radlake.referee.reading import readings

__all__ = [
    "BULK_VRS",
    "CHARSET",
    "Instance",
    "Unreadable",
    "Value",
    "charset_of",
    "keyword_of",
    "native_bytes",
    "quiet",
    "read",
    "read_file",
    "tag_path",
    "values_of",
]

CHARSET = 0x00080005
_PIXELS = frozenset([0x7FE00008, 0x7FE00009, 0x7FE00010])
_LARGE = 64 << 20
BULK_VRS = frozenset(
    ["AT", "FD", "FL", "OB", "OB or OW", "OD", "OF", "OL", "OV", "OW", "SL", "SS", "SV", "UL", "UN", "US", "UV"]
)


class Unreadable(ValueError):
    """The bytes are no Part-10 file that pydicom can read to its end."""


@dataclass(frozen=True, slots=True)
class Value:
    """An element that is no sequence, with its place; `data` is None for pixels."""

    tag: int
    vr: str
    path: str
    data: bytes | None
    item: Dataset
    charset: str

    @property
    def texts(self) -> list[str]:
        """Every reading of a text value."""
        return readings(self.data or b"", self.charset)

    @property
    def text(self) -> str:
        """The likeliest reading, stripped."""
        return next(iter(self.texts), "").strip()


@dataclass(frozen=True)
class Instance:
    """A file that was read."""

    data: bytes
    ds: Dataset
    layout: Layout | None  # None when the scanner cannot follow, which only an original may do

    @cached_property
    def values(self) -> list[Value]:
        return values_of(self.ds)

    @cached_property
    def top(self) -> dict[int, Value]:
        """Elements of the data set itself and of its file meta, by tag."""
        return {value.tag: value for value in self.values if ">" not in value.path}

    def text(self, tag: int) -> str:
        """Text of a top-level attribute."""
        value = self.top.get(tag)
        return value.text if value is not None else ""


def read_file(path: Path) -> Instance:
    """Read a file on disk; of one above 64 MiB the elements before the pixels, without its layout.

    Raises
    ------
    Unreadable
    OSError
    """
    if path.stat().st_size <= _LARGE:
        return read(path.read_bytes())
    try:
        with quiet():
            return Instance(b"", pydicom.dcmread(path, force=True, stop_before_pixels=True), None)
    except OSError:
        raise
    except Exception as exc:
        raise Unreadable(type(exc).__name__) from None


@contextmanager
def quiet() -> Iterator[None]:
    """pydicom warns with values of the data set: nobody may hear them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read(data: bytes) -> Instance:
    """Read a file in memory.

    Raises
    ------
    Unreadable
    """
    try:
        with quiet():
            ds = pydicom.dcmread(io.BytesIO(data), force=True)
            if not len(ds):
                raise Unreadable("no elements")
    except Unreadable:
        raise
    except Exception as exc:  # whatever pydicom raises; its text may quote a value
        raise Unreadable(type(exc).__name__) from None
    try:
        layout = scan(data)
    except LayoutBroken:
        layout = None
    return Instance(data, ds, layout)


def values_of(ds: Dataset) -> list[Value]:
    """Every element at any depth that is no sequence, in order; file meta first."""
    with quiet():
        meta = getattr(ds, "file_meta", None)
        first = list(_walk(meta, "", "")) if isinstance(meta, Dataset) else []
        return [*first, *_walk(ds, "", "")]


def _walk(ds: Dataset, prefix: str, charset: str) -> Iterator[Value]:
    charset = charset_of(ds) or charset
    for tag in sorted(int(tag) for tag in ds.keys()):  # noqa: SIM118  (a data set iterates over elements)
        path = f"{prefix}{tag_path(tag)}"
        elem = ds.get_item(tag)
        vr = (elem.VR if elem is not None else None) or _dictionary_vr(tag)
        if vr == "SQ" or (vr == "UN" and _dictionary_vr(tag) == "SQ"):
            items = _items(ds, tag)
            if items is not None:
                for number, item in enumerate(items):
                    yield from _walk(item, f"{path}[{number}]>", charset)
                continue
        if vr == "UN" and not tag >> 16 & 1:
            vr = _dictionary_vr(tag)
        yield Value(tag, vr, path, None if tag in _PIXELS else _bytes(elem), ds, charset)


@lru_cache(maxsize=16384)
def tag_path(tag: int) -> str:
    """`(0010,0010)`"""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def charset_of(ds: Dataset) -> str:
    elem = ds.get_item(CHARSET) if CHARSET in ds else None
    return (_bytes(elem) or b"").decode("ascii", "replace").strip() if elem is not None else ""


def keyword_of(tag: int) -> str:
    """Keyword of PS3.6; empty when the attribute is not known."""
    return dictionary_keyword(tag) if dictionary_has_tag(tag) else ""


def native_bytes(ds: Dataset) -> int:
    """Bytes that rows, columns, frames and bits need (PS3.3 C.7.6.3) before padding; 0 when they do not say."""
    with quiet():
        try:
            frames = int(str(ds.get("NumberOfFrames", 1)))  # one that is empty says nothing
            bits = ds.Rows * ds.Columns * ds.get("SamplesPerPixel", 1) * ds.BitsAllocated * frames
            if "422" in str(ds.get("PhotometricInterpretation", "")):
                bits = bits * 2 // 3
        except (AttributeError, TypeError, ValueError):
            return 0
    return (bits + 7) // 8


@lru_cache(maxsize=16384)
def _dictionary_vr(tag: int) -> str:
    return str(dictionary_VR(tag)) if dictionary_has_tag(tag) else "UN"


def _items(ds: Dataset, tag: int) -> list[Dataset] | None:
    try:
        value = ds[tag].value
    except Exception:  # no sequence after all: its bytes are searched
        return None
    return list(value) if isinstance(value, Sequence) else None


def _bytes(elem: object) -> bytes:
    """The value as it lies in the file; of an element that pydicom converted, its text in UTF-8."""
    value = cast("RawDataElement | DataElement", elem).value if elem is not None else b""
    if isinstance(value, bytes):
        return value
    parts = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    texts = [_original(part) for part in parts if part is not None]
    return "\\".join(texts).encode("utf-8", "surrogateescape")


def _original(part: object) -> str:
    """Of a number, a date or a name the string that stood there, not Python's."""
    text = getattr(part, "original_string", part)
    return text.decode("latin_1") if isinstance(text, bytes) else str(text)
