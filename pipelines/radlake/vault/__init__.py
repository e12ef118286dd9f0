"""The vault: what leads from pseudonyms back to persons, encrypted, in the restricted zone; every look-up is audited.

A worker seals one record per stored study (`record`); the batch enters it in the ledger's database together with the
study (`radlake.lake.ledger`).
"""

from radlake.vault.lake_key import check_key, claim_key, is_in_use, refuse_new_key
from radlake.vault.record import (
    Identity,
    StudyRecord,
    VaultRecordDamaged,
    identity_of,
    open_record,
    patient_alias,
    seal,
)

__all__ = [
    "Identity",
    "StudyRecord",
    "VaultRecordDamaged",
    "check_key",
    "claim_key",
    "identity_of",
    "is_in_use",
    "open_record",
    "patient_alias",
    "refuse_new_key",
    "seal",
]
