"""History through the rules of today: what would have been shown, had every exam been ordered with the reminder on.

An exam stands for its order, at the time that it began. What order entry tells and no header does (reasons, priority)
is known as far as ref.exam_order has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from radlake.reminder.decide import SHOW, Ordered, Prior, decide
from radlake.reminder.policy import ReminderPolicy
from radlake.reminder.references import load_references
from radlake.reminder.retrievable import retrievable_exams

__all__ = ["Replayed", "replay"]

_TABLES = ("core.exam", "core.exam_dose", "core.person_link", "ref.exam_order")
_AT_ONCE = 20_000


@dataclass(frozen=True)
class Replayed:
    """Orders of one hospital and modality, and what would have been decided.

    Attributes
    ----------
    n_reminders : int
        Orders that would have been reminded of.
    silences : mapping
        Rule -> orders that it kept silent.
    cost_fen, n_unpriced : int
        Price of the exams behind the reminders, and those of a month that has no price.
    dose_msv : float
        Effective dose of those whose dose is known: an estimate for groups.
    """

    hospital_id: str
    modality_group: str
    n_orders: int
    n_reminders: int
    silences: dict[str, int]
    cost_fen: int
    n_unpriced: int
    dose_msv: float


def replay(
    lake: Lake,
    *,
    date_offsets: Callable[[np.ndarray], np.ndarray],
    first: date,
    last: date,
    policy: ReminderPolicy,
    ledger: Ledger | None,
) -> list[Replayed]:
    """Decide about every exam of a period, by hospital and modality.

    Parameters
    ----------
    first, last : date
        True days.
    ledger : Ledger or None
        Says what can be opened now; None takes every exam of the lake for one that can.
    """
    references = load_references(lake)
    verdicts: dict[tuple[str, str], Counter[str]] = {}
    cost: Counter[tuple[str, str]] = Counter()
    unpriced: Counter[tuple[str, str]] = Counter()
    doses: dict[tuple[str, str], float] = {}
    with duck.connect(lake, tables=_TABLES) as connection:
        keys = connection.sql("SELECT DISTINCT patient_key FROM core.exam ORDER BY ALL").to_arrow_table()
        found = keys["patient_key"].to_numpy()
        connection.register("offsets", pa.table({"patient_key": found, "seconds": date_offsets(found)}))
        for ordered, now, hospital_id, priors, dose in _orders(connection, first, last, policy, ledger):
            group = hospital_id, ordered.modality_group
            verdict = decide(ordered, priors, now=now, policy=policy).verdict
            verdicts.setdefault(group, Counter())[verdict] += 1
            if verdict == SHOW:
                price = references.price_fen(ordered.modality_group, ordered.body_part_code, now.date())
                cost[group] += price or 0
                unpriced[group] += price is None
                doses[group] = doses.get(group, 0.0) + (dose or 0.0)
    return [
        Replayed(
            hospital_id=hospital_id,
            modality_group=modality,
            n_orders=counts.total(),
            n_reminders=counts[SHOW],
            silences={verdict: n for verdict, n in sorted(counts.items()) if verdict != SHOW},
            cost_fen=cost[hospital_id, modality],
            n_unpriced=unpriced[hospital_id, modality],
            dose_msv=doses.get((hospital_id, modality), 0.0),
        )
        for (hospital_id, modality), counts in sorted(verdicts.items())
    ]


def _orders(
    connection: duckdb.DuckDBPyConnection, first: date, last: date, policy: ReminderPolicy, ledger: Ledger | None
) -> Iterator[tuple[Ordered, datetime, str, list[Prior], float | None]]:
    windows = pa.table({"modality_group": list(policy.windows), "days": list(policy.windows.values())})
    connection.register("windows", windows)
    connection.execute(_PAIRS, {"first": first, "last": last})
    names = [column[0] for column in connection.description or ()]
    for rows in _whole_orders(connection, names):
        asked = {(row["earlier_hospital_id"], row["earlier_exam_pseudo_id"]) for row in rows} - {(None, None)}
        here = asked if ledger is None else retrievable_exams(ledger, asked)
        for _, pairs in groupby(rows, key=lambda row: row["number"]):
            several = list(pairs)
            one = several[0]
            ordered = Ordered(
                resource_id="",
                modality_group=one["modality_group"],
                body_part_code=one["body_part_code"],
                laterality_code=one["laterality_code"],
                contrast_code=one["contrast_code"],
                confidence_code=one["confidence_code"],
                ground_codes=_codes(one["ground_codes"]),
                encounter_pseudo_id=one["encounter_pseudo_id"] or "",
            )
            priors = [_prior(row, here) for row in several if row["earlier_at"] is not None]
            yield ordered, one["exam_at"], one["hospital_id"], priors, one["effective_dose_msv"]


def _whole_orders(connection: duckdb.DuckDBPyConnection, names: list[str]) -> Iterator[list[dict[str, Any]]]:
    """Rows of some orders at a time; those of one order are never parted."""
    kept: list[dict[str, Any]] = []
    while fetched := connection.fetchmany(_AT_ONCE):
        kept += [dict(zip(names, row, strict=True)) for row in fetched]
        last = kept[-1]["number"]
        whole = [row for row in kept if row["number"] != last]
        kept = [row for row in kept if row["number"] == last]
        if whole:
            yield whole
    if kept:
        yield kept


def _prior(row: dict[str, Any], here: set[tuple[str, str]]) -> Prior:
    name = row["earlier_hospital_id"], row["earlier_exam_pseudo_id"]
    return Prior(
        at=row["earlier_at"],
        hospital_id=name[0],
        exam_pseudo_id=name[1],
        patient_key=row["patient_key"],
        laterality_code=row["earlier_laterality_code"],
        contrast_code=row["earlier_contrast_code"],
        confidence_code=row["earlier_confidence_code"],
        ground_codes=_codes(row["earlier_ground_codes"]),
        encounter_pseudo_id=row["earlier_encounter_pseudo_id"] or "",
        is_retrievable=name in here,
    )


def _codes(text: str | None) -> frozenset[str]:
    return frozenset(text.split("+")) if text else frozenset()


_PAIRS = """
WITH exams AS (
    SELECT
        exam.patient_key,
        coalesce(link.person_key, exam.patient_key) AS person_key,
        exam.hospital_id,
        exam.exam_pseudo_id,
        exam.study_at - to_seconds(offsets.seconds) AS exam_at,
        exam.modality_group,
        exam.body_part_code,
        exam.laterality_code,
        exam.contrast_code,
        exam.confidence_code,
        exam.is_patient_known,
        orders.ground_codes,
        orders.encounter_pseudo_id,
        dose.effective_dose_msv,
        windows.days
    FROM core.exam AS exam
    INNER JOIN windows USING (modality_group)
    INNER JOIN offsets ON exam.patient_key = offsets.patient_key
    LEFT JOIN core.person_link AS link ON exam.patient_key = link.patient_key
    LEFT JOIN ref.exam_order AS orders
        ON exam.hospital_id = orders.hospital_id AND exam.exam_pseudo_id = orders.exam_pseudo_id
        AND exam.patient_key = orders.patient_key
    LEFT JOIN core.exam_dose AS dose
        ON exam.hospital_id = dose.hospital_id AND exam.exam_pseudo_id = dose.exam_pseudo_id
        AND exam.patient_key = dose.patient_key
    WHERE exam.study_at IS NOT NULL
),
asked AS (
    SELECT *, row_number() OVER (ORDER BY hospital_id, exam_pseudo_id, patient_key) AS number
    FROM exams
    WHERE exam_at::DATE BETWEEN $first AND $last
)
SELECT
    asked.*,
    earlier.exam_at AS earlier_at,
    earlier.hospital_id AS earlier_hospital_id,
    earlier.exam_pseudo_id AS earlier_exam_pseudo_id,
    earlier.laterality_code AS earlier_laterality_code,
    earlier.contrast_code AS earlier_contrast_code,
    earlier.confidence_code AS earlier_confidence_code,
    earlier.ground_codes AS earlier_ground_codes,
    earlier.encounter_pseudo_id AS earlier_encounter_pseudo_id
FROM asked
LEFT JOIN exams AS earlier
    ON asked.person_key = earlier.person_key
    AND asked.modality_group = earlier.modality_group
    AND asked.body_part_code = earlier.body_part_code
    AND earlier.is_patient_known AND asked.is_patient_known
    AND earlier.exam_at < asked.exam_at
    AND asked.exam_at::DATE - earlier.exam_at::DATE <= asked.days
ORDER BY asked.number, earlier.exam_at DESC
"""
