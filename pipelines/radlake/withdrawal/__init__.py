"""Withdrawal: everything of a person or a study goes, from every place and version, and a report proves it.

See docs/adr/0043-withdrawal-with-proof.md. `subject` finds out what there is of them, `plan` counts it and tells what
forbids it, `remove` takes it out, `verify` searches everything that is left, `report` signs what was found.
"""

from __future__ import annotations

from radlake.withdrawal.plan import Plan, plan_withdrawal
from radlake.withdrawal.report import Report, report_problems, reports
from radlake.withdrawal.run import (
    RemnantsFound,
    WithdrawalForbidden,
    WithdrawalHeld,
    Withdrawn,
    asked,
    dry_run,
    resume,
    withdraw,
)
from radlake.withdrawal.subject import PersonUnclear, Subject, SubjectUnknown, subject_of_person, subject_of_study

__all__ = [
    "PersonUnclear",
    "Plan",
    "RemnantsFound",
    "Report",
    "Subject",
    "SubjectUnknown",
    "WithdrawalForbidden",
    "WithdrawalHeld",
    "Withdrawn",
    "asked",
    "dry_run",
    "plan_withdrawal",
    "report_problems",
    "reports",
    "resume",
    "subject_of_person",
    "subject_of_study",
    "withdraw",
]
