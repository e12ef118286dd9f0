"""What was built: rows of ops.build, and the texts of the queries that made them in ops.query."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from radlake.contracts import load_table
from radlake.lake import Lake, duck

__all__ = ["record_builds"]


def record_builds(lake: Lake, rows: Sequence[Mapping[str, Any]], *, queries: Mapping[str, str]) -> None:
    """Enter builds; the same run again replaces its rows. The texts go first: no build names one that is not there.

    Parameters
    ----------
    queries : mapping of str to str
        Texts by their SHA-256.
    """
    if not rows:
        return
    _keep(lake, queries)
    contract = load_table("ops.build")
    data = pa.Table.from_pylist(list(rows), schema=contract.arrow_schema())
    batch_id = f"build-{lake.tables.version(contract)}-{_digest(rows)}"
    lake.tables.commit_batch(contract, data, batch_id=batch_id, replace=data.select(contract.key))


def _keep(lake: Lake, texts: Mapping[str, str]) -> None:
    """Texts that ops.query does not have yet; two builds at once may both add one, which replaces its equal."""
    contract = load_table("ops.query")
    with duck.connect(lake, tables=[contract.full_name]) as connection:
        known = {sha256 for (sha256,) in connection.execute("SELECT query_sha256 FROM ops.query").fetchall()}
    rows = [{"query_sha256": sha256, "query_sql": sql} for sha256, sql in sorted(texts.items()) if sha256 not in known]
    if rows:
        data = pa.Table.from_pylist(rows, schema=contract.arrow_schema())
        lake.tables.commit_batch(contract, data, batch_id=f"query-{_digest(rows)}", replace=data.select(contract.key))


def _digest(rows: Sequence[Mapping[str, Any]]) -> str:
    return hashlib.sha256(repr(list(rows)).encode()).hexdigest()[:32]
