"""`radlake quarantine list` on a narrow screen: what is copied from it stays whole."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from rich.console import Console

from radlake import cli, log
from radlake.cli import quarantine
from radlake.errors import QuarantineError
from radlake.lake.ledger import Ledger
from radlake.lake.quarantine import Quarantine
from support.lakes import settings_of


@pytest.mark.parametrize("width", [80, 160])
def test_ids_and_reasons_are_not_folded(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(tmp_path / "lake")
    (tmp_path / "a.dcm").write_bytes(b"a")
    ledger = Ledger(settings.ledger)
    held = Quarantine(ledger, settings.restricted / "quarantine").hold(
        tmp_path / "a.dcm",
        hospital_id="jsa-provincial",
        error=QuarantineError(reason="patient_identity_conflict", detail="two sexes"),
        now=datetime(2026, 3, 1),
        origin="disk 17/STUDY00001/SERIES00001/IMAGE00001.dcm",
    )
    ledger.close()
    monkeypatch.setattr(quarantine, "wide_console", lambda: Console(width=width))
    monkeypatch.setattr("sys.argv", ["radlake", "--lake", settings.lake, "quarantine", "list"])
    with pytest.raises(SystemExit):
        cli.main()
    log.configure(strict=True)
    said = capsys.readouterr().out
    assert f"{held.quarantine_id}   jsa-provincial   patient_identity_conflict" in said
    assert max(map(len, said.splitlines())) <= width
    assert ("two sexes" in said) is (width > 80)
    assert "1 held: patient_identity_conflict 1" in said
