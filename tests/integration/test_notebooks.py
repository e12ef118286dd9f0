"""Notebooks: committed without outputs, and they run on a lake."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import nbformat
import pytest

from radlake.cohort.pull import Manifest, open_release, pull
from radlake.config import Settings
from radlake.ingest import harvest_folder
from radlake.ingest.build import build_lake
from radlake.net import FolderNode, load_hospitals
from support import airflow
from support.cohorts import approved, built_everybody, lake_of_cts, released, write_cts
from support.pulling import TODAY

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.execute(notebook)
nbformat.write(notebook, sys.argv[2])
"""
OUTPUTS = {  # tables and pictures
    "01_quick_look": (3, 4),
    "02_analyst": (2, 2),
    "03_researcher": (2, 3),
    "04_engineer": (5, 2),
}
of_each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = airflow.province(tmp_path_factory.mktemp("notebooks"))
    for hospital in load_hospitals(settings.hospitals).values():
        assert isinstance(hospital.node, FolderNode)
        harvest_folder(settings, hospital.node.path, hospital=hospital)
    build_lake(settings, now=datetime(2026, 11, 1))
    return settings


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release that was pulled."""
    folder = tmp_path_factory.mktemp("cohort")
    settings = lake_of_cts(folder, write_cts(folder / "in", persons=5, slices=4))
    made = released(settings, built_everybody(settings))
    approved(settings, made.release_id)
    release = open_release(settings, made.release_id, today=TODAY)
    assert pull(release, folder / "mine", manifest=Manifest(made.release_id)).is_complete
    return folder / "mine"


def test_there_are_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(OUTPUTS)


@of_each_notebook
def test_it_speaks_chinese_and_english(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for text in ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"):
        assert any("\u4e00" <= letter <= "\u9fff" for letter in text)
        assert re.search(r"[A-Za-z]{4}", text)


@of_each_notebook
def test_committed_without_output(path: Path) -> None:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@of_each_notebook
def test_it_runs(path: Path, settings: Settings, cohort: Path, tmp_path: Path) -> None:
    """In a process of its own: the kernel's client changes the event loop of the process."""
    done = tmp_path / "done.ipynb"
    process = subprocess.run(
        [sys.executable, "-c", RUN, path, done],
        env=os.environ | {"RADLAKE_LAKE": settings.lake, "RADLAKE_COHORT": str(cohort), "MPLCONFIGDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    outputs = [output for cell in nbformat.read(done, 4).cells for output in cell.get("outputs", [])]
    tables = sum("text/html" in output.get("data", {}) for output in outputs)
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    assert (tables, pictures) == OUTPUTS[path.stem]
