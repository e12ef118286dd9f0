"""The process of the pages loads nothing that reads pixels or frames: each costs tens of MB for as long as it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from radlake.config import Settings
from radlake.lake import Lake
from support import weblake

_SERVE = """
import sys
from starlette.testclient import TestClient
from radlake.cli import serve
from radlake.config import Settings
from radlake.web.server import app_of
client = TestClient(app_of(Settings(lake=sys.argv[1])))
for path in ("/", "/harvest", "/about"):
    assert client.get(path).status_code == 200, path
print(*sorted({"PIL", "gdcm", "highdicom", "pandas", "pydicom", "scipy"} & set(sys.modules)))
"""


def test_pages_load_no_dicom_and_no_pandas(tmp_path: Path) -> None:
    weblake.fill_operations(Lake.from_settings(Settings(lake=str(tmp_path))), scale=1, batch_id="test")
    done = subprocess.run([sys.executable, "-c", _SERVE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
