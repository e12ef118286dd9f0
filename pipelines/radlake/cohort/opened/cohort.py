"""The entrance: `radlake.open_cohort`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from radlake.cohort.opened.results import ResultStore
from radlake.cohort.opened.samples import Samples
from radlake.cohort.opened.sources import FolderSource, Row, Source, StoreSource
from radlake.cohort.opened.volumes import LazyVolume, NotAVolume, pixels_of, volume_of
from radlake.cohort.pull import open_release
from radlake.cohort.pull.released import runs_of
from radlake.config import StoreSettings
from radlake.errors import ConfigInvalid
from radlake.machine import utc_now

if TYPE_CHECKING:
    import dask.dataframe as dd
    import numpy as np

__all__ = ["OpenCohort", "open_cohort"]


def open_cohort(cohort: str | Path, *, lake: str | None = None, results: Path | str | None = None) -> OpenCohort:
    """Open a release that you hold.

    Parameters
    ----------
    cohort : str or Path
        A folder that `radlake cohort pull` filled, or the id of a release, which is read from the store then.
    lake : str, optional
        Where that is; else RADLAKE_LAKE. Keys of S3 come from the environment, as for the command.
    results : Path, optional
        Where results are written; `results` of the folder when it was pulled.

    Raises
    ------
    ReleaseClosed, SourceMissing
    """
    folder = Path(cohort).expanduser()
    if (folder / "release.json").is_file():
        return OpenCohort(FolderSource(folder.resolve()), Path(results) if results else folder.resolve() / "results")
    settings = StoreSettings(lake=lake) if lake else StoreSettings()
    release = open_release(settings, str(cohort), today=utc_now().date())
    return OpenCohort(StoreSource(release), Path(results) if results else None)


@dataclass(frozen=True)
class OpenCohort:
    """A release: data frames, volumes, samples, results."""

    source: Source = field(repr=False)
    results_folder: Path | None = None

    @property
    def release_id(self) -> str:
        return self.source.document["release_id"]

    @cached_property
    def persons(self) -> pd.DataFrame:
        return self.pandas("person")

    @cached_property
    def exams(self) -> pd.DataFrame:
        return self.pandas("exam")

    @cached_property
    def follow_ups(self) -> pd.DataFrame:
        return self.pandas("follow_up")

    @cached_property
    def controls(self) -> pd.DataFrame:
        """Controls of each index exam, of a cohort that asks for them."""
        return self.pandas("control")

    @cached_property
    def findings(self) -> pd.DataFrame:
        return self.pandas("finding")

    @cached_property
    def series(self) -> pd.DataFrame:
        return self.pandas("series")

    @cached_property
    def instances(self) -> pd.DataFrame:
        return self.pandas("instance")

    def pandas(self, table: str) -> pd.DataFrame:
        """A table of the release."""
        self._require(table)
        return self.source.table(table).to_pandas()

    def dask(self, table: str, *, npartitions: int = 8) -> dd.DataFrame:
        """A table of the release as a Dask data frame."""
        import dask.dataframe as dd

        return dd.from_pandas(self.pandas(table), npartitions=npartitions)

    def volume(self, series_uid: str) -> LazyVolume:
        """A series as a lazy volume.

        Raises
        ------
        NotAVolume
        """
        return volume_of(self.source, self._row(series_uid), self._instances_of(series_uid))

    def volumes(self) -> Iterator[LazyVolume]:
        """Every series that is one, in the order of the table; others are passed over."""
        for uid in self._rows:
            try:
                yield self.volume(uid)
            except NotAVolume:
                continue

    def images(self, series_uid: str) -> Iterator[np.ndarray]:
        """The instances of a series one by one, in the order of the table: decoded, rescaled, float32."""
        self._row(series_uid)
        for one in self._instances_of(series_uid):
            if one["pixel_offset"] is not None:
                yield pixels_of(self.source.instance(one))

    def samples(
        self,
        series: Sequence[str] | None = None,
        *,
        transform: Callable[[Any], Any] | None = None,
        seed: int | None = None,
    ) -> Samples:
        """Volumes for training, those of `series` or all; see `Samples`."""
        if series is None:
            series = [volume.series_uid for volume in self.volumes()]
        return Samples(self, list(series), transform, seed)

    def labels(self, series_uid: str) -> dict[str, Any]:
        """What the tables tell of a series, its exam and its person."""
        row = self._row(series_uid)
        told: dict[str, Any] = {}
        for table, key in (("person", "person_pseudo_id"), ("exam", "exam_pseudo_id")):
            told |= self._by_key[table].get(row[key], {})
        return told | {name: value for name, value in row.items() if not name.startswith("object_")}

    @property
    def results(self) -> ResultStore:
        """Where segmentations, measurements and parametric maps are written and listed.

        Raises
        ------
        ConfigInvalid
            If nobody said where.
        """
        if self.results_folder is None:
            problem = "say where results shall lie: open_cohort(..., results=FOLDER)"
            raise ConfigInvalid(path=self.release_id, problems=[problem])
        return ResultStore(self.results_folder, self.source.document)

    def _require(self, table: str) -> None:
        if table not in self.source.document["tables"]:
            there = ", ".join(self.source.document["tables"])
            raise ConfigInvalid(path=self.release_id, problems=[f"it has no table {table}; there are {there}"])

    def _row(self, series_uid: str) -> Row:
        if series_uid not in self._rows:
            raise ConfigInvalid(path=self.release_id, problems=[f"it has no series {series_uid}"])
        return self._rows[series_uid]

    def _instances_of(self, series_uid: str) -> list[dict[str, Any]]:
        table = self._instances
        return table.slice(*self._places[series_uid]).to_pylist() if series_uid in self._places else []

    @cached_property
    def _rows(self) -> dict[str, Row]:
        return {row["series_instance_uid"]: row for row in self.source.table("series").to_pylist()}

    @cached_property
    def _instances(self) -> Any:
        return self.source.table("instance").sort_by(
            [("series_instance_uid", "ascending"), ("object_path", "ascending"), ("object_offset", "ascending")]
        )

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        return runs_of(self._instances["series_instance_uid"])

    @cached_property
    def _by_key(self) -> dict[str, dict[str, dict[str, Any]]]:
        keys = {"person": "person_pseudo_id", "exam": "exam_pseudo_id"}
        return {table: {row[key]: row for row in self.source.table(table).to_pylist()} for table, key in keys.items()}
