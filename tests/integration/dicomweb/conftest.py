"""A lake of real images for DICOMweb, what it stores, and a socket in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import httpx
import pytest
from pydicom import Dataset, dcmread

from radlake.config import Settings
from radlake.lake import Lake, duck
from support.dicom import compressed, ct_study, image_study, sr_document, write
from support.dicomweb import PASSWORD, serving
from support.residency import harvested


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two CT studies of a person, a compressed MR cine, and a report."""
    folder = tmp_path_factory.mktemp("dicomweb")
    studies: list[list[Dataset]] = [
        ct_study(n=3, patient="李雷"),
        ct_study(n=2, patient="李雷", study=2, study_date="20250102"),
        [compressed(ds) for ds in image_study("MR", n=2, patient_id="P2", frames=3)],
        [sr_document(patient_id="P3")],
    ]
    for s, study in enumerate(studies):
        for n, ds in enumerate(study):
            write(ds, folder / "archive" / f"{s}" / f"{n}.dcm")
    return harvested(folder / "lake", folder / "archive", policy="central")


@pytest.fixture(scope="session")
def url(settings: Settings) -> Iterator[str]:
    with serving(settings) as url:
        yield url


@pytest.fixture(scope="session")
def files(settings: Settings) -> dict[str, bytes]:
    """Every instance of the lake as it is stored, by its UID."""
    lake = Lake.from_settings(settings)
    with duck.connect(lake, tables=["dicom"]) as connection:
        rows = connection.execute(
            "SELECT sop_instance_uid, object_path, object_offset, instance_bytes FROM dicom.instance"
        ).fetchall()
    return {uid: lake.objects.read(*place) for uid, *place in rows}


@pytest.fixture(scope="session")
def stored(files: dict[str, bytes]) -> dict[str, Dataset]:
    return {uid: dcmread(BytesIO(content)) for uid, content in files.items()}


@pytest.fixture
def web(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, auth=("researcher", PASSWORD), timeout=60) as client:
        yield client
