"""The referee: re-reads what was written, against originals and standard; it shares no code with what wrote it.

`check_written` is for one object and its original, `judge_derived` for one that was derived from de-identified ones,
`verify_folder` for what any tool wrote, `verify_release` for a release, `verify_lake` for a lake. A finding tells rule,
place and kind of identifier, never the value.
"""

from __future__ import annotations

from radlake.referee.conformance import Dciodvfy
from radlake.referee.derived import judge_derived
from radlake.referee.finding import RULES, Finding, Report
from radlake.referee.identifiers import Identifier, identifiers_told
from radlake.referee.instance import Instance, Unreadable, read
from radlake.referee.needles import typed_needles_of
from radlake.referee.originals import Originals
from radlake.referee.referee import Referee, check_written
from radlake.referee.rows import row_findings
from radlake.referee.search import Searcher, telltales_in
from radlake.referee.standard import Policy
from radlake.referee.verify import verify_folder, verify_lake, verify_release

__all__ = [
    "RULES",
    "Dciodvfy",
    "Finding",
    "Identifier",
    "Instance",
    "Originals",
    "Policy",
    "Referee",
    "Report",
    "Searcher",
    "Unreadable",
    "check_written",
    "identifiers_told",
    "judge_derived",
    "read",
    "row_findings",
    "telltales_in",
    "typed_needles_of",
    "verify_folder",
    "verify_lake",
    "verify_release",
]
