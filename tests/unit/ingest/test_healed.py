"""A good copy that follows a damaged one makes the study whole."""

from __future__ import annotations

from pathlib import Path

from radlake.cli.hospitals import hospital_of_files
from radlake.ingest import harvest_folder
from support.dicom import ct_study, write
from support.lakes import settings_of, states


def test_the_good_copy_heals_the_study(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "lake")
    hospital = hospital_of_files(settings, "h1")
    for n, ds in enumerate(ct_study(n=2)):
        write(ds, tmp_path / "good" / f"{n}.dcm")
        write(ds, tmp_path / "bad" / f"{n}.dcm")
    whole = (tmp_path / "bad" / "1.dcm").read_bytes()
    (tmp_path / "bad" / "1.dcm").write_bytes(whole[:-20])
    harvest_folder(settings, tmp_path / "bad", hospital=hospital)
    assert [state for state, _ in states(settings).values()] == ["partial"]
    summary = harvest_folder(settings, tmp_path / "good", hospital=hospital)
    assert (summary.instances_stored, summary.instances_duplicate) == (1, 1)
    assert [state for state, _ in states(settings).values()] == ["complete"]
