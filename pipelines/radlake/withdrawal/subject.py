"""Whom a withdrawal is about: every identifier and pseudonym by which something of them may lie somewhere.

A subject leaves this process only sealed. Nothing is changed here.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pydicom
import sqlalchemy as sa
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from radlake.deidentify import KeyRing, identify_person
from radlake.errors import PermanentError
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import QUARANTINE, STUDY
from radlake.lake.purge import Gone
from radlake.lake.quarantine import Quarantine
from radlake.lake.statements import in_parts
from radlake.lake.vault import VaultRows
from radlake.lake.withdrawals import WithdrawalRows
from radlake.vault.record import VaultRecordDamaged, open_record, patient_alias

__all__ = ["PersonUnclear", "StudyRef", "Subject", "SubjectUnknown", "subject_of_person", "subject_of_study"]

_NONCE_BYTES = 12
_ABOUT = b"radlake/withdrawal/1"
_IDENTITY = ("patient_id", "other_patient_ids", "patient_name", "accession_number", "patient_telephone_numbers")


class SubjectUnknown(PermanentError):
    sentence = (
        "Nothing of {what} is known in this lake, and nothing was withdrawn.\n"
        "Check hospital and number; what was stored before there was a vault is withdrawn study by study."
    )


class PersonUnclear(PermanentError):
    sentence = (
        "The hospital used this number for {n} persons: {keys}.\nSay which of them with --patient-key; "
        "`radlake vault find --patient KEY` tells them apart."
    )


@dataclass(frozen=True)
class StudyRef:
    """A study in one hospital; a name is empty where it is not known."""

    hospital_id: str
    study_uid: str
    lake_study_uid: str


@dataclass(frozen=True, repr=False)
class Subject:
    """It has no repr, because all of it is identifying.

    Attributes
    ----------
    kind : {"person", "study"}
    digest : str
        Keyed: by which a withdrawal of the same subject is found again.
    patient_keys : tuple of int
        Pseudonyms that go; none of a study, whose person stays.
    owner_keys : tuple of int
        Pseudonyms of the persons of the studies.
    exams : tuple of str
        Pseudonyms of exams of which nothing else is left.
    uids : tuple of str
        Original and replaced UIDs of studies, series and instances.
    identifiers : tuple of str
        Numbers, names and telephone numbers as headers tell them; of a person only.
    kept : tuple of str
        What lies in quarantine under one of these numbers, but is somebody else's, or cannot be told apart.
    """

    kind: str
    digest: str
    studies: tuple[StudyRef, ...]
    patient_keys: tuple[int, ...] = ()
    owner_keys: tuple[int, ...] = ()
    exams: tuple[str, ...] = ()
    uids: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ()
    quarantine_ids: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    reminders: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)  # what the plan found, by the names of `plan.Plan`

    @property
    def hospitals(self) -> list[str]:
        return sorted({study.hospital_id for study in self.studies})

    @property
    def lake_studies(self) -> list[str]:
        return sorted({study.lake_study_uid for study in self.studies} - {""})

    @property
    def release_names(self) -> Collection[str]:
        """What releases call it: pseudonyms and UIDs that are not the lake's."""
        return self.more.get("release_names", ())

    def gone(self, columns: Collection[str]) -> Gone:
        """By which values rows of a table with these columns go."""
        if "release_id" in columns:  # results of research: under the names of their release, none of the lake's
            names = self.release_names
            return {"person_pseudo_id": names, "study_instance_uid": names} if names else {}
        found: dict[str, Collection[Any]] = {
            "study_instance_uid": self.lake_studies,
            "exam_pseudo_id": self.exams,
            "earlier_exam_pseudo_id": self.exams,
            "reminder_pseudo_id": self.reminders,
            "patient_key": self.patient_keys,
            "person_key": self.patient_keys,
        }
        is_laid_out = "person_key" not in columns and not {"study_instance_uid", "exam_pseudo_id"} & set(columns)
        if is_laid_out:  # by person alone: a row cannot be told from those of other exams, and it is built anew
            found["patient_key"] = self.owner_keys
        return {column: values for column, values in found.items() if column in columns and values}

    def sealed(self, keys: KeyRing) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        plain = json.dumps(asdict(self), ensure_ascii=False).encode("utf-8", "surrogatepass")
        return nonce + keys.withdrawal_cipher().encrypt(nonce, plain, _ABOUT)

    @classmethod
    def from_sealed(cls, keys: KeyRing, sealed: bytes) -> Subject:
        plain = keys.withdrawal_cipher().decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _ABOUT)
        told = json.loads(plain.decode("utf-8", "surrogatepass"))
        studies = tuple(StudyRef(**study) for study in told.pop("studies"))
        lists = {name: tuple(value) for name, value in told.items() if isinstance(value, list)}
        return cls(**{**told, **lists, "studies": studies})


