"""What of a release results refer to: their source series, its instances, and what a header of theirs tells."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from radlake.cohort.pull import Release
from radlake.cohort.pull.released import Damaged, runs_of
from radlake.contracts.check import compute
from radlake.referee import Instance, Unreadable, read

__all__ = ["Referred", "SourceSeries"]

_INSTANCE = ["series_instance_uid", "sop_instance_uid", "object_path", "object_offset", "instance_bytes",
             "pixel_offset"]  # fmt: skip


@dataclass(frozen=True)
class SourceSeries:
    """A series of the release.

    Attributes
    ----------
    row : mapping
        Its row of the table `series`.
    sop_uids : frozenset of str
        Its SOP Instance UIDs.
    head : Instance
        The header of its first instance.
    """

    row: Mapping[str, Any]
    sop_uids: frozenset[str] = field(repr=False)
    head: Instance = field(repr=False)


class Referred:
    """The series of a release that results refer to; the last one is kept, so ask for them in turn.

    Parameters
    ----------
    series : collection of str
        Series Instance UIDs that results tell as their sources, of this release or not.
    new : collection of str
        SOP Instance UIDs that results bear.

    Attributes
    ----------
    own_uids : set of str
        UIDs of the release's series, and those of `new` that its instances bear.
    """

    def __init__(self, release: Release, *, series: Collection[str], new: Collection[str]) -> None:
        self._release = release
        table = release.table("instance", _INSTANCE)
        wanted = table.filter(compute.is_in(table["series_instance_uid"], value_set=_texts(series)))
        order = ("series_instance_uid", "object_path", "object_offset")
        self._instances = wanted.sort_by([(name, "ascending") for name in order])
        self._places = runs_of(self._instances["series_instance_uid"])
        self._rows = {row["series_instance_uid"]: row for row in release.series_rows}
        known = table.filter(compute.is_in(table["sop_instance_uid"], value_set=_texts(new)))
        self.own_uids = {*known["sop_instance_uid"].to_pylist(), *self._rows}
        self._last: tuple[str, SourceSeries] | None = None

    def series(self, uid: str) -> SourceSeries | None:
        """A series; None when the release has it not.

        Raises
        ------
        Damaged, SourceMissing
            If the release itself cannot be read.
        """
        if uid not in self._places:
            return None
        if self._last is None or self._last[0] != uid:
            instances = self._instances.slice(*self._places[uid])
            sop_uids = frozenset(instances["sop_instance_uid"].to_pylist())
            self._last = uid, SourceSeries(self._rows[uid], sop_uids, self._head(instances.slice(0, 1).to_pylist()[0]))
        return self._last[1]

    def _head(self, row: Mapping[str, Any]) -> Instance:
        store, path = self._release.store, f"objects/{row['object_path']}"
        length = row["pixel_offset"] or row["instance_bytes"]
        try:
            return read(store.read(path, offset=row["object_offset"], length=length))
        except Unreadable as exc:
            told = f"{row['sop_instance_uid']} cannot be read"
            raise Damaged(path=store.uri(path), reason=told, contact=self._release.contact) from exc


def _texts(values: Collection[str]) -> pa.Array:
    return pa.array(sorted(values), pa.string())
