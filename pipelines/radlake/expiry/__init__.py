"""Expiry: what is stored, what of it may go, why, and removing it so that nothing is half gone; holds that forbid it.

See docs/adr/0023-retention-by-the-true-calendar-year.md. The decisions are `radlake.retention`'s.
"""

from __future__ import annotations

from radlake.expiry.due import Due, due_studies, standing
from radlake.expiry.expire import Expired, expire
from radlake.expiry.holds import StudyExpired, StudyUnknown, hold, release
from radlake.expiry.stored import cohorts_of, monthly_bytes

__all__ = [
    "Due",
    "Expired",
    "StudyExpired",
    "StudyUnknown",
    "cohorts_of",
    "due_studies",
    "expire",
    "hold",
    "monthly_bytes",
    "release",
    "standing",
]