def subject_of_person(
    lake: Lake,
    ledger: Ledger,
    keys: KeyRing,
    *,
    hospital_id: str,
    patient_id: str,
    issuer: str = "",
    patient_key: int | None = None,
) -> Subject:
    """Everything of the patient whom a hospital calls by a number, in whatever hospital of the lake it is.

    Parameters
    ----------
    patient_key : int, optional
        Which one, of a number that was used for several.

    Raises
    ------
    SubjectUnknown, PersonUnclear
    """
    asked = Dataset()
    asked.PatientID, asked.IssuerOfPatientID = patient_id, issuer
    computed = identify_person([asked], hospital_id=hospital_id, keys=keys)
    alias = patient_alias(keys, hospital_id=hospital_id, patient_id=patient_id)
    known = VaultRows(ledger).patient_keys(alias) | ({computed.patient_key} if computed.is_known else set())
    with_studies = {row["patient_key"] for row in VaultRows(ledger).find(patient_keys=known)}
    with_studies |= {row["patient_key"] for row in _study_rows(ledger, STUDY.c.patient_key.in_(known))}
    if patient_key is not None:
        if patient_key not in known:
            raise SubjectUnknown(what="a person with this number and this key")
        known = {patient_key}
    elif len(with_studies) > 1:
        raise PersonUnclear(n=len(with_studies), keys=", ".join(map(str, sorted(with_studies))))
    if not known:
        raise SubjectUnknown(what="a patient with that number")
    digest = keys.withdrawal_mac(f"subject{alias}{patient_key or ''}")
    bare = Subject("person", digest, studies=(), patient_keys=tuple(sorted(known)), owner_keys=tuple(sorted(known)))
    return filled(lake, ledger, keys, replace(bare, identifiers=(patient_id,)), searched_in=[hospital_id])


def subject_of_study(lake: Lake, ledger: Ledger, keys: KeyRing, *, study_uid: str, hospital_id: str = "") -> Subject:
    """Everything of a study, by its UID in the lake or the one that the hospital gave it.

    Raises
    ------
    SubjectUnknown
    """
    rows = _study_rows(ledger, sa.or_(STUDY.c.study_uid == study_uid, STUDY.c.lake_study_uid == study_uid))
    rows = [row for row in rows if hospital_id in ("", row["hospital_id"])]
    studies = tuple(StudyRef(row["hospital_id"], row["study_uid"], row["lake_study_uid"]) for row in rows)
    names = [study.lake_study_uid for study in studies] or [study_uid, keys.uid(study_uid)]
    digests = [keys.withdrawal_mac(f"study{hospital_id}|{name or keys.uid(study_uid)}") for name in names]
    before = {row.subject for row in WithdrawalRows(ledger).all()}
    digest = next((one for one in digests if one in before), digests[0])
    return filled(lake, ledger, keys, Subject("study", digest, studies))


