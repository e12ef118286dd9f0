"""Results of research on a release, written as a researcher does, and changed as nobody should."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import xxhash
from pydicom.sr.codedict import codes

import radlake
from radlake.cohort.opened import Algorithm, Measurement, Segment
from radlake.cohort.results.take import Outcome, take_results
from radlake.config import Settings
from support.cohorts import NOW

__all__ = ["ALGORITHM", "changed", "of_person", "take_all", "write_results"]

ALGORITHM = Algorithm("thresholder", "1.2", {"hu": "100"})


def write_results(settings: Settings, release_id: str, folder: Path) -> Path:
    """A segmentation of every series, and a report and a parametric map of the first."""
    cohort = radlake.open_cohort(release_id, lake=settings.lake, results=folder)
    lung = Segment("Lung", codes.SCT.Organ, codes.SCT.Lung)
    for number, volume in enumerate(cohort.volumes()):
        mask = np.zeros(volume.shape, dtype=np.uint8)
        mask[1:, 4:9, 2:5] = 1
        cohort.results.segmentation(volume, mask, segments=[lung], algorithm=ALGORITHM)
        if number == 0:
            size = Measurement(codes.SCT.Volume, 12.5, codes.UCUM.CubicMillimeter)
            cohort.results.measurements(volume, [size], label="lung", algorithm=ALGORITHM)
            quantity, unit = codes.DCM.AttenuationCoefficient, codes.UCUM.HounsfieldUnit
            cohort.results.parametric_map(
                volume, volume.array.compute() / 7, quantity=quantity, unit=unit, label="hu", algorithm=ALGORITHM
            )
    return folder


def take_all(settings: Settings, release_id: str, folder: Path, by: str = "office") -> list[Outcome]:
    return list(take_results(settings, release_id, folder, by=by, now=NOW))


def of_person(folder: Path) -> dict[str, set[str]]:
    """UIDs of the results of each person, by the folders that researchers have."""
    found: dict[str, set[str]] = {}
    for path in folder.glob("*/*/*.dcm"):
        found.setdefault(path.parts[-3], set()).add(path.stem)
    return found


def changed(
    path: Path,
    change: Callable[[pydicom.Dataset], object] = lambda _: None,
    *,
    tail: bytes = b"",
    preamble: bytes = bytes(128),
    **told: Any,
) -> None:
    """Change an object and its provenance, whose digest is that of the object again."""
    ds = pydicom.dcmread(path)
    change(ds)
    ds.preamble = preamble
    ds.save_as(path, enforce_file_format=True)
    content = path.read_bytes() + tail
    path.write_bytes(content)
    provenance = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    provenance |= {"digest": xxhash.xxh3_128_hexdigest(content), **told}
    path.with_suffix(".json").write_text(json.dumps(provenance), encoding="utf-8")
