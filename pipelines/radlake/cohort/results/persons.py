"""Whether a result tells who a person of its release is: it is searched for what the vault knows of them.

What the hospital called the person whom a result is of is searched for in every form and encoding; what it called the
others, as somebody types it. A short number or a birth date counts for its own person only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from functools import lru_cache

import pyarrow.parquet as pq

from radlake.cohort.build import open_built
from radlake.cohort.rekey import new_identity
from radlake.cohort.release import project_of
from radlake.config import Settings
from radlake.deidentify import KeyRing
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.lake.statements import in_parts
from radlake.lake.vault import VaultRows
from radlake.referee import Identifier, Searcher, identifiers_told, typed_needles_of
from radlake.vault.lake_key import check_key, lake_keys
from radlake.vault.record import open_identity
from radlake.vault.trail import AuditTrail, Reason

__all__ = ["Persons", "persons_of"]

_KEPT = 8  # persons whose every form is kept at once


class Persons:
    """Identifiers of the persons of a release, by their pseudonyms in it. It has no repr of what they are."""

    def __init__(self, told: Mapping[str, set[Identifier]]) -> None:
        self._told = told
        self._everybody = Searcher(told, forms=typed_needles_of)
        self._own = lru_cache(_KEPT)(lambda person: Searcher({person: told.get(person, set())}))

    def searchers(self, person: str) -> tuple[Searcher, Searcher]:
        """For an object of a person: of that person, and of everybody."""
        return self._own(person), self._everybody

    def told_in(self, text: str, *, person: str) -> set[str]:
        """Kinds of the identifiers that a text beside such an object tells."""
        hits = (one.hits(text.encode(), vr="text", owner=person) for one in self.searchers(person))
        return {hit.kind for found in hits for hit in found}


def persons_of(settings: Settings, release_id: str, *, by: str, now: datetime) -> Persons:
    """Open the vault's records of the persons of a release; entered in the audit trail first.

    Raises
    ------
    KeyMissing, KeyMismatch
    VaultRecordDamaged
    SourceMissing
        If the cohort that was released is gone.
    """
    lake, keys = Lake.from_settings(settings), lake_keys(settings)
    told: dict[str, set[Identifier]] = defaultdict(set)
    with closing(Ledger(settings.ledger)) as ledger:
        check_key(keys, settings, ledger=ledger)
        trail = AuditTrail(ledger, keys, restricted=settings.prepare_restricted())
        trail.record("search", reason=Reason(by, f"results of {release_id}"), now=now, kind="results",
                     outcome="identifiers of its persons")  # fmt: skip
        called = _called(lake, keys, release_id)
        for part in in_parts(sorted(called)):
            for row in VaultRows(ledger).find(patient_keys=part):
                told[called[row["patient_key"]]] |= identifiers_told(open_identity(keys, row))
    return Persons(told)


def _called(lake: Lake, keys: KeyRing, release_id: str) -> dict[int, str]:
    """What the release calls each pseudonym of the lake."""
    project = keys.for_project(project_of(release_id))
    exams = pq.read_table(open_built(lake, release_id.rpartition(".")[0]).table("exam"))
    pairs = zip(exams["patient_key"].to_pylist(), exams["person_key"].to_pylist(), strict=True)
    return {
        patient: new_identity(project, person_key=person, lake_offset_seconds=0).person_pseudo_id
        for patient, person in dict(pairs).items()
    }