def filled(
    lake: Lake, ledger: Ledger, keys: KeyRing, subject: Subject, *, searched_in: Collection[str] = ()
) -> Subject:
    """The subject with everything that is known of it by now, beside what was known before.

    Raises
    ------
    SubjectUnknown
        If there is nothing of it, and nothing of it was ever withdrawn.
    """
    vault = VaultRows(ledger).find(studies=subject.lake_studies, patient_keys=subject.patient_keys)
    by_person = _study_rows(ledger, STUDY.c.patient_key.in_(subject.patient_keys)) if subject.patient_keys else []
    identifiers, uids, exams = set(subject.identifiers), set(subject.uids), set(subject.exams)
    owners = set(subject.owner_keys) | {row["patient_key"] for row in vault}
    studies = set(subject.studies)
    studies |= {StudyRef(row["hospital_id"], row["study_uid"], row["lake_study_uid"]) for row in by_person}
    for row in vault:
        uid = ledger.study_of(row["hospital_id"], row["lake_study_uid"]) or ""
        if not any((s.hospital_id, s.lake_study_uid) == (row["hospital_id"], row["lake_study_uid"]) for s in studies):
            studies.add(StudyRef(row["hospital_id"], uid, row["lake_study_uid"]))
        exams.add(row["exam_pseudo_id"])
        try:
            record = open_record(keys, row)
        except VaultRecordDamaged:
            continue
        uids |= {uid for pairs in ([record.study], record.series, record.instances) for pair in pairs for uid in pair}
        if subject.kind == "person":
            identifiers |= {
                part for name in _IDENTITY for text in record.identity.get(name, ()) for part in text.split("\\")
            }
    held, kept = set(subject.quarantine_ids), set[str]()
    if subject.kind == "person":
        searched = {*searched_in, *(s.hospital_id for s in studies)}
        found, kept = _quarantined(lake, ledger, keys, searched, persons={*subject.patient_keys}, numbers=identifiers)
        studies |= {StudyRef(hospital, uid, "") for hospital, uid, _ in found if uid} - {
            StudyRef(s.hospital_id, s.study_uid, "") for s in studies if s.lake_study_uid
        }
        held |= {quarantine_id for _, _, quarantine_id in found}
    for study in studies:
        entry = ledger.entry(study.hospital_id, study.study_uid) if study.study_uid else None
        if entry is not None and not entry.study_uid.startswith("withdrawn:"):
            uids |= {*entry.stored, *(entry.expected or ()), study.study_uid}
            uids |= {keys.uid(uid) for uid in entry.stored}
            held |= {aside.quarantine_id for aside in entry.set_aside}
            owners |= {entry.patient_key} - {None}
        uids |= {study.study_uid, study.lake_study_uid} - {""}
        held |= _held_of_study(ledger, study)
    lake_studies = sorted({study.lake_study_uid for study in studies} - {""})
    rows = _in_lake(lake, lake_studies)
    uids |= rows["uids"]
    owners |= rows["owners"]
    exams |= rows["exams"]
    if subject.kind == "study":
        exams -= _shared_exams(lake, exams, lake_studies)
    is_known = subject.digest in {row.subject for row in WithdrawalRows(ledger).all()}
    if not (studies or held or is_known):
        raise SubjectUnknown(what=f"that {subject.kind}")
    return replace(
        subject,
        studies=tuple(sorted(studies, key=lambda s: (s.hospital_id, s.study_uid, s.lake_study_uid))),
        owner_keys=tuple(sorted(key for key in owners if key is not None)),
        exams=tuple(sorted(exams - {""})),
        uids=tuple(sorted(uids - {""})),
        identifiers=tuple(sorted(text.strip() for text in identifiers if text.strip())),
        quarantine_ids=tuple(sorted(held)),
        kept=tuple(sorted(kept - held)),
    )


