"""A lake on S3 remembers its key too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from radlake.cli.hospitals import hospital_of_files
from radlake.config import Settings
from radlake.errors import KeyMismatch
from radlake.ingest import harvest_folder
from support.dicom import ct_study, write_all
from support.rgw import Rgw


@pytest.mark.rgw
def test_another_restricted_zone_with_another_key_is_refused(rgw: Rgw, tmp_path: Path) -> None:
    write_all(ct_study(n=1), tmp_path / "files")
    (tmp_path / "restricted").mkdir()
    (tmp_path / "restricted" / "root.key").write_text("5f" * 32)
    settings = Settings(
        lake=f"{rgw.bucket()}/lake",
        restricted=tmp_path / "restricted",
        s3_endpoint_url=rgw.endpoint_url,
        s3_access_key=rgw.options.access_key,
        s3_secret_key=rgw.options.secret_key,
        workers=0,
    )

    def harvest() -> int:
        return harvest_folder(settings, tmp_path / "files", hospital=hospital_of_files(settings, "h1")).instances_stored

    assert harvest() == 1
    shutil.rmtree(settings.restricted)
    settings.prepare_restricted()
    (settings.restricted / "root.key").write_text("a0" * 32)
    with pytest.raises(KeyMismatch, match="s3://"):
        harvest()
