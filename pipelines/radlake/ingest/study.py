"""One study from received files to series objects and rows: a pure worker, run in any process.

It reads, validates, de-identifies and packs; it writes objects (named by content, so doing it twice writes the same)
and touches neither ledger nor tables. What it could not take comes back with a reason code, never as an exception.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pydicom import Dataset

from radlake import log
from radlake.config import Settings
from radlake.deidentify import Deidentifier, KeyRing, Person, identifiers_of, identify_person, key_ring, load_profile
from radlake.deidentify.person import identity_conflict
from radlake.dicom.values import first_text
from radlake.errors import KeyMismatch, PermanentError, PrivacyError, QuarantineError, TransientError
from radlake.ingest import rows
from radlake.ingest.job import IngestJob, Refused, SourceFile, StudyOutcome, unexpected
from radlake.ingest.packing import Packed, Packing
from radlake.ingest.reading import Readable, Reading, read_files
from radlake.lake import Lake, ObjectStore
from radlake.lake.evidence import SealedRecord, StoredInstance, UnreadPiece
from radlake.machine import forget_pages
from radlake.retention.classes import class_of_headers
from radlake.telemetry import Work
from radlake.vault.record import identity_of, seal
from radlake.vocab import evidence_of, read, texts_of

__all__ = ["ingest_study"]

_FIRST_YEAR = 1900  # before it there were no consoles: one without a clock writes 00010101
_ACCESSION = 0x00080050


@dataclass(frozen=True)
class _Workshop:
    lake: Lake
    keys: KeyRing
    deidentifier: Deidentifier
    profile_name: str


@lru_cache(maxsize=4)
def _workshop(settings: Settings) -> _Workshop:  # a frozen model is hashable
    keys = key_ring(settings)
    profile = load_profile(settings.profile)
    return _Workshop(Lake.from_settings(settings), keys, Deidentifier(profile, keys), profile.label)


def ingest_study(job: IngestJob, *, use_templates: bool = True) -> StudyOutcome:
    """Validate, de-identify and pack the files of one study.

    Parameters
    ----------
    use_templates : bool
        Without them every instance goes the full way: for tests, the result is the same.

    Raises
    ------
    TransientError, PrivacyError, PermanentError
        When the store is full, an identifier would leak or the settings are wrong. Everything else ends in `refused`.
    """
    began_ns = time.time_ns()
    outcome = _ingested(job, use_templates=use_templates)
    return replace(outcome, work=Work.since(began_ns))


def _ingested(job: IngestJob, *, use_templates: bool) -> StudyOutcome:
    shop = _workshop(job.settings)  # pyright: ignore[reportArgumentType]
    if job.key_check and shop.keys.check_value() != job.key_check:
        given, place = shop.keys.check_value()[:8], "the harvest that this worker belongs to"
        raise KeyMismatch(key=job.settings.key, place=place, expected=job.key_check[:8], given=given)
    try:
        outcome = _Study(job, shop, read_files(job, use_templates=use_templates)).ingest()
        _forget_spooled(outcome.files, shop.lake.spool)
        return outcome
    except (TransientError, PrivacyError, PermanentError):
        raise
    except Exception as exc:  # one bad study never fails a run
        refused = tuple(Refused(file, file.sop_uid, unexpected(exc)) for file in job.files)
        return StudyOutcome(job.hospital_id, job.study_uid, refused=refused, files=job.files)


def _digest_of_withdrawn(keys: KeyRing, person: Person) -> str:
    from radlake.lake.withdrawals import withdrawn_digest  # and SQLAlchemy: 13 MB of a worker that mostly needs neither

    return withdrawn_digest(keys.withdrawal_mac, person.patient_key)


def _forget_spooled(files: Iterable[SourceFile], spool: Path) -> None:
    """Only a sample of what was received is read once more; what lies in somebody's folder stays as it is."""
    spooled = f"{spool}{os.sep}"
    for file in files:
        if str(file.path).startswith(spooled):
            with suppress(OSError):  # gone: the study is partial, and says so
                forget_pages(file.path)


class _Series(NamedTuple):
    """A stored series object: its row, those of its instances, and its first instance."""

    row: dict[str, Any]
    instances: list[dict[str, Any]]
    head: Packed


