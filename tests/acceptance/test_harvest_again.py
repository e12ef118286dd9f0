"""A harvest that is run again changes nothing. What a killed one leaves is in `test_kills_of_harvests`."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake.cli.hospitals import hospital_of_files
from radlake.config import Settings
from radlake.ingest import HarvestSummary, harvest_folder
from support.dicom import ct_study, image_study, write
from support.lakes import picture, settings_of


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three studies, one of them with an object that goes to quarantine."""
    folder = tmp_path_factory.mktemp("archive")
    studies = [
        ct_study(n=3, patient="李雷"),
        image_study("MR", n=2, patient="韩梅梅", patient_id="P2"),
        image_study("DX", n=1, patient="Wang^Fang", patient_id="P3"),
    ]
    for s, study in enumerate(studies):
        for n, ds in enumerate(study):
            write(ds, folder / f"{s}" / f"{n}.dcm")
    whole = (folder / "0" / "2.dcm").read_bytes()
    (folder / "0" / "2.dcm").write_bytes(whole[:-20])
    return folder


def harvest(settings: Settings, archive: Path) -> HarvestSummary:
    return harvest_folder(settings, archive, hospital=hospital_of_files(settings, "h1"))


def test_running_again_changes_nothing(archive: Path, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "lake")
    first = harvest(settings, archive)
    before = picture(settings)
    again = harvest(settings, archive)
    assert picture(settings) == before
    assert (first.instances_stored, first.instances_quarantined, first.instances_duplicate) == (5, 1, 0)
    assert (again.instances_stored, again.instances_quarantined, again.instances_duplicate) == (0, 1, 5)
    assert (again.studies_complete, again.studies_partial) == (2, 1)
