"""A lake is a value: it follows from the settings, goes to worker processes, and never shows a secret."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from radlake.config import Settings
from radlake.errors import KeyMissing
from radlake.lake import Lake


def test_a_local_lake_follows_from_its_folder(tmp_path: Path):
    lake = Lake.from_settings(Settings(lake=str(tmp_path)))
    assert lake.tables.root == f"{tmp_path}/tables"
    assert lake.objects.url == f"{tmp_path}/objects"
    assert lake.restricted_tables.root == f"{tmp_path}/restricted/tables"
    assert lake.objects.scratch == tmp_path / "restricted/scratch"
    assert pickle.loads(pickle.dumps(lake)) == lake
    assert list(tmp_path.iterdir()) == []


def test_a_lake_on_s3_keeps_references_to_its_keys_and_never_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LAKE_KEY", "AKIA-of-the-lake")
    (tmp_path / "secret").write_text("very-secret\n", encoding="utf-8")
    settings = Settings(
        lake="s3://bucket/lake/",
        restricted=tmp_path,
        s3_endpoint_url="http://127.0.0.1:9",
        s3_access_key="env:LAKE_KEY",
        s3_secret_key=f"file:{tmp_path / 'secret'}",
    )
    lake = Lake.from_settings(settings)
    assert lake.tables.root == "s3://bucket/lake/tables"
    assert lake.tables.storage_options is not None
    options = lake.tables.storage_options.for_delta()
    assert options["aws_access_key_id"] == "AKIA-of-the-lake"
    assert options["aws_secret_access_key"] == "very-secret"
    assert options["aws_conditional_put"] == "etag"
    shown = repr((lake, lake.tables, lake.objects, lake.restricted_tables))
    for secret in ("AKIA", "very-secret", "LAKE_KEY"):
        assert secret not in shown
    assert b"very-secret" not in pickle.dumps(lake)
    assert pickle.loads(pickle.dumps(lake)) == lake


def test_a_key_that_is_missing_is_told_when_it_is_needed(tmp_path: Path):
    settings = Settings(lake="s3://bucket/lake", restricted=tmp_path, s3_access_key="env:NO_SUCH_VARIABLE")
    lake = Lake.from_settings(settings)
    with pytest.raises(KeyMissing, match="Set the environment variable NO_SUCH_VARIABLE"):
        lake.tables.version("core.exam")
