"""Upkeep: small files become large ones, what nobody needs goes, what anybody may need stays."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from radlake.lake.upkeep import Tidied, tidy
from support.rows import rows


def test_both_zones_are_tidied(tmp_path: Path):
    lake = Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")
    for i in range(3):
        lake.tables.commit_batch("core.exam", rows("core.exam", {"exam_pseudo_id": f"e{i}"}), batch_id=f"b{i}")
        volume = rows("stats.exam_volume", {"n_exams": i})
        lake.restricted_tables.overwrite("stats.exam_volume", volume, batch_id=f"b{i}")
    old, young = lake.scratch / "object-1.zip", lake.scratch / "object-2.zip"
    lake.scratch.mkdir()
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 8 * 86400,) * 2)

    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert tidy(lake, ledger=ledger) == [Tidied(zone="lake", table="core.exam_v1", n_months=1, n_files=0)], (
        "too young to be deleted"
    )
    assert tidy(lake, ledger=ledger, retention=timedelta(0)) == [
        Tidied(zone="lake", table="core.exam_v1", n_months=0, n_files=3),
        Tidied(zone="restricted", table="stats.exam_volume_v1", n_months=0, n_files=2),
    ]
    assert tidy(lake, ledger=ledger, retention=timedelta(0)) == []
    assert (old.exists(), young.exists()) == (False, True)
    ledger.close()
    with duck.connect(lake, zone="restricted") as connection:
        assert connection.execute("SELECT count(*) FROM core.exam").fetchall() == [(3,)]
        assert connection.execute("SELECT n_exams FROM stats.exam_volume").fetchall() == [(2,)]
