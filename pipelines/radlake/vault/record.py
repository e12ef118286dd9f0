"""One record of the vault: what a study said about its patient, and its original UIDs, sealed with AES-256-GCM.

A pure function of plain values and keys; no database. Of UIDs only the originals are kept: replacements are computed
from them with the same key, and a record with both would be three times as long.
"""

from __future__ import annotations

import base64
import json
import secrets
import unicodedata
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from cryptography.exceptions import InvalidTag
from isal import isal_zlib
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from radlake.deidentify import KeyRing
from radlake.deidentify.elements import Element, decoded, items_of, text_bytes, text_of
from radlake.errors import PermanentError
from radlake.lake.evidence import SealedRecord

__all__ = [
    "Identity",
    "StudyRecord",
    "VaultRecordDamaged",
    "identity_of",
    "open_identity",
    "open_record",
    "patient_alias",
    "seal",
    "sealed_anew",
]

Identity: TypeAlias = Mapping[str, Sequence[str]]
Pair: TypeAlias = tuple[str, str]  # UID as the hospital wrote it, UID in the lake

_TAGS = {
    "patient_id": BaseTag(0x00100020),
    "issuer_of_patient_id": BaseTag(0x00100021),
    "patient_name": BaseTag(0x00100010),
    "patient_birth_date": BaseTag(0x00100030),
    "patient_sex": BaseTag(0x00100040),
    "other_patient_ids": BaseTag(0x00101000),
    "patient_telephone_numbers": BaseTag(0x00102154),
    "accession_number": BaseTag(0x00080050),
}
_OTHER_IDS_SEQUENCE = BaseTag(0x00101002)
_NONCE_BYTES = 12
_HEAD = b"\x01"  # the form of what follows: nonce, ciphertext with tag (NIST SP 800-38D)


class VaultRecordDamaged(PermanentError):
    sentence = (
        "The vault's record of study {study} cannot be opened: it was changed on disk, or sealed with another key.\n"
        "Look at `radlake key verify`; if the key is right, restore the ledger's database from a backup."
    )


@dataclass(frozen=True, repr=False)
class StudyRecord:
    """What one record tells; it has no repr, because all of it is identifying.

    Attributes
    ----------
    identity : mapping of str to sequence of str
        Distinct values by attribute: `patient_id`, `patient_name`, ...
    study, series, instances : pairs of original UID and UID in the lake
    date_offset_days, clock_offset_seconds : int
        By which the person's dates and times were moved; subtract them to come back.
    """

    identity: Identity
    study: Pair
    series: tuple[Pair, ...]
    instances: tuple[Pair, ...]
    date_offset_days: int
    clock_offset_seconds: int


def identity_of(headers: Iterable[Dataset]) -> dict[str, list[str]]:
    """Distinct identifying values of a study's identified headers, sorted.

    Raw values are told apart before any is decoded: a thousand slices of one patient cost little more than one.
    """
    seen: set[tuple[object, ...]] = set()
    found: dict[str, set[str]] = {name: set() for name in _TAGS}
    for ds in headers:
        elements = [cast("Element | None", ds.get_item(tag)) for tag in _TAGS.values()]
        raw = tuple(
            [elem.value if isinstance(elem, RawDataElement) else elem and text_bytes(elem) for elem in elements]
        )
        others = items_of(cast("Element | None", ds.get_item(_OTHER_IDS_SEQUENCE)))
        if raw in seen and not others:
            continue
        seen.add(raw)
        for name, elem in zip(_TAGS, elements, strict=True):
            if elem is not None:
                found[name].add(decoded(text_bytes(elem)).strip())
        found["other_patient_ids"].update(text_of(item, _TAGS["patient_id"]) for item in others)
    return {name: sorted(values - {""}) for name, values in found.items() if values - {""}}


