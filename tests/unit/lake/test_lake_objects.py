"""Series objects: any ZIP tool opens them, every member is one range read, the same members are the same file."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

from radlake.errors import SourceMissing
from radlake.lake import ObjectStore
from radlake.lake.storedzip import StoredZip
from support import need

MEMBERS = [("1.2.3.dcm", b"\0" * 128 + b"DICM" + bytes(range(256)) * 50), ("1.2.4.dcm", b""), ("1.2.5.dcm", b"last")]


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path / "objects"), scratch=tmp_path / "scratch")


def packed(members: list[tuple[str, bytes]], **limits: int) -> bytes:
    file = io.BytesIO()
    with StoredZip(file, **limits) as archive:
        for name, content in members:
            archive.add(name, [content])
    return file.getvalue()


def check_with_tools(content: bytes, members: list[tuple[str, bytes]], tmp_path: Path) -> None:
    """Python's zipfile and Info-ZIP agree on names, bytes and CRC-32."""
    path = tmp_path / "object.zip"
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert [(info.filename, archive.read(info)) for info in archive.infolist()] == members
        assert {info.compress_type for info in archive.infolist()} <= {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} <= {(1980, 1, 1, 0, 0, 0)}
    subprocess.run([sys.executable, "-m", "zipfile", "-t", path], check=True, capture_output=True)
    if members:  # unzip calls an empty archive an error
        tested = subprocess.run([need.program("unzip", package="unzip"), "-t", path], capture_output=True, text=True)
        assert tested.returncode == 0, tested.stdout + tested.stderr


def test_any_zip_tool_opens_an_object(tmp_path: Path):
    check_with_tools(packed(MEMBERS), MEMBERS, tmp_path)
    check_with_tools(packed([]), [], tmp_path)