class _Study:
    def __init__(self, job: IngestJob, shop: _Workshop, reading: Reading) -> None:
        self._job = job
        self._shop = shop
        self._reading = reading
        self._headers = [item.header for item in reading.readable]
        self._distinct = list({id(header): header for header in self._headers}.values())
        self._stored: dict[str, StoredInstance] = {}
        self._uids: list[tuple[str, str]] = []  # original and new, of what is stored

    def ingest(self) -> StudyOutcome:
        job, shop, reading = self._job, self._shop, self._reading
        if (conflict := identity_conflict(self._distinct)) is not None:
            error = QuarantineError(reason="patient_identity_conflict", detail=conflict)
            reading.refused += [Refused(item.file, item.sop_uid, error) for item in reading.readable]
            return self._outcome()
        if not reading.readable:
            return self._outcome()
        person = identify_person(self._headers, hospital_id=job.hospital_id, keys=shop.keys)
        if job.patient_key is not None:
            person = Person(patient_key=job.patient_key, is_known=person.is_known)
        if job.withdrawn and _digest_of_withdrawn(shop.keys, person) in job.withdrawn:
            return StudyOutcome(job.hospital_id, job.study_uid, files=job.files, is_withdrawn=True)
        study_at = self._study_at(person)
        place = {
            "hospital_id": job.hospital_id,
            "study_instance_uid": shop.keys.uid(job.study_uid),
            "patient_key": person.patient_key,
            "study_month": rows.month_of(study_at),
        }
        told = identifiers_of(self._distinct)
        packing = Packing(job, reading, deidentifier=shop.deidentifier, person=person, told=told)
        by_series = reading.series()
        done = [one for uid, members in by_series.items() if (one := self._pack(packing, uid, members, place=place))]
        if not done:
            return self._outcome(ways=packing.ways)
        instances = [row for one in done for row in one.instances]
        study = rows.study_row(
            done[0].head.fields(),
            place=place,
            evidence=evidence_of([members[0].header for members in by_series.values()]),
            age_years=next((age for header in self._distinct if (age := rows.age_in_years(header)) is not None), None),
        )
        study |= {
            "study_at": study_at,
            "exam_pseudo_id": self._exam_pseudo_id(),
            "is_patient_known": person.is_known,
            "profile_name": shop.profile_name,
            "n_series": len({one.row["series_instance_uid"] for one in done}),
            "n_instances": len(instances),
            "study_bytes": sum(row["instance_bytes"] for row in instances),
        }
        return self._outcome(
            study=study,
            series=tuple(one.row for one in done),
            instances=tuple(instances),
            stored=self._stored,
            sealed=self._sealed(study),
            retention=class_of_headers(self._distinct, rules=self._job.retention_rules).value,
            ways=packing.ways,
            unread=self._unread([members[0].header for members in by_series.values()], study),
        )

    def _unread(self, headers: Sequence[Dataset], study: dict[str, Any]) -> tuple[UnreadPiece, ...]:
        """Pieces to be counted, of a person that is known: others would each count as one."""
        if study["confidence_code"] not in ("NONE", "LOW") or not study["is_patient_known"]:
            return ()
        group = study["modality_group"]
        pieces = sorted({piece for text in texts_of(headers) for piece in read(text, group).unread})
        keys = self._shop.keys
        return tuple(UnreadPiece(keys.pseudo_id("unread", f"{group}|{piece}"), piece, group) for piece in pieces)

    def _pack(
        self, packing: Packing, series_uid: str, members: list[Readable], *, place: dict[str, Any]
    ) -> _Series | None:
        """Store a series object; None when nothing of the series can be stored."""
        prefix = f"{self._job.hospital_id}/{place['study_instance_uid']}/{self._shop.keys.uid(series_uid)}"
        packed = self._objects.pack_series(prefix, packing.members(members))
        if not packed.members:
            return None
        here = place | {"object_path": packed.path}
        instances: list[dict[str, Any]] = []
        for member in packed.members:
            made = packing.packed[member.name]
            where = rows.place_of_instance(pixel_offset=made.pixel_offset, member=member)
            instances.append({**here, **made.columns, **where})
            sop_uid = made.item.sop_uid
            self._stored[sop_uid] = StoredInstance(digest=member.digest, source_digest=made.item.source_digest)
            self._uids.append((sop_uid, made.columns["sop_instance_uid"]))
        head = packing.packed[packed.members[0].name]
        return _Series(
            rows.series_row(head.fields(), place=here, packed=packed, residency=self._job.residency), instances, head
        )

    @property
    def _objects(self) -> ObjectStore:
        """Where series objects go: those that the hospital keeps, to the cache."""
        lake = self._shop.lake
        return lake.cache.pending(lake.scratch) if self._job.residency == "index" else lake.objects

    def _study_at(self, person: Person) -> datetime | None:
        """The shifted time of the study."""
        moments = [at for header in self._distinct if (at := rows.moment(header)) and at.year >= _FIRST_YEAR]
        return min(moments) + self._shop.keys.offset(person.patient_key) if moments else None

    def _exam_pseudo_id(self) -> str:
        accession = min({first_text(header, _ACCESSION) for header in self._distinct} - {""}, default="")
        return self._shop.keys.exam_pseudo_id(
            hospital_id=self._job.hospital_id, accession_number=accession, study_uid=self._job.study_uid
        )

    def _sealed(self, study: dict[str, Any]) -> SealedRecord:
        """The vault's record of what is stored."""
        keys, stored = self._shop.keys, [item for item in self._reading.readable if item.sop_uid in self._stored]
        headers = {id(item.header): item.header for item in stored}
        return seal(
            keys,
            version=self._job.vault_version,
            hospital_id=self._job.hospital_id,
            patient_key=study["patient_key"],
            exam_pseudo_id=study["exam_pseudo_id"],
            identity=identity_of(headers.values()),
            study=(self._job.study_uid, study["study_instance_uid"]),
            series=[(uid, keys.uid(uid)) for uid in sorted({item.series_uid for item in stored})],
            instances=self._uids,
        )

    def _outcome(self, **made: Any) -> StudyOutcome:
        job, reading = self._job, self._reading
        if reading.gone:  # their instances stay expected: the study is partial
            log.get_logger().warning("files_vanished", hospital=job.hospital_id, n_files=len(reading.gone))
        return StudyOutcome(
            job.hospital_id,
            job.study_uid,
            resends=tuple(reading.resends),
            refused=tuple(reading.refused),
            files=tuple(file for file in job.files if file not in reading.gone),
            **made,
        )
