"""The referee: re-reads what was written, against originals and standard; it shares no code with what wrote it.

`check_written` is for one object and its original, `verify_folder` for what any tool wrote, `verify_release` for a
release, `verify_lake` for a lake. A finding tells rule, place and kind of identifier, never the value.
"""

from __future__ import annotations

from radlake.referee.conformance import Dciodvfy
from radlake.referee.finding import RULES, Finding, Report
from radlake.referee.originals import Originals
from radlake.referee.referee import Referee, check_written
from radlake.referee.rows import row_findings
from radlake.referee.standard import Policy
from radlake.referee.verify import verify_folder, verify_lake, verify_release

__all__ = [
    "RULES",
    "Dciodvfy",
    "Finding",
    "Originals",
    "Policy",
    "Referee",
    "Report",
    "check_written",
    "row_findings",
    "verify_folder",
    "verify_lake",
    "verify_release",
]
