"""What received bytes are called: their digest, and their name in quarantine."""

from __future__ import annotations

from pathlib import Path

import xxhash

__all__ = ["digest_of_file", "quarantine_id_of"]

_CHUNK = 1 << 20


def quarantine_id_of(hospital_id: str, digest: str) -> str:
    return xxhash.xxh3_64_hexdigest(f"{hospital_id}|{digest}".encode())


def digest_of_file(path: Path) -> str:
    """XXH3-128 of a file's bytes, 32 hexadecimal digits."""
    state = xxhash.xxh3_128()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            state.update(chunk)
    return state.hexdigest()
