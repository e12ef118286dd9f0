"""Hospitals by county and level, and what is examined, with the share of each."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from radlake.synth.province import PREFECTURES

__all__ = ["COUNTIES", "KINDS", "MODALITIES", "PARTS", "Kind", "Places", "county_rows"]

MODALITIES = ("PT", "NM", "XA", "MR", "CT", "MG", "RF", "DX", "US", "OT", "UNKNOWN")
COUNTIES = 6  # of each prefecture, invented
# Level, share of hospitals, share of exams of one of them relative to another.
_LEVELS = (("3A", 0.08, 12.0), ("3B", 0.08, 5.0), ("2A", 0.24, 3.0), ("2B", 0.30, 1.2), ("1", 0.30, 0.3))


@dataclass(frozen=True)
class Kind:
    """A body part, the modalities that look at it with their weights, and whom it concerns.

    Attributes
    ----------
    side : str
        `paired` (left, right or not stated), `both`, or empty.
    """

    body_part: str
    modalities: tuple[tuple[str, float], ...]
    side: str = ""
    sex: str = "FM"


KINDS = (
    Kind("CHEST", (("CT", 22), ("DX", 16))),
    Kind("HEAD", (("CT", 9), ("MR", 8))),
    Kind("ABDOMEN", (("US", 14), ("CT", 8), ("MR", 2))),
    Kind("LSPINE", (("MR", 5), ("DX", 4), ("CT", 3))),
    Kind("KNEE", (("DX", 6), ("MR", 3)), side="paired"),
    Kind("HAND", (("DX", 4), ("CT", 0.5)), side="paired"),
    Kind("ANKLE", (("DX", 3), ("MR", 0.5)), side="paired"),
    Kind("SHOULDER", (("DX", 2), ("MR", 1.2)), side="paired"),
    Kind("HIP", (("DX", 2), ("CT", 0.5)), side="paired"),
    Kind("FOOT", (("DX", 1.5),), side="paired"),
    Kind("LOWERLIMB", (("US", 1), ("XA", 0.4)), side="paired"),
    Kind("PELVIS", (("DX", 2), ("CT", 2))),
    Kind("BREAST", (("MG", 4), ("US", 4), ("MR", 0.4)), side="both", sex="F"),
    Kind("UTERUS", (("US", 7),), sex="F"),
    Kind("PROSTATE", (("US", 1.5), ("MR", 1)), sex="M"),
    Kind("THYROID", (("US", 5), ("NM", 0.3))),
    Kind("HEART", (("US", 5), ("CT", 1.5), ("NM", 0.3))),
    Kind("NECK", (("CT", 2), ("US", 1))),
    Kind("CSPINE", (("MR", 3), ("DX", 2))),
    Kind("WHOLEBODY", (("PT", 1.2), ("NM", 0.6))),
    Kind("COLON", (("CT", 0.6), ("RF", 0.3))),
    Kind("STOMACH", (("RF", 0.7), ("CT", 0.3))),
    Kind("AORTA", (("CT", 0.8), ("XA", 0.3))),
    Kind("ABDOMEN+CHEST", (("CT", 3),)),
    Kind("SINUS", (("CT", 1),)),
    Kind("KIDNEY", (("US", 3), ("CT", 1.5))),
)
PARTS = (*(kind.body_part for kind in KINDS), "UNKNOWN")


@dataclass(frozen=True)
class Places:
    """The hospitals of a synthetic province, as columns: the same number gives the same hospitals.

    Attributes
    ----------
    city : np.ndarray
        Number of the prefecture of each hospital, in the order of its code.
    weight : np.ndarray
        Share of exams, sums to 1.
    """

    hospital_id: tuple[str, ...]
    region_code: tuple[str, ...]
    level: tuple[str, ...]
    city: np.ndarray
    weight: np.ndarray

    @classmethod
    def make(cls, n_hospitals: int) -> Places:
        """Hospitals of all levels in every prefecture; large prefectures have larger ones."""
        cities = list(PREFECTURES)
        # The levels of hospitals come in a fixed order in which each has its share.
        order = [name for name, share, _ in _LEVELS for _ in range(round(share * 50))]
        order = [order[number * 7 % len(order)] for number in range(len(order))]
        weight_of = {name: weight for name, _, weight in _LEVELS}
        hospital_id, region_code, level, city, weight = [], [], [], [], []
        for number, name in zip(range(n_hospitals), itertools.cycle(order), strict=False):
            at = number % len(cities)
            county = 21 + number // len(cities) % COUNTIES
            hospital_id.append(f"s{number + 1:04d}")
            region_code.append(f"{cities[at][:4]}{county}")
            level.append(name)
            city.append(at)
            weight.append(weight_of[name] * PREFECTURES[cities[at]][2])
        shares = np.array(weight) / sum(weight)
        return cls(tuple(hospital_id), tuple(region_code), tuple(level), np.array(city), shares)

    @cached_property
    def cumulated(self) -> np.ndarray:
        return np.cumsum(self.weight)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Numbers of hospitals, by weight."""
        drawn = np.searchsorted(self.cumulated, rng.random(n))
        return np.minimum(drawn, len(self.hospital_id) - 1).astype(np.int32)

    def __len__(self) -> int:
        return len(self.hospital_id)


def county_rows() -> list[dict[str, str]]:
    """The invented counties, as rows of ref.region."""
    return [
        {
            "region_code": f"{code[:4]}{21 + number}",
            "name_zh": f"{zh}示例{number + 1}县",
            "name_en": f"{en} Example County {number + 1}",
            "parent_region_code": code,
        }
        for code, (zh, en, _) in PREFECTURES.items()
        for number in range(COUNTIES)
    ]
