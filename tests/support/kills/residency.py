"""Pixels that a hospital keeps: fetched on demand when they changed and when they are back, and brought in."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from support.dicom import ct_study, image_study, write
from support.kills.harvests import hospital_of, see_harvest
from support.kills.scenario import Scenario, settings_in, speed_up

__all__ = ["RESIDENCY"]


def _kept(folder: Path, given: Mapping[str, Any]) -> None:
    """Three studies that the hospital keeps, none of them in the cache; the hospital is the folder `source`."""
    from radlake.ingest import harvest_folder
    from support.lakes import settings_of

    speed_up()
    studies = [ct_study(n=2), image_study("MR", n=2, patient_id="P2"), image_study("DX", n=1, patient_id="P3")]
    for s, study in enumerate(studies):
        for n, ds in enumerate(study):
            write(ds, folder / "source" / f"{s}" / f"{n}.dcm")
    settings = settings_of(folder / "lake", cache_bytes=0)
    harvest_folder(settings, folder / "source", hospital=_hospital(folder))


def _hospital(folder: Path, *, policy: str = "index") -> Any:
    from radlake.net import FolderNode

    return hospital_of("h1", FolderNode(name="h1", path=folder / "source"), storage_policy=policy)


def _changed(folder: Path, given: Mapping[str, Any]) -> None:
    """Then the hospital changes an instance of one study and loses one of another."""
    import pydicom

    _kept(folder, given)
    shutil.copytree(folder / "source", folder / "as-it-was")
    changed = folder / "source" / "0" / "1.dcm"
    ds = pydicom.dcmread(changed)
    ds.PixelData = bytes(reversed(ds.PixelData))
    ds.save_as(changed)
    (folder / "source" / "1" / "0.dcm").unlink()


def _told(folder: Path, given: Mapping[str, Any]) -> None:
    """Then that is noticed, and the hospital has everything again as it was."""
    _changed(folder, given)
    _fetch(folder, given)
    shutil.rmtree(folder / "source")
    (folder / "as-it-was").rename(folder / "source")


def _fetch(folder: Path, given: Mapping[str, Any]) -> None:
    """Everything that the hospital keeps, study by study."""
    from radlake.lake import Lake
    from radlake.residency import fetch_study, objects_of

    settings = settings_in(folder)
    for item in objects_of(Lake.from_settings(settings), residency="index"):
        fetch_study(settings, _hospital(folder), [item])


def _bring_in(folder: Path, given: Mapping[str, Any]) -> None:
    from radlake.residency import bring_in

    bring_in(settings_in(folder), _hospital(folder, policy="central"))


def _see_kept(folder: Path) -> dict[str, Any]:
    """Besides a harvest: what is in the cache, and what of the quarantine was released."""
    import sqlalchemy as sa

    from radlake.lake.ledger import Ledger
    from radlake.lake.ledger_tables import QUARANTINE
    from support.residency import cached

    settings = settings_in(folder)
    with closing(Ledger(settings.ledger)) as ledger, ledger.reading() as connection:
        columns = (QUARANTINE.c.quarantine_id, QUARANTINE.c.reason, QUARANTINE.c.replayed_at.is_not(None))
        held = [tuple(row) for row in connection.execute(sa.select(*columns).order_by(QUARANTINE.c.quarantine_id))]
    return see_harvest(folder) | {"cached": cached(settings), "released": held}


RESIDENCY: Mapping[str, Scenario] = {
    "fetch": Scenario(_fetch, _see_kept, _changed),
    "fetch-back": Scenario(_fetch, _see_kept, _told),
    "bring-in": Scenario(_bring_in, _see_kept, _kept),
}
