"""Pixels of a hospital that keeps them never come here."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake.config import Settings
from radlake.errors import ConfigInvalid
from radlake.ingest import harvest_folder
from radlake.net import FolderNode, Hospital


def test_a_hospital_that_keeps_its_pixels_is_not_harvested(tmp_path: Path) -> None:
    (tmp_path / "cd").mkdir()
    hospital = Hospital(
        hospital_id="h1",
        name_zh="样例",
        name_en="Sample",
        storage_policy="index",
        node=FolderNode(path=tmp_path / "cd"),
    )
    settings = Settings(lake=str(tmp_path / "lake"), workers=0)
    with pytest.raises(ConfigInvalid, match="h1: index is not available"):
        harvest_folder(settings, tmp_path / "cd", hospital=hospital)
    assert not (tmp_path / "lake").exists()
