"""A release as a page for who pulls it: what it holds, and the manifest of what is wanted of it.

A release is asked for by its id; there is no list of them (ADR 45).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from radlake.cohort.pull import Manifest, Release, open_release
from radlake.config import Settings
from radlake.errors import ConfigInvalid, SourceMissing
from radlake.machine import utc_now
from radlake.web.cells import Cell
from radlake.web.grid import Column
from radlake.web.view import ViewInvalid

__all__ = ["COLUMNS", "LISTED", "Choice", "Releases", "cells_of", "modalities_of"]

LISTED = 200
_COLUMNS = {
    "series_instance_uid": Column("series", "text"),
    "modality": Column("modality", "modality"),
    "body_part_examined": Column("body_part_examined", "text"),
    "series_description": Column("series_description", "text"),
    "n_instances": Column("exam_instances", "count"),
    "object_bytes": Column("series_bytes", "bytes"),
}
COLUMNS: Sequence[Column] = (*_COLUMNS.values(),)


@dataclass(frozen=True)
class Choice:
    """What is wanted of a release.

    Attributes
    ----------
    modalities, series : tuple of str
        Modalities (0008,0060) and Series Instance UIDs; with series modalities choose nothing more, with neither it
        is everything.
    """

    release_id: str = ""
    modalities: tuple[str, ...] = ()
    series: tuple[str, ...] = ()

    @classmethod
    def from_query(cls, query: QueryParams) -> Choice:
        return cls(query.get("release", "").strip(), tuple(query.getlist("modality")), tuple(query.getlist("series")))

    def query(self, **changes: str) -> str:
        """Parameters of a link: the release, and not what is ticked, which can be long."""
        return urlencode({name: value for name, value in {"release": self.release_id, **changes}.items() if value})

    def listed(self, release: Release) -> list[dict[str, Any]]:
        """Rows of its series, of the chosen modalities.

        Raises
        ------
        ViewInvalid
            If the release has nothing of a modality or has not a series: never is all meant by nothing.
        """
        _refuse_unknown("modality", self.modalities, modalities_of(release))
        _refuse_unknown("series", self.series, (row["series_instance_uid"] for row in release.series_rows))
        return [row for row in release.series_rows if not self.modalities or row["modality"] in self.modalities]

    def manifest(self, release: Release, settings: Settings) -> Manifest:
        """What `radlake cohort pull` takes. Where a lake in a folder lies is told to nobody: it is another path there.

        Raises
        ------
        ViewInvalid
        """
        rows = self.listed(release)
        series = self.series or (tuple(row["series_instance_uid"] for row in rows) if self.modalities else ())
        where = ("", "") if settings.is_local else (settings.lake, settings.s3_endpoint_url)
        return Manifest(release.release_id, tuple(dict.fromkeys(series)), *where)


class Releases:
    """Opens releases that may be pulled today."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def open(self, release_id: str) -> Release | None:
        """None if there is none of this name.

        Raises
        ------
        ReleaseClosed
        """
        try:
            return open_release(self.settings, release_id, today=utc_now().date())
        except (ConfigInvalid, SourceMissing):
            return None


def modalities_of(release: Release) -> dict[str, int]:
    """Number of series of each modality."""
    found: dict[str, int] = {}
    for row in release.series_rows:
        found[row["modality"]] = found.get(row["modality"], 0) + 1
    return dict(sorted(found.items()))


def cells_of(row: Mapping[str, Any]) -> list[Cell]:
    return [row.get(name) for name in _COLUMNS]


def _refuse_unknown(parameter: str, asked: Sequence[str], known: Iterable[str]) -> None:
    if unknown := sorted({*asked} - {*known}):
        raise ViewInvalid(parameter, unknown[0][:64])
