"""Which exams can be opened now, by the ledger: every study of them is complete, none withdrawn, none expired."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from radlake.lake.evidence import StudyState
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import STUDY, TOMBSTONE, VAULT

__all__ = ["retrievable_exams", "studies_of_exam"]

_SAME_STUDY = sa.and_(STUDY.c.hospital_id == VAULT.c.hospital_id, STUDY.c.lake_study_uid == VAULT.c.lake_study_uid)
_BURIED = sa.exists().where(
    TOMBSTONE.c.hospital_id == VAULT.c.hospital_id, TOMBSTONE.c.lake_study_uid == VAULT.c.lake_study_uid
)


def retrievable_exams(ledger: Ledger, exams: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of these exams (hospital, exam_pseudo_id) that can be opened; one that the ledger does not know cannot."""
    if not exams:
        return set()
    is_here = sa.and_(STUDY.c.state == StudyState.COMPLETE.value, ~_BURIED)
    query = (
        sa.select(VAULT.c.hospital_id, VAULT.c.exam_pseudo_id)
        .select_from(VAULT.outerjoin(STUDY, _SAME_STUDY))
        .where(VAULT.c.exam_pseudo_id.in_({exam for _, exam in exams}))
        .group_by(VAULT.c.hospital_id, VAULT.c.exam_pseudo_id)
        .having(sa.func.min(sa.case((is_here, 1), else_=0)) == 1)
    )
    with ledger.reading() as connection:
        return {(hospital, exam) for hospital, exam in connection.execute(query)} & set(exams)


def studies_of_exam(ledger: Ledger, hospital_id: str, exam_pseudo_id: str) -> list[str]:
    """UIDs in the lake of the studies of an exam that can be opened now; none when one of them cannot."""
    if not retrievable_exams(ledger, [(hospital_id, exam_pseudo_id)]):
        return []
    query = (
        sa.select(VAULT.c.lake_study_uid)
        .where(VAULT.c.hospital_id == hospital_id, VAULT.c.exam_pseudo_id == exam_pseudo_id)
        .distinct()
        .order_by(VAULT.c.lake_study_uid)
    )
    with ledger.reading() as connection:
        return list(connection.scalars(query))
