"""`radlake tidy` says what it did."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from radlake import log
from radlake.cli import main
from radlake.lake import Lake
from support.rows import rows


def test_a_crowded_table_is_tidied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    lake = Lake(url=str(tmp_path), restricted=tmp_path / "restricted")
    for name in "ab":
        lake.tables.commit_batch("core.exam", rows("core.exam", {"exam_pseudo_id": name}), batch_id=name)
    monkeypatch.setenv("RADLAKE_LAKE", str(tmp_path))
    said = []
    for arguments in ([], ["--keep-days", "0"], ["--keep-days", "0"]):
        monkeypatch.setattr(sys, "argv", ["radlake", "tidy", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        said.append(capsys.readouterr().out.split())
    log.configure(strict=True)
    assert said[0][-4:] == ["lake", "core.exam_v1", "1", "0"]
    assert said[1][-4:] == ["lake", "core.exam_v1", "0", "2"]
    assert said[2] == ["nothing", "to", "tidy"]
