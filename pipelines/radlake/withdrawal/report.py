"""Reports of withdrawals: what was removed, where it was searched for, whom to tell; a chain under keyed digests.

A report names nobody: counts, releases with their holders, and a keyed digest by which the same subject is found again.
It lies in the ledger's database and as a file of the restricted zone, and the audit trail has its digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radlake.commit_points import reached
from radlake.lake.chain import canonical
from radlake.lake.events import Mac
from radlake.lake.ledger import Ledger
from radlake.lake.store import make_folder, write_whole
from radlake.lake.withdrawals import WithdrawalRows

__all__ = ["Report", "remnants_file", "report_file", "report_problems", "reports", "write_report"]


@dataclass(frozen=True)
class Report:
    """One report; `content` has `number`, `kind`, `subject`, times, `removed`, `searched`, `previous` and `mac`."""

    document: str

    @property
    def content(self) -> dict[str, Any]:
        return json.loads(self.document)

    @property
    def digest(self) -> str:
        """SHA-256: what the next report names, and a person may write down elsewhere."""
        return hashlib.sha256(self.document.encode()).hexdigest()

    @classmethod
    def sealed(cls, content: Mapping[str, Any], mac: Mac) -> Report:
        plain = canonical(dict(content))
        return cls(canonical({**content, "mac": mac("report" + plain)}))


def reports(ledger: Ledger) -> list[Report]:
    """Every report in the order of the chain: as the withdrawals were finished."""
    rows = [row for row in WithdrawalRows(ledger).all() if row.finished_at is not None]
    return [Report(row.document) for row in sorted(rows, key=lambda row: (row.finished_at or row.begun_at, row.number))]


def report_file(restricted: Path, number: int) -> Path:
    return restricted / "withdrawals" / f"{number}.json"


def remnants_file(restricted: Path, number: int) -> Path:
    """Where the last search of an open withdrawal told what it found."""
    return restricted / "withdrawals" / f"{number}.remnants"


def write_report(restricted: Path, number: int, report: Report) -> None:
    make_folder(restricted / "withdrawals")
    write_whole(report_file(restricted, number), report.document)
    reached("withdrawal.written")


def report_problems(ledger: Ledger, restricted: Path, mac: Mac) -> Iterator[str]:
    """What is wrong with the reports: one was changed, removed, or signed with another key."""
    known = {report.content["number"]: report for report in reports(ledger)}
    previous = ""
    for number, report in known.items():
        content = report.content
        signed = content.pop("mac", "")
        if mac("report" + canonical(content)) != signed:
            yield f"report {number} was changed, or issued with another key"
        if content["previous"] != previous:
            yield f"report {number} does not follow the report before it: one is missing or was replaced"
        path = report_file(restricted, number)
        if not path.is_file() or path.read_text(encoding="utf-8") != report.document:
            yield f"the file {path.name} of report {number} is missing or was changed"
        previous = report.digest
    for path in sorted((restricted / "withdrawals").glob("*.json")):
        if not path.stem.isdigit() or int(path.stem) not in known:
            yield f"the file {path.name} is of no report in the database"
