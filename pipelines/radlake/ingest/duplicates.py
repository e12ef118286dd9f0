"""Build the repeat statistics of a lake, and explain one exam: both need the true calendar, so both need the key."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from radlake.config import Settings
from radlake.contracts import load_table
from radlake.errors import PermanentError, SourceMissing
from radlake.ingest.offsets import date_offsets
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from radlake.lake.person_links import publish_links
from radlake.lake.withdrawals import sharing_lake
from radlake.stats.duplicates.added import added_repeats, summed
from radlake.stats.duplicates.packs import load_packs, load_windows
from radlake.stats.duplicates.places import repeats_by_place
from radlake.stats.duplicates.rates import RATES, WINDOWS, repeat_rates, repeat_windows
from radlake.stats.duplicates.sequence import INPUTS, TABLE, Observed, build_sequence
from radlake.stats.duplicates.why import Explanation, PersonExam, explain
from radlake.stats.policy import load_policy
from radlake.stats.release import mask

_FORM = 2  # of stats.repeat_window: another number counts and releases it anew from the same sequence

__all__ = [
    "BuiltRepeats",
    "CountedRepeats",
    "ExamMissing",
    "SequenceOld",
    "build_repeats",
    "build_repeats_alone",
    "count_repeats_now",
    "rules_digest",
    "why_counted",
]


class ExamMissing(SourceMissing):
    sentence = (
        "There is no exam {exam} in core.exam of this lake; give its exam_pseudo_id, and --hospital if several have it."
    )


class SequenceOld(PermanentError):
    sentence = "core.exam_sequence is older than the lake: {reason}; run `radlake duplicates build`."


@dataclass(frozen=True)
class BuiltRepeats:
    """Versions of the tables after a build, and rows of stats.repeat_rate; `windows_version` is what was released."""

    sequence_version: int
    rates_version: int
    windows_version: int
    n_rows: int
    is_new: bool


def build_repeats(settings: Settings, *, now: datetime, observed: Observed | None = None) -> BuiltRepeats:
    """Make core.exam_sequence and stats.repeat_rate anew, and release stats.repeat_window.

    Nothing is written when nothing they depend on has changed.

    Raises
    ------
    ConfigInvalid
        If the disclosure policy cannot be read.
    LakeBusy
        If somebody's data are being withdrawn.
    KeyMissing, KeyMismatch, ContractBroken
    """
    with sharing_lake(settings):
        return build_repeats_alone(settings, now=now, observed=observed)


def build_repeats_alone(settings: Settings, *, now: datetime, observed: Observed | None = None) -> BuiltRepeats:
    """`build_repeats` for who holds the claim."""
    policy = load_policy(settings.disclosure)
    lake = Lake.from_settings(settings)
    with closing(Ledger(settings.ledger)) as ledger:
        publish_links(lake, ledger)
    workers = max(1, settings.workers or 2)
    with date_offsets(settings) as offsets:
        built = build_sequence(lake, date_offsets=offsets, observed=observed, workers=workers)
    rates = repeat_rates(lake, version=built.version, workers=workers)
    windows = repeat_windows(lake, rates=rates, version=built.version, workers=workers)
    rules = rules_digest()
    before = lake.restricted_tables.version(RATES)
    batch_id = f"repeats-{built.version}-{rules}"
    rates_version = lake.restricted_tables.overwrite(RATES, rates, batch_id=batch_id)
    lake.restricted_tables.overwrite(WINDOWS, windows, batch_id=f"{batch_id}-{_FORM}")
    shown = mask({WINDOWS: windows}, policy=policy)[WINDOWS]
    released = f"{policy.name}-{policy.threshold}-{policy.rounding}-{_FORM}"
    windows_version = lake.tables.overwrite(WINDOWS, shown, batch_id=f"{batch_id}-{released}")
    exact = ("none: exact, in the restricted zone", 0)
    made = [
        (TABLE, built.version, built.inputs, rates.num_rows, exact),
        (RATES, rates_version, {TABLE: built.version}, rates.num_rows, exact),
        (WINDOWS, windows_version, {TABLE: built.version}, shown.num_rows, (policy.name, policy.threshold)),
    ]
    _record(lake, made, rules=rules, batch_id=f"{batch_id}-{released}", now=now)
    return BuiltRepeats(built.version, rates_version, windows_version, rates.num_rows, rates_version != before)


@dataclass(frozen=True)
class CountedRepeats:
    """Rows of `places.SCHEMA`; `n_added` of their exams came after the sequence was laid out."""

    rows: pa.Table
    n_added: int


def count_repeats_now(settings: Settings, *, window_days: int) -> CountedRepeats:
    """Count repeats by place over core.exam_sequence, and add what exams that came since add; those need the key.

    Raises
    ------
    ContractBroken
        If there is no sequence.
    SequenceOld
        If more changed since than that exams were added.
    KeyMissing, KeyMismatch
    """
    lake = Lake.from_settings(settings)
    workers = max(1, settings.workers or 2)
    rows = repeats_by_place(lake, window_days=window_days, workers=workers)
    version = lake.restricted_tables.version(TABLE)
    assert version is not None, "it was counted"
    inputs = _inputs_of(lake, version)
    if all(lake.tables.version(name) == inputs.get(name) for name in INPUTS):
        return CountedRepeats(rows, 0)
    with date_offsets(settings) as offsets:
        added = added_repeats(
            lake, inputs=inputs, version=version, window_days=window_days, date_offsets=offsets, workers=workers
        )
    if added.rows is None:
        raise SequenceOld(reason=added.reason)
    return CountedRepeats(summed(rows, added.rows), added.n_exams)


def _inputs_of(lake: Lake, version: int) -> dict[str, int]:
    """Versions of the tables that a version of the sequence was made from, by their short names."""
    with duck.connect(lake, tables=["ops.build"]) as connection:
        found = connection.execute(
            "SELECT inputs FROM ops.build WHERE built_table = ? AND built_version = ? ORDER BY built_at DESC LIMIT 1",
            [load_table(TABLE).full_name, version],
        ).fetchall()
    if not found:
        raise SequenceOld(reason="ops.build does not tell what it was made from")
    told = json.loads(found[0][0])
    return {name: told[full] for name in INPUTS if (full := load_table(name).full_name) in told}


def rules_digest() -> str:
    """Digest of the rule packs of this installation; ops.build names those that repeats were counted by."""
    return hashlib.sha256(repr(load_packs()).encode()).hexdigest()[:16]


def why_counted(settings: Settings, exam_pseudo_id: str, *, hospital_id: str | None = None) -> Explanation:
    """Explain one exam from the rows of its person, by all rule packs.

    Raises
    ------
    ExamMissing
        If there is no such exam, or several hospitals have one.
    """
    lake = Lake.from_settings(settings)
    with duck.connect(lake, zone="restricted", tables={"core", "ref"}) as connection:
        found = connection.execute(
            "SELECT hospital_id, patient_key FROM core.exam"
            " WHERE exam_pseudo_id = ? AND hospital_id = coalesce(?, hospital_id)",
            [exam_pseudo_id, hospital_id],
        ).fetchall()
        if len(found) != 1:
            raise ExamMissing(exam=exam_pseudo_id)
        hospital, patient_key = found[0]
        cursor = connection.execute(_PERSON, {"patient_key": patient_key})
        names = [column[0] for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    with date_offsets(settings) as offsets:
        moved = offsets(np.array([row["patient_key"] for row in rows]))
    exams = [_person_exam(row, moved=timedelta(seconds=int(by))) for row, by in zip(rows, moved, strict=True)]
    is_asked = [(one.exam_pseudo_id, one.hospital_id) == (exam_pseudo_id, hospital) for one in exams]
    exam = exams[is_asked.index(True)]
    others = [one for one, asked in zip(exams, is_asked, strict=True) if not asked]
    return explain(exam, others, packs=load_packs(), windows=load_windows())


_PERSON = """
WITH person AS (
    SELECT coalesce(
        (SELECT person_key FROM core.person_link WHERE patient_key = $patient_key), $patient_key
    ) AS person_key
)
SELECT
    exam.patient_key, exam.hospital_id, exam.exam_pseudo_id, exam.study_at, exam.modality_group, exam.body_part_code,
    exam.laterality_code, exam.is_patient_known, exam_order.encounter_pseudo_id, exam_order.ground_codes,
    exam_order.operation_days, exam_order.evidence_source, exam.region_code, hospital.hospital_level,
    CASE WHEN exam_order.encounter_pseudo_id IS NULL THEN 0
        ELSE hash(exam_order.hospital_id, exam_order.encounter_pseudo_id) % 2147483646 + 1 END AS encounter_code
