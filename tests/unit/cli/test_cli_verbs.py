"""Which verb is meant, and that each one can be called."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from radlake import cli
from radlake.cli.init import ensure_key
from radlake.config import Settings, resolve_secret


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("sys.argv", ["radlake", verb, "--help"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    assert f"radlake {verb}" in capsys.readouterr().out


def test_the_version_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("sys.argv", ["radlake", "--version"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    assert re.fullmatch(r"radlake \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_a_lake_may_be_named_like_a_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["radlake", "--lake", "demo", "init"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    assert (tmp_path / "demo" / "restricted" / "root.key").exists()


def refusal(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> str:
    monkeypatch.setattr("sys.argv", ["radlake", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code
    return capsys.readouterr().err


def test_a_misspelt_setting_is_refused_and_a_secret_of_any_name_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "lake" / "tables").mkdir(parents=True)
    arguments = ["--lake", str(tmp_path / "lake"), "quarantine", "show", "0"]
    monkeypatch.setenv("RADLAKE_H1_PASSWORD", "x")
    assert "nothing is held as 0" in refusal(arguments, monkeypatch, capsys)
    monkeypatch.setenv("RADLAKE_LEDGR", "x")
    assert "RADLAKE_LEDGR is no setting; did you mean RADLAKE_LEDGER?" in refusal(arguments, monkeypatch, capsys)


def test_a_path_that_cannot_be_written_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").touch()
    told = refusal(["--lake", str(tmp_path / "file"), "init"], monkeypatch, capsys)
    assert told.startswith(f"error: {tmp_path / 'file' / 'restricted'}: Not a directory.")


def test_twins_make_one_key(tmp_path: Path) -> None:
    for number in range(20):
        settings = Settings(lake=str(tmp_path / str(number)))
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(_key_made, [settings] * 2))
        assert made[0] == made[1] == resolve_secret(settings.key)


def _key_made(settings: Settings) -> str:
    ensure_key(settings)
    return resolve_secret(settings.key)


@pytest.mark.parametrize("words", [["node", "list"], ["node", "echo", "h1"], ["fetch", "1.2.3"], ["ledger", "certify"]])
def test_a_misspelt_lake_is_told_whatever_is_asked(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "lake" / "tables").mkdir(parents=True)
    told = refusal(["--lake", str(tmp_path / "lkae"), *words], monkeypatch, capsys)
    assert f"There is no lake at {tmp_path / 'lkae'}. Did you mean {tmp_path / 'lake'}?" in told


def test_an_empty_lake_has_nothing_to_certify_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for words in (["init"], ["ledger", "certify"]):
        monkeypatch.setattr("sys.argv", ["radlake", "--lake", str(tmp_path / "lake"), *words])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert not stopped.value.code
    assert "no hospital has a study yet: nothing is certified" in capsys.readouterr().err
