"""Chains: entries that each carry a keyed digest of themselves and of the entry before, so that no change goes unseen.

The end of a chain is also kept in a file of the restricted zone: entries that are missing at the end are noticed too.
Who holds the key, and what an entry says, is the business of the chain's owner.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radlake.lake.store import write_whole

__all__ = ["Head", "HeadFile", "Link", "broken_links", "canonical"]

Head = tuple[int, str]  # number and keyed digest of the last entry


@dataclass(frozen=True)
class Link:
    """What a chain needs of an entry; `computed` is the keyed digest that it should have."""

    seq: int
    previous_mac: str
    mac: str
    computed: str


@dataclass(frozen=True)
class HeadFile:
    """The file that the end of a chain is kept in."""

    path: Path

    def read(self) -> Head | None:
        """None when it is missing or damaged."""
        with suppress(FileNotFoundError, ValueError, UnicodeDecodeError):
            seq, _, mac = self.path.read_text(encoding="ascii").strip().partition(" ")
            return int(seq), mac
        return None

    def write(self, head: Head) -> None:
        """Keep this end; the file appears whole or not at all.

        Raises
        ------
        StoreFull
            The file may be behind then: the next one that is kept makes good for it.
        """
        write_whole(self.path, f"{head[0]} {head[1]}\n")


def canonical(fields: Mapping[str, Any]) -> str:
    """The one JSON text of these fields: what a keyed digest is taken of."""
    return json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def broken_links(links: Iterable[Link], *, kept: Head | None, name: str) -> Iterator[tuple[int, str]]:
    """Entries that were changed, removed or put in: number and what is wrong.

    Parameters
    ----------
    links : iterable of Link
        The whole chain, oldest first.
    kept : Head or None
        What the file `name` says of its end; entries after it are in order.
    """
    seq, mac, found_kept, is_broken = 0, "", False, False
    for link in links:
        problem = ""
        if link.seq != seq + 1:
            problem = _missing(seq + 1, link.seq - 1)
        elif link.previous_mac != mac:
            problem = f"entry {link.seq} does not follow entry {seq}: one of them was replaced"
        if problem:
            is_broken = True
            yield link.seq, problem
        if link.computed != link.mac:
            is_broken = True
            yield link.seq, f"entry {link.seq} was changed, or written with another key"
        seq, mac = link.seq, link.mac
        found_kept = found_kept or (seq, mac) == kept
    if kept and seq < kept[0]:
        yield kept[0], _missing(seq + 1, kept[0])
    elif kept and not found_kept and not is_broken:
        yield kept[0], f"entry {kept[0]} is not the one that was written last: the chain was replaced"
    if seq and not kept:
        yield seq, f"{name} is missing or damaged: entries at the end may be missing too"


def _missing(first: int, last: int) -> str:
    which = f"entry {first} is" if first == last else f"entries {first} to {last} are"
    return f"{which} missing: removed, or the database was restored from an older copy"
