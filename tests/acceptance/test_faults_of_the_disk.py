"""A full disk: from a commit point on no file of the process may grow. It is told, and a run with room mends all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from radlake.config import Settings
from support.faults import outcome
from support.kills import commands
from support.lakes import settings_of
from support.warm import Warm


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm(commands.warm_up) as warm:
        yield warm


@pytest.mark.parametrize(
    "point",
    [
        "study.discovered",
        "study.begun",
        "quarantine.entered",
        "object.built",
        "object.stored",
        "batch.written",
        "batch.staged",
        "table.created",
        "table.written",
        "batch.dicom.instance",
        "batch.settled",
        "batch.unstaged",
    ],
)
def test_a_disk_that_is_full_is_told_and_mended(
    point: str, small_archive: Path, whole_lake: Settings, warm: Warm, tmp_path: Path
):
    given = {"folder": str(small_archive)}
    settings = settings_of(tmp_path / "lake")
    error, text = warm.value(commands.starved, "folder", tmp_path, given, point)
    assert error in ("StoreFull", "StoreUnavailable")
    assert "othing was lost" in text
    assert warm.call(commands.run_again, "folder", tmp_path, given).error == ""
    assert outcome(settings) == outcome(whole_lake)
