"""Fetch on demand from a real PACS, over C-GET and DICOMweb: byte-equal to what the store would hold."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from radlake.ingest import harvest_hospital
from radlake.net import Hospital, Window
from radlake.residency import fetch_study
from support.lakes import picture, settings_of, states
from support.pacs import Pacs, orthanc
from support.residency import cached, kept_objects, write_archive


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("pacs")
    files = sorted(write_archive(folder / "files").rglob("*.dcm"))
    with orthanc(folder / "orthanc", files=files) as running:
        yield running


@pytest.mark.parametrize("kind", ["dimse", "dicomweb"])
def test_a_series_is_fetched_equal(pacs: Pacs, kind: str, tmp_path: Path) -> None:
    node = pacs.dimse_node() if kind == "dimse" else pacs.web_node()
    window = Window(date(1990, 1, 1), date(2040, 1, 1))
    lakes = {}
    for policy in ("central", "index"):
        names = {"hospital_id": "h1", "name_zh": "样例", "name_en": "Sample", "storage_policy": policy}
        hospital = Hospital.model_validate({**names, "node": node})
        lakes[policy] = settings_of(tmp_path / policy, cache_bytes=0)
        harvest_hospital(lakes[policy], hospital, window=window)
    wanted = kept_objects(lakes["index"])
    assert len(wanted) == 2
    assert states(lakes["index"]) == states(lakes["central"])
    for item in wanted:
        (fetched,) = fetch_study(lakes["index"], hospital, [item])
        assert (fetched.outcome, fetched.reason) == ("fetched", "")
        assert cached(lakes["index"]) == {item.path: picture(lakes["central"])["objects"][item.path]}
