"""An instance that the hospital mended: it comes when it is asked for again, and heals its study."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from radlake.config import Settings
from radlake.ingest import HarvestSummary, harvest_hospital
from radlake.net import Hospital, WebNode, Window
from radlake.synth.pacs import PacsProcess
from support.dicom import ct_study, write
from support.lakes import settings_of, states


def harvest(settings: Settings, archive: Path, *, again: tuple[str, ...] = ()) -> HarvestSummary:
    with PacsProcess("dicomweb", "--archive", str(archive)) as pacs:
        node = WebNode(base_url=f"http://127.0.0.1:{pacs.port}")
        hospital = Hospital(hospital_id="h1", name_zh="甲", name_en="A", node=node)
        window = Window(date(2000, 1, 1), date(2030, 1, 1))
        return harvest_hospital(settings, hospital, window=window, again=again)


def test_what_the_hospital_mended_comes_when_it_is_asked_for_again(tmp_path: Path) -> None:
    settings, archive = settings_of(tmp_path / "lake"), tmp_path / "archive"
    for n, ds in enumerate(ct_study(n=2)):
        write(ds, archive / f"{n}.dcm")
    whole = (archive / "1.dcm").read_bytes()
    (archive / "1.dcm").write_bytes(whole[:-20])
    [reason] = harvest(settings, archive).quarantine_by_reason
    (archive / "1.dcm").write_bytes(whole)

    assert harvest(settings, archive).instances_stored == 0
    assert [state for state, _ in states(settings).values()] == ["partial"]
    done = harvest(settings, archive, again=(reason,))
    assert (done.instances_stored, done.instances_duplicate) == (1, 0)
    assert [state for state, _ in states(settings).values()] == ["complete"]
    assert harvest(settings, archive, again=(reason,)).instances_duplicate == 0
