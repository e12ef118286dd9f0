"""Great Expectations: the only module that knows it, imported when a check first fails.

Importing it costs seconds, so the context and the suites are made once in a process. The context is in memory:
no project folder, no data docs (their pages load scripts and a picture from other hosts), no analytics.
"""

from __future__ import annotations

import functools
import gc
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from radlake.contracts import load_table
from radlake.quality.checks import Check, Finding, checks_from_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["validate"]

_ALONE = threading.Lock()  # Great Expectations keeps global state


def validate(table: str, frame: pd.DataFrame) -> list[Finding]:
    """Judge every row of a frame by the suite of its table."""
    format_ = {"result_format": "COMPLETE", "return_unexpected_index_query": False}
    with _ALONE:
        checks, batch_definition, suite = _suites()[table]
        outcome = batch_definition.get_batch({"dataframe": frame}).validate(suite, result_format=format_)
    findings = [_finding(checks, result, n_rows=len(frame)) for result in outcome.results]
    return sorted(findings, key=lambda finding: checks.index(finding.check))


def _finding(checks: Sequence[Check], result: Any, *, n_rows: int) -> Finding:
    check = checks[result.expectation_config.meta["check"]]
    failed = result.result.get("unexpected_index_list", () if result.success else None)
    return Finding(check, bool(result.success), n_rows, None if failed is None else tuple(failed))


@functools.cache
def _suites() -> Mapping[str, tuple[Sequence[Check], Any, Any]]:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with _no_collection(), warnings.catch_warnings():
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


@contextmanager
def _no_collection() -> Iterator[None]:
    """Three thousand modules are no garbage: looking for some takes a fifth of the time of their import.

    And an eighth of that of every check after it, so that they are left out for good.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
