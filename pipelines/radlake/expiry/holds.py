"""Legal holds: placed and released by name and reason, in the audit trail before they are in force."""

from __future__ import annotations

from radlake.config import Settings
from radlake.errors import PermanentError
from radlake.lake.ledger import Ledger
from radlake.lake.retention import RetentionRows
from radlake.machine import utc_now
from radlake.vault.lake_key import lake_keys
from radlake.vault.trail import AuditTrail, Reason

__all__ = ["StudyExpired", "StudyUnknown", "hold", "release"]


class StudyUnknown(PermanentError):
    sentence = "No hospital has a study {study} in this lake. Give its Study Instance UID in the lake."


class StudyExpired(PermanentError):
    sentence = "Study {study} has expired: it is removed, or about to be. See `radlake retention list`."


def hold(settings: Settings, ledger: Ledger, study_uid: str, *, reason: Reason) -> list[str]:
    """Forbid the expiry of a study, in every hospital that it came from.

    Returns
    -------
    list of str
        Those hospitals.

    Raises
    ------
    StudyUnknown, StudyExpired
    """
    rows = RetentionRows(ledger)
    hospitals = rows.stored_in(study_uid)
    if not hospitals:
        if rows.buried_in(study_uid):
            raise StudyExpired(study=study_uid)
        raise StudyUnknown(study=study_uid)
    for hospital_id in hospitals:
        _audit(settings, ledger, "hold", hospital_id, study_uid, reason)
        rows.hold(hospital_id, study_uid, by=reason.by, why=reason.why, now=utc_now())
    return hospitals


def release(settings: Settings, ledger: Ledger, study_uid: str, *, reason: Reason) -> list[str]:
    """Release every hold of a study.

    Raises
    ------
    StudyUnknown
        If it is not held.
    """
    rows = RetentionRows(ledger)
    hospitals = rows.held_in(study_uid)
    if not hospitals:
        raise StudyUnknown(study=f"{study_uid} that is held")
    for hospital_id in hospitals:
        _audit(settings, ledger, "release", hospital_id, study_uid, reason)
        rows.release(hospital_id, study_uid, now=utc_now())
    return hospitals


def _audit(settings: Settings, ledger: Ledger, action: str, hospital_id: str, study_uid: str, reason: Reason) -> None:
    trail = AuditTrail(ledger, lake_keys(settings), restricted=settings.restricted)
    trail.record(action, reason=reason, now=utc_now(), kind="study", pseudonym=study_uid, hospital_id=hospital_id)
