"""Repeats counted again: stats.repeat_rate and what is released of them, by a program and not by a query of `sql/`."""

from __future__ import annotations

from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.ingest.duplicates import rules_digest
from radlake.lake import Lake, parquet
from radlake.lineage.number import require_snapshot
from radlake.lineage.rerun import Build, Rerun, policy_of, rerun_in_zone
from radlake.stats.duplicates.rates import RATES, WINDOWS, repeat_rates, repeat_windows
from radlake.stats.release import mask

__all__ = ["REPEATS", "rerun_repeats"]

REPEATS = (RATES, WINDOWS)
_SEQUENCE = "core.exam_sequence"


def rerun_repeats(lake: Lake, build: Build) -> tuple[Rerun | None, str]:
    """Count all repeats again over the same sequence; why not, when the rule packs have changed since.

    Raises
    ------
    SnapshotGone, ContractBroken
    """
    if build.query_sha256 != rules_digest():
        return None, "the rule packs of this radlake are not those that it was counted by"
    name = build.table.view_name
    version = build.inputs.get(_SEQUENCE)
    if version is None:
        raise ContractBroken(table="ops.build", problems=[f"{name} names no version of {_SEQUENCE}"])
    require_snapshot(lake.restricted_tables, load_table(_SEQUENCE), version)
    again = repeat_rates(lake, version=version)
    if name == WINDOWS:
        again = mask({name: repeat_windows(lake, rates=again, version=version)}, policy=policy_of(build))[name]
    with parquet.new_connection() as connection:
        connection.register("again", again)
        return rerun_in_zone(lake, build, connection), ""
