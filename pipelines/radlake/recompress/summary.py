"""What a recompression did, in numbers that add up, and what it is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from radlake.lake import Lake, duck
from radlake.recompress.series import SeriesOutcome
from radlake.resources import schemas_root
from radlake.sqlrun.reference import read_csv

__all__ = ["YEARS", "Recompressed", "Sizes", "StoragePrice", "saved_yuan", "storage_price", "total"]

YEARS = 30  # retention of a province's imaging cloud
_GIB = 1 << 30  # stores bill by it and call it GB
_ITEM = "storage_gb_month"


@dataclass
class Sizes:
    """Instances that were encoded, and their bytes before and after."""

    n_instances: int = 0
    bytes_before: int = 0
    bytes_after: int = 0

    @property
    def ratio(self) -> float:
        return round(self.bytes_before / self.bytes_after, 2) if self.bytes_after else 0.0

    def add(self, n_instances: int, bytes_before: int, bytes_after: int) -> None:
        self.n_instances += n_instances
        self.bytes_before += bytes_before
        self.bytes_after += bytes_after

    def to_json(self) -> dict[str, Any]:
        return {
            "n_instances": self.n_instances,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "ratio": self.ratio,
        }


@dataclass
class Recompressed:
    """Counts of one run. Instances looked at = encoded + left + those of refused and overtaken objects.

    Attributes
    ----------
    by_modality : dict
        Encoded instances; of an estimate, those of the whole lake at the ratio of the sample.
    left : Counter
        Instances that stay as they are, by reason; those that arrived compressed are `compressed`.
    refused : Counter
        Series objects that stay although they should not, by reason.
    n_overtaken : int
        Series objects whose rows changed meanwhile: the next run looks at them again.
    """

    hospital_id: str
    codec: str
    by_modality: dict[str, Sizes] = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    n_objects: int = 0
    n_overtaken: int = 0
    n_sampled: int = 0
    seconds: float = 0.0

    @property
    def whole(self) -> Sizes:
        result = Sizes()
        for sizes in self.by_modality.values():
            result.add(sizes.n_instances, sizes.bytes_before, sizes.bytes_after)
        return result

    def count(self, outcome: SeriesOutcome) -> None:
        """Add a series object that was swapped or left."""
        self.left.update(outcome.left)
        self.n_objects += bool(outcome.sizes)
        for modality, before, after in outcome.sizes:
            self.by_modality.setdefault(modality, Sizes()).add(1, before, after)

    def to_json(self) -> dict[str, Any]:
        return {
            "hospital_id": self.hospital_id,
            "codec": self.codec,
            **self.whole.to_json(),
            "by_modality": {name: sizes.to_json() for name, sizes in sorted(self.by_modality.items())},
            "left": dict(sorted(self.left.items())),
            "refused": dict(sorted(self.refused.items())),
            "n_objects": self.n_objects,
            "n_overtaken": self.n_overtaken,
            "n_sampled": self.n_sampled,
            "seconds": self.seconds,
        }


def total(summaries: Iterable[Recompressed], *, codec: str) -> Recompressed:
    """Sum of several hospitals."""
    result = Recompressed("", codec)
    for item in summaries:
        for modality, sizes in item.by_modality.items():
            result.by_modality.setdefault(modality, Sizes()).add(
                sizes.n_instances, sizes.bytes_before, sizes.bytes_after
            )
        result.left += item.left
        result.refused += item.refused
        result.n_objects += item.n_objects
        result.n_overtaken += item.n_overtaken
        result.n_sampled += item.n_sampled
        result.seconds += item.seconds
    return result


@dataclass(frozen=True)
class StoragePrice:
    """Price of a GB (2^30 bytes) for a month, in fen, and where it comes from."""

    fen: int
    source: str


def storage_price(lake: Lake, *, on: date) -> StoragePrice:
    """The price of ref.price that is valid on a day; of the defaults when the lake has none."""
    query = """
        SELECT price_fen, source FROM ref.price
        WHERE item = $item AND valid_from <= $day AND (valid_to IS NULL OR valid_to >= $day)
        ORDER BY valid_from DESC LIMIT 1
    """
    with duck.connect(lake, tables=["ref.price"]) as connection:
        found = connection.execute(query, {"item": _ITEM, "day": on}).fetchall()
    if found:
        return StoragePrice(*found[0])
    defaults = read_csv(schemas_root() / "ref" / "defaults" / "price.csv", name="ref.price").to_pylist()
    latest = max((row for row in defaults if row["item"] == _ITEM), key=lambda row: row["valid_from"])
    return StoragePrice(latest["price_fen"], latest["source"])


def saved_yuan(sizes: Sizes, *, price: StoragePrice) -> float:
    """Storage that is not paid for in 30 years: one copy, today's price, no interest.

    >>> saved_yuan(Sizes(1, 4 << 30, 1 << 30), price=StoragePrice(12, ""))  # 3 GB x 0.12 yuan x 12 x 30
    129.6
    """
    months = 12 * YEARS
    return round((sizes.bytes_before - sizes.bytes_after) / _GIB * price.fen * months / 100, 2)
