"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

from radlake import log
from support import need
from support.docker import docker
from support.rgw import rgw

__all__ = ["docker", "rgw"]

hypothesis.settings.register_profile("radlake", deadline=None)  # a busy machine is no defect
hypothesis.settings.load_profile("radlake")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: many tests wait for a server, a retry or a clock."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def strict_logs() -> None:
    """A log key outside the allow-list raises, whatever the test before had configured."""
    log.configure(strict=True)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Folder of the public test files."""
    return need.corpus_root()
