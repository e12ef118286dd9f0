"""`radlake key` and `radlake vault`: from a lost key back to work, and a patient's number that nobody sees."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from radlake import log
from radlake.cli import main
from support.dicom import ct_study, write_all
from support.lakes import KEY, settings_of

ASKED = ("--by", "Zhang, DPO", "--why", "approval 2026-17")


class Shell:
    """`radlake` on one lake, in this process."""

    def __init__(self, lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._lake, self._monkeypatch, self._capsys = lake, monkeypatch, capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        self._monkeypatch.setattr(sys, "argv", ["radlake", "--lake", str(self._lake), *arguments])
        try:
            with pytest.raises(SystemExit) as end:
                main()
        finally:
            log.configure(strict=True)
        out, err = self._capsys.readouterr()
        assert (end.value.code or 0) == code, err
        assert KEY not in out + err
        return out if code == 0 else err


@pytest.fixture
def radlake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    settings_of(tmp_path / "lake")
    (tmp_path / "lake" / "tables").mkdir()
    monkeypatch.setenv("RADLAKE_WORKERS", "0")
    monkeypatch.setenv("PASSPHRASE", "correct horse battery")
    monkeypatch.setenv("OTHER_PASSPHRASE", "another horse battery")
    monkeypatch.setenv("KEK", "1a" * 32)
    return Shell(tmp_path / "lake", monkeypatch, capsys)


def test_a_lost_key_comes_back_from_its_backup(radlake: Shell, tmp_path: Path) -> None:
    files, key, copy = tmp_path / "files", tmp_path / "lake" / "restricted" / "root.key", str(tmp_path / "copy.json")
    write_all(ct_study(n=1), files)
    harvest = ("harvest", "folder", str(files), "--hospital", "h1")
    radlake(*harvest)
    assert "wrote" in radlake("key", "export-backup", copy, "--passphrase", "env:PASSPHRASE")
    assert "it exists" in radlake("key", "export-backup", copy, "--passphrase", "env:PASSPHRASE", code=1)
    assert "same key" in radlake("key", "verify", "--backup", copy, "--passphrase", "env:PASSPHRASE")
    key.unlink()
    for lost in (harvest, ("init",), ("key", "status"), ("build",)):
        assert "A new key would give every person a second pseudonym" in radlake(*lost, code=1)
    assert "passphrase is another" in radlake(
        "key", "import-backup", copy, "--passphrase", "env:OTHER_PASSPHRASE", code=1
    )
    radlake("key", "import-backup", copy, "--passphrase", "env:PASSPHRASE")
    assert key.stat().st_mode & 0o777 == 0o600
    assert "left alone" in radlake("key", "import-backup", copy, "--passphrase", "env:PASSPHRASE", code=1)
    assert "is the key of this lake" in radlake("key", "verify")
    assert [json.loads(line)["action"] for line in radlake("vault", "audit", "--json").splitlines()] == ["backup"] * 2


def test_status_tells_what_should_be_done(radlake: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all(ct_study(n=1), tmp_path / "files")
    radlake("harvest", "folder", str(tmp_path / "files"), "--hospital", "h1")
    key = tmp_path / "lake" / "restricted" / "root.key"
    key.chmod(0o644)
    told = json.loads(radlake("key", "status", "--json"))
    assert "others may read it" in told["protection"]
    assert (told["records"], told["vault_key_version"], told["studies_without_record"]) == (1, 1, 0)
    radlake("key", "rewrap", "--with", "env:KEK")
    assert "RADLAKE_KEY_WRAP" in radlake("key", "status", code=1)
    monkeypatch.setenv("RADLAKE_KEY_WRAP", "env:KEK")
    assert json.loads(radlake("key", "status", "--json"))["protection"] == "wrapped"
    assert "version 2" in radlake("key", "rotate", *ASKED)
    assert "1 of 1 records can be opened" in radlake("vault", "check", *ASKED)


def test_a_patients_number_is_read_from_input(radlake: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all(ct_study(n=1, patient_id="P0001"), tmp_path / "files")
    radlake("harvest", "folder", str(tmp_path / "files"), "--hospital", "h1")
    monkeypatch.setattr(sys, "stdin", io.StringIO("P0001\n"))
    [person] = json.loads(radlake("vault", "find", "--forward", "h1:-", *ASKED, "--json"))["persons"]
    assert person["n_studies"] == 1
    assert "李雷" in radlake("vault", "find", "--patient", person["patient_id"], *ASKED)


@pytest.mark.parametrize(
    "arguments",
    [("--study", "2.25.1"), (*ASKED,), ("--study", "2.25.1", "--exam", "0" * 16, *ASKED), ("--forward", "h1", *ASKED)],
    ids=["nobody asks", "nothing asked", "two things", "no number"],
)
def test_an_unclear_question_is_not_asked(arguments: tuple[str, ...], radlake: Shell) -> None:
    assert "Usage" in radlake("vault", "find", *arguments, code=2)


def test_a_lake_that_is_not_there_is_not_made(radlake: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radlake, "_lake", tmp_path / "lak")
    for verb in (("key", "status"), ("key", "verify"), ("vault", "audit")):
        assert "There is no lake" in radlake(*verb, code=1)
    assert not (tmp_path / "lak").exists()
