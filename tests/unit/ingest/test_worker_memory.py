"""A worker's memory is that of headers, whatever the size of the objects."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.dicom import dicom_bytes, image_study
from support.lakes import settings_of

_ROWS = _COLUMNS = 512
_FRAMES = 420  # of 512 KiB
_LIMIT_MB = 200
_WORKER = """
import re, sys
from pathlib import Path
from radlake.config import Settings
from radlake.dicom.part10 import read_header
from radlake.ingest.job import IngestJob, SourceFile
from radlake.ingest.study import ingest_study

source, lake, key = map(Path, sys.argv[1:])
settings = Settings(lake=str(lake), key=f"file:{key}", workers=0)
study_uid = read_header(source).study_instance_uid
outcome = ingest_study(IngestJob(settings, "h1", study_uid, (SourceFile(source, "test"),)))
peak = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
print(len(outcome.instances), outcome.instances[0]["instance_bytes"] if outcome.instances else outcome.refused, peak)
"""


def test_an_object_larger_than_the_limit_passes_below_it(tmp_path: Path) -> None:
    [ds] = image_study("CT", rows=_ROWS, columns=_COLUMNS)
    ds.NumberOfFrames = _FRAMES
    source, n_frame = tmp_path / "large.dcm", len(ds.PixelData)
    data = bytearray(dicom_bytes(ds))
    at = data.rindex(b"\xe0\x7f\x10\x00OW\x00\x00") + 8
    data[at : at + 4] = (n_frame * _FRAMES).to_bytes(4, "little")
    source.write_bytes(data)
    os.truncate(source, at + 4 + n_frame * _FRAMES)  # a hole of zeros
    settings = settings_of(tmp_path / "lake")
    command = [sys.executable, "-c", _WORKER, str(source), settings.lake, str(settings.restricted / "root.key")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    n, n_bytes, peak_kb = done.stdout.split()
    assert (n, int(n_bytes) > n_frame * _FRAMES) == ("1", True), done.stdout
    assert n_frame * _FRAMES > _LIMIT_MB * 1024**2 > int(peak_kb) * 1024


def test_a_worker_loads_nothing_of_tables_and_ledger():
    heavy = ["deltalake", "duckdb", "pandas", "pyarrow", "sqlalchemy"]
    program = f"import sys, radlake.ingest.study; print(*sorted(set({heavy}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
