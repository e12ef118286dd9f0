"""What data sets tell about whom they are of: every name, and the attributes of schemas/deid/identity.yaml.

It is gathered here and searched for by `identity`. Nothing of it leaves the process.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias, cast

from pydicom import Dataset

from radlake.deidentify.elements import SINGLE_VALUED, Element, decoded, items_of, text_bytes
from radlake.deidentify.identity import identifying_tags

__all__ = ["Told", "identifiers_of", "kind_of", "tell", "tell_items"]

Told: TypeAlias = frozenset[tuple[str, str]]  # (kind, text)


def identifiers_of(datasets: Iterable[Dataset]) -> Told:
    """What the data sets of one study tell, for the search in each of them: (kind, text).

    A patient whom one instance names may hide in the Image Type of another one that does not. UIDs are not among it:
    they are searched for in their own data set.
    """
    told: set[tuple[str, str]] = set()
    tell_items(told, datasets)
    return frozenset(found for found in told if found[0] != "uid")


def tell_items(told: set[tuple[str, str]], items: Iterable[Dataset]) -> None:
    """Remember the identifiers of data sets or items, at every depth."""
    for item in items:
        for elem in cast("list[Element]", list(item.values())):
            vr = elem.VR or ""
            if vr == "SQ":
                tell_items(told, items_of(elem))
            elif kind := kind_of(elem.tag, vr):
                tell(told, kind, vr, elem)


def tell(told: set[tuple[str, str]], kind: str, vr: str, elem: Element) -> None:
    """Remember every value of one element."""
    text = decoded(text_bytes(elem))
    for part in [text] if vr in SINGLE_VALUED else text.split("\\"):
        if part := part.strip():
            told.add((kind, part))


def kind_of(tag: int, vr: str) -> str | None:
    """What an attribute identifies; names are known by their VR."""
    return "name" if vr == "PN" else identifying_tags().get(int(tag))