FROM core.exam AS exam
LEFT JOIN ref.exam_order AS exam_order USING (hospital_id, exam_pseudo_id, patient_key)
LEFT JOIN ref.hospital AS hospital USING (hospital_id)
WHERE exam.patient_key IN (
    FROM person
    UNION ALL
    SELECT link.patient_key FROM core.person_link AS link INNER JOIN person USING (person_key)
)
"""


def _person_exam(row: Mapping[str, Any], *, moved: timedelta) -> PersonExam:
    given = dict(row)
    del given["patient_key"]
    at, grounds = given.pop("study_at"), given.pop("ground_codes")
    given["hospital_level"] = given["hospital_level"] or "UNKNOWN"
    given["evidence_source"] = given["evidence_source"] or ""
    return PersonExam(
        **given,
        at=None if at is None else at - moved,
        ground_codes=frozenset(grounds.split("+")) if grounds else frozenset(),
    )


def _record(
    lake: Lake,
    made: Sequence[tuple[str, int, Mapping[str, int], int, tuple[str, int]]],
    *,
    rules: str,
    batch_id: str,
    now: datetime,
) -> None:
    """Lineage, as of every other built table, once for the same numbers: name, version, inputs, rows, release."""
    run_id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    contract = load_table("ops.build")
    rows = [
        {
            "run_id": run_id,
            "built_table": load_table(name).full_name,
            "built_version": version,
            "inputs": json.dumps({load_table(read).full_name: number for read, number in inputs.items()}),
            "query_sha256": rules,
            "n_rows": n_rows,
            "warnings": "[]",
            "disclosure_policy": policy,
            "disclosure_threshold": threshold,
            "built_at": now,
        }
        for name, version, inputs, n_rows, (policy, threshold) in made
    ]
    data = pa.Table.from_pylist(rows, schema=contract.arrow_schema())
    lake.tables.commit_batch(contract, data, batch_id=batch_id)
