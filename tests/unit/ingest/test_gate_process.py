"""The gate in a process of its own says what it says here, and its death costs time only."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from datetime import datetime

import pyarrow as pa
import pytest

from radlake.ingest import gate_process
from radlake.quality import GateResult, check_batch
from support.rows import rows

NOW = datetime(2026, 11, 2, 18, 0)
BATCH = {
    "dicom.study": rows("dicom.study", {"study_instance_uid": "2.25.1", "study_month": 202601, "n_series": 9}),
    "dicom.series": rows("dicom.series"),
    "dicom.instance": rows("dicom.instance"),
}


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    gate_process._process().shutdown()
    gate_process._started.cache_clear()


def says(result: GateResult) -> tuple[list[dict[str, object]], dict[str, str]]:
    return result.results.to_pylist(), result.blocked


def begin(tables: dict[str, pa.Table]):
    return gate_process.begin_check(tables, batch_id="b1", checked_at=NOW)


def test_it_says_what_the_gate_says_here() -> None:
    here = check_batch(BATCH, batch_id="b1", checked_at=NOW)
    assert here.blocked
    assert says(begin(BATCH)()) == says(here)


def test_a_process_that_was_killed_is_replaced() -> None:
    here = says(check_batch(BATCH, batch_id="b1", checked_at=NOW))
    gate_process.warm_up()
    for process in multiprocessing.active_children():
        process.kill()
        process.join()
    assert says(begin(BATCH)()) == here
    assert says(begin(BATCH)()) == here
    assert multiprocessing.active_children()


def use_it() -> None:
    gate_process._process().submit(int).result()


def test_a_process_that_used_it_ends() -> None:
    """Who harvests in a process of `multiprocessing`, as Python's own pools do, would wait for ever otherwise."""
    process = multiprocessing.get_context("spawn").Process(target=use_it)
    process.start()
    process.join(120)
    has_ended = process.exitcode == 0
    process.kill()
    assert has_ended
