"""The same studies by C-GET, C-MOVE, WADO-RS and from a folder: the same objects, byte for byte, and the same rows."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file

from radlake.config import Settings
from radlake.ingest import HarvestSummary, harvest_folder, harvest_hospital
from radlake.net import FolderNode, Hospital, Window
from support.dicom import compressed, ct_study, image_study, mr_study, sr_document, write
from support.lakes import picture, settings_of, states
from support.pacs import dcmqrscp, orthanc

ALWAYS = Window(date(1990, 1, 1), date(2030, 12, 31))
# Real objects of real scanners: private elements, sequences, other transfer syntaxes.
REAL = (
    "CT_small.dcm",
    "MR_small.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "examples_overlay.dcm",
    "liver_1frame.dcm",
    "waveform_ecg.dcm",
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    made = [
        *ct_study(n=3, patient="李雷"),
        *mr_study(n=2, patient="韩梅梅", patient_id="P2"),
        *image_study("DX", n=1, patient_id="P3"),
        sr_document(),
    ]
    made.append(compressed(image_study("CR", n=1, patient_id="P4")[0]))
    for n, ds in enumerate(made):
        write(ds, folder / f"{n:02d}.dcm")
    for name in REAL:
        source = get_testdata_file(name)
        assert isinstance(source, str)
        (folder / name).write_bytes(Path(source).read_bytes())
    return folder


def hospital(node: Any) -> Hospital:
    return Hospital(
        hospital_id="h1", name_zh="样例医院", name_en="Sample Hospital", region_code="320100", level="3A", node=node
    )


@pytest.fixture(scope="module")
def from_folder(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, HarvestSummary]:
    settings = settings_of(tmp_path_factory.mktemp("folder") / "lake")
    return settings, harvest_folder(settings, archive, hospital=hospital(FolderNode(path=archive)))


def test_the_archive_is_stored_whole_from_a_folder(from_folder: tuple[Settings, HarvestSummary]) -> None:
    settings, summary = from_folder
    assert {state for state, _ in states(settings).values()} == {"complete"}
    assert summary.instances_stored == 8 + len(REAL)


def harvest(settings: Settings, node: Any) -> HarvestSummary:
    return harvest_hospital(settings, hospital(node), window=ALWAYS)


@pytest.mark.orthanc
@pytest.mark.parametrize("retrieve", ["get", "move", "web"])
def test_orthanc_gives_the_lake_of_the_folder(
    retrieve: str, archive: Path, from_folder: tuple[Settings, HarvestSummary], tmp_path: Path
) -> None:
    with orthanc(tmp_path, files=sorted(archive.iterdir())) as pacs:
        settings = settings_of(tmp_path / "lake", scp_port=pacs.destination_port)
        node = pacs.web_node() if retrieve == "web" else pacs.dimse_node(retrieve=retrieve)
        harvest(settings, node)
        again = harvest(settings, node)
    expected = from_folder[0]
    assert states(settings) == states(expected)
    assert picture(settings) == picture(expected)
    assert (again.instances_stored, again.instances_duplicate) == (0, 0)


@pytest.mark.dcmqrscp
@pytest.mark.parametrize("retrieve", ["get", "move"])
def test_dcmqrscp_gives_what_it_can_send_and_the_rest_is_not_called_complete(
    retrieve: str, archive: Path, from_folder: tuple[Settings, HarvestSummary], tmp_path: Path
) -> None:
    """Without options dcmqrscp cannot send JPEG 2000 and RLE: those two studies are partial, with its own words."""
    with dcmqrscp(tmp_path, files=sorted(archive.iterdir())) as pacs:
        settings = settings_of(tmp_path / "lake", scp_port=pacs.destination_port)
        harvest(settings, pacs.dimse_node(retrieve=retrieve))
    reached, expected = states(settings), states(from_folder[0])
    refused = {study for study, (state, _) in reached.items() if state != "complete"}
    assert len(refused) == 2
    assert all(reached[study][0] == "partial" and "0xA702" in reached[study][1] for study in refused)
    assert {study: reached[study] for study in reached if study not in refused} == {
        study: expected[study] for study in expected if study not in refused
    }
    got, wanted = picture(settings), picture(from_folder[0])
    assert len(got["dicom.study"]) == len(wanted["dicom.study"]) - 2
    assert all(
        row in wanted[table] for table in ("dicom.study", "dicom.series", "dicom.instance") for row in got[table]
    )
    assert all(wanted["objects"][path] == digest for path, digest in got["objects"].items())
