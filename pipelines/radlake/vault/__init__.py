"""The vault: what leads from pseudonyms back to persons, encrypted, in the restricted zone; every look-up is audited.

A worker seals one record per stored study (`record`); the batch enters it in the ledger's database together with the
study (`radlake.lake.ledger`). `lookup` opens records, `trail` remembers who asked, `rotation` gives them a new key, and
`lake_key` refuses the key of another lake.
"""

from radlake.vault.lake_key import (
    KeyUnproven,
    LakeKeyMissing,
    check_key,
    claim_key,
    lake_keys,
    refuse_new_key,
)
from radlake.vault.lookup import Answer, Found, LookupRefused, Vault
from radlake.vault.record import Identity, StudyRecord, VaultRecordDamaged, identity_of, open_record, seal
from radlake.vault.rotation import Rotated, rotate
from radlake.vault.trail import AuditEntry, AuditTrail, Reason

__all__ = [
    "Answer",
    "AuditEntry",
    "AuditTrail",
    "Found",
    "Identity",
    "KeyUnproven",
    "LakeKeyMissing",
    "LookupRefused",
    "Reason",
    "Rotated",
    "StudyRecord",
    "Vault",
    "VaultRecordDamaged",
    "check_key",
    "claim_key",
    "identity_of",
    "lake_keys",
    "open_record",
    "refuse_new_key",
    "rotate",
    "seal",
]
