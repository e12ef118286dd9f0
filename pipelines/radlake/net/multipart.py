"""A multipart body read as it flows (RFC 2046 5.1, PS3.18 8.6.1.2): strict, and in bounded memory.

Chunks may end anywhere, also inside a delimiter. A body that ends before its closing delimiter is told as broken;
the parts before that were whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from email.message import Message

__all__ = ["MultipartBroken", "boundary_of", "parts"]

_LARGEST_HEAD = 16 * 1024


class MultipartBroken(ValueError):
    """The body is not what its Content-Type says, or it ended too early."""


def boundary_of(content_type: str) -> bytes | None:
    """Boundary of a multipart content type; None for any other.

    >>> boundary_of('multipart/related; type="application/dicom"; boundary="a b"')
    b'a b'
    """
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary() if message.get_content_maintype() == "multipart" else None
    return boundary.encode("latin-1") if boundary else None


def parts(chunks: Iterable[bytes], *, boundary: bytes) -> Iterator[Iterator[bytes]]:
    """Each part as an iterator over its content; it must be used up before the next part is asked for.

    The size of a part is bounded by nothing, the memory by the size of a chunk. A Content-Length of a part, when it
    is there, must be true.

    Raises
    ------
    MultipartBroken
        From the part or from between the parts, where the body breaks.
    """
    return _Reader(chunks, boundary).parts()


class _Reader:
    def __init__(self, chunks: Iterable[bytes], boundary: bytes) -> None:
        self._chunks = iter(chunks)
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # so that a delimiter at the very beginning is one like the others

    def parts(self) -> Iterator[Iterator[bytes]]:
        for _ in self._until_delimiter():  # the preamble
            pass
        while not self._is_last_delimiter():
            length = _content_length(self._head())
            part = self._until_delimiter() if length is None else self._exactly(length)
            yield part
            if next(part, None) is not None:
                raise RuntimeError("a part was left before its end")

    def _until_delimiter(self) -> Iterator[bytes]:
        """Content up to the next delimiter, which is consumed."""
        keep = len(self._delimiter) - 1
        while (at := self._buffer.find(self._delimiter)) < 0:
            if len(self._buffer) > keep:
                yield self._take(len(self._buffer) - keep)
            self._fill()
        if at:
            yield self._take(at)
        self._take(len(self._delimiter))

    def _exactly(self, length: int) -> Iterator[bytes]:
        while length:
            piece = self._take(min(length, len(self._buffer))) if self._buffer else self._next_chunk()
            if len(piece) > length:
                self._buffer += piece[length:]
                piece = piece[:length]
            length -= len(piece)
            yield piece
        while len(self._buffer) < len(self._delimiter):
            self._fill()
        if self._take(len(self._delimiter)) != self._delimiter:
            raise MultipartBroken("the Content-Length of a part is wrong")

    def _is_last_delimiter(self) -> bool:
        """What follows a delimiter: `--` after the last, else padding and the end of the line."""
        while len(self._buffer) < 2:
            self._fill()
        if self._buffer.startswith(b"--"):
            return True
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._fill(at_most=_LARGEST_HEAD)
        if self._take(end + 2).strip():
            raise MultipartBroken("a delimiter is followed by something else")
        return False

    def _head(self) -> bytes:
        """Header lines of a part, with the empty line that ends them."""
        while not self._buffer.startswith(b"\r\n") and b"\r\n\r\n" not in self._buffer:
            self._fill(at_most=_LARGEST_HEAD)
        if self._buffer.startswith(b"\r\n"):
            return self._take(2)
        return self._take(self._buffer.index(b"\r\n\r\n") + 4)

    def _take(self, n: int) -> bytes:
        with memoryview(self._buffer) as view:
            taken = bytes(view[:n])
        del self._buffer[:n]
        return taken

    def _fill(self, *, at_most: int | None = None) -> None:
        if at_most is not None and len(self._buffer) > at_most:
            raise MultipartBroken("the header of a part does not end")
        self._buffer += self._next_chunk()

    def _next_chunk(self) -> bytes:
        for chunk in self._chunks:
            if chunk:
                return chunk
        raise MultipartBroken("the body ended before its closing boundary")


def _content_length(head: bytes) -> int | None:
    found = re.search(rb"^content-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r\n", head, re.IGNORECASE | re.MULTILINE)
    return int(found[1]) if found else None
