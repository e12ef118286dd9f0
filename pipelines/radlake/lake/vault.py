"""Where sealed records lie: tables of the ledger's database, entered in the transaction that settles their study.

Nobody here can open a record: sealing and opening is `radlake.vault`'s.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from radlake.lake.evidence import Settlement
from radlake.lake.ledger_tables import FACT, STUDY, VAULT, VAULT_ALIAS

if TYPE_CHECKING:
    from radlake.lake.ledger import Ledger

__all__ = ["VaultRows", "enter_sealed"]

_KEY_CHECK, _VERSION = "key_check", "vault_version"


def enter_sealed(connection: sa.Connection, settlement: Settlement, *, now: datetime) -> None:
    """Enter the record of a settlement that has one; entering it again changes nothing.

    A study that comes in parts has a record of each part.
    """
    sealed = settlement.sealed
    if sealed is None:
        return
    record = base64.b64decode(sealed.blob)
    record_id = hashlib.sha256(record).hexdigest()[:32]
    if connection.execute(sa.select(VAULT.c.record_id).where(VAULT.c.record_id == record_id)).first():
        return
    connection.execute(
        VAULT.insert().values(
            record_id=record_id,
            hospital_id=settlement.hospital_id,
            lake_study_uid=settlement.lake_study_uid,
            patient_key=sealed.patient_key,
            exam_pseudo_id=sealed.exam_pseudo_id,
            key_version=sealed.key_version,
            record=record,
            entered_at=now,
        )
    )
    for alias in sealed.aliases:
        row = {"alias": alias, "patient_key": sealed.patient_key}
        where = [VAULT_ALIAS.c[name] == value for name, value in row.items()]
        if connection.execute(sa.select(VAULT_ALIAS.c.alias).where(*where)).first() is None:
            connection.execute(VAULT_ALIAS.insert().values(**row))


class VaultRows:
    """The vault's tables in the ledger's database."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def find(
        self,
        *,
        studies: Collection[str] = (),
        patient_keys: Collection[int] = (),
        exams: Collection[str] = (),
    ) -> list[dict[str, Any]]:
        """Rows of these pseudonymous studies, persons and exams, in the order that they were entered."""
        wanted = (
            VAULT.c.lake_study_uid.in_(studies)
            | VAULT.c.patient_key.in_(patient_keys)
            | VAULT.c.exam_pseudo_id.in_(exams)
        )
        query = sa.select(VAULT).where(wanted).order_by(VAULT.c.entered_at, VAULT.c.record_id)
        with self._ledger.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def patient_keys(self, alias: str) -> set[int]:
        """Persons whom a hospital calls by the number with this pseudonym."""
        query = sa.select(VAULT_ALIAS.c.patient_key).where(VAULT_ALIAS.c.alias == alias)
        with self._ledger.reading() as connection:
            return set(connection.execute(query).scalars())

    def page(self, *, after: str, limit: int, not_version: int | None = None) -> list[dict[str, Any]]:
        """The next rows in order of record id; only those whose key has another version than the given one."""
        query = sa.select(VAULT).where(VAULT.c.record_id > after).order_by(VAULT.c.record_id).limit(limit)
        if not_version is not None:
            query = query.where(VAULT.c.key_version != not_version)
        with self._ledger.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def pages(self, limit: int) -> Iterator[list[dict[str, Any]]]:
        """All rows, so many at a time."""
        after = ""
        while page := self.page(after=after, limit=limit):
            after = page[-1]["record_id"]
            yield page

    def replace(self, records: Mapping[str, bytes], *, version: int) -> None:
        """Put records sealed anew in the place of the old ones, all or none."""
        with self._ledger.writing() as connection:
            if connection.dialect.name == "sqlite":  # what was sealed with the old key is overwritten
                connection.exec_driver_sql("PRAGMA secure_delete = ON")
            for record_id, record in records.items():
                where = VAULT.c.record_id == record_id
                connection.execute(VAULT.update().where(where).values(record=record, key_version=version))

    def forget_old_pages(self) -> None:
        """Empty SQLite's journal of what was replaced."""
        if self._ledger.engine.dialect.name == "sqlite":
            connection = self._ledger.engine.raw_connection()
            try:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.close()

    def count_by_version(self) -> dict[int, int]:
        query = sa.select(VAULT.c.key_version, sa.func.count()).group_by(VAULT.c.key_version)
        with self._ledger.reading() as connection:
            return {int(version): int(n) for version, n in connection.execute(query)}

    def n_studies_without_record(self) -> int:
        """Stored studies that nothing leads back from: stored before there was a vault."""
        has_record = sa.exists().where(VAULT.c.lake_study_uid == STUDY.c.lake_study_uid)
        query = sa.select(sa.func.count()).select_from(STUDY).where(STUDY.c.lake_study_uid != "", ~has_record)
        with self._ledger.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def a_stored_study(self) -> tuple[str, str] | None:
        """Original and pseudonymous UID of some stored study."""
        query = sa.select(STUDY.c.study_uid, STUDY.c.lake_study_uid).where(STUDY.c.lake_study_uid != "").limit(1)
        with self._ledger.reading() as connection:
            row = connection.execute(query).first()
        return (row[0], row[1]) if row else None

    @property
    def key_check(self) -> str:
        """Check value of the root key that this ledger belongs to; empty before the first harvest."""
        return self._fact(_KEY_CHECK)

    def claim(self, key_check: str) -> None:
        """Enter the check value of the root key, unless there is one."""
        with self._ledger.writing() as connection:
            if not connection.execute(sa.select(FACT.c.value).where(FACT.c.name == _KEY_CHECK)).first():
                connection.execute(FACT.insert().values(name=_KEY_CHECK, value=key_check))

    @property
    def version(self) -> int:
        """Version of the vault's key that new records are sealed with."""
        return int(self._fact(_VERSION) or 1)

    def next_version(self) -> int:
        """Begin with the next version of the vault's key."""
        with self._ledger.writing() as connection:
            where = FACT.c.name == _VERSION
            known = connection.execute(sa.select(FACT.c.value).where(where)).scalar()
            version = int(known or 1) + 1
            if known:
                connection.execute(FACT.update().where(where).values(value=str(version)))
            else:
                connection.execute(FACT.insert().values(name=_VERSION, value=str(version)))
        return version

    def _fact(self, name: str) -> str:
        with self._ledger.reading() as connection:
            return connection.execute(sa.select(FACT.c.value).where(FACT.c.name == name)).scalar() or ""
