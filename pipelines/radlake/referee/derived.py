"""Judge an object that somebody derived from de-identified ones (a segmentation, a report), which has no original.

Its pixels are never copied: of a large one only the header is read, and where everything lies is followed by lengths.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence

from radlake.referee.finding import Finding
from radlake.referee.instance import Instance, Unreadable, native_bytes, quiet, read, tag_path
from radlake.referee.judge import find_identifiers, judge_alone, policy_for
from radlake.referee.layout import Layout, LayoutBroken, scan
from radlake.referee.search import Searcher

__all__ = ["judge_derived"]

_EXPLICIT = "1.2.840.10008.1.2.1"
_LONG_HEADER = 12  # bytes of tag, VR and length of an element with a 32-bit length (PS3.5 7.1.2)
_PATIENT_NAME = 0x00100010
_PIXELS = tag_path(0x7FE00010)


def judge_derived(
    data: bytes | mmap.mmap, source: Instance, *, searchers: Sequence[Searcher] = (), owner: str = ""
) -> tuple[Instance, list[Finding]]:
    """Its header, all rules that need no original, and a search for identifiers.

    Parameters
    ----------
    data : bytes or mmap
        A whole Part-10 file in Explicit VR Little Endian, the one syntax in which nothing is packed.
    source : Instance
        One of those that it was derived from: what that claims of its de-identification holds for both.
    searchers : sequence of Searcher
        What must not stand anywhere in it, `owner` is whose it is.

    Raises
    ------
    Unreadable
    """
    try:
        layout = scan(data)  # pyright: ignore[reportArgumentType]  # a map of a file is read as bytes are
    except LayoutBroken as exc:
        raise Unreadable(str(exc)) from None
    if layout.transfer_syntax != _EXPLICIT:
        raise Unreadable("it is not in Explicit VR Little Endian")
    instance = read(bytes(data[: _head(data, layout)]))
    try:
        with quiet():
            return instance, [
                *judge_alone(instance, policy_for(source, None)),
                *_judge_pixels(len(data), layout, instance),
                *_judge_names(instance),
                *(found for one in searchers for found in find_identifiers(instance, one, owner=owner)),
            ]
    except Exception as exc:  # whatever pydicom raises of a damaged element; its text may quote a value
        raise Unreadable(type(exc).__name__) from None


def _head(data: bytes | mmap.mmap, layout: Layout) -> int:
    """Bytes before the pixels, or all."""
    start, _ = layout.pixels
    if not start:
        return len(data)
    if data[start - _LONG_HEADER : start - _LONG_HEADER + 2] != b"\xe0\x7f":
        raise Unreadable("its pixels have no length of 32 bits")
    return start - _LONG_HEADER


def _judge_pixels(n_bytes: int, layout: Layout, instance: Instance) -> Iterator[Finding]:
    start, end = layout.pixels
    if not start:
        return
    if end != n_bytes:
        yield Finding("trailing-bytes", "", "behind the pixels")
    expected = native_bytes(instance.ds)
    if layout.fragments or end - start not in (expected, expected + expected % 2):
        yield Finding("trailing-bytes", "", _PIXELS, "not as long as rows, columns and frames say")


def _judge_names(instance: Instance) -> Iterator[Finding]:
    """Nobody made it but a program, whatever the table allows."""
    for value in instance.values:
        if value.vr == "PN" and value.text.strip("^= ") and (value.tag != _PATIENT_NAME or ">" in value.path):
            yield Finding("not-a-pseudonym", "", value.path, "name")
