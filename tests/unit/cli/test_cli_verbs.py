"""Which verb is meant, and that each one can be called."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake import cli


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("sys.argv", ["radlake", verb, "--help"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    assert f"radlake {verb}" in capsys.readouterr().out


def test_a_lake_may_be_named_like_a_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["radlake", "--lake", "demo", "init"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    assert (tmp_path / "demo" / "restricted" / "root.key").exists()
