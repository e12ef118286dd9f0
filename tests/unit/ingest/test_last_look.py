"""If a rule of de-identification were broken, an original UID would not get out."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake.cli.hospitals import hospital_of_files
from radlake.deidentify import Deidentifier
from radlake.errors import IdentifierLeak
from radlake.ingest import harvest_folder
from radlake.lake.ledger import Ledger
from support.dicom import ct_study, write
from support.lakes import settings_of


def test_a_broken_rule_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [original] = ct_study(n=1)
    write(original, tmp_path / "cd" / "a.dcm")
    whole = Deidentifier.treat

    def broken(self: Deidentifier, ds: object, **options: object) -> object:
        treatment = whole(self, ds, **options)  # type: ignore[arg-type]
        treatment.ds.FrameOfReferenceUID = original.StudyInstanceUID
        return treatment

    monkeypatch.setattr(Deidentifier, "treat", broken)
    settings = settings_of(tmp_path / "lake")
    with pytest.raises(IdentifierLeak, match="StudyInstanceUID"):
        harvest_folder(settings, tmp_path / "cd", hospital=hospital_of_files(settings, "h1"))
    assert not list((tmp_path / "lake" / "objects").rglob("*.zip"))
    ledger = Ledger(settings.ledger)
    try:
        assert [(row["reason"], row["detail"]) for row in ledger.held()] == [
            ("referee_objection", "last look: StudyInstanceUID")
        ]
    finally:
        ledger.close()


@pytest.mark.parametrize("patient", ["Central^Hospital", "Modality^High"])
def test_who_is_called_as_a_word_of_our_tables_stops_nothing(tmp_path: Path, patient: str) -> None:
    [original] = ct_study(n=1, patient=patient)
    write(original, tmp_path / "cd" / "a.dcm")
    settings = settings_of(tmp_path / "lake")
    done = harvest_folder(settings, tmp_path / "cd", hospital=hospital_of_files(settings, "h1"))
    assert (done.instances_stored, done.instances_quarantined) == (1, 0)
