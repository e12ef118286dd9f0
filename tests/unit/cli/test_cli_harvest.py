"""`radlake harvest folder`: what could not be read is named, and the rest is told all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from radlake import cli, log
from support.dicom import ct_study, write
from support.lakes import settings_of


def test_files_of_a_scratched_cd_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(tmp_path / "lake")
    write(ct_study(n=1)[0], tmp_path / "cd" / "1.dcm")
    for n in range(25):
        (tmp_path / "cd" / f"bad{n:02}.dcm").symlink_to("/nonexistent/radlake")
    command = ["radlake", "--lake", settings.lake, "harvest", "folder", str(tmp_path / "cd"), "--hospital", "h1"]
    monkeypatch.setattr("sys.argv", [*command, "--json", str(tmp_path / "done.json")])
    monkeypatch.setenv("RADLAKE_WORKERS", "0")
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    log.configure(strict=True)
    said = capsys.readouterr()
    assert stopped.value.code == 1
    assert "This run: instances it brought" in said.out
    assert "error: 25 files could not be read; all the rest is harvested:\n  - bad00.dcm\n" in said.err
    assert "  - and 5 more; --json FILE has all" in said.err
    done = json.loads((tmp_path / "done.json").read_text())
    assert done["instances_stored"] == 1
    assert done["unreadable"] == [f"bad{n:02}.dcm" for n in range(25)]
