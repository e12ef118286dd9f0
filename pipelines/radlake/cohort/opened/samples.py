"""Volumes one after the other for training: what PyTorch's DataLoader asks of a data set, without PyTorch.

It has a length and items, so `DataLoader(samples, num_workers=4)` shuffles and shares them out; iterated by itself it
goes through all of them, in an order that follows from seed and epoch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from radlake.cohort.opened.cohort import OpenCohort

__all__ = ["Samples"]

Sample = Mapping[str, Any]


@dataclass(frozen=True)
class Samples:
    """Series of a cohort as samples.

    Attributes
    ----------
    series : sequence of str
        Series Instance UIDs.
    transform : callable, optional
        From a sample (`image`: float32 (1, slices, rows, columns); `affine`, `spacing_mm`; and what the tables tell of
        series, exam and person) to what training gets.
    seed : int, optional
        Shuffles; None keeps the order.
    """

    cohort: OpenCohort = field(repr=False)
    series: Sequence[str] = field(repr=False)
    transform: Callable[[Sample], Any] | None = None
    seed: int | None = None
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.series)

    def __getitem__(self, number: int) -> Any:
        uid = self.series[number]
        volume = self.cohort.volume(uid)
        sample = {
            **self.cohort.labels(uid),
            "image": volume.array.compute(scheduler="synchronous")[np.newaxis],
            "affine": volume.affine,
            "spacing_mm": np.array(volume.spacing_mm),
        }
        return sample if self.transform is None else self.transform(sample)

    def __iter__(self) -> Iterator[Any]:
        order = list(range(len(self)))
        if self.seed is not None:
            random.Random(f"{self.seed} {self.epoch}").shuffle(order)
        return map(self.__getitem__, order)

    def shard(self, number: int, of: int) -> Samples:
        """Each `of`-th series, from `number` on: what one of several machines trains with."""
        return replace(self, series=list(self.series)[number::of])

    def at_epoch(self, epoch: int) -> Samples:
        return replace(self, epoch=epoch)
