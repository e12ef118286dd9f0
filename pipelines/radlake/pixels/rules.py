"""What is known of a picture before anybody looks: ultrasound regions in the header, layouts of vendors.

Rules are YAML, a file per vendor in schemas/deid/pixel_rules/, each with its source. They come on top of the detection
of text and never replace it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import yaml
from pydicom import Dataset

from radlake.dicom.values import number, texts
from radlake.errors import ConfigInvalid
from radlake.pixels.frames import Array, Layout
from radlake.pixels.regions import Region
from radlake.resources import schemas_root

__all__ = ["PixelRule", "known_mask", "load_rules"]

_MANUFACTURER, _MODEL, _MODALITY = 0x00080070, 0x00081090, 0x00080060
_REGIONS = 0x00186011
_MIN_X, _MIN_Y, _MAX_X, _MAX_Y = 0x00186018, 0x0018601A, 0x0018601C, 0x0018601E
_LEAST_KEPT = 0.1  # of the image: regions that hold less are not believed
_KEYS = {"manufacturer", "model", "modality", "rows", "columns", "mask", "why"}


@dataclass(frozen=True, slots=True)
class PixelRule:
    """Rectangles that a vendor's screens have names in.

    Attributes
    ----------
    manufacturer, model : tuple of str
        Words; one of them must be in the attribute, whatever its case. None of `model` means any.
    rows, columns : int or None
        Size that the rule is for; None means any, and `mask` is then in thousandths of the image.
    """

    vendor: str
    manufacturer: tuple[str, ...]
    model: tuple[str, ...]
    modality: frozenset[str]
    rows: int | None
    columns: int | None
    mask: tuple[Region, ...]

    def fits(self, ds: Dataset, layout: Layout) -> bool:
        """Whether the rule is for this image."""
        maker, model = (" ".join(texts(ds, tag)).casefold() for tag in (_MANUFACTURER, _MODEL))
        return (
            any(word in maker for word in self.manufacturer)
            and (not self.model or any(word in model for word in self.model))
            and not self.modality.isdisjoint(texts(ds, _MODALITY))
            and self.rows in (None, layout.rows)
            and self.columns in (None, layout.columns)
        )


def known_mask(ds: Dataset, layout: Layout) -> Array:
    """Pixels that go, (rows, columns): outside of the ultrasound regions, inside of a vendor's rectangles."""
    mask = np.zeros((layout.rows, layout.columns), bool)
    kept = _ultrasound_regions(ds, layout)
    if sum(region.area for region in kept) >= _LEAST_KEPT * mask.size:
        mask[:] = True
        for region in kept:
            mask[region.top : region.bottom, region.left : region.right] = False
    for rule in load_rules():
        if rule.fits(ds, layout):
            for region in rule.mask:
                across, down = (1, 1) if rule.rows else (layout.columns / 1000, layout.rows / 1000)
                top, bottom = round(region.top * down), round(region.bottom * down)
                mask[top:bottom, round(region.left * across) : round(region.right * across)] = True
    return mask


def _ultrasound_regions(ds: Dataset, layout: Layout) -> list[Region]:
    """Sequence of Ultrasound Regions (PS3.3 C.8.5.5); its corners are part of a region."""
    regions = []
    items: Any = ds[_REGIONS].value if _REGIONS in ds and "US" in texts(ds, _MODALITY) else []
    for item in items or []:
        try:
            left, top, right, bottom = (number(item, tag) for tag in (_MIN_X, _MIN_Y, _MAX_X, _MAX_Y))
            region = Region(left or 0, top or 0, (right or 0) + 1, (bottom or 0) + 1)
        except ValueError:  # one that cannot be read keeps nothing
            continue
        if (clipped := region.clipped(rows=layout.rows, columns=layout.columns)) is not None:
            regions.append(clipped)
    return regions


@cache
def load_rules() -> tuple[PixelRule, ...]:
    """All rules of all vendors.

    Raises
    ------
    ConfigInvalid
        With every problem of a file.
    """
    rules = []
    for path in sorted((schemas_root() / "deid" / "pixel_rules").glob("*.yaml")):
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
        problems = [] if {"vendor", "known", "rules"} == set(spec) else ["needs vendor, known and rules, nothing else"]
        for position, entry in enumerate(spec.get("rules", [])):
            try:
                rules.append(_rule(str(spec.get("vendor", "")), entry))
            except (KeyError, TypeError, ValueError) as exc:
                problems.append(f"rules: {position}: {exc}")
        if problems:
            raise ConfigInvalid(path=str(path), problems=problems)
    return tuple(rules)


def _rule(vendor: str, entry: Mapping[str, Any]) -> PixelRule:
    if foreign := set(entry) - _KEYS:
        raise ValueError(f"unknown key {min(foreign)}")
    if not entry["why"]:
        raise ValueError("needs to say where it comes from")
    if ("rows" in entry) != ("columns" in entry):
        raise ValueError("needs both rows and columns, or neither")
    return PixelRule(
        vendor=vendor,
        manufacturer=tuple(str(word).casefold() for word in entry["manufacturer"]),
        model=tuple(str(word).casefold() for word in entry.get("model", ())),
        modality=frozenset(entry["modality"]),
        rows=entry.get("rows"),
        columns=entry.get("columns"),
        mask=tuple(Region(*rectangle) for rectangle in entry["mask"]),
    )
