"""The vault: what leads from pseudonyms back to persons, encrypted, in the restricted zone; every look-up is audited.

A worker seals one record per stored study (`record`); the batch enters it in the ledger's database together with the
study (`radlake.lake.ledger`). `lookup` opens records, `trail` remembers who asked, `rotation` gives them a new key, and
`lake_key` refuses the key of another lake.
"""
