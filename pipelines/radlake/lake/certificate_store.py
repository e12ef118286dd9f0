"""Where certificates are kept: in the ledger's database, and each as a file of the restricted zone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from radlake.commit_points import reached
from radlake.errors import PermanentError
from radlake.lake.certificate import Certificate
from radlake.lake.events import Mac, lock_chains
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import CERTIFICATE
from radlake.lake.store import write_whole

__all__ = ["CertificateRefused", "documents", "enter", "file_names", "write_files"]


class CertificateRefused(PermanentError):
    sentence = "{hospital} gets no certificate of {day}: {reason}."


def documents(connection: sa.Connection, hospital_id: str) -> list[tuple[int, str]]:
    """Number and text of each certificate of a hospital, oldest first."""
    query = sa.select(CERTIFICATE.c.number, CERTIFICATE.c.document).where(CERTIFICATE.c.hospital_id == hospital_id)
    return [(number, text) for number, text in connection.execute(query.order_by(CERTIFICATE.c.number))]


def enter(ledger: Ledger, draft: Certificate, *, mac: Mac) -> Certificate:
    """Give a certificate its number and place in the chain; the one before, when that says the same of the same day.

    Raises
    ------
    CertificateRefused
        If a later day has one.
    """
    with ledger.writing() as connection:
        lock_chains(connection, [draft.hospital_id])
        known = documents(connection, draft.hospital_id)
        last = Certificate.from_document(known[-1][1]) if known else None
        if last and last.day > draft.day and last.issued_at <= draft.issued_at:  # else a clock was ahead
            reason = f"{last.day} has one already, and a certificate tells what is known when it is issued"
            raise CertificateRefused(hospital=draft.hospital_id, day=draft.day, reason=reason)
        if last and draft.says_the_same(last):
            return last
        placed = replace(draft, number=len(known) + 1, previous=last.digest if last else "")
        made = replace(placed, mac=placed.sealed(mac))
        row = {"hospital_id": made.hospital_id, "number": made.number, "day": made.day, "document": made.document}
        connection.execute(CERTIFICATE.insert().values(**row))
    reached("certificate.entered")
    return made


def file_names(certificates: Sequence[Certificate]) -> list[str]:
    """Name of the file of each certificate of a hospital: `<day>.json`, and `<day>.<number>.json` of a later one."""
    days: set[str] = set()
    names = []
    for one in certificates:
        names.append(f"{one.day}.{one.number}.json" if str(one.day) in days else f"{one.day}.json")
        days.add(str(one.day))
    return names


def write_files(folder: Path, certificates: Sequence[Certificate]) -> None:
    """Write the files of a hospital's certificates that are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for one, name in zip(certificates, file_names(certificates), strict=True):
        path = folder / name
        if not path.exists():
            write_whole(path, one.document)
            reached("certificate.written")
