"""Ranges of series objects for this process, which holds no key of the lake.

What a hospital keeps is brought into the cache by `radlake fetch` in a process of its own, as that needs the key
(docs/adr/0040-who-may-see-what.md, 0042).
"""

from __future__ import annotations

from collections.abc import Iterable

from radlake.config import Settings
from radlake.errors import SourceMissing
from radlake.lake import Lake
from radlake.lake.reading import has_object, read_object
from radlake.web.dicomweb.catalogue import Instance
from radlake.web.dicomweb.fetches import LATER, Fetches
from radlake.web.dicomweb.refusals import Gone, TryLater

__all__ = ["Pixels"]


class Pixels:
    """Reads where rows of dicom.instance point to."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lake = Lake.from_settings(settings)
        self._fetches = Fetches(settings)

    def read(self, path: str, offset: int, length: int) -> bytes:
        """One range of an object.

        Raises
        ------
        TryLater
            If the object left the cache, or is withdrawn just now.
        """
        try:
            return read_object(self._lake, path, offset, length)
        except SourceMissing as exc:
            raise TryLater(LATER) from exc

    def require(self, instances: Iterable[Instance]) -> None:
        """See to it that the objects of instances can be read, before an answer is begun.

        Raises
        ------
        Gone
            If the hospital no longer has what was catalogued.
        TryLater
        """
        objects = {one.path: one.series_uid for one in instances}
        away = {uid for path, uid in objects.items() if not has_object(self._lake, path)}
        if away:
            self._fetch(sorted(away))

    def _fetch(self, series_uids: list[str]) -> None:
        told = self._fetches.outcomes(series_uids)
        outcomes = {one["outcome"] for one in told if not one["is_here"]}
        if outcomes & {"changed", "gone", "differs"}:
            raise Gone("The hospital that kept these pixels no longer has them as they were catalogued.")
        if outcomes or not told:
            raise TryLater(LATER)
