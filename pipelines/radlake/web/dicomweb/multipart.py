"""The form of a multipart/related message (RFC 2387)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

__all__ = ["Multipart"]


@dataclass(frozen=True)
class Multipart:
    """Where a part begins and ends; the boundary cannot be in what is sent, as nobody knows it before."""

    type: str
    boundary: str = field(default_factory=lambda: secrets.token_hex(16))
    tail: bytes = b"\r\n"

    @property
    def content_type(self) -> str:
        return f'multipart/related; type="{self.type}"; boundary={self.boundary}'

    @property
    def end(self) -> bytes:
        return f"--{self.boundary}--\r\n".encode()

    def head(self, content_type: str, location: str = "") -> bytes:
        """What stands before the content of a part."""
        where = f"Content-Location: {location}\r\n" if location else ""
        return f"--{self.boundary}\r\nContent-Type: {content_type}\r\n{where}\r\n".encode()

    def overhead(self, n_parts: int) -> int:
        """Bytes of a message beside heads and contents."""
        return n_parts * len(self.tail) + len(self.end)
