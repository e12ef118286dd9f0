"""Airflow for tests: the environment that `radlake airflow` makes, and the probe in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from radlake.cli.airflow import environment
from radlake.config import Settings
from support import airflow_probe, need
from support.dicom import ct_study, image_study, write_all
from support.lakes import settings_of

DAGS = Path(__file__).resolve().parents[2] / "dags"
SECRETS = ("李雷", "Meimei", "SECRET-1", "SECRET-2")


def probe(verb: str, *, settings: Settings, home: Path) -> dict[str, Any]:
    """What Airflow makes of the DAG files: see `airflow_probe`."""
    home.mkdir(parents=True, exist_ok=True)
    target = home / "probe.json"
    env = environment(settings, home=home, dags=DAGS, port=need.free_port(), jwt_secret="0" * 128)
    done = subprocess.run(
        [sys.executable, "-P", airflow_probe.__file__, verb, str(target)],  # its folder has an `airflow` too
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    (home / "probe.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(target.read_text(encoding="utf-8"))


def province(folder: Path, **given: Any) -> Settings:
    """A lake whose two hospitals are folders: a CT study of three instances, and a DX study of one."""
    settings = settings_of(folder / "lake", **given)
    write_all(ct_study(n=3, patient="李雷", patient_id="SECRET-1"), folder / "h1")
    write_all(image_study("DX", patient="Han^Meimei", patient_id="SECRET-2"), folder / "h2")
    register(settings, {name: folder / name for name in ("h1", "h2")})
    return settings


def register(settings: Settings, folders: dict[str, Path]) -> None:
    """Write hospitals.yaml: one hospital per folder."""
    hospitals = [
        {
            "hospital_id": name,
            "name_zh": f"样例{name}医院",
            "name_en": f"Sample hospital {name}",
            "region_code": "320500",
            "node": {"kind": "folder", "path": str(path)},
        }
        for name, path in folders.items()
    ]
    settings.hospitals.write_text(yaml.safe_dump({"hospitals": hospitals}, allow_unicode=True), encoding="utf-8")
