"""Reading descriptions of exams: a distinct one, a repeated one, and deciding a table again, beside a plain scan of it.

The peer is DuckDB reading the same columns of the same rows on one thread. CPU time: a busy machine matters less.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import duckdb
import pyarrow as pa

from bench.measure import Place
from radlake.vocab import again, decide, evidence_from_json, evidence_to_json
from radlake.vocab.evidence import evidence_of_texts
from radlake.vocab.reading import read
from radlake.vocab.rules import rules
from radlake.vocab.score import labelled

_ROWS = 2_000_000


def main(place: Place, *, scale: float) -> None:
    described = [(row["description"], row["modality_group"]) for row in labelled()]
    read("", "")  # reads the rules
    first = _cpu_seconds(lambda: [read(*one) for one in described])
    cached = _cpu_seconds(lambda: [read(*one) for _ in range(20) for one in described]) / 20
    n = len(described)
    print(f"{n:,} distinct descriptions: {first / n * 1e6:.0f} µs each at first, {cached / n * 1e6:.2f} µs again,")
    print(f"  {n / cached:,.0f} rows/s of one core when known")

    evidences = [
        evidence_to_json(evidence_of_texts([row["description"]], modalities=[row["modality"]])) for row in labelled()
    ]
    n_rows = round(_ROWS * scale)
    connection = _studies(evidences, n_rows=n_rows)
    newer = replace(rules(), version=rules().version + 1)
    again.rules, kept = (lambda: newer), again.rules
    try:
        scans = [_cpu_seconds(lambda: _scan(connection, "dicom.study_v1")) for _ in range(place.repetitions)]
        ours = []
        for _ in range(place.repetitions):
            decide.cache_clear()
            ours.append(_cpu_seconds(lambda: (again.decide_again(connection), _scan(connection, "dicom.study"))))
    finally:
        again.rules = kept
    ratio = median(ours) / median(scans)
    print(f"{n_rows:,} studies, {len(set(evidences)):,} distinct evidences, all decided again:")
    print(f"  {n_rows / median(ours):,.0f} rows/s of one core, {ratio:.1f} x a plain scan ({median(scans):.2f} s)")


def _studies(evidences: list[str], *, n_rows: int) -> duckdb.DuckDBPyConnection:
    distinct = pa.Table.from_pylist(
        [{"n": n, "exam_evidence": text} | decide(evidence_from_json(text)).columns for n, text in enumerate(evidences)]
    )
    connection = duckdb.connect()
    connection.execute("SET threads = 1; CREATE SCHEMA dicom")
    connection.register("facts", distinct)
    connection.execute(
        f"CREATE TABLE dicom.study_v1 AS SELECT facts.* FROM range({n_rows}) AS rows (i)"
        f" JOIN facts ON facts.n = hash(i) % {len(evidences)}"
    )
    connection.execute("CREATE VIEW dicom.study AS FROM dicom.study_v1")
    return connection


def _scan(connection: duckdb.DuckDBPyConnection, table: str) -> object:
    return connection.execute(
        "SELECT sum(hash(exam_evidence, modality_group, body_part_code, laterality_code, contrast_code,"
        f" mado_region_code, confidence_code, conflict_code, vocab_version)) FROM {table}"
    ).fetchall()


def _cpu_seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
