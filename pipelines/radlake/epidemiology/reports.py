"""Code a delivery of reports into core.finding: facts by exam pseudonym; the text stays in the restricted zone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from radlake.contracts import load_table
from radlake.deidentify import KeyRing
from radlake.errors import ConfigInvalid
from radlake.findings import Rules, read_report
from radlake.findings.delivery import Report, read_delivery
from radlake.lake import Lake, duck

__all__ = ["Coded", "code_delivery"]


@dataclass(frozen=True)
class Coded:
    """What became of a delivery.

    Attributes
    ----------
    n_unmatched : int
        Reports of exams that the lake does not have (yet); their facts are kept.
    """

    n_reports: int
    n_facts: int
    n_unmatched: int
    is_new: bool


def code_delivery(lake: Lake, path: Path, *, hospital_id: str, keys: KeyRing, rules: Rules) -> Coded:
    """Read the reports of a hospital by the rules; facts of an exam that was coded before are replaced.

    The same file by the same rules again changes nothing.

    Raises
    ------
    SourceMissing, ConfigInvalid
        Also when the file lies in the part of the lake that everybody reads.
    """
    _refuse_public(lake, path)
    facts = {row_key: row for row in _rows(read_delivery(path), hospital_id, keys, rules) for row_key in [_key(row)]}
    exams = sorted({row["exam_pseudo_id"] for row in facts.values()})
    rows = [facts[key] for key in sorted(facts) if facts[key]["finding_code"]]
    table = load_table("core.finding")
    data = pa.Table.from_pylist(rows, schema=table.arrow_schema())
    replaced = pa.table({"hospital_id": [hospital_id] * len(exams), "exam_pseudo_id": exams})
    is_new = False
    if exams:
        digest = hashlib.sha256(repr((exams, rows)).encode()).hexdigest()[:32]
        is_new = lake.tables.commit_batch(table, data, batch_id=f"findings-{digest}", replace=replaced)
    with duck.connect(lake, tables=["core"]) as connection:
        known = connection.execute("SELECT exam_pseudo_id FROM core.exam WHERE hospital_id = ?", [hospital_id])
        unmatched = set(exams) - {exam for (exam,) in known.fetchall()}
    return Coded(len(exams), len(rows), len(unmatched), is_new)


def _rows(reports: Iterable[Report], hospital_id: str, keys: KeyRing, rules: Rules):
    """Rows of core.finding; one without a finding for a report that says nothing, so that old facts are replaced."""
    for report in reports:
        pseudo_id = keys.exam_pseudo_id(
            hospital_id=hospital_id, accession_number=report.accession_number, study_uid=report.study_instance_uid
        )
        exam = {"hospital_id": hospital_id, "exam_pseudo_id": pseudo_id}
        yield exam | {"finding_code": ""}
        for fact in read_report(report.text, rules=rules):
            yield exam | {
                "finding_code": fact.finding,
                "sct_code": rules.codes[fact.finding],
                "certainty_code": fact.certainty,
                "is_current": fact.is_current,
                "is_of_patient": fact.is_of_patient,
                "rules_sha256": rules.sha256,
            }


def _key(row: dict) -> tuple:
    return (row["exam_pseudo_id"], row["finding_code"], row.get("certainty_code", ""), row.get("is_current", True),
            row.get("is_of_patient", True))  # fmt: skip


def _refuse_public(lake: Lake, path: Path) -> None:
    if "://" in lake.url:
        return
    place, root, restricted = path.resolve(), Path(lake.url).resolve(), lake.restricted.resolve()
    if place.is_relative_to(root) and not place.is_relative_to(restricted):
        problem = f"report texts may not lie in the lake; move the file below {restricted}"
        raise ConfigInvalid(path=path.name, problems=[problem])
