"""A release as OMOP CDM 5.4 with the tables of MI-CDM; needs nothing of the platform, as `cohort.pull`.

`model` says which tables and columns there are, `concepts` what our codes mean there, `convert` makes the tables,
`export` writes them.
"""

from __future__ import annotations

from radlake.cohort.omop.export import export_omop

__all__ = ["export_omop"]
