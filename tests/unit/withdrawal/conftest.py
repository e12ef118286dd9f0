"""A lake of eight persons of two exams each, with a cohort and a release of all of them; each test has a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from radlake.config import Settings
from support.cohorts import write_cts
from support.withdrawal import lake_with_release


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cts(tmp_path_factory.mktemp("withdrawal") / "in", exams=2, slices=2)


@pytest.fixture(scope="session")
def whole(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings, _ = lake_with_release(tmp_path_factory.mktemp("whole"), archive)
    return Path(settings.lake)


@pytest.fixture
def settings(whole: Path, tmp_path: Path) -> Settings:
    return Settings(lake=str(shutil.copytree(whole, tmp_path / "lake")), workers=0)
