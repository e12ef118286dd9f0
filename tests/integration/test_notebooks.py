"""Notebooks: committed without outputs, and they run on a lake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import nbformat
import pytest

from radlake.config import Settings
from radlake.ingest import harvest_folder
from radlake.ingest.build import build_lake
from radlake.net import FolderNode, load_hospitals
from support import airflow

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.execute(notebook)
nbformat.write(notebook, sys.argv[2])
"""
of_each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = airflow.province(tmp_path_factory.mktemp("notebooks"))
    for hospital in load_hospitals(settings.hospitals).values():
        assert isinstance(hospital.node, FolderNode)
        harvest_folder(settings, hospital.node.path, hospital=hospital)
    build_lake(settings, now=datetime(2026, 11, 1))
    return settings


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@of_each_notebook
def test_committed_without_output(path: Path) -> None:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@of_each_notebook
def test_it_runs(path: Path, settings: Settings, tmp_path: Path) -> None:
    """In a process of its own: the kernel's client changes the event loop of the process."""
    done = tmp_path / "done.ipynb"
    process = subprocess.run(
        [sys.executable, "-c", RUN, path, done],
        env=os.environ | {"RADLAKE_LAKE": settings.lake, "MPLCONFIGDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    outputs = [output for cell in nbformat.read(done, 4).cells for output in cell.get("outputs", [])]
    assert sum(output.output_type == "execute_result" for output in outputs) == 3  # tables
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
