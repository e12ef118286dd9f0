"""What a test needs from the machine: found, or skipped with the reason; in CI a missing thing is a failure."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from radlake.machine import free_port

__all__ = ["corpus_root", "free_port", "missing", "program"]


def missing(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI needs {what}; tests/support/install_services.sh should have installed it")
    pytest.skip(f"needs {what}")


def program(name: str, *, package: str) -> str:
    """Path of a program, for example `program("Orthanc", package="orthanc")`."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return found or missing(f"{name} (Debian package {package})")


def corpus_root() -> Path:
    """Folder of the public test files: MANIFEST.csv, real/, planted/."""
    named = os.environ.get("RADLAKE_CORPUS")
    root = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "corpus"
    return root if (root / "MANIFEST.csv").is_file() else missing("RADLAKE_CORPUS, the folder of public test files")