def seal(
    keys: KeyRing,
    *,
    version: int,
    hospital_id: str,
    patient_key: int,
    exam_pseudo_id: str,
    identity: Identity,
    study: Pair,
    series: Sequence[Pair],
    instances: Sequence[Pair],
) -> SealedRecord:
    """Seal what leads back from one stored study.

    Parameters
    ----------
    version : int
        Of the vault's key.
    identity : mapping of str to sequence of str
        From `identity_of`, or the same names from another reader.
    study, series, instances : pairs of original UID and UID in the lake
        If the study's pair follows the key, so do all; otherwise both sides are kept.
    """
    is_keyed = keys.uid(study[0]) == study[1]

    def kept(pairs: Sequence[Pair]) -> list[Any]:
        return [old for old, _ in pairs] if is_keyed else [list(pair) for pair in pairs]

    content = {
        "identity": identity,
        "study": kept([study]),
        "series": kept(series),
        "instances": kept(instances),
        "offset": [keys.date_offset_days(patient_key), keys.clock_offset_seconds(patient_key)],
    }
    patient_ids = {
        part
        for name in ("patient_id", "other_patient_ids")
        for text in identity.get(name, ())
        for part in text.split("\\")
    }
    plain = isal_zlib.compress(
        json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    )
    row = {
        "hospital_id": hospital_id,
        "lake_study_uid": study[1],
        "patient_key": patient_key,
        "exam_pseudo_id": exam_pseudo_id,
        "key_version": version,
    }
    blob = _encrypted(keys, plain, row)
    return SealedRecord(
        blob=base64.b64encode(blob).decode("ascii"),
        key_version=version,
        patient_key=patient_key,
        exam_pseudo_id=exam_pseudo_id,
        aliases=tuple(sorted(patient_alias(keys, hospital_id=hospital_id, patient_id=text) for text in patient_ids)),
    )


def open_record(keys: KeyRing, row: Mapping[str, Any]) -> StudyRecord:
    """Open the record of a row of the vault.

    Raises
    ------
    VaultRecordDamaged
        If a bit of the record or of its row was changed, or the key is another one.
    """
    content = json.loads(zlib.decompress(_decrypted(keys, row)))

    def pairs(kept: list[Any]) -> tuple[Pair, ...]:
        return tuple((item, keys.uid(item)) if isinstance(item, str) else (item[0], item[1]) for item in kept)

    return StudyRecord(
        identity=content["identity"],
        study=pairs(content["study"])[0],
        series=pairs(content["series"]),
        instances=pairs(content["instances"]),
        date_offset_days=content["offset"][0],
        clock_offset_seconds=content["offset"][1],
    )


def open_identity(keys: KeyRing, row: Mapping[str, Any]) -> Identity:
    """What a row of the vault tells of the patient, without the UIDs, which take much longer.

    Raises
    ------
    VaultRecordDamaged
    """
    return json.loads(zlib.decompress(_decrypted(keys, row)))["identity"]


def sealed_anew(keys: KeyRing, row: Mapping[str, Any], *, version: int) -> bytes:
    """The record of a row, sealed with another version of the vault's key.

    Raises
    ------
    VaultRecordDamaged
    """
    return _encrypted(keys, _decrypted(keys, row), {**row, "key_version": version})


def patient_alias(keys: KeyRing, *, hospital_id: str, patient_id: str) -> str:
    """Pseudonym of a number that a hospital calls a patient by; leads to the person, whatever number made the person.

    Case, width and spaces do not count, as in `radlake.deidentify.person`.
    """
    normal = " ".join(unicodedata.normalize("NFKC", patient_id).upper().split())
    return keys.pseudo_id("vault/patient", f"{hospital_id}\x1f{normal}")


def _encrypted(keys: KeyRing, plain: bytes, row: Mapping[str, Any]) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return _HEAD + nonce + keys.vault_cipher(row["key_version"]).encrypt(nonce, plain, _bound(row))


def _decrypted(keys: KeyRing, row: Mapping[str, Any]) -> bytes:
    blob = row["record"]
    head, nonce, sealed = blob[:1], blob[1 : 1 + _NONCE_BYTES], blob[1 + _NONCE_BYTES :]
    try:
        if head != _HEAD:
            raise InvalidTag
        return keys.vault_cipher(row["key_version"]).decrypt(nonce, sealed, _bound(row))
    except (InvalidTag, ValueError):  # a nonce that was cut off is a ValueError
        raise VaultRecordDamaged(study=row["lake_study_uid"]) from None


def _bound(row: Mapping[str, Any]) -> bytes:
    """Associated data: a record that is moved to another row cannot be opened there."""
    names = ("hospital_id", "lake_study_uid", "patient_key", "exam_pseudo_id", "key_version")
    return json.dumps(["radlake/vault/1", *(row[name] for name in names)]).encode()
