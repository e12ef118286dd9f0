"""Any bytes: a data set or a reason, never a crash; what is accepted has a stable canonical form."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radlake.contracts.reasons import reasons
from radlake.dicom.part10 import encode_instance, read_bytes, read_header
from radlake.errors import QuarantineError
from radlake.validate import check_instance
from support.dicom import compressed, ct_study, dicom_bytes, image_study, sr_document

SMALL = ct_study(n=1, rows=4, columns=4, patient="王 小明", charset="GB18030")[0]
SEEDS = [
    dicom_bytes(SMALL),
    dicom_bytes(SMALL, transfer_syntax="1.2.840.10008.1.2"),
    dicom_bytes(SMALL, transfer_syntax="1.2.840.10008.1.2.2"),
    dicom_bytes(SMALL, transfer_syntax="1.2.840.10008.1.2.1.99"),
    dicom_bytes(compressed(image_study("US", frames=2, rows=4, columns=4)[0])),
    dicom_bytes(sr_document()),
]

change = st.tuples(st.sampled_from("=^-+|"), st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8))


OUTCOMES = {"", *reasons()}


def survive(data: bytes) -> str:
    """Read, write and check; returns the reason, empty when the instance passed."""
    try:
        ds = read_bytes(data)
        written = encode_instance(ds)
        assert encode_instance(read_bytes(written)) == written
        check_instance(ds, size=len(data))
    except QuarantineError as error:
        return reasons()[error.reason].code
    return ""


def mutated(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    """Bytes overwritten, flipped, deleted, inserted, or cut off."""
    work = bytearray(data)
    for kind, where, new in changes:
        at = int(where * len(work))
        if kind == "=":
            work[at : at + len(new)] = new
        elif kind == "^" and work:
            work[at] ^= new[0]
        elif kind == "-":
            del work[at : at + len(new)]
        elif kind == "+":
            work[at:at] = new
        elif kind == "|" and new[0] < 32:
            del work[at:]
    return bytes(work)


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_arbitrary_bytes(data: bytes) -> None:
    assert survive(data)


@settings(max_examples=300)
@given(st.binary(max_size=400), st.sampled_from(SEEDS))
def test_arbitrary_bytes_as_data_set(data: bytes, seed: bytes) -> None:
    meta_end = seed.index(b"\x02\0\x10\0UI") + 8 + seed[seed.index(b"\x02\0\x10\0UI") + 6]
    assert survive(seed[:meta_end] + data) in OUTCOMES


@settings(max_examples=400)
@given(st.sampled_from(SEEDS), st.lists(change, min_size=1, max_size=4))
def test_mutated_files(seed: bytes, changes: list[tuple[str, float, bytes]]) -> None:
    assert survive(mutated(seed, changes)) in OUTCOMES


@settings(max_examples=100)
@given(st.sampled_from(SEEDS), st.lists(change, min_size=1, max_size=3))
def test_headers_of_mutated_files(
    tmp_path_factory: pytest.TempPathFactory, seed: bytes, changes: list[tuple[str, float, bytes]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.dcm"
    path.write_bytes(mutated(seed, changes))
    try:
        outcome = isinstance(read_header(path).sop_instance_uid, str)
    except QuarantineError as error:
        outcome = error.reason in reasons()
    assert outcome


@cache
def small_files(corpus: Path) -> list[Path]:
    return sorted(path for path in corpus.rglob("*") if path.is_file() and 200 < path.stat().st_size < 20_000)


@pytest.mark.corpus
@settings(max_examples=300)
@given(data=st.data(), changes=st.lists(change, max_size=4))
def test_mutated_public_files(corpus: Path, data: st.DataObject, changes: list[tuple[str, float, bytes]]) -> None:
    path = data.draw(st.sampled_from(small_files(corpus)))
    assert survive(mutated(path.read_bytes(), changes)) in OUTCOMES


def test_seeds_pass_unchanged() -> None:
    assert [survive(seed) for seed in SEEDS] == [""] * len(SEEDS)