def _study_rows(ledger: Ledger, where: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
    with ledger.reading() as connection:
        return [dict(row) for row in connection.execute(sa.select(STUDY).where(where)).mappings()]


def _held_of_study(ledger: Ledger, study: StudyRef) -> set[str]:
    where = QUARANTINE.c.hospital_id == study.hospital_id, QUARANTINE.c.study_uid == study.study_uid
    if not study.study_uid:
        return set()
    with ledger.reading() as connection:
        return set(connection.scalars(sa.select(QUARANTINE.c.quarantine_id).where(*where)))


def _quarantined(
    lake: Lake,
    ledger: Ledger,
    keys: KeyRing,
    hospitals: Iterable[str],
    *,
    persons: Collection[int],
    numbers: Collection[str],
) -> tuple[list[tuple[str, str, str]], set[str]]:
    """Hospital, study and id of what lies in quarantine and is of these persons; and ids of what only has a number of
    theirs, which may be somebody else's in another hospital, or was used for several.
    """
    quarantine, found, kept = Quarantine(ledger, lake.quarantine), [], set()
    for hospital_id in sorted(hospitals):
        for record in quarantine.held(hospital_id=hospital_id):
            quarantine_id, study_uid = record["quarantine_id"], record["study_uid"]
            if (told := _told(quarantine.path(quarantine_id), keys, hospital_id=hospital_id)) is None:
                continue
            number, key, is_by_number = told
            entry = ledger.entry(hospital_id, study_uid) if study_uid else None
            owners = {key}
            if entry is not None and entry.patient_key is not None:
                owners = {entry.patient_key}
            elif is_by_number:  # the vault may know the person by more than the number
                alias = patient_alias(keys, hospital_id=hospital_id, patient_id=number)
                owners = VaultRows(ledger).patient_keys(alias) or owners
            if owners.issubset(persons):
                found.append((hospital_id, study_uid, quarantine_id))
            elif number in numbers or not owners.isdisjoint(persons):
                kept.add(quarantine_id)
    return found, kept


def _told(path: Path, keys: KeyRing, *, hospital_id: str) -> tuple[str, int, bool] | None:
    """Patient ID, pseudonym, and whether that follows from the number alone; of bytes that can be read that far."""
    try:
        ds = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        bare = Dataset()
        bare.PatientID, bare.IssuerOfPatientID = ds.get("PatientID", ""), ds.get("IssuerOfPatientID", "")
        of_all, of_number = (identify_person([one], hospital_id=hospital_id, keys=keys) for one in (ds, bare))
        return str(bare.PatientID or "").strip(), of_all.patient_key, of_all == of_number and of_all.is_known
    except (OSError, InvalidDicomError, ValueError, AttributeError, NotImplementedError, EOFError, KeyError, TypeError):
        return None


def _in_lake(lake: Lake, studies: Collection[str]) -> dict[str, set[Any]]:
    """UIDs, persons and exams that the lake's tables tell of studies."""
    found: dict[str, set[Any]] = {"uids": set(), "owners": set(), "exams": set()}
    if not studies or not lake.tables.exists("dicom.study"):
        return found
    with duck.connect(lake, tables=["dicom.study", "dicom.series", "dicom.instance"]) as connection:
        for part in in_parts(sorted(studies)):
            wanted = {"wanted": list(part)}
            where = "WHERE study_instance_uid IN (SELECT unnest($wanted))"
            for owner, exam in connection.execute(
                f"SELECT DISTINCT patient_key, exam_pseudo_id FROM dicom.study {where}", wanted
            ).fetchall():
                found["owners"].add(owner)
                found["exams"].add(exam)
            for row in connection.execute(
                f"SELECT DISTINCT series_instance_uid, sop_instance_uid FROM dicom.instance {where}", wanted
            ).fetchall():
                found["uids"].update(row)
    return found


def _shared_exams(lake: Lake, exams: Collection[str], studies: Collection[str]) -> set[str]:
    """Exams that have another study too."""
    if not exams or not lake.tables.exists("dicom.study"):
        return set()
    with duck.connect(lake, tables=["dicom.study"]) as connection:
        rows = connection.execute(
            "SELECT DISTINCT exam_pseudo_id FROM dicom.study WHERE exam_pseudo_id IN (SELECT unnest($exams))"
            " AND study_instance_uid NOT IN (SELECT unnest($studies))",
            {"exams": sorted(exams), "studies": sorted(studies)},
        ).fetchall()
    return {exam for (exam,) in rows}
