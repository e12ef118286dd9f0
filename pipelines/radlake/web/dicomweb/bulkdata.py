"""Values that metadata link to, by the path of their attribute: `00282000`, or `00081140.0.00091010` in a sequence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from radlake.web.dicomweb.catalogue import Instance
from radlake.web.dicomweb.metadata import head_of
from radlake.web.dicomweb.pixels import Pixels
from radlake.web.dicomweb.refusals import NotFound

__all__ = ["bulk_value", "tags_of"]

_PATH = re.compile(r"[0-9A-F]{8}(\.\d{1,6}\.[0-9A-F]{8})*")
_NONE = "This instance has no bulk data of that name; its metadata say which it has."


def tags_of(path: str) -> tuple[int, ...]:
    """Tag, and for each sequence on the way number of the item and tag in it.

    Raises
    ------
    NotFound
        If it is no path.
    """
    if not _PATH.fullmatch(path):
        raise NotFound(_NONE)
    return tuple(int(part, 16 if n % 2 == 0 else 10) for n, part in enumerate(path.split(".")))


def bulk_value(pixels: Pixels, instance: Instance, tags: Sequence[int]) -> bytes:
    """
    Raises
    ------
    NotFound
    """
    tag, *rest = tags
    try:
        found: Any = head_of(pixels, instance)[tag].value
        for number, name in zip(rest[::2], rest[1::2], strict=True):
            found = found[number][name].value
    except (AttributeError, KeyError, IndexError, TypeError):
        found = None
    if not isinstance(found, bytes):
        raise NotFound(_NONE)
    return found
