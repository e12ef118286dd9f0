"""stats.repeat_rate calculated again: a program over core.exam_sequence, not a query of `sql/`."""

from __future__ import annotations

from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.ingest.duplicates import rules_digest
from radlake.lake import Lake, parquet
from radlake.lineage.number import require_snapshot
from radlake.lineage.rerun import Build, Rerun, rerun_in_zone
from radlake.stats.duplicates.rates import RATES, repeat_rates

__all__ = ["RATES", "rerun_rates"]

_SEQUENCE = "core.exam_sequence"


def rerun_rates(lake: Lake, build: Build) -> tuple[Rerun | None, str]:
    """Count all repeats again over the same sequence; why not, when the rule packs have changed since.

    Raises
    ------
    SnapshotGone, ContractBroken
    """
    if build.query_sha256 != rules_digest():
        return None, "the rule packs of this radlake are not those that it was counted by"
    version = build.inputs.get(_SEQUENCE)
    if version is None:
        raise ContractBroken(table="ops.build", problems=[f"{RATES} names no version of {_SEQUENCE}"])
    require_snapshot(lake.restricted_tables, load_table(_SEQUENCE), version)
    with parquet.new_connection() as connection:
        connection.register("again", repeat_rates(lake, version=version))
        return rerun_in_zone(lake, build, connection), ""
