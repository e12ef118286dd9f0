"""Offsets that were derived before are the same, are sealed, and are derived again when what lies there is no good."""

from __future__ import annotations

import numpy as np
import pytest

from radlake.deidentify import KeyRing
from radlake.ingest.known_offsets import KnownOffsets

KEYS = KeyRing.from_secret("5f" * 32)
PERSONS = np.random.default_rng(3).integers(0, 1 << 63, 6_000)


class Derived:
    """Counts whom it derives."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, persons: list[int]) -> list[int]:
        self.n += len(persons)
        return KEYS.offset_seconds(persons)


def known(folder, derive, keys: KeyRing = KEYS) -> KnownOffsets:
    return KnownOffsets(folder, cipher=keys.offset_cipher(), derive=derive)


def test_many_offsets_are_those_of_one_person():
    some = PERSONS[:50].tolist()
    assert KEYS.offset_seconds(some) == [int(KEYS.offset(person).total_seconds()) for person in some]


def test_who_is_known_is_not_derived_again(tmp_path):
    derive = Derived()
    expected = KEYS.offset_seconds(PERSONS.tolist())
    assert known(tmp_path / "offsets", derive)(PERSONS[:4_000]).tolist() == expected[:4_000]
    assert known(tmp_path / "offsets", derive)(PERSONS).tolist() == expected
    assert derive.n == 6_000
    twice = np.concatenate([PERSONS[::-1], PERSONS])
    assert known(tmp_path / "offsets", derive)(twice).tolist() == expected[::-1] + expected
    assert derive.n == 6_000


def test_few_persons_leave_nothing_on_the_disk(tmp_path):
    assert known(tmp_path / "offsets", Derived())(PERSONS[:5]).tolist() == KEYS.offset_seconds(PERSONS[:5].tolist())
    assert not (tmp_path / "offsets").exists()


def test_nothing_can_be_read_on_the_disk(tmp_path):
    found = known(tmp_path, Derived())(PERSONS)
    files = list(tmp_path.iterdir())
    stored = b"".join(file.read_bytes() for file in files)
    assert len(files) == 256
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert not any(int(person).to_bytes(8, "little") in stored for person in PERSONS)
    assert len({int(seconds).to_bytes(4, "little", signed=True) for seconds in found}) > 5_000


@pytest.mark.parametrize("spoil", [lambda sealed: sealed[:-1], lambda sealed: sealed[::-1], lambda _: b""])
def test_a_damaged_file_is_made_again(tmp_path, spoil):
    known(tmp_path, Derived())(PERSONS)
    for file in sorted(tmp_path.iterdir())[:3]:
        file.write_bytes(spoil(file.read_bytes()))
    derive = Derived()
    assert known(tmp_path, derive)(PERSONS).tolist() == KEYS.offset_seconds(PERSONS.tolist())
    assert 0 < derive.n < 300
    assert known(tmp_path, derive)(PERSONS).tolist() == KEYS.offset_seconds(PERSONS.tolist())
    assert derive.n < 300


def test_files_change_no_place_and_open_under_no_other_key(tmp_path):
    known(tmp_path, Derived())(PERSONS)
    one, other = sorted(tmp_path.iterdir())[:2]
    one.write_bytes(other.read_bytes())
    derive = Derived()
    known(tmp_path, derive)(PERSONS)
    assert 0 < derive.n < 100
    derive = Derived()
    known(tmp_path, derive, KeyRing.from_secret("a1" * 32))(PERSONS)
    assert derive.n == len(PERSONS)
