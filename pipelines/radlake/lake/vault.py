"""Where sealed records lie: tables of the ledger's database, entered in the transaction that settles their study.

Nobody here can open a record: sealing and opening is `radlake.vault`'s.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime

import sqlalchemy as sa

from radlake.lake.evidence import Settlement
from radlake.lake.ledger_tables import VAULT, VAULT_ALIAS

__all__ = ["enter_sealed"]


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
