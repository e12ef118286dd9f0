"""Person linkage, in the restricted zone: which pseudonyms are of one person, by rule, by model, by decision.

`identifiers` and `names` check and normalise what hospitals write, `records` makes one record of each pseudonym from
the vault, `match` finds pairs, `clusters` joins them under guards, `run` enters the outcome in the history
(`radlake.lake.person_links`) and publishes pseudonyms only. docs/adr/0033-linkage-as-a-map-beside-the-lake.md.
"""
