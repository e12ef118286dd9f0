"""Write a drawn province into a lake: core.exam and ref tables, chunk by chunk, and the truth beside them.

A chunk holds consecutive persons, so that every month gets one file of each run of persons. A killed run goes on where
it stopped: a chunk is a batch of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from radlake.contracts import Table, load_table
from radlake.lake import Lake
from radlake.stats.duplicates.packs import load_grounds, load_packs
from radlake.synth.province import PREFECTURES
from radlake.synth.rows.draw import DIRTY_EXAMS, draw_exams
from radlake.synth.rows.exams import SIDES, Exams, Period
from radlake.synth.rows.places import MODALITIES, PARTS, Places, county_rows
from radlake.synth.rows.truth import Truth, merged, tell_truth, truth_rows

__all__ = ["TRUTH", "Plan", "truth_file", "write_chunk", "write_province"]

TRUTH = "truth.parquet"
_CHUNK = 2_500_000  # exams that are in memory at once: about 2 GB with their Arrow and sorted forms
_SHARED_SHARE = 1000  # one exam in so many bears the number that many share
_KEYS = 1 << 63
# Instances and bytes of an instance of an exam of each modality, and its series.
_INSTANCES = np.array([600, 40, 60, 250, 320, 4, 30, 2, 12, 1, 1])
_INSTANCE_BYTES = np.array([33_000, 33_000, 500_000, 180_000, 525_000, 9_000_000, 2_000_000, 8_000_000, 900_000, 9, 9])
_SERIES = np.array([4, 2, 2, 6, 4, 4, 2, 1, 1, 1, 1])
_UNDATED_MONTH = 190001

Offsets = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Plan:
    """What to draw; equal plans give equal rows."""

    n_exams: int
    seed: int = 1
    n_hospitals: int = 300
    start: date = date(2024, 1, 1)
    end: date = date(2026, 12, 31)

    @property
    def period(self) -> Period:
        return Period(self.start, self.end)

    @property
    def n_chunks(self) -> int:
        return -(-self.n_exams // _CHUNK)

    @property
    def limits(self) -> list[int]:
        """Number of the first exam of each chunk, and of all."""
        return [self.n_exams * chunk // self.n_chunks for chunk in range(self.n_chunks + 1)]

    @property
    def n_shared(self) -> int:
        """Exams that bear the number that many share; none in a small province."""
        return 0 if self.n_exams < 20 * DIRTY_EXAMS else max(DIRTY_EXAMS, self.n_exams // _SHARED_SHARE)

    @property
    def batch(self) -> str:
        drawn = json.dumps(asdict(self) | {"n_chunks": self.n_chunks}, default=str)
        return f"synth-{hashlib.sha256(drawn.encode()).hexdigest()[:16]}"


def write_chunk(lake: Lake, plan: Plan, chunk: int, *, date_offsets: Offsets) -> Truth:
    """Write the exams of one chunk, and tell the truth of them. Chunks may be written in any order, or at once.

    Parameters
    ----------
    date_offsets : callable
        Seconds by which the times of each person (patient_key) are moved.
    """
    places, period = Places.make(plan.n_hospitals), plan.period
    limits = plan.limits
    first, n = limits[chunk], limits[chunk + 1] - limits[chunk]
    n_shared = plan.n_shared if chunk == plan.n_chunks - 1 else 0
    exams = draw_exams(n, seed=plan.seed, chunk=chunk, places=places, period=period, n_shared=n_shared)
    truth = tell_truth(exams, places=places, period=period, packs=load_packs())
    keys = _patient_keys(exams, plan=plan, chunk=chunk)
    orders = _order_rows(exams, keys=keys, places=places, first=first, chunk=chunk)
    lake.tables.commit_batch("ref.exam_order", orders, batch_id=f"{plan.batch}-{chunk}")
    del orders
    rows = _exam_rows(exams, keys=keys, places=places, first=first, period=period, date_offsets=date_offsets)
    lake.tables.commit_batch("core.exam", rows, batch_id=f"{plan.batch}-{chunk}")
    return truth


def write_province(
    lake: Lake, plan: Plan, *, chunks: Iterable[Truth], told: Callable[[int], None] = lambda _: None
) -> Path:
    """Write the reference tables of the plan and, when every chunk is written, the truth; returns its file.

    Parameters
    ----------
    chunks : iterable of Truth
        What `write_chunk` returns, of every chunk in order; written as it is read.
    told : callable
        Called with the number of exams of each chunk that is in the lake.
    """
    places = Places.make(plan.n_hospitals)
    _write_references(lake, plan, places)
    truth: Truth | None = None
    for chunk, found in enumerate(chunks):
        truth = merged(truth, found)
        told(plan.limits[chunk + 1] - plan.limits[chunk])
    path = truth_file(lake)
    path.parent.mkdir(parents=True, exist_ok=True)
    if truth is not None:
        pq.write_table(truth_rows(truth, places=places, period=plan.period), path, compression="zstd")
    told_plan = asdict(plan) | {"rule_packs": sorted(load_packs()), "n_shared": plan.n_shared}
    path.with_suffix(".json").write_text(json.dumps(told_plan, default=str, indent=1) + "\n", encoding="utf-8")
    return path


def truth_file(lake: Lake) -> Path:
    """Where the truth of a synthetic province lies: exact counts, so in the restricted zone."""
    return lake.restricted / "synth" / TRUTH


def _write_references(lake: Lake, plan: Plan, places: Places) -> None:
    regions = [
        {"region_code": code, "name_zh": f"{zh}市", "name_en": en, "parent_region_code": "320000"}
        for code, (zh, en, _) in PREFECTURES.items()
    ]
    province = {"region_code": "320000", "name_zh": "江苏省", "name_en": "Jiangsu", "parent_region_code": None}
    hospitals = [
        {
            "hospital_id": hospital_id,
            "name_zh": f"示例医院{number}",
            "name_en": f"Example Hospital {number}",
            "region_code": region_code,
            "hospital_level": level,
            "storage_policy": "index",
        }
        for number, (hospital_id, region_code, level) in enumerate(
            zip(places.hospital_id, places.region_code, places.level, strict=True), 1
        )
    ]
    holds = {"last_year": 9999, "successor_region_code": "NONE"}
    placed = [region | holds for region in (province, *regions, *county_rows())]
    for name, rows in (("ref.region", placed), ("ref.hospital", hospitals)):
        table = load_table(name)
        data = pa.Table.from_pylist(rows, schema=table.arrow_schema())
        lake.tables.commit_batch(table, data, batch_id=plan.batch, replace=data.select(table.key))


def _patient_keys(exams: Exams, *, plan: Plan, chunk: int) -> np.ndarray:
    """Pseudonym of each exam's person: distinct, spread evenly, each chunk with a range of its own."""
    rng = np.random.default_rng([plan.seed, chunk, 1])
    width = _KEYS // plan.n_chunks
    step = width // exams.n_persons
    slot = rng.permutation(exams.n_persons)
    keys = chunk * width + slot * step + rng.integers(0, step, exams.n_persons)
    return keys[exams.person]


