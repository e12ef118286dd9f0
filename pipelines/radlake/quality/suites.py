"""Great Expectations: the only module that knows it, imported when the first batch is checked.

Importing it costs seconds, so the context and the suites are made once in a process. The context is in memory:
no project folder, no data docs (their pages load scripts and a picture from other hosts), no analytics.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from radlake.contracts import load_table
from radlake.quality.checks import Check, checks_from_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Finding", "validate"]


@dataclass(frozen=True)
class Finding:
    """What one check found: the row numbers that failed, or `None` when the check itself could not run."""

    check: Check
    is_success: bool
    n_rows: int
    failed: tuple[int, ...] | None


def validate(table: str, frame: pd.DataFrame) -> list[Finding]:
    """Judge every row of a frame by the suite of its table."""
    checks, batch_definition, suite = _suites()[table]
    batch = batch_definition.get_batch({"dataframe": frame})
    outcome = batch.validate(suite, result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False})
    findings = [_finding(checks, result, n_rows=len(frame)) for result in outcome.results]
    return sorted(findings, key=lambda finding: checks.index(finding.check))


def _finding(checks: Sequence[Check], result: Any, *, n_rows: int) -> Finding:
    check = checks[result.expectation_config.meta["check"]]
    failed = result.result.get("unexpected_index_list", () if result.success else None)
    return Finding(check, bool(result.success), n_rows, None if failed is None else tuple(failed))


@functools.cache
def _suites() -> Mapping[str, tuple[Sequence[Check], Any, Any]]:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports a module that Python deprecated
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("batch")
    suites = {}
    for name in ("dicom.study", "dicom.series", "dicom.instance"):
        checks = checks_from_table(load_table(name))
        expectations = [
            {"type": check.expectation, "kwargs": dict(check.arguments), "meta": {"check": number}}
            for number, check in enumerate(checks)
        ]
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
        suites[name] = checks, source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("whole"), suite
    return suites
