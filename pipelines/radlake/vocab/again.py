"""Decide again, inside a build, what older rules decided: once for each distinct evidence, then joined.

The rows of dicom.study stay as they are: a build sees them through a view. Without rows of an older version this costs
one scan of a column.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from radlake.contracts import load_table
from radlake.vocab.decide import decide
from radlake.vocab.evidence import evidence_from_json
from radlake.vocab.rules import rules

__all__ = ["decide_again"]


def decide_again(connection: duckdb.DuckDBPyConnection) -> int:
    """Replace the view dicom.study by one whose facts are decided by the rules of this installation.

    Rows from before there were versions hold no evidence and stay.

    Returns
    -------
    int
        Distinct evidences that were decided.
    """
    older = f"vocab_version BETWEEN 1 AND {rules().version - 1}"
    found = connection.execute(f"SELECT DISTINCT exam_evidence FROM dicom.study WHERE {older}").fetchall()
    if not found:
        return 0
    rows = [{"exam_evidence": evidence} | decide(evidence_from_json(evidence)).columns for (evidence,) in found]
    contract = load_table("dicom.study")
    schema = pa.schema([contract.column(name).arrow_field for name in rows[0]])
    columns = [name for name in rows[0] if name != "exam_evidence"]
    connection.register("facts_again", pa.Table.from_pylist(rows, schema=schema))
    connection.execute("CREATE OR REPLACE TEMP TABLE exam_facts AS FROM facts_again")
    connection.unregister("facts_again")
    # Where facts were found they win, also a NULL of has_contrast.
    chosen = ", ".join(
        f"CASE WHEN facts.exam_evidence IS NULL THEN study.{name} ELSE facts.{name} END AS {name}" for name in columns
    )
    connection.execute(
        f"CREATE OR REPLACE VIEW dicom.study AS SELECT study.* REPLACE ({chosen}) FROM dicom.study_v1 AS study"
        f" LEFT JOIN exam_facts AS facts ON study.exam_evidence = facts.exam_evidence AND study.{older}"
    )
    return len(rows)
