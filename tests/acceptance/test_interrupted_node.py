"""A node harvest that is killed in mid-flight and run again; a demo that is stopped by Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest

from radlake.config import Settings
from radlake.ingest import harvest_hospital
from radlake.net import DimseNode, Hospital, WebNode, Window
from radlake.synth.pacs import PacsProcess
from support.courtesy import hospital_archive
from support.lakes import picture, settings_of, states

START, END = date(2025, 10, 1), date(2025, 12, 31)
PROGRAM = [sys.executable, "-c", "from radlake.cli import main; main()"]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Hospitals' YAML of one archive behind a DIMSE and behind a DICOMweb PACS, by kind."""
    archive = hospital_archive(tmp_path_factory.mktemp("archive"), n_exams=16, start=START, end=END)
    with (
        PacsProcess("dimse", "--archive", str(archive), "--aet", "HIS") as dimse,
        PacsProcess("dicomweb", "--archive", str(archive)) as web,
    ):
        yield {
            "dimse": f"{{kind: dimse, ae_title: HIS, host: 127.0.0.1, port: {dimse.port}}}",
            "dicomweb": f"{{kind: dicomweb, base_url: 'http://127.0.0.1:{web.port}'}}",
        }


def new_lake(folder: Path, node: str) -> Settings:
    settings = settings_of(folder)
    settings.hospitals.write_text(
        f"hospitals:\n- {{hospital_id: h1, name_zh: 样例, name_en: Sample, region_code: '320100', node: {node}}}\n"
    )
    return settings


def start_harvest(settings: Settings) -> subprocess.Popen[bytes]:
    command = [*PROGRAM, "--lake", settings.lake, "harvest", "node", "--from", f"{START}", "--to", f"{END}"]
    with errors_of(settings).open("wb") as errors:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)


def errors_of(settings: Settings) -> Path:
    return settings.restricted / "stderr.txt"


def wait_until(condition: Callable[[], bool], *, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if condition() or process.poll() is not None:
            return
        time.sleep(0.05)
    pytest.fail("it never came that far")


@pytest.fixture(scope="module")
def whole(nodes: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A lake that nobody interrupted."""
    settings = new_lake(tmp_path_factory.mktemp("whole") / "lake", nodes["dimse"])
    assert start_harvest(settings).wait(300) == 0, errors_of(settings).read_text()
    return settings


@pytest.mark.parametrize("kind", ["dimse", "dicomweb"])
def test_killed_in_mid_harvest_and_run_again(kind: str, nodes: dict[str, str], whole: Settings, tmp_path: Path) -> None:
    killed = new_lake(tmp_path / "killed", nodes[kind])
    objects = Path(killed.lake) / "objects"
    for n_objects in (1, 12):
        process = start_harvest(killed)
        wait_until(lambda n=n_objects: len(list(objects.rglob("*.zip"))) >= n, process=process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start_harvest(killed).wait(300) == 0, errors_of(killed).read_text()
    assert states(killed) == states(whole)
    assert picture(killed) == picture(whole)
    assert not list((killed.restricted / "spool").rglob("*.dcm"))


def test_an_unreachable_node_is_told_and_loses_nothing(nodes: dict[str, str], tmp_path: Path) -> None:
    settings = new_lake(tmp_path / "lake", "{kind: dimse, ae_title: HIS, host: 127.0.0.1, port: 9}")
    assert start_harvest(settings).wait(300) == 1
    assert "h1: h1 cannot be reached" in errors_of(settings).read_text()
    settings = new_lake(tmp_path / "lake", nodes["dimse"])
    assert start_harvest(settings).wait(300) == 0
    assert {state for state, _ in states(settings).values()} <= {"complete", "partial", "quarantined"}


def left_of(lake: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(lake) in line and process.name != str(os.getpid()):
            found.append(line)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
def test_a_stopped_demo_leaves_no_process_behind(number: signal.Signals, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    command = [*PROGRAM, "--lake", str(lake), "demo", "--no-serve", "--exams", "120"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until(lambda: len(list((lake / "objects").rglob("*.zip"))) >= 10, process=process)
        assert process.poll() is None
        process.send_signal(number)
        process.wait(60)
        for _ in range(200):
            if not left_of(lake):
                break
            time.sleep(0.1)
        assert left_of(lake) == []
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_the_window_is_harvested_once(nodes: dict[str, str], tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "lake")
    hospital = Hospital(
        hospital_id="h1",
        name_zh="样例",
        name_en="Sample",
        region_code="320100",
        node=_node(nodes["dimse"]),
    )
    first = harvest_hospital(settings, hospital, window=Window(START, END))
    before = picture(settings)
    again = harvest_hospital(settings, hospital, window=Window(START, END))
    assert first.instances_stored > 40
    assert (again.instances_stored, again.instances_duplicate) == (0, 0)
    assert again.studies_complete == first.studies_complete
    assert picture(settings) == before


def _node(text: str) -> DimseNode | WebNode:
    import yaml

    return DimseNode.model_validate(yaml.safe_load(text))
