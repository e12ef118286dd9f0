"""The vault: what leads from pseudonyms back to persons, encrypted, in the restricted zone; every look-up is audited.

A worker seals one record per stored study (`record`); the batch enters it in the ledger's database together with the
study (`radlake.lake.ledger`).
"""

from radlake.vault.record import (
    Identity,
    StudyRecord,
    VaultRecordDamaged,
    identity_of,
    open_record,
    patient_alias,
    seal,
)

__all__ = ["Identity", "StudyRecord", "VaultRecordDamaged", "identity_of", "open_record", "patient_alias", "seal"]
