"""Expiry: what of what is stored may go, why, and removing it so that nothing is half gone; holds that forbid it.

See docs/adr/0023-retention-by-the-true-calendar-year.md. The decisions are `radlake.retention`'s.
"""

from __future__ import annotations

from radlake.expiry.due import Due, due_studies, standing
from radlake.expiry.expire import Expired, expire
from radlake.expiry.holds import StudyExpired, StudyUnknown, hold, release

__all__ = [
    "Due",
    "Expired",
    "StudyExpired",
    "StudyUnknown",
    "due_studies",
    "expire",
    "hold",
    "release",
    "standing",
]
