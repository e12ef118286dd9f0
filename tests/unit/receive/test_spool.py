"""The spool of what hospitals push: what was named is found again, and an ingest never takes what comes late."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from radlake.errors import StoreFull
from radlake.net.message import Command
from radlake.receive.spool import PushSpool

SYNTAX = "1.2.840.10008.1.2.1"


def spool_of(folder: Path) -> PushSpool:
    return PushSpool(folder, keep_free=0)


def store(spool: PushSpool, uid: str, data: bytes = b"data", *, study: str = "1.2") -> int:
    command: Command = {"AffectedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "AffectedSOPInstanceUID": uid}
    return spool.intake("h1", study).store(command, [[data]], transfer_syntax=SYNTAX)


def waiting(spool: PushSpool) -> dict[str, set[str]]:
    return {study: set(item.uids) for _, study in spool.n_waiting() if (item := spool.waiting("h1", study))}


def test_what_was_stored_is_found_again(tmp_path: Path) -> None:
    assert store(spool_of(tmp_path), "7.1") == 0
    assert store(spool_of(tmp_path), "7.2") == 0
    assert store(spool_of(tmp_path), "8.1", study="1.3") == 0
    assert waiting(spool_of(tmp_path)) == {"1.2": {"7.1", "7.2"}, "1.3": {"8.1"}}


def test_half_an_instance_is_not(tmp_path: Path) -> None:
    assert store(spool_of(tmp_path), "7.1") == 0
    (folder,) = tmp_path.glob("push/h1/*/1")
    (folder / ".0.part").write_bytes(b"half")
    assert waiting(spool_of(tmp_path)) == {"1.2": {"7.1"}}
    assert [path.name for path in folder.iterdir()] == ["7.1.dcm"]


def test_what_comes_late_stays_when_what_was_ingested_goes(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    store(spool, "7.1")
    closed = spool.close("h1", "1.2")
    assert closed is not None
    store(spool, "7.2")
    spool.forget(closed)
    assert waiting(spool) == waiting(spool_of(tmp_path)) == {"1.2": {"7.2"}}
    again = spool.close("h1", "1.2")
    assert again is not None
    assert [uid for _, uid in again.files] == ["7.2"]
    spool.forget(again)
    assert waiting(spool) == waiting(spool_of(tmp_path)) == {}
    assert list(tmp_path.glob("push/h1/*")) == []


def test_an_ingest_that_failed_gets_everything_again(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    store(spool, "7.1")
    spool.close("h1", "1.2")
    store(spool, "7.2")
    for opened in (spool, spool_of(tmp_path)):
        closed = opened.close("h1", "1.2")
        assert closed is not None
        assert sorted(uid for _, uid in closed.files) == ["7.1", "7.2"]


def test_a_study_is_not_closed_while_an_instance_is_under_way(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    intake = spool.intake("h1", "1.2")
    assert spool.close("h1", "1.2") is None
    item = spool.waiting("h1", "1.2")
    assert item is not None
    assert item.seconds_silent == 0.0
    intake.end()
    assert spool.close("h1", "1.2") is not None


def test_equal_bytes_are_kept_once_and_others_beside_them(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    for data in (b"one", b"one", b"two", b"two"):
        assert store(spool, "7.1", data) == 0
    closed = spool.close("h1", "1.2")
    assert closed is not None
    assert [uid for _, uid in closed.files] == ["7.1", "7.1"]
    assert sorted(path.read_bytes()[-3:] for path, _ in closed.files) == [b"one", b"two"]


def test_a_study_that_was_removed_by_half_is_forgotten(tmp_path: Path) -> None:
    store(spool_of(tmp_path), "7.1")
    (folder,) = tmp_path.glob("push/h1/*/1")
    shutil.rmtree(folder)
    assert waiting(spool_of(tmp_path)) == {}


def test_a_reserve_of_the_disk_is_kept(tmp_path: Path) -> None:
    with pytest.raises(StoreFull, match="are free"):
        PushSpool(tmp_path, keep_free=1 << 62).intake("h1", "1.2")