def _exam_ids(n: int, *, first: int) -> pa.Array:
    """Numbers of twelve digits: a real pseudonym does not compress, and this is to be a narrow table."""
    return pa.array(np.arange(n) + first + 100_000_000_000).cast(pa.string())


def _order_rows(exams: Exams, *, keys: np.ndarray, places: Places, first: int, chunk: int) -> pa.Table:
    shown = np.flatnonzero((exams.encounter >= 0) | (exams.ground_bits != 0) | (exams.operation_days >= 0))
    bits, codes = np.unique(exams.ground_bits[shown], return_inverse=True)
    grounds = load_grounds().values()
    texts = ["+".join(sorted(ground.code for ground in grounds if one >> ground.bit & 1)) for one in bits.tolist()]
    encounter = exams.encounter[shown]
    names = pa.array(encounter + (chunk << 40), pa.int64(), mask=encounter < 0).cast(pa.string())
    days = exams.operation_days[shown]
    table = load_table("ref.exam_order")
    columns = {
        "hospital_id": _texts(exams.hospital[shown], places.hospital_id),
        "exam_pseudo_id": _exam_ids(len(exams), first=first).take(pa.array(shown)),
        "patient_key": pa.array(keys[shown]),
        "encounter_pseudo_id": names,
        "ground_codes": _texts(codes, texts),
        "operation_days": pa.array(days, pa.int16(), mask=days < 0),
        "evidence_source": _texts((exams.ground_bits[shown] != 0).astype(np.int8), ("order", "several")),
    }
    return _as_contract(table, columns)


def _exam_rows(
    exams: Exams, *, keys: np.ndarray, places: Places, first: int, period: Period, date_offsets: Offsets
) -> pa.Table:
    persons, person = np.unique(keys, return_inverse=True)
    day = np.datetime64(period.start, "s") + exams.day.astype("timedelta64[D]")
    at = day + exams.second.astype("timedelta64[s]") + date_offsets(persons)[person].astype("timedelta64[s]")
    months = at.astype("datetime64[M]").astype(np.int64)
    month = np.where(exams.is_dated, (months // 12 + 1970) * 100 + months % 12 + 1, _UNDATED_MONTH)
    instances = np.maximum(1, _INSTANCES[exams.modality] * (exams.size + 8) // 16)
    n = len(exams)
    columns = {
        "hospital_id": _texts(exams.hospital, places.hospital_id),
        "exam_pseudo_id": _exam_ids(n, first=first),
        "patient_key": pa.array(keys),
        "region_code": _texts(exams.hospital, places.region_code),
        "study_month": pa.array(month, pa.int32()),
        "study_at": pa.array(at.astype("datetime64[us]"), mask=~exams.is_dated),
        "modality_group": _texts(exams.modality, MODALITIES),
        "body_part_code": _texts(exams.part, PARTS),
        "laterality_code": _texts(exams.side, SIDES),
        "has_contrast": pa.array(exams.contrast == 1, mask=exams.contrast < 0),
        "patient_sex": _texts(exams.sex, ("M", "F")),
        "patient_age_years": pa.array(exams.age),
        "is_patient_known": pa.array(exams.is_known),
        "n_studies": pa.array(np.ones(n), pa.int32()),
        "n_series": pa.array(_SERIES[exams.modality], pa.int32()),
        "n_instances": pa.array(instances, pa.int32()),
        "exam_bytes": pa.array(instances * _INSTANCE_BYTES[exams.modality], pa.int64()),
    }
    return _as_contract(load_table("core.exam"), columns)


def _texts(codes: np.ndarray, texts: tuple[str, ...] | list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(texts, pa.string()))


def _as_contract(table: Table, columns: dict[str, pa.Array]) -> pa.Table:
    """Columns that a later contract adds take their default, which the table store fills in."""
    return pa.table({column.name: columns[column.name] for column in table.columns if column.name in columns})
