"""A record of the vault: opens with its key and its row only, tells all, shows nothing, costs little."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import replace

import pytest
from pydicom import Dataset

from radlake.deidentify import KeyRing
from radlake.lake.evidence import SealedRecord
from radlake.vault.record import (
    Identity,
    StudyRecord,
    VaultRecordDamaged,
    identity_of,
    open_record,
    patient_alias,
    seal,
)
from support.dicom import ct_study

KEYS = KeyRing.from_secret("0f" * 32)
IDENTITY = {"patient_id": ["P0001"], "patient_name": ["李雷"], "accession_number": ["A0001"]}
STUDY = ("1.2.156.1", KEYS.uid("1.2.156.1"))
SERIES = [("1.2.156.1.1", KEYS.uid("1.2.156.1.1"))]
INSTANCES = [(f"1.2.156.1.1.{n}", KEYS.uid(f"1.2.156.1.1.{n}")) for n in range(300)]


def sealed_record(keys: KeyRing = KEYS, *, identity: Identity = IDENTITY, study=STUDY, instances=INSTANCES):
    return seal(
        keys,
        version=1,
        hospital_id="h1",
        patient_key=42,
        exam_pseudo_id="e1",
        identity=identity,
        study=study,
        series=SERIES,
        instances=instances,
    )


def opened(sealed: SealedRecord, *, keys: KeyRing = KEYS, **changed: object) -> StudyRecord:
    row = {
        "hospital_id": "h1",
        "lake_study_uid": STUDY[1],
        "patient_key": 42,
        "exam_pseudo_id": "e1",
        "key_version": sealed.key_version,
        "record": base64.b64decode(sealed.blob),
    }
    return open_record(keys, row | changed)


def test_a_record_tells_all_that_was_sealed() -> None:
    record = opened(sealed_record())
    assert record.identity == IDENTITY
    assert (record.study, list(record.series), list(record.instances)) == (STUDY, SERIES, INSTANCES)
    assert (record.date_offset_days, record.clock_offset_seconds) == (
        KEYS.date_offset_days(42),
        KEYS.clock_offset_seconds(42),
    )


def test_uids_that_do_not_follow_the_key_are_kept_on_both_sides() -> None:
    kept = [(old, old) for old, _ in INSTANCES]
    record = sealed_record(study=("1.2.156.1", "1.2.156.1"), instances=kept)
    assert list(opened(record, lake_study_uid="1.2.156.1").instances) == kept


def test_nothing_of_it_is_readable_and_no_two_are_alike() -> None:
    first, second = (base64.b64decode(sealed_record().blob) for _ in range(2))
    assert first[1:13] != second[1:13]
    assert not any(text.encode() in first for text in ("P0001", "李雷", "A0001", "1.2.156"))
    assert "李雷" not in repr(opened(sealed_record()))


@pytest.mark.parametrize("place", [0, 1, 12, 13, 500, -1])
def test_a_flipped_bit_is_told(place: int) -> None:
    record = sealed_record()
    blob = bytearray(base64.b64decode(record.blob))
    blob[place] ^= 0x10
    with pytest.raises(VaultRecordDamaged) as caught:
        opened(record, record=bytes(blob))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("length", [1, 8, 13, 40])
def test_a_partial_write_is_told(length: int) -> None:
    record = sealed_record()
    with pytest.raises(VaultRecordDamaged):
        opened(record, record=base64.b64decode(record.blob)[:length])


@pytest.mark.parametrize(
    "row",
    [
        {"patient_key": 43},
        {"exam_pseudo_id": "e2"},
        {"key_version": 2},
        {"hospital_id": "h2"},
        {"lake_study_uid": "2.25.1"},
    ],
)
def test_a_record_opens_in_its_own_row_only(row: dict[str, object]) -> None:
    with pytest.raises(VaultRecordDamaged):
        opened(sealed_record(), **row)


def test_another_key_opens_nothing() -> None:
    with pytest.raises(VaultRecordDamaged, match="radlake key verify"):
        opened(sealed_record(), keys=KeyRing.from_secret("0e" * 32))


def test_identity_has_every_distinct_value_once() -> None:
    study = ct_study(n=4, patient="李雷", patient_id="P1", accession="A1")
    study[2].PatientName = "Li^Lei"
    other = Dataset()
    other.PatientID = "11010519491231002X"
    study[3].OtherPatientIDsSequence = [other]
    found = identity_of(study)
    assert found["patient_name"] == ["Li^Lei", "李雷"]
    assert (found["patient_id"], found["accession_number"]) == (["P1"], ["A1"])
    assert found["other_patient_ids"] == ["11010519491231002X"]


def test_a_person_is_found_by_every_number_of_the_hospital() -> None:
    identity = {"patient_id": ["p0001 "], "other_patient_ids": ["X1\\X2"]}
    aliases = sealed_record(identity=identity).aliases
    assert set(aliases) == {patient_alias(KEYS, hospital_id="h1", patient_id=text) for text in ("P0001", "X1", "X2")}
    assert patient_alias(KEYS, hospital_id="h2", patient_id="X1") not in aliases
    assert all(re.fullmatch(r"[0-9a-f]{16}", alias) for alias in aliases)


def test_a_record_is_small_and_quick() -> None:
    record = sealed_record()
    assert len(base64.b64decode(record.blob)) < 300 * 8
    headers = ct_study(n=1) * 300
    start = time.process_time()
    for _ in range(10):
        sealed_record(identity=identity_of(headers))
    assert (time.process_time() - start) / 10 / 300 < 30e-6  # 3 microseconds on an idle machine


def test_a_sealed_record_is_a_plain_value() -> None:
    record = sealed_record()
    assert replace(record) == record
