"""The cache: bounded, least recently used first, and only one process brings a study."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from radlake.lake.cache import FetchBusy, ObjectCache


def filled(folder: Path, *names: str, limit: int) -> ObjectCache:
    """Objects of about 200 bytes, each used a second after the one before."""
    cache = ObjectCache(folder / "cache", limit)
    for second, name in enumerate(names):
        packed = cache.pending(folder / "scratch").pack_series(f"h1/1.2/{name}", [("1.dcm", bytes(80))])
        cache.admit(packed.path, is_asked_for=True)
        os.utime(cache.path(packed.path), (1_000 + second, 1_000 + second))
    return cache


def names(cache: ObjectCache) -> list[str]:
    return sorted(path.name.partition(".")[0] for path in cache.root.glob("h1/1.2/*.zip"))


def path_of(cache: ObjectCache, name: str) -> str:
    (found,) = cache.root.glob(f"h1/1.2/{name}.*.zip")
    return found.relative_to(cache.root).as_posix()


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = filled(tmp_path, "a", "b", "c", "d", limit=0)
    one = cache.n_bytes() // 4
    assert cache.read(path_of(cache, "a"), 0, 2) == b"PK"
    bounded = ObjectCache(cache.root, 2 * one + one // 2)
    assert bounded.trim() == 2
    assert names(cache) == ["a", "d"]
    assert bounded.trim() == 0


def test_what_nobody_asked_for_goes_before_all_else(tmp_path: Path) -> None:
    cache = filled(tmp_path, "a", "b", limit=0)
    packed = cache.pending(tmp_path / "scratch").pack_series("h1/1.2/new", [("1.dcm", bytes(80))])
    cache.admit(packed.path, is_asked_for=False)
    assert ObjectCache(cache.root, cache.n_bytes() - 1).trim() == 1
    assert names(cache) == ["a", "b"]


def test_what_is_pending_is_read_and_never_trimmed(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache", 0)
    packed = cache.pending(tmp_path / "scratch").pack_series("h1/1.2/a", [("1.dcm", bytes(80))])
    assert cache.trim() == 0
    assert cache.read(packed.path, 0, 2) == b"PK"
    assert not cache.has(packed.path)
    cache.drop(packed.path)
    assert cache.read(packed.path, 0, 2) is None


def test_a_range_beyond_the_end_is_no_answer(tmp_path: Path) -> None:
    cache = filled(tmp_path, "a", limit=0)
    assert cache.read(path_of(cache, "a"), 0, 10_000) is None


def test_a_second_process_waits_no_longer_than_it_was_told(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache", 0)
    with cache.lock("h1/1.2", timeout=1), cache.lock("h1/1.3", timeout=1), pytest.raises(FetchBusy):
        cache.lock("h1/1.2", timeout=0.1).__enter__()
    with cache.lock("h1/1.2", timeout=0.1):
        pass