def test_zip64_is_used_where_a_limit_is_met_and_nowhere_else(tmp_path: Path):
    # The limits of 4 GiB and 65,535 members, brought within reach of a test.
    for name, limits in {
        "long member": {"limit_32": 10_000},
        "long archive": {"limit_32": 12_950},
        "many members": {"limit_16": 3},
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        content = packed(MEMBERS, **limits)
        assert b"PK\x06\x06" in content, name
        check_with_tools(content, MEMBERS, folder)
    assert b"PK\x06\x06" not in packed(MEMBERS)


def test_the_content_of_a_long_member_moves_whole(tmp_path: Path):
    """Its ZIP64 field needs room before content that is written already."""
    content = b"".join(i.to_bytes(4, "big") for i in range(700_000))  # 2.8 MB: three blocks of the move
    members = [("1.dcm", b"first"), ("2.dcm", content), ("3.dcm", b"third")]
    check_with_tools(packed(members, limit_32=1_000_000), members, tmp_path)


def test_chunks_and_bytes_give_the_same_object():
    file = io.BytesIO()
    with StoredZip(file) as archive:
        for name, content in MEMBERS:
            archive.add(name, (content[i : i + 1000] for i in range(0, len(content), 1000)))
    assert file.getvalue() == packed(MEMBERS)


@pytest.mark.parametrize("name", ["", "a/b.dcm", "../x", "a b", "ä.dcm", "x" * 256, "1.2.3.dcm"])
def test_a_member_has_a_plain_name_of_its_own(name: str):
    archive = StoredZip(io.BytesIO())
    archive.add("1.2.3.dcm", [b"x"])
    with pytest.raises(ValueError, match="plain file name"):
        archive.add(name, [b"x"])


def test_every_member_is_one_range_read(store: ObjectStore):
    series = store.pack_series("h1/1.2/1.2.3", MEMBERS)
    assert series.path.startswith("h1/1.2/1.2.3.")
    assert series.path.endswith(".zip")
    assert series.n_bytes == store.size(series.path) == len(packed(MEMBERS))
    for (name, content), member in zip(MEMBERS, series.members, strict=True):
        assert (member.name, member.length) == (name, len(content))
        assert member.digest == xxhash.xxh3_128_hexdigest(content)
        assert store.read(series.path, member.offset, member.length) == content


def test_the_same_members_are_the_same_file_and_are_not_written_again(store: ObjectStore):
    first = store.pack_series("h1/1.2/1.2.3", MEMBERS)
    path = Path(store.url) / first.path
    before = (path.stat().st_ino, path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
    again = store.pack_series("h1/1.2/1.2.3", iter(MEMBERS))
    assert again == first
    assert (path.stat().st_ino, path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) == before


def test_other_members_are_another_file(store: ObjectStore):
    changed = [(MEMBERS[0][0], MEMBERS[0][1][:-1] + b"\1"), *MEMBERS[1:]]
    renamed = [("9.9.dcm", MEMBERS[0][1]), *MEMBERS[1:]]
    paths = {store.pack_series("h1/1.2/1.2.3", members).path for members in (MEMBERS, changed, renamed, MEMBERS[:2])}
    assert len(paths) == 4
    assert list(store.list("h1/1.2/")) == sorted(paths)
    assert list(store.list("h1/1.2/1.2.3.")) == sorted(paths)
    assert list(store.list("h2/")) == []
    for path in paths:
        store.delete(path)
        store.delete(path)
    assert list(store.list()) == []


def test_an_object_that_is_cut_off_is_written_again(store: ObjectStore):
    path = store.pack_series("h1/1.2/1.2.3", MEMBERS).path
    file = Path(store.url) / path
    file.write_bytes(file.read_bytes()[:100])
    assert store.pack_series("h1/1.2/1.2.3", MEMBERS).path == path
    assert file.read_bytes() == packed(MEMBERS)


def test_what_is_not_there_is_told(store: ObjectStore):
    path = store.pack_series("h1/1.2/1.2.3", MEMBERS).path
    with pytest.raises(SourceMissing):
        store.read("h1/none.zip", 0, 1)
    with pytest.raises(SourceMissing):
        store.size("h1/none.zip")
    with pytest.raises(SourceMissing):
        store.read(path, store.size(path) - 1, 2)


def test_a_store_that_does_not_exist_lists_nothing(store: ObjectStore, tmp_path: Path):
    (tmp_path / "beside").touch()
    assert list(store.list()) == list(store.list("h1/")) == list(store.list("h1")) == []


def test_a_series_that_fails_on_the_way_leaves_nothing(store: ObjectStore):
    def failing() -> Iterator[tuple[str, bytes]]:
        yield MEMBERS[0]
        raise RuntimeError("the pixels leak")

    with pytest.raises(RuntimeError, match="the pixels leak"):
        store.pack_series("h1/1.2/1.2.3", failing())
    assert list(store.list()) == []
    assert list(store.scratch.iterdir()) == []


def test_a_folder_on_another_file_system_gets_the_whole_object_too(tmp_path: Path):
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs /dev/shm on a file system of its own")
    store = ObjectStore(str(tmp_path / "objects"), scratch=memory / f"radlake-{tmp_path.name}")
    try:
        path = store.pack_series("h1/1.2/1.2.3", MEMBERS).path
        assert (Path(store.url) / path).read_bytes() == packed(MEMBERS)
        assert [file.name for file in (Path(store.url) / "h1/1.2").iterdir()] == [Path(path).name]
        assert list(store.scratch.iterdir()) == []
    finally:
        store.scratch.rmdir()


def test_memory_stays_flat_for_a_large_member(store: ObjectStore):
    block = bytes(1 << 20)
    tracemalloc.start()
    try:
        series = store.pack_series("h1/1.2/1.2.3", [("1.dcm", (block for _ in range(64)))])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert series.members[0].length == 64 << 20
    assert peak < 8 << 20


def test_a_full_disk_publishes_nothing(tmp_path: Path):
    """The kernel refuses to let a file grow: a limit of this process, as real as a full disk."""
    code = f"""
import resource, signal
from pathlib import Path
from radlake.errors import StoreFull
from radlake.lake import ObjectStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = ObjectStore({str(tmp_path / "objects")!r}, scratch=Path({str(tmp_path / "scratch")!r}))
try:
    store.pack_series("h1/1.2/1.2.3", [("1.dcm", (bytes(1000) for _ in range(1000)))])
except StoreFull as error:
    print("full:", error.facts["path"])
print(list(store.list()), list(store.scratch.iterdir()))
store.pack_series("h1/1.2/1.2.3", [("1.dcm", b"x")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"full: {tmp_path / 'scratch'}", "[] []"]
