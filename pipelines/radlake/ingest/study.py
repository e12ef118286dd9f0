"""One study from received files to series objects and rows: a pure worker, run in any process.

It reads, validates, de-identifies and packs; it writes objects (named by content, so doing it twice writes the same)
and touches neither ledger nor tables. What it could not take comes back with a reason code, never as an exception.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import xxhash
from pydicom import Dataset

from radlake import log
from radlake.config import Settings
from radlake.deidentify import Deidentifier, KeyRing, Person, identify_person, key_ring, load_profile
from radlake.dicom.part10 import encode_located, read_instance
from radlake.errors import (
    IdentifierLeak,
    KeyMismatch,
    PermanentError,
    PrivacyError,
    QuarantineError,
    SourceMissing,
    TransientError,
)
from radlake.ingest import rows
from radlake.lake import Lake
from radlake.lake.evidence import SealedRecord, StoredInstance
from radlake.lake.quarantine import digest_of_file, quarantine_id_of
from radlake.pixels import DecisionKind, PixelDecision
from radlake.validate import check_instance
from radlake.vault import identity_of, seal
from radlake.vocab import classify_exam

__all__ = ["IngestJob", "Refused", "SourceFile", "StudyOutcome", "ingest_study"]

_SMALL_STUDY_BYTES = 64 << 20
_LONG_UID = 16
_FIRST_YEAR = 1900  # before it there were no consoles: one without a clock writes 00010101


@dataclass(frozen=True)
class SourceFile:
    """A received file: where its bytes lie, and where they came from (for people)."""

    path: Path
    origin: str
    sop_uid: str = ""
    quarantine_id: str = ""  # set when it is replayed from quarantine
    decision: PixelDecision | None = None  # of a reviewer who saw the pixels


@dataclass(frozen=True)
class IngestJob:
    """Everything a worker needs for one study.

    Attributes
    ----------
    stored : mapping of SOP Instance UID to StoredInstance
        What the lake already has of this study: an equal instance is a resend, a different one a conflict.
    rejected : frozenset of str
        Quarantine ids of what a reviewer keeps out: the same bytes stay out however often they come.
    patient_key : int or None
        The person that the study was stored under before, when it was.
    vault_version : int
        Of the key that the vault's record is sealed with.
    key_check : str
        Check value of the lake's key: a worker on another machine may have been given another one.
    """

    settings: Settings
    hospital_id: str
    study_uid: str
    files: tuple[SourceFile, ...]
    stored: Mapping[str, StoredInstance] = field(default_factory=dict)
    rejected: frozenset[str] = frozenset()
    patient_key: int | None = None
    vault_version: int = 1
    key_check: str = ""


@dataclass(frozen=True)
class Refused:
    """A file that goes to quarantine."""

    file: SourceFile
    sop_uid: str
    error: QuarantineError


@dataclass(frozen=True)
class StudyOutcome:
    """What became of the files of one study. A file that could not be read any more is in none of them."""

    hospital_id: str
    study_uid: str
    study: dict[str, Any] | None
    series: tuple[dict[str, Any], ...]
    instances: tuple[dict[str, Any], ...]
    stored: Mapping[str, StoredInstance]
    resends: tuple[SourceFile, ...]
    refused: tuple[Refused, ...]
    files: tuple[SourceFile, ...]
    sealed: SealedRecord | None = None  # the vault's record of `stored`


@dataclass(frozen=True)
class _Readable:
    file: SourceFile
    header: Dataset  # identified; without pixels unless `is_whole`
    is_whole: bool
    sop_uid: str
    source_digest: str


@dataclass(frozen=True)
class _Clean:
    header: Dataset  # de-identified, without pixels
    pixel_offset: int | None
    digest: str


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


def ingest_study(job: IngestJob) -> StudyOutcome:
    """Validate, de-identify and pack the files of one study.

    Raises
    ------
    TransientError, PrivacyError, PermanentError
        When the store is full, an identifier would leak or the settings are wrong. Everything else ends in `refused`.
    """
    shop = _workshop(job.settings)  # pyright: ignore[reportArgumentType]
    if job.key_check and shop.keys.check_value() != job.key_check:
        given, place = shop.keys.check_value()[:8], "the harvest that this worker belongs to"
        raise KeyMismatch(key=job.settings.key, place=place, expected=job.key_check[:8], given=given)
    try:
        return _ingested(job, shop)
    except (TransientError, PrivacyError, PermanentError):
        raise
    except Exception as exc:  # one bad study never fails a run
        return _outcome(job, None, (), (), {}, [], [Refused(f, f.sop_uid, _unexpected(exc)) for f in job.files], [])


def _ingested(job: IngestJob, shop: _Workshop) -> StudyOutcome:
    gone: list[SourceFile] = []
    readable, resends, refused = _readable_files(job, gone=gone)
    if not readable:
        return _outcome(job, None, (), (), {}, resends, refused, gone)
    headers = [item.header for item in readable]
    person = identify_person(headers, hospital_id=job.hospital_id, keys=shop.keys)
    if job.patient_key is not None:
        person = Person(patient_key=job.patient_key, is_known=person.is_known)
    place, study_at = _place(job, shop, headers, person)

    stored: dict[str, StoredInstance] = {}
    series_rows: list[dict[str, Any]] = []
    instance_rows: list[dict[str, Any]] = []
    clean: dict[str, _Clean] = {}  # of all series: an instance belongs to one
    first: Dataset | None = None
    for series_uid, members in _by_series(readable).items():
        packing = _deidentified(
            job, shop, members, person=person, clean=clean, resends=resends, refused=refused, gone=gone
        )
        head = next(packing, None)
        if head is None:
            continue
        prefix = f"{job.hospital_id}/{place['study_instance_uid']}/{shop.keys.uid(series_uid)}"
        packed = shop.lake.objects.pack_series(prefix, chain([head], packing))
        here = place | {"object_path": packed.path}
        by_name = {member.name: member for member in packed.members}
        for item in members:
            name = _member_name(shop.keys.uid(item.sop_uid))
            if name not in by_name or item.sop_uid in stored:
                continue
            made = clean[name]
            row = rows.instance_row(made.header, place=here, pixel_offset=made.pixel_offset, member=by_name[name])
            instance_rows.append(row)
            stored[item.sop_uid] = StoredInstance(digest=row["digest"], source_digest=item.source_digest)
        head_ds = clean[head[0]].header
        series_rows.append(rows.series_row(head_ds, place=here, packed=packed))
        first = first or head_ds
    if first is None:
        return _outcome(job, None, (), (), {}, resends, refused, gone)
    study = rows.study_row(
        first,
        place=place,
        facts=classify_exam(_one_a_series(readable)),
        age_years=next((age for header in headers if (age := rows.age_in_years(header)) is not None), None),
    )
    study |= {
        "study_at": study_at,
        "exam_pseudo_id": _exam_pseudo_id(job, shop, headers),
        "is_patient_known": person.is_known,
        "profile_name": shop.profile_name,
        "n_series": len({row["series_instance_uid"] for row in series_rows}),
        "n_instances": len(instance_rows),
        "study_bytes": sum(row["instance_bytes"] for row in instance_rows),
    }
    series_uids = [uid for uid, members in _by_series(readable).items() if any(m.sop_uid in stored for m in members)]
    sealed = seal(
        shop.keys,
        version=job.vault_version,
        hospital_id=job.hospital_id,
        patient_key=person.patient_key,
        exam_pseudo_id=study["exam_pseudo_id"],
        identity=identity_of(item.header for item in readable if item.sop_uid in stored),
        study=(job.study_uid, place["study_instance_uid"]),
        series=[(uid, shop.keys.uid(uid)) for uid in series_uids],
        instances=[(uid, shop.keys.uid(uid)) for uid in stored],
    )
    outcome = _outcome(job, study, tuple(series_rows), tuple(instance_rows), stored, resends, refused, gone)
    return replace(outcome, sealed=sealed)


def _readable_files(
    job: IngestJob, *, gone: list[SourceFile]
) -> tuple[list[_Readable], list[SourceFile], list[Refused]]:
    """First pass: read and validate every file. A small study is kept whole; of a large one the headers only."""
    is_small = sum(file.path.stat().st_size for file in job.files if file.path.exists()) <= _SMALL_STUDY_BYTES
    readable: list[_Readable] = []
    resends: list[SourceFile] = []
    refused: list[Refused] = []
    known = {item.source_digest for item in job.stored.values()}
    seen: dict[str, str] = {}
    for file in job.files:
        sop_uid = file.sop_uid
        try:
            digest = digest_of_file(file.path)
            if digest in known or (sop_uid and seen.get(sop_uid) == digest):
                resends.append(file)
                continue
            if _is_rejected(file, digest, job):
                raise QuarantineError(reason="rejected_by_reviewer", detail="")
            ds = read_instance(file.path)
            check_instance(ds, size=file.path.stat().st_size)
            sop_uid = str(ds.SOPInstanceUID)
            if str(ds.StudyInstanceUID) != job.study_uid:
                raise QuarantineError(reason="study_mismatch", detail="the node sent an instance of another study")
        except QuarantineError as error:
            refused.append(Refused(file, sop_uid, error))
            continue
        except (OSError, SourceMissing):
            gone.append(file)
            continue
        except Exception as exc:  # one bad instance never fails a study
            refused.append(Refused(file, sop_uid, _unexpected(exc)))
            continue
        if seen.get(sop_uid) == digest:
            resends.append(file)
            continue
        seen.setdefault(sop_uid, digest)
        if not is_small:
            _drop_pixels(ds)
        readable.append(_Readable(file, ds, is_small, sop_uid, digest))
    readable.sort(key=lambda item: (item.sop_uid, item.source_digest))
    return readable, resends, refused


def _is_rejected(file: SourceFile, digest: str, job: IngestJob) -> bool:
    if file.decision is not None:
        return file.decision.kind is DecisionKind.REJECT
    return bool(job.rejected) and quarantine_id_of(job.hospital_id, digest) in job.rejected


def _deidentified(
    job: IngestJob,
    shop: _Workshop,
    members: list[_Readable],
    *,
    person: Person,
    clean: dict[str, _Clean],
    resends: list[SourceFile],
    refused: list[Refused],
    gone: list[SourceFile],
) -> Iterator[tuple[str, bytes]]:
    """Second pass, a series at a time: de-identify and encode each instance, (name, Part-10 bytes)."""
    for item in members:
        try:
            identified = item.header if item.is_whole else read_instance(item.file.path)
            decided = {"decision": item.file.decision} if item.file.decision else {}
            ds = shop.deidentifier.deidentify(identified, person=person, hospital_id=job.hospital_id, **decided)
            data, offset = encode_located(ds)
            _last_look(data[:offset], identified)
        except QuarantineError as error:
            refused.append(Refused(item.file, item.sop_uid, error))
            continue
        except SourceMissing:
            gone.append(item.file)
            continue
        except (PrivacyError, TransientError):
            raise
        except Exception as exc:  # fail closed: nothing of it is written
            refused.append(Refused(item.file, item.sop_uid, _unexpected(exc)))
            continue
        name = _member_name(shop.keys.uid(item.sop_uid))
        digest = xxhash.xxh3_128_hexdigest(data)
        before = clean.get(name) or job.stored.get(item.sop_uid)
        if before is not None:
            if before.digest == digest:
                resends.append(item.file)
            else:
                detail = "an instance with this SOP Instance UID and other content is stored"
                refused.append(
                    Refused(item.file, item.sop_uid, QuarantineError(reason="sop_instance_conflict", detail=detail))
                )
            continue
        _drop_pixels(ds)
        clean[name] = _Clean(ds, offset, digest)
        yield name, data


def _last_look(written: bytes, identified: Dataset) -> None:
    """Search what will be written for the original UIDs: independent of the rules that should have replaced them.

    UIDs only: they are long enough never to be found by chance, and one that is found means that a rule is broken.

    Raises
    ------
    IdentifierLeak
        The run stops, whatever else is under way.
    """
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        uid = str(identified.get(keyword, "")).encode("ascii", "replace")
        if len(uid) >= _LONG_UID and uid in written:
            raise IdentifierLeak(where="the header of an instance", rule=keyword)


def _by_series(readable: list[_Readable]) -> dict[str, list[_Readable]]:
    """Series in order of their UID; instances by number, then UID: the same object whatever order they came in."""
    groups: dict[str, list[_Readable]] = {}
    for item in readable:
        groups.setdefault(str(item.header.get("SeriesInstanceUID", "")), []).append(item)

    def order(item: _Readable) -> tuple[float, str, str]:
        try:
            number = float(str(item.header.get("InstanceNumber", "")))
        except ValueError:
            number = float("inf")
        return number, item.sop_uid, item.source_digest

    return {uid: sorted(groups[uid], key=order) for uid in sorted(groups)}


def _place(
    job: IngestJob, shop: _Workshop, headers: list[Dataset], person: Person
) -> tuple[dict[str, Any], datetime | None]:
    """Columns that every row of the study shares, and the shifted time of the study."""
    moments = [at for header in headers if (at := rows.moment(header, None, "StudyDate", "StudyTime"))]
    moments = [at for at in moments if at.year >= _FIRST_YEAR]
    study_at = min(moments) + shop.keys.offset(person.patient_key) if moments else None
    place = {
        "hospital_id": job.hospital_id,
        "study_instance_uid": shop.keys.uid(job.study_uid),
        "patient_key": person.patient_key,
        "study_month": rows.month_of(study_at),
    }
    return place, study_at


def _one_a_series(readable: list[_Readable]) -> list[Dataset]:
    return [members[0].header for members in _by_series(readable).values()]


def _exam_pseudo_id(job: IngestJob, shop: _Workshop, headers: list[Dataset]) -> str:
    """The exam is the accession number of the hospital; a study without one is an exam of its own."""
    accessions = sorted({str(header.get("AccessionNumber", "") or "").strip() for header in headers} - {""})
    name = f"accession|{accessions[0]}" if accessions else f"study|{job.study_uid}"
    return shop.keys.pseudo_id("exam", f"{job.hospital_id}|{name}")


def _outcome(
    job: IngestJob,
    study: dict[str, Any] | None,
    series: tuple[dict[str, Any], ...],
    instances: tuple[dict[str, Any], ...],
    stored: Mapping[str, StoredInstance],
    resends: list[SourceFile],
    refused: list[Refused],
    gone: list[SourceFile],
) -> StudyOutcome:
    if gone:  # their instances stay expected: the study is partial
        log.get_logger().warning("files_vanished", hospital=job.hospital_id, n_files=len(gone))
    files = tuple(file for file in job.files if file not in gone)
    return StudyOutcome(
        job.hospital_id, job.study_uid, study, series, instances, stored, tuple(resends), tuple(refused), files
    )


def _drop_pixels(ds: Dataset) -> None:
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        if keyword in ds:
            del ds[keyword]


def _unexpected(exc: Exception) -> QuarantineError:
    # The class only: the text of a foreign exception may quote a value.
    return QuarantineError(reason="unexpected_error", detail=type(exc).__name__)


def _member_name(sop_uid: str) -> str:
    return f"{sop_uid}.dcm"
