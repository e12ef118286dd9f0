"""Quarantine keeps the original bytes, once, with today's reason."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from radlake.errors import QuarantineError, StoreFull
from radlake.lake.ledger import Ledger
from radlake.lake.quarantine import Quarantine

NOW = datetime(2026, 3, 1)


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    return Quarantine(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}"), tmp_path / "quarantine")


@pytest.fixture
def bad_file(tmp_path: Path) -> Path:
    path = tmp_path / "bad.dcm"
    path.write_bytes(b"\x00" * 100)
    return path


def test_holding_twice_keeps_one_with_the_newer_reason(quarantine: Quarantine, bad_file: Path) -> None:
    for reason in ("part10_truncated", "pixel_risk"):
        aside = quarantine.hold(
            bad_file, hospital_id="h1", error=QuarantineError(reason=reason, detail="x"), now=NOW, origin="cd/bad.dcm"
        )
    [record] = quarantine.held()
    assert (record["quarantine_id"], record["reason"], record["origin"]) == (
        aside.quarantine_id,
        "pixel_risk",
        "cd/bad.dcm",
    )
    assert quarantine.path(aside.quarantine_id).read_bytes() == bad_file.read_bytes()


def test_released_objects_are_no_longer_held_but_their_bytes_stay(quarantine: Quarantine, bad_file: Path) -> None:
    aside = quarantine.hold(bad_file, hospital_id="h1", error=QuarantineError(reason="pixel_risk"), now=NOW)
    quarantine.release([aside.quarantine_id], now=NOW)
    assert quarantine.held() == []
    assert quarantine.path(aside.quarantine_id).exists()


def test_a_full_disk_leaves_no_half_file_and_no_row(
    quarantine: Quarantine, bad_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(StoreFull, match="No space left"):
        quarantine.hold(bad_file, hospital_id="h1", error=QuarantineError(reason="pixel_risk"), now=NOW)
    assert quarantine.held() == []
    assert not list(bad_file.parent.rglob("*.part"))
