"""Broken files: an output that names nobody, or a reason; never a crash."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radlake.contracts.reasons import reasons
from radlake.dicom.part10 import read_bytes
from radlake.errors import QuarantineError
from support.deid import PATIENT_ID, ct_of_somebody, deidentified_bytes, occurrences
from support.dicom import dicom_bytes, presentation_state, rdsr, sr_document

TOLD = ("王秀兰", "Wang^Xiulan", PATIENT_ID)
SEEDS = [
    dicom_bytes(ct_of_somebody(rows=4, columns=4)),
    dicom_bytes(ct_of_somebody(rows=4, columns=4), transfer_syntax="1.2.840.10008.1.2"),
    dicom_bytes(sr_document(text=f"王秀兰 {PATIENT_ID}", patient="Wang^Xiulan=王秀兰", patient_id=PATIENT_ID)),
    dicom_bytes(presentation_state(of=ct_of_somebody(rows=4, columns=4), text="王秀兰")),
    dicom_bytes(rdsr(dlp=350.0)),
]
# Positions as shares of the file, and bytes that are written there: lengths, VRs and tags above all.
changes = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from([b"UN", b"OB", b"SQ", b"PN", b"\0\0", b"\xff\xff", b"\\", b"^"]),
    ),
    min_size=1,
    max_size=4,
)


def outcome(data: bytes) -> tuple[bytes | None, str]:
    try:
        return deidentified_bytes(data), ""
    except QuarantineError as error:
        return None, error.reason


def mutated(data: bytes, changed: list[tuple[float, bytes]]) -> bytes:
    work = bytearray(data)
    for where, new in changed:
        at = int(where * len(work))
        work[at : at + len(new)] = new
    return bytes(work)


@settings(max_examples=250)
@given(st.sampled_from(SEEDS), changes)
def test_mutated_files_name_nobody_or_have_a_reason(seed: bytes, changed: list[tuple[float, bytes]]) -> None:
    out, reason = outcome(mutated(seed, changed))
    assert out is not None or reason in reasons()
    if out is not None:
        read_bytes(out)
        assert [text for text in TOLD if list(occurrences(text, out))] == []


@cache
def small_files(corpus: Path) -> list[Path]:
    return sorted(path for path in corpus.rglob("*") if path.is_file() and 200 < path.stat().st_size < 20_000)


@pytest.mark.corpus
@settings(max_examples=150)
@given(data=st.data(), changed=changes)
def test_mutated_public_files_have_an_output_or_a_reason(
    corpus: Path, data: st.DataObject, changed: list[tuple[float, bytes]]
) -> None:
    path = data.draw(st.sampled_from(small_files(corpus)))
    out, reason = outcome(mutated(path.read_bytes(), changed))
    assert out is not None or reason in reasons()
    if out is not None:
        read_bytes(out)


def test_seeds_themselves_have_an_output() -> None:
    assert [outcome(seed)[1] for seed in SEEDS] == [""] * len(SEEDS)


@pytest.mark.parametrize("vr", [b"PN", b"DS", b"IS", b"AT", b"LO"])
def test_a_transfer_syntax_with_another_vr_has_an_output_or_a_reason(vr: bytes) -> None:
    tag = b"\x02\x00\x10\x00"
    out, reason = outcome(SEEDS[0].replace(tag + b"UI", tag + vr))
    assert out is not None or reason in reasons()
