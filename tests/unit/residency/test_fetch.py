"""Fetch on demand: byte-equal or refused, once for all who want it, and bounded."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid

from radlake.errors import SourceMissing
from radlake.ingest.job import IngestJob, StudyOutcome
from radlake.ingest.study import ingest_study
from radlake.lake import Lake
from radlake.lake.cache import FetchBusy
from radlake.lake.ledger import Ledger
from radlake.lake.reading import read_object
from radlake.lake.retrievals import retrievals
from radlake.machine import utc_now
from radlake.residency import FetchTooSlow, PixelsChanged, PixelsDiffer, SeriesReader, fetch, fetch_study
from radlake.residency.fetch import Outcome
from radlake.vault.lake_key import open_ledger
from support.lakes import picture, settings_of, states
from support.residency import cached, copied, harvested, kept_objects, the_hospital, write_archive
from support.writers import at_once


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def central(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Objects of a hospital whose pixels come into the store."""
    return picture(harvested(tmp_path_factory.mktemp("central") / "lake", archive, policy="central"))["objects"]


def test_what_is_fetched_is_what_the_store_would_hold(archive: Path, central: dict[str, str], tmp_path: Path) -> None:
    settings = harvested(tmp_path / "lake", archive)
    assert cached(settings) == {}
    for item in kept_objects(settings):
        (first,) = fetch_study(settings, the_hospital(settings), [item])
        (again,) = fetch_study(settings, the_hospital(settings), [item])
        assert (first.outcome, again.outcome) == (Outcome.FETCHED, Outcome.HERE)
        assert cached(settings) == {item.path: central[item.path]}  # nobody else waits, and there is room for none
    assert picture(settings)["objects"] == {}
    assert not list((settings.restricted / "scratch").iterdir())


def test_the_reader_brings_what_is_not_here(archive: Path, tmp_path: Path) -> None:
    settings = harvested(tmp_path / "lake", archive)
    item = kept_objects(settings)[0]
    with pytest.raises(SourceMissing):
        read_object(Lake.from_settings(settings), item.path, 0, 4)
    assert SeriesReader(settings).read(item.path, 0, item.n_bytes)[:4] == b"PK\x03\x04"
    with pytest.raises(SourceMissing):
        SeriesReader(settings).read("h1/1.2/3.4.0000000000000000.zip", 0, 4)


def test_a_series_that_came_in_two_harvests_is_fetched_object_by_object(archive: Path, tmp_path: Path) -> None:
    source = copied(archive, tmp_path / "source")
    late = (source / "0" / "2.dcm").rename(tmp_path / "late.dcm")
    settings = harvested(tmp_path / "lake", source)
    late.rename(source / "0" / "2.dcm")
    harvested(tmp_path / "lake", source)
    objects = [item for item in kept_objects(settings) if item.study_uid == kept_objects(settings)[0].study_uid]
    assert [len(item.instances) for item in objects] == [2, 1]
    done = fetch_study(settings, the_hospital(settings), objects)
    assert [one.outcome for one in done] == [Outcome.FETCHED, Outcome.FETCHED]


def test_each_series_of_a_study_is_fetched_alone(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "source")
    other = pydicom.dcmread(archive / "0" / "1.dcm")
    other.SeriesInstanceUID = generate_uid()
    other.OperatorsName = "Zhuge^Kongming"
    other.save_as(archive / "0" / "1.dcm")
    settings = harvested(tmp_path / "lake", archive)
    objects = kept_objects(settings)
    assert len(objects) == 3
    for item in objects:
        (done,) = fetch_study(settings, the_hospital(settings), [item])
        assert done.outcome is Outcome.FETCHED


def test_what_the_hospital_changed_is_refused_and_told(archive: Path, tmp_path: Path) -> None:
    source = copied(archive, tmp_path / "source")
    settings = harvested(tmp_path / "lake", source)
    ds = pydicom.dcmread(source / "0" / "1.dcm")
    ds.PixelData = bytes(reversed(ds.PixelData))
    ds.save_as(source / "0" / "1.dcm")
    item = kept_objects(settings)[0]
    before = picture(settings)
    with pytest.raises(PixelsChanged, match="1 of 3 have other bytes"):
        SeriesReader(settings).read(item.path, 0, 4)
    assert cached(settings) == {}
    assert picture(settings) == before
    assert sorted(states(settings).values()) == [("complete", ""), ("partial", "set aside: source_changed x1")]
    (source / "0" / "1.dcm").write_bytes((archive / "0" / "1.dcm").read_bytes())
    assert SeriesReader(settings).read(item.path, 0, 2) == b"PK"
    assert set(states(settings).values()) == {("complete", "")}


