"""A verb of `radlake`, as a person types it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from radlake import log
from radlake.cli import main

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a verb on a lake of its own: (exit code, what it said)."""
    monkeypatch.setenv("RADLAKE_LAKE", str(tmp_path / "lake"))

    def command(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["radlake", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        log.configure(strict=True)
        said = capsys.readouterr()
        return int(stopped.value.code or 0), said.out + said.err

    return command
