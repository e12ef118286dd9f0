"""A folder is listed by study; nothing in it goes unaccounted."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from radlake.errors import SourceMissing
from radlake.harvest import list_folder
from radlake.harvest.folder import _Room
from support.dicom import ct_study, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "cd"
    for n, ds in enumerate(ct_study(n=2, patient="李雷")):
        write(ds, source / "a" / f"{n}.dcm")
    (source / "readme.txt").write_text("hello")
    (source / "empty.dcm").touch()
    return source


def test_files_are_grouped_by_study(folder: Path, tmp_path: Path) -> None:
    with list_folder(folder, scratch=tmp_path / "scratch") as listing:
        [study] = listing.studies
        assert [file.origin for file in study.files] == ["a/0.dcm", "a/1.dcm"]
        assert len({file.sop_uid for file in study.files}) == 2
        assert listing.n_not_dicom + len(listing.unreadable) == 2


def test_zip_members_are_listed_with_the_archive_as_origin(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "cd.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*.dcm")):
            archive.write(path, f"../../{path.name}")
    with list_folder(tmp_path / "cd.zip", scratch=tmp_path / "scratch") as listing:
        [study] = listing.studies
        assert [file.origin for file in study.files] == ["cd.zip!../../0.dcm", "cd.zip!../../1.dcm"]
        assert all(tmp_path / "scratch" in file.path.parents for file in study.files)
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("damage", [b"PK\x03\x04 not a zip", b""])
def test_a_damaged_archive_is_set_aside_whole(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "cd").mkdir()
    (tmp_path / "cd" / "images.zip").write_bytes(damage)
    with list_folder(tmp_path / "cd", scratch=tmp_path / "scratch") as listing:
        assert [(item.origin, item.error.reason) for item in listing.unreadable] == [
            ("images.zip", "archive_unreadable")
        ]


def test_an_archive_with_one_damaged_member_gives_the_others_and_is_kept(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "cd.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in ("0.dcm", "1.dcm"):
            archive.write(folder / "a" / name, name)
    data = bytearray(path.read_bytes())
    data[1000] ^= 0xFF  # inside the first member: its CRC no longer fits
    path.write_bytes(data)
    with list_folder(path, scratch=tmp_path / "scratch") as listing:
        assert [file.origin for study in listing.studies for file in study.files] == ["cd.zip!1.dcm"]
        assert [item.error.reason for item in listing.unreadable] == ["archive_unreadable"]


def bomb(path: Path, *, n_bytes: int) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("1.dcm", "w", force_zip64=True) as one,
    ):
        for _ in range(n_bytes >> 20):
            one.write(bytes(1 << 20))


def test_an_archive_that_would_fill_the_disk_is_set_aside(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Room, "__init__", lambda self: setattr(self, "left", 1 << 20))
    bomb(folder / "bomb.zip", n_bytes=64 << 20)
    with list_folder(folder, scratch=tmp_path / "scratch") as listing:
        told = [(item.origin, item.error.reason, item.error.detail) for item in listing.unreadable]
        assert ("bomb.zip", "archive_unreadable", "unpacks to 0.1 GB: too much") in told
        assert len(listing.studies) == 1
        assert not list((tmp_path / "scratch").rglob("0*"))


def test_many_small_bombs_share_the_room_of_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Room, "__init__", lambda self: setattr(self, "left", 8 << 20))
    for n in range(4):
        bomb(folder / f"bomb{n}.zip", n_bytes=8 << 20)
    with list_folder(folder, scratch=tmp_path / "scratch") as listing:
        refused = [item.origin for item in listing.unreadable if item.error.reason == "archive_unreadable"]
        assert refused == ["bomb1.zip", "bomb2.zip", "bomb3.zip"]


def test_a_member_that_lies_of_its_size_is_not_read_beyond_it(tmp_path: Path) -> None:
    bomb(tmp_path / "bomb.zip", n_bytes=4 << 20)
    data = bytearray((tmp_path / "bomb.zip").read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (1000).to_bytes(4, "little")  # uncompressed size in the central directory
    (tmp_path / "bomb.zip").write_bytes(data)
    with list_folder(tmp_path / "bomb.zip", scratch=tmp_path / "scratch") as listing:
        assert [item.error.reason for item in listing.unreadable] == ["archive_unreadable"]
        assert sum(path.stat().st_size for path in (tmp_path / "scratch").rglob("0*")) <= 1000


def test_a_missing_path_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="does not exist"), list_folder(tmp_path / "no", scratch=tmp_path / "s"):
        pass


@pytest.mark.corpus
def test_a_dicomdir_is_told_as_such(corpus: Path, tmp_path: Path) -> None:
    dicomdir = min(corpus.rglob("DICOMDIR"))
    with list_folder(dicomdir, scratch=tmp_path / "scratch") as listing:
        assert [item.error.reason for item in listing.unreadable] == ["media_directory"]
