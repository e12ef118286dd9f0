"""`radlake node`: the registry as a table, and who answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support import need
from support.pacs import orthanc


def radlake(hospitals: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("radlake")), "--hospitals", str(hospitals), "node", *arguments]
    lake = hospitals.parent / "lake"
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={"RADLAKE_LAKE": str(lake), "PATH": ""}
    )


@pytest.fixture
def hospitals(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    path = tmp_path / "hospitals.yaml"
    path.write_text(
        f"""
hospitals:
  - hospital_id: jsph
    name_zh: 江苏样例医院
    name_en: Jiangsu Example Hospital
    region_code: 320106
    level: 3A
    node: {{kind: dimse, ae_title: ORTHANC, host: 127.0.0.1, port: {need.free_port()}}}
  - hospital_id: disk
    name_zh: 旧光盘
    name_en: Old disks
    node: {{kind: folder, path: disk}}
""",
        encoding="utf-8",
    )
    return path


def test_the_list(hospitals: Path) -> None:
    listed = radlake(hospitals, "list")
    assert listed.returncode == 0, listed.stderr
    lines = [line.split() for line in listed.stdout.splitlines() if set(line) - set("─ ")]
    assert lines[0] == ["hospital", "name", "region", "level", "storage", "retrieve", "address"]
    assert lines[1][:6] == ["jsph", "江苏样例医院", "320106", "3A", "central", "c-get"]
    assert lines[1][6].startswith("ORTHANC@127.0.0.1:")
    assert ["disk", "旧光盘", "UNKNOWN", "UNKNOWN", "central", "folder", str(hospitals.parent / "disk")] in lines


def test_one_failure_is_told_and_the_others_are_asked_all_the_same(hospitals: Path) -> None:
    asked = radlake(hospitals, "echo")
    assert asked.returncode == 1
    first, *_, last = asked.stdout.splitlines()
    assert first == "jsph: jsph cannot be reached (connection refused)."
    assert last.startswith("disk: ok, ")


@pytest.mark.orthanc
@pytest.mark.parametrize("way", ["get", "move"])
def test_a_node_that_answers_needs_no_port_of_ours(way: str, hospitals: Path, tmp_path: Path) -> None:
    with orthanc(tmp_path) as pacs:
        text = hospitals.read_text(encoding="utf-8")
        old = text.split("port: ")[1].split("}")[0]
        hospitals.write_text(text.replace(old, f"{pacs.dicom_port}, retrieve: {way}"), encoding="utf-8")
        asked = radlake(hospitals, "echo", "jsph")
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert asked.stdout.startswith("jsph: ok, ")
    assert len(asked.stdout.splitlines()) == 1


def test_a_hospital_that_is_not_registered(hospitals: Path) -> None:
    asked = radlake(hospitals, "echo", "jshp")
    assert asked.returncode == 2
    assert "did you mean jsph?" in asked.stderr


def test_a_hospitals_file_with_mistakes(hospitals: Path) -> None:
    text = hospitals.read_text(encoding="utf-8")
    hospitals.write_text(text.replace("ae_title", "aetitle").replace("level: 3A", "level: top"), encoding="utf-8")
    listed = radlake(hospitals, "list")
    assert listed.returncode == 1
    assert "hospitals[0].node.aetitle: unknown key; did you mean ae_title?" in listed.stderr
    assert "hospitals[0].level: must be 1, 2 or 3" in listed.stderr
