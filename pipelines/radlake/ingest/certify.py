"""Certify and verify: the ledger against its history and against the catalogue, for all hospitals in one scan.

Nobody is kept from harvesting: where ledger and catalogue agree, they agree. Only a hospital where they do not is
looked at again while nobody harvests it, because a batch may have been between the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime

from radlake.commit_points import reached
from radlake.config import Settings
from radlake.contracts import load_table
from radlake.contracts.rows import arrow_rows
from radlake.errors import LedgerBusy, PermanentError
from radlake.ingest.batch import has_staged, roll_forward
from radlake.lake import Lake, duck
from radlake.lake.certificate import Certificate, merkle_root
from radlake.lake.certificate_check import Problem, problems
from radlake.lake.certificate_store import CertificateRefused, documents, enter, write_files
from radlake.lake.certificate_survey import Survey, Uid, catalogue, difference, survey
from radlake.lake.events import head_of
from radlake.lake.ledger import Ledger, head_file
from radlake.lake.turns import backfill_turn
from radlake.machine import shanghai_day, utc_now
from radlake.vault.lake_key import lake_keys, open_ledger

__all__ = ["Certified", "HistoryGone", "HospitalUnknown", "certify", "verify"]


class HospitalUnknown(PermanentError):
    sentence = "The ledger knows no hospital {hospital}. `radlake ledger certify` without a name certifies all."


class HistoryGone(PermanentError):
    sentence = (
        "Of {hospital} the ledger knows nothing any more, but certificates, ends of histories or studies in the lake "
        "tell of it.\nPut the newest backup of the ledger in its place; `radlake ledger verify` tells more."
    )


@dataclass(frozen=True)
class Certified:
    """A certificate, and the studies of which ledger and catalogue do not say the same."""

    certificate: Certificate
    problems: tuple[Problem, ...] = ()


def certify(settings: Settings, hospital_ids: Collection[str], day: date, now: datetime) -> list[Certified]:
    """Issue the certificates of a day; a hospital of which it has one that still holds gets no other.

    Parameters
    ----------
    hospital_ids : collection of str
        All that anything tells of when empty.
    day : date
        In Asia/Shanghai, not in the future, not before the last certificate.
    now : datetime
        UTC.

    Raises
    ------
    LedgerBusy
        If a hospital must be looked at again and is being harvested; the others are certified.
    HistoryGone
        If the ledger has lost a hospital; the others are certified.
    CertificateRefused, HospitalUnknown, LedgerMissing, LedgerUnusable, KeyMissing, KeyMismatch
    """
    keys, lake = lake_keys(settings), Lake.from_settings(settings)
    done: list[Certified] = []
    busy: LedgerBusy | None = None
    with closing(open_ledger(settings)) as ledger:
        known = ledger.hospital_ids()
        asked = _chosen(hospital_ids, settings, lake, known={*known, *_published(lake)})
        chosen, gone = [one for one in asked if one in known], [one for one in asked if one not in known]
        if day > shanghai_day(now):
            raise CertificateRefused(hospital=", ".join(chosen[:3]), day=day, reason="that day has not come yet")
        for hospital_id, found, head in _surveys(lake, ledger, chosen, uid=keys.uid):
            told: tuple[Problem, ...] = ()
            if not found.agrees:
                try:
                    found, head, told = _look_again(lake, ledger, hospital_id, uid=keys.uid, now=now)
                except LedgerBusy as exc:
                    busy = exc
                    continue
            draft = _draft(hospital_id, found, head, day=day, now=now)
            done.append(Certified(enter(ledger, draft, mac=keys.ledger_mac), told))
        _publish(settings, lake, ledger, [one.certificate.hospital_id for one in done])
    if gone:
        raise HistoryGone(hospital=", ".join(gone))
    if busy:
        raise busy
    return done


def verify(settings: Settings, hospital_ids: Collection[str] = (), *, now: datetime | None = None) -> Iterator[Problem]:
    """Everything that is wrong, hospital by hospital; nothing is changed.

    Parameters
    ----------
    now : datetime, optional
        UTC; default the clock. A certificate of a later day is wrong.

    Raises
    ------
    HospitalUnknown, LedgerMissing, LedgerUnusable, KeyMissing, KeyMismatch
    """
    keys, lake, today = lake_keys(settings), Lake.from_settings(settings), shanghai_day(now or utc_now())
    with closing(open_ledger(settings)) as ledger:
        ledger.check_whole()
        published = _published(lake)
        chosen = _chosen(hospital_ids, settings, lake, known={*ledger.hospital_ids(), *published})
        for hospital_id, found, _ in _surveys(lake, ledger, chosen, uid=keys.uid):
            with ledger.snapshot() as connection:
                yield from problems(
                    connection,
                    hospital_id,
                    mac=keys.ledger_mac,
                    head=head_file(settings.restricted / "heads", hospital_id),
                    folder=settings.restricted / "certificates" / hospital_id,
                    published=published.get(hospital_id, {}),
                    today=today,
                )
            if not found.agrees:
                try:
                    yield from _look_again(lake, ledger, hospital_id, uid=keys.uid)[2]
                except LedgerBusy:
                    told = "it is being harvested and could not be compared; verify again later"
                    yield Problem(hospital_id, "catalogue", "all", told)


def _chosen(hospital_ids: Collection[str], settings: Settings, lake: Lake, *, known: set[str]) -> list[str]:
    """The hospitals that are asked for, or all: those known, and those that files and the catalogue tell of."""
    known |= {file.stem for file in (settings.restricted / "heads").glob("*.head")}
    known |= {file.parent.name for file in (settings.restricted / "certificates").glob("*/*.json")}
    with duck.connect(lake, tables=["dicom.study"]) as connection:
        known |= {name for (name,) in connection.execute("SELECT DISTINCT hospital_id FROM dicom.study").fetchall()}
    if unknown := sorted(set(hospital_ids) - known):
        raise HospitalUnknown(hospital=", ".join(unknown))
    return sorted(set(hospital_ids) or known)


def _surveys(
    lake: Lake, ledger: Ledger, hospital_ids: Sequence[str], *, uid: Uid
) -> Iterator[tuple[str, Survey, tuple[int, str]]]:
    """Each hospital, what was found of it, and the end of its history then."""
    with duck.connect(lake, tables=["dicom.instance"]) as connection:
        for hospital_id, catalogued in catalogue(connection, hospital_ids):
            with ledger.snapshot() as reading:
                head = head_of(reading, hospital_id) or (0, "")
                yield hospital_id, survey(reading, hospital_id, catalogued=catalogued, uid=uid), head


def _look_again(
    lake: Lake, ledger: Ledger, hospital_id: str, *, uid: Uid, now: datetime | None = None
) -> tuple[Survey, tuple[int, str], tuple[Problem, ...]]:
    """The survey of a hospital that nobody harvests meanwhile; with `now`, its staged batches are committed first."""
    told: list[tuple[str, str]] = []
    with backfill_turn(ledger, hospital_id):
        if now is not None:
            roll_forward(lake, ledger, hospital_id=hospital_id, now=now)
        hint = "; a staged batch waits for the next harvest" if has_staged(lake, hospital_id) else ""
        ((_, found, head),) = _surveys(lake, ledger, [hospital_id], uid=uid)
        with duck.connect(lake, tables=["dicom.instance"]) as connection:
            for entry in found.differing:
                name = entry.lake_study_uid or "a study without rows in the lake"
                told.append((name, difference(connection, entry, uid=uid) or "it is catalogued twice"))
        told += [(name, "it is catalogued, and the ledger does not know it as stored") for name in found.unknown]
    return found, head, tuple(Problem(hospital_id, "catalogue", name, text + hint) for name, text in told)


def _draft(hospital_id: str, found: Survey, head: tuple[int, str], *, day: date, now: datetime) -> Certificate:
    return Certificate(
        hospital_id=hospital_id,
        number=0,
        day=day,
        issued_at=now,
        studies=dict(found.studies),
        expected=found.expected,
        stored=found.stored,
        set_aside=found.set_aside,
        catalogued=found.catalogued,
        disagreeing=len(found.differing) + len(found.unknown),
        root=merkle_root(found.evidence[uid] for uid in sorted(found.evidence)),
        head_seq=head[0],
        head_mac=head[1],
    )


def _published(lake: Lake) -> dict[str, dict[int, str]]:
    """Digest of each published certificate by hospital and number."""
    found: dict[str, dict[int, str]] = {}
    with duck.connect(lake, tables=["ops.certificate"]) as connection:
        query = "SELECT hospital_id, certificate_number, digest FROM ops.certificate"
        for hospital_id, number, digest in connection.execute(query).fetchall():
            found.setdefault(hospital_id, {})[number] = digest
    return found


def _publish(settings: Settings, lake: Lake, ledger: Ledger, hospital_ids: Sequence[str]) -> None:
    """Write the files and rows of certificates that have none; what a killed process left among them."""
    published, rows = _published(lake), []
    for hospital_id in hospital_ids:
        with ledger.reading() as connection:
            known = [Certificate.from_document(text) for _, text in documents(connection, hospital_id)]
        write_files(settings.restricted / "certificates" / hospital_id, known)
        rows += [_row(one) for one in known if one.number not in published.get(hospital_id, {})]
    if rows:
        table = load_table("ops.certificate")
        name = hashlib.sha256("".join(row["digest"] for row in rows).encode()).hexdigest()
        lake.tables.commit_batch(table, arrow_rows(table, rows), batch_id=f"certificates-{name[:32]}")
        reached("certificate.published")


def _row(one: Certificate) -> dict[str, object]:
    return {
        "hospital_id": one.hospital_id,
        "certificate_number": one.number,
        "certificate_day": one.day,
        "issued_at": one.issued_at,
        "n_studies": sum(one.studies.values()),
        **{f"n_{state}": n for state, n in one.studies.items()},
        "n_instances_expected": one.expected,
        "n_instances_stored": one.stored,
        "n_instances_set_aside": one.set_aside,
        "n_instances_catalogued": one.catalogued,
        "n_studies_disagreeing": one.disagreeing,
        "evidence_root": one.root,
        "digest": one.digest,
    }
