"""Retention: how long a study is kept, what decides it, and what it costs until then. Acting is in `radlake.expiry`.

See docs/adr/0023-retention-by-the-true-calendar-year.md.
"""

from __future__ import annotations

from radlake.retention.classes import RetentionClass, Rule, class_of, class_of_headers
from radlake.retention.plan import Cohort, PlanRow, cost_curve
from radlake.retention.schedule import Schedule, load_schedule

__all__ = [
    "Cohort",
    "PlanRow",
    "RetentionClass",
    "Rule",
    "Schedule",
    "class_of",
    "class_of_headers",
    "cost_curve",
    "load_schedule",
]
