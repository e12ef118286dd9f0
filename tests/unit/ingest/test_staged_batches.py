"""A batch of several hospitals is looked for by each of them, also while another process writes it."""

from __future__ import annotations

import json
from pathlib import Path

from radlake.ingest.batch import has_staged, roll_forward
from radlake.lake import Lake
from radlake.machine import utc_now
from support.lakes import keyed_ledger, settings_of

HALF_WRITTEN = ""


def test_a_batch_that_is_being_written_is_left_to_its_writer(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "lake")
    lake = Lake.from_settings(settings)
    manifest = lake.staged / "_together" / "0a.part" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(HALF_WRITTEN)
    ledger = keyed_ledger(settings.ledger)
    try:
        roll_forward(lake, ledger, hospital_id="h1", now=utc_now())
    finally:
        ledger.close()
    assert manifest.exists()
    assert not has_staged(lake, "h1")


def test_a_staged_batch_waits_for_each_hospital_that_has_a_part_in_it(tmp_path: Path) -> None:
    lake = Lake.from_settings(settings_of(tmp_path / "lake"))
    folder = lake.staged / "_together" / "0a"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"batch_id": "0a", "settlements": [{"hospital_id": "h1"}]}))
    assert has_staged(lake, "h1")
    assert not has_staged(lake, "h2")