def test_what_the_hospital_lost_is_told_and_closed_when_it_is_back(archive: Path, tmp_path: Path) -> None:
    source = copied(archive, tmp_path / "source")
    settings = harvested(tmp_path / "lake", source)
    item = kept_objects(settings)[0]
    (source / "0" / "0.dcm").unlink()
    with pytest.raises(PixelsChanged, match="no longer lists 1 of 3"):
        SeriesReader(settings).read(item.path, 0, 4)
    assert ("partial", "set aside: source_gone x1") in states(settings).values()
    (source / "0" / "0.dcm").write_bytes((archive / "0" / "0.dcm").read_bytes())
    SeriesReader(settings).read(item.path, 0, 4)
    assert set(states(settings).values()) == {("complete", "")}


def test_another_profile_is_told_as_such(archive: Path, tmp_path: Path) -> None:
    settings = harvested(tmp_path / "lake", archive)
    today = settings_of(tmp_path / "lake", cache_bytes=0, profile="basic")
    with pytest.raises(PixelsDiffer):
        SeriesReader(today).read(kept_objects(settings)[0].path, 0, 4)
    assert set(states(settings).values()) == {("complete", "")}
    assert cached(settings) == {}


def test_two_processes_fetch_once(archive: Path, tmp_path: Path) -> None:
    settings = harvested(tmp_path / "lake", archive)
    both = at_once([(fetch_study, (settings, the_hospital(settings), kept_objects(settings)[:1]))] * 2)
    assert sorted(fetched.outcome for (fetched,) in both) == ["fetched", "here"]


def test_a_reader_waits_no_longer_than_it_was_told(archive: Path, tmp_path: Path) -> None:
    settings = harvested(tmp_path / "lake", archive)
    item = kept_objects(settings)[0]
    with Lake.from_settings(settings).cache.lock(f"h1/{item.study_uid}", timeout=1):
        with pytest.raises((FetchTooSlow, FetchBusy), match=r"h1.*ask again"):  # its thread gives up at the same moment
            SeriesReader(settings, timeout=0.1).read(item.path, 0, 4)
        time.sleep(0.2)


def test_who_waits_is_entered_with_what_came_of_it(archive: Path, tmp_path: Path) -> None:
    source = copied(archive, tmp_path / "source")
    settings = harvested(tmp_path / "lake", source)
    item, other = kept_objects(settings)[:2]
    for _ in range(2):
        fetch_study(settings, the_hospital(settings), [item])
    fetch_study(settings, the_hospital(settings), [other], is_awaited=False)  # nobody waits for a check
    for path in source.rglob("*.dcm"):
        path.unlink()
    Lake.from_settings(settings).cache.path(item.path).unlink(missing_ok=True)
    fetch_study(settings, the_hospital(settings), [item])
    with closing(Ledger(settings.ledger)) as ledger:
        told = retrievals(ledger, since=datetime(2026, 1, 1))
    assert [(one["hospital_id"], one["outcome"], one["n_objects"]) for one in told] == [
        ("h1", "fetched", 1),
        ("h1", "here", 1),
        ("h1", "gone", 1),
    ]
    assert all(one["seconds"] > 0 and one["n_bytes"] == item.n_bytes for one in told)


def test_what_is_withdrawn_while_it_comes_does_not_come_in(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = harvested(tmp_path / "lake", archive)
    item = kept_objects(settings)[0]

    def withdrawn_meanwhile(job: IngestJob) -> StudyOutcome:
        outcome = ingest_study(job)
        with closing(open_ledger(settings)) as ledger:
            ledger.erase("h1", job.study_uid, why="withdrawn: withdrawal 1", now=utc_now())
        return outcome

    monkeypatch.setattr(fetch, "ingest_study", withdrawn_meanwhile)
    with pytest.raises(SourceMissing):
        fetch_study(settings, the_hospital(settings), [item])
    assert Lake.from_settings(settings).cache.paths("") == []  # pending ones neither
    assert not list((settings.restricted / "scratch").iterdir())
