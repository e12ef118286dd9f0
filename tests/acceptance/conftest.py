"""What several files use: the public test files, de-identified once; a small archive, and the lake that it makes."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

from radlake.config import Settings
from radlake.errors import QuarantineError
from support.deid import deidentified_bytes
from support.faults import harvest
from support.kills.archive import write_archive
from support.kills.matrix import Matrix, kill_matrix
from support.lakes import settings_of


@pytest.fixture(scope="session")
def of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of one test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="module")
def matrix(of_the_run: Path) -> Iterator[Matrix]:
    with kill_matrix(of_the_run / "kill-matrix") as matrix:
        yield matrix


@pytest.fixture(scope="session")
def corpus_outputs(corpus: Path, of_the_run: Path) -> dict[Path, bytes | str]:
    """Output bytes or reason of every file of real/ and planted/: looking for text in pixels takes minutes.

    Processes of one test run share the work: every other begins at the end, and nobody does what lies there.
    """
    shared = of_the_run / "corpus-outputs"
    shared.mkdir(exist_ok=True)
    files = (path for part in ("real", "planted") for path in (corpus / part).rglob("*"))
    paths = sorted(path for path in files if path.is_file() and path.name != "ANSWER_KEY.jsonl")
    is_odd = os.environ.get("PYTEST_XDIST_WORKER", "").endswith(("1", "3", "5", "7", "9"))
    outputs = {path: _output(path, shared) for path in (reversed(paths) if is_odd else paths)}
    return {path: outputs[path] for path in paths}


def _output(path: Path, shared: Path) -> bytes | str:
    kept = shared / xxhash.xxh3_128_hexdigest(str(path).encode())
    if kept.exists():
        return pickle.loads(kept.read_bytes())
    try:
        output = deidentified_bytes(path.read_bytes())
    except QuarantineError as error:
        output = error.reason
    part = kept.with_suffix(f".{os.getpid()}")
    part.write_bytes(pickle.dumps(output))
    part.rename(kept)
    return output


@pytest.fixture(scope="session")
def small_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "archive"
    write_archive(folder)
    return folder


@pytest.fixture(scope="session")
def whole_lake(small_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The lake of the small archive that met no fault."""
    settings = settings_of(tmp_path_factory.mktemp("whole") / "lake")
    harvest(settings, small_archive)
    return settings
