"""Ctrl-C and SIGTERM in a harvest: it ends early, leaves no process behind, and the same command goes on."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rich.console import Console

from radlake.cli._progress import Bars
from radlake.config import Settings
from radlake.ingest import Progress
from support.dicom import ct_study, write
from support.lakes import settings_of, states

N_STUDIES = 40


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for s in range(N_STUDIES):
        for n, ds in enumerate(ct_study(n=3, patient=f"P^{s}", patient_id=f"P{s}")):
            write(ds, folder / f"{s}" / f"{n}.dcm")
    return folder


def start(settings: Settings, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from radlake.cli import main; main()", "--lake", settings.lake]
    return subprocess.Popen(
        [*command, "harvest", *words],
        env=os.environ | {"RADLAKE_WORKERS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def objects_of(settings: Settings) -> list[Path]:
    return list(Path(settings.lake, "objects").rglob("*.zip"))


def is_gone(session: int) -> bool:
    """Whether no worker and no fork server of this session is left."""
    for _ in range(100):
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_harvest_that_is_told_to_end_ends_and_the_same_command_goes_on(
    told: signal.Signals, archive: Path, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path / "lake")
    harvest = start(settings, "folder", str(archive), "--hospital", "h1")
    while harvest.poll() is None and not objects_of(settings):
        time.sleep(0.01)
    send = os.killpg if told is signal.SIGINT else os.kill  # a terminal tells all processes of the group, others one
    send(harvest.pid, told)
    said = harvest.communicate(timeout=300)[1]
    assert harvest.returncode == 128 + told, said
    assert len(objects_of(settings)) < N_STUDIES
    assert "stopped. Nothing is lost; the same command goes on where it stopped." in said
    assert "Traceback" not in said
    assert is_gone(harvest.pid)
    again = start(settings, "folder", str(archive), "--hospital", "h1")
    said = again.communicate(timeout=300)[1]
    assert again.returncode == 0, said
    assert sorted(state for state, _ in states(settings).values()) == ["complete"] * N_STUDIES


def test_a_second_ctrl_c_does_not_wait_for_a_node_that_says_nothing(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "lake")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.hospitals.parent.mkdir(parents=True, exist_ok=True)
        settings.hospitals.write_text(HOSPITAL.format(port=silent.getsockname()[1]), encoding="utf-8")
        harvest = start(settings, "province")
        silent.settimeout(120)
        asking, _ = silent.accept()
        with asking:
            said = ""
            for _ in range(2):
                os.killpg(harvest.pid, signal.SIGINT)
                assert harvest.stderr is not None
                while "does not wait" not in said and (line := harvest.stderr.readline()):
                    said += line
            said += harvest.communicate(timeout=300)[1]
    assert harvest.returncode == 130, said
    assert is_gone(harvest.pid)


HOSPITAL = """\
hospitals:
  - hospital_id: h1
    name_zh: 样例
    name_en: Sample
    node:
      {{kind: dimse, ae_title: HIS, host: 127.0.0.1, port: {port}, timeouts: {{connect: 3000, query: 3000}}}}
"""


def test_harvests_in_threads_end_at_their_next_study() -> None:
    is_told = threading.Event()

    def harvest(bars: Bars) -> None:
        for n_done in range(1, 1000):
            bars(Progress("h1", n_done, 1000))
            is_told.wait(0.01)

    with Bars(Console(file=io.StringIO())) as bars, ThreadPoolExecutor(1) as threads:
        running = threads.submit(harvest, bars)
        bars.stop()
        with pytest.raises(KeyboardInterrupt):
            running.result(timeout=10)
