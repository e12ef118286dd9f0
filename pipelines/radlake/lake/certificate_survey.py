"""Survey: what one hospital expected and stored (ledger) against what is catalogued (dicom.instance), study by study.

DuckDB reads the catalogue once, for all hospitals, and makes one digest of each study; only studies whose digest is not
the ledger's are compared instance by instance.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

import duckdb
import sqlalchemy as sa

from radlake.lake.events import evidence_digest
from radlake.lake.evidence import StudyEntry, StudyState
from radlake.lake.ledger_tables import STUDY
from radlake.lake.study_rows import entry_from_row

__all__ = ["Catalogued", "Survey", "catalogue", "difference", "survey"]

Catalogued = Mapping[str, tuple[int, str]]  # study UID in the lake -> rows of dicom.instance and their digest
Uid = Callable[[str], str]  # `KeyRing.uid`

_BATCH = 10_000
_DIGESTS = """
    SELECT hospital_id, study_instance_uid, count(*) AS n,
        sha256(string_agg(sop_instance_uid || '=' || digest, ';' ORDER BY sop_instance_uid)) AS digest
    FROM dicom.instance
    WHERE hospital_id IN (SELECT unnest($hospitals))
    GROUP BY hospital_id, study_instance_uid
    ORDER BY hospital_id
"""


@dataclass
class Survey:
    """What was found of a hospital.

    Attributes
    ----------
    evidence : dict
        Digest of each study's row, by original UID.
    differing : list of StudyEntry
        Studies that the catalogue has otherwise.
    unknown : list of str
        Studies in the lake that the ledger does not know as stored.
    """

    studies: Counter[str] = field(default_factory=Counter)
    expected: int = 0
    stored: int = 0
    set_aside: int = 0
    catalogued: int = 0
    evidence: dict[str, str] = field(default_factory=dict)
    differing: list[StudyEntry] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        return not (self.differing or self.unknown)


def catalogue(connection: duckdb.DuckDBPyConnection, hospital_ids: Collection[str]) -> Iterator[tuple[str, Catalogued]]:
    """What is catalogued of these hospitals, one after the other; each of them once, in order."""
    wanted = iter(sorted(hospital_ids))
    reader = connection.sql(_DIGESTS, params={"hospitals": sorted(hospital_ids)}).to_arrow_reader(_BATCH)
    rows = (row for batch in reader for row in zip(*(column.to_pylist() for column in batch.columns), strict=True))
    for hospital_id, studies in groupby(rows, key=lambda row: row[0]):
        for name in wanted:
            if name == hospital_id:
                break
            yield name, {}
        yield hospital_id, {study: (n, digest) for _, study, n, digest in studies}
    for name in wanted:
        yield name, {}


def survey(connection: sa.Connection, hospital_id: str, *, catalogued: Catalogued, uid: Uid) -> Survey:
    """Compare all studies of a hospital, in a transaction that sees one state of the ledger."""
    found, left = Survey(), dict(catalogued)
    found.catalogued = sum(n for n, _ in left.values())
    found.studies.update({state.value: 0 for state in StudyState})
    query = sa.select(STUDY).where(STUDY.c.hospital_id == hospital_id).execution_options(yield_per=1000)
    for row in connection.execute(query).mappings():
        entry = entry_from_row(row)
        found.studies[entry.state] += 1
        found.evidence[entry.study_uid] = evidence_digest(dict(row))
        kept = stored_of(entry)
        if entry.state is not StudyState.WITHDRAWN:
            found.expected += max(entry.n_expected or 0, len(entry.stored))
            found.stored += len(kept)
            found.set_aside += len(entry.set_aside)
        there = left.pop(entry.lake_study_uid, (0, "")) if entry.lake_study_uid else (0, "")
        if there[0] != len(kept) or (kept and there[1] not in _digests(kept, uid)):
            found.differing.append(entry)
    found.unknown = sorted(left)
    return found


def difference(connection: duckdb.DuckDBPyConnection, entry: StudyEntry, *, uid: Uid) -> str:
    """How the catalogue differs from what the ledger says is stored of a study; empty when it does not."""
    rows = connection.execute(
        "SELECT sop_instance_uid, digest FROM dicom.instance WHERE hospital_id = ? AND study_instance_uid = ?",
        [entry.hospital_id, entry.lake_study_uid],
    ).fetchall()
    there, kept = dict(rows), stored_of(entry)
    found = {name: there.get(uid(name)) or there.get(name) for name in kept}  # a profile may keep UIDs
    n_missing = sum(digest is None for digest in found.values())
    n_other = sum(digest is not None and digest != kept[name] for name, digest in found.items())
    n_more = len(rows) - (len(kept) - n_missing)
    told = [
        f"{n_missing} of {len(kept)} stored instances are not catalogued" if n_missing else "",
        f"{n_other} instances have another digest in the catalogue" if n_other else "",
        f"{n_more} rows of the catalogue are of no stored instance" if n_more else "",
    ]
    return "; ".join(filter(None, told))


def stored_of(entry: StudyEntry) -> dict[str, str]:
    """Digest in the lake of each instance that should be catalogued: of a withdrawn study none."""
    if entry.state is StudyState.WITHDRAWN:
        return {}
    return {name: one.lake_digest for name, one in entry.stored.items()}


def _digests(kept: Mapping[str, str], uid: Uid) -> Iterator[str]:
    """What the catalogue's digest may be: with UIDs replaced, or kept by the profile."""
    for rename in (uid, str):
        words = sorted((rename(name), digest) for name, digest in kept.items())
        yield hashlib.sha256(";".join(f"{name}={digest}" for name, digest in words).encode()).hexdigest()
