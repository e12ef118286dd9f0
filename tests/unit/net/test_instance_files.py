"""Files of received instances: whole under their final name, or not there."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from radlake.errors import RetrieveFailed, StoreFull
from radlake.net import RetrieveResult
from radlake.net.delivery import Delivery
from radlake.net.instance_files import InstanceFolder, is_file_name, part10_header

CT = Path(str(get_testdata_file("CT_small.dcm", download=False)))


def test_a_header_that_pydicom_reads(tmp_path: Path) -> None:
    ds = dcmread(CT)
    data_set = CT.read_bytes()[132 + 12 + ds.file_meta.FileMetaInformationGroupLength :]
    header = part10_header(
        sop_class_uid=ds.SOPClassUID, sop_instance_uid=ds.SOPInstanceUID, transfer_syntax="1.2.840.10008.1.2.1"
    )
    path = tmp_path / "a.dcm"
    path.write_bytes(header + data_set)
    ours = dcmread(path)
    assert ours == ds
    assert ours.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    assert ours.file_meta.MediaStorageSOPClassUID == ds.SOPClassUID
    assert ours.file_meta.FileMetaInformationGroupLength == len(header) - 132 - 12
    assert ours.file_meta.ImplementationVersionName == "RADLAKE"


def test_a_draft_becomes_a_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    folder = InstanceFolder(tmp_path / "study")
    with folder.draft() as draft:
        draft.write(b"abc")
        draft.write(memoryview(b"def"))
        assert not folder.has("1.2")
        assert draft.keep_as("1.2")
    (path,) = (tmp_path / "study").iterdir()
    assert (path.name, path.read_bytes()) == ("1.2.dcm", b"abcdef")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert folder.uids() == {"1.2"}


def test_other_bytes_under_the_same_uid_are_kept_beside_the_older_file(tmp_path: Path) -> None:
    folder = InstanceFolder(tmp_path)
    kept = []
    for content in (b"first", b"second", b"first", b"second"):
        with folder.draft() as draft:
            draft.write(content)
            kept.append(draft.keep_as("1.2"))
    assert kept == [True, True, False, False]
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"first", b"second"]
    assert (tmp_path / "1.2.dcm").read_bytes() == b"first"
    assert folder.uids() == {"1.2"}


def test_a_draft_that_fails_vanishes_and_so_does_one_of_a_dead_process(tmp_path: Path) -> None:
    folder = InstanceFolder(tmp_path)
    with folder.draft() as draft:
        draft.write(b"half")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".abc.part").write_bytes(b"half")
    (tmp_path / "1.2.dcm").write_bytes(b"whole")
    assert InstanceFolder(tmp_path).uids() == {"1.2"}
    assert [path.name for path in tmp_path.iterdir()] == ["1.2.dcm"]


def test_a_full_disk_is_told_without_the_name_of_the_study(tmp_path: Path) -> None:
    folder = InstanceFolder(tmp_path / "1.2.3.4")
    with pytest.raises(StoreFull) as caught, folder.draft():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "1.2.3.4" not in str(caught.value)
    assert "No space left" in str(caught.value)


@pytest.mark.parametrize(
    ("uid", "expected"),
    [("1.2.840.10008", True), ("1.2.a-b", True), ("", False), ("../../etc/passwd", False), (".hidden", False),
     ("1" * 65, False), ("1.2\0", False), ("1.2/3", False)],
)  # fmt: skip
def test_which_uids_may_name_a_file(uid: str, expected: bool) -> None:
    assert is_file_name(uid) is expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (CT.read_bytes(), dcmread(CT).SOPInstanceUID),
        (b"", None),
        (b"\0" * 128 + b"DICM", None),
        (b"<html>" * 100, None),
    ],
    ids=["a file", "nothing", "a prefix only", "a web page"],
)
def test_the_uid_in_the_head_of_a_file(tmp_path: Path, content: bytes, expected: str | None) -> None:
    with InstanceFolder(tmp_path).draft() as draft:
        draft.write(content)
        assert draft.sop_instance_uid() == expected


def delivered(
    folder: Path, *uids: str, due: set[str] | None, said: int = 0, failed: int = 0, status: int = 0
) -> Delivery:
    delivery = Delivery(InstanceFolder(folder), due=None if due is None else frozenset(due))
    for uid in uids:
        delivery.begin()
        command = {"AffectedSOPInstanceUID": uid, "AffectedSOPClassUID": "1.2"}
        assert delivery.store(command, [[b"data"]], transfer_syntax="1.2.840.10008.1.2") == 0
    response = {"NumberOfCompletedSuboperations": said, "NumberOfFailedSuboperations": failed, "Status": status}
    delivery.count_response(response)
    return delivery


@pytest.mark.parametrize(
    ("delivery", "due", "expected"),
    [
        ({"uids": ["1", "2"], "said": 2}, {"1", "2"}, RetrieveResult(2, 0)),
        ({"uids": ["1", "1"], "said": 2}, {"1"}, RetrieveResult(1, 0)),
        ({"uids": ["1"], "said": 3}, {"1", "2", "3"},
         RetrieveResult(1, 2, "it reported success, but 2 of the instances did not come")),
        ({"uids": ["1"], "said": 3}, None,
         RetrieveResult(1, 2, "it reported success, but 2 of the instances did not come")),
        ({"uids": ["1"], "said": 1, "failed": 4, "status": 0xB000}, None,
         RetrieveResult(1, 4, "0xB000: sub-operations complete, with failures")),
        ({"uids": ["1"], "said": 0}, {"1"}, RetrieveResult(1, 0)),
    ],
    ids=["all", "one sent twice", "fewer than it says", "fewer, and no list", "partial", "counts are optional"],
)  # fmt: skip
def test_what_came_counts_not_what_was_said(
    tmp_path: Path, delivery: dict[str, object], due: set[str] | None, expected: RetrieveResult
) -> None:
    uids = delivery.pop("uids")
    assert delivered(tmp_path, *uids, due=due, **delivery).result(node="n") == expected


@pytest.mark.parametrize("due", [{"1"}, None], ids=["listed", "no list"])
def test_success_with_nothing_sent_is_a_failure(tmp_path: Path, due: set[str] | None) -> None:
    with pytest.raises(RetrieveFailed, match="sent nothing"):
        delivered(tmp_path, due=due).result(node="n")


def test_a_path_as_sop_instance_uid_goes_nowhere(tmp_path: Path) -> None:
    delivery = Delivery(InstanceFolder(tmp_path / "study"), due=None)
    delivery.begin()
    read = iter([[b"data"], [b"more"]])
    command = {"AffectedSOPInstanceUID": "../escaped", "AffectedSOPClassUID": "1.2"}
    assert delivery.store(command, read, transfer_syntax="1.2.840.10008.1.2") == 0xC000
    assert list(read) == [], "the data set must be read off the wire"
    assert list(tmp_path.rglob("*.dcm")) == []
