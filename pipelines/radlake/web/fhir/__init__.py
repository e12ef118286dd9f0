"""Releases of cohorts by FHIR Bulk Data Access 3.0.0: `Group/{release}/$export`, for researchers (docs/adr/0045).

`kickoff` reads what is asked for, `exports` runs `radlake cohort export` in a process of its own and keeps its files
for a while, `outcomes` says why something is refused, `app` answers requests.
"""

from __future__ import annotations

__all__ = ["ROOT"]

ROOT = "/fhir"
