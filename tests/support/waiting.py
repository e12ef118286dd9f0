"""Pictures that wait for a person: scanned ultrasound prints with the patient's name in their pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pydicom import Dataset

from radlake.cli.hospitals import hospital_of_files
from radlake.config import Settings
from radlake.ingest import harvest_folder
from radlake.lake.ledger import Ledger
from radlake.lake.quarantine import Quarantine
from radlake.review import Item, Queue
from radlake.review.picture import can_show
from support.dicom import image_study, pdf_document, write
from support.lakes import settings_of

__all__ = ["NAME", "Waiting", "named_pictures", "waiting_lake"]

NAME = "Lindqvist"  # no word of any page
NAME_BOX = (8, 4, 120, 20)  # left, top, right, bottom
ROWS, COLUMNS = 96, 160


def named_pictures(n: int, *, study: object = 1, frames: int | None = None) -> list[Dataset]:
    """A series of `n` images of one console, each with the name in its upper left corner."""
    pictures = image_study(
        "US",
        n=n,
        study=study,
        frames=frames,
        rows=ROWS,
        columns=COLUMNS,
        patient=f"{NAME}^Maja",
        manufacturer="Mindray",
        SeriesDescription=f"{NAME} scan",
        ConversionType="SD",  # scanned paper: for a person, whatever any detector sees
    )
    for ds in pictures:
        pixels = ds.pixel_array.copy()
        for frame in pixels.reshape(-1, *pixels.shape[-3 if ds.SamplesPerPixel == 3 else -2 :]):
            text = Image.new("L", (COLUMNS, ROWS))
            ImageDraw.Draw(text).text((10, 6), f"{NAME}, Maja", fill=255)
            frame[np.asarray(text) > 127] = 255
        ds.PixelData = pixels.tobytes()
    return pictures


@dataclass(frozen=True)
class Waiting:
    """A lake with a harvested folder, of which everything waits."""

    settings: Settings
    folder: Path

    def queue(self, *, can_show: Callable[[Path], bool] = can_show) -> Queue:
        ledger = Ledger(self.settings.ledger)
        return Queue(ledger, Quarantine(ledger, self.settings.restricted / "quarantine"), can_show=can_show)

    def held(self) -> dict[str, str]:
        """Reason of everything in quarantine, by id."""
        return {record["quarantine_id"]: record["reason"] for record in Ledger(self.settings.ledger).held()}

    def items(self) -> list[Item]:
        return self.queue().waiting()

    def harvest(self) -> None:
        harvest_folder(self.settings, self.folder, hospital=hospital_of_files(self.settings, "h1"))


def waiting_lake(root: Path, *, n: int = 3, frames: int | None = None) -> Waiting:
    """`n` pictures of a series, one of another study, and a PDF."""
    for n_file, ds in enumerate([*named_pictures(n, frames=frames), *named_pictures(1, study=2), pdf_document()]):
        write(ds, root / "files" / f"{n_file}.dcm")
    waiting = Waiting(settings_of(root / "lake"), root / "files")
    waiting.harvest()
    return waiting
