"""When drawn exams were uploaded and reported, and what the service measures must say of that.

The verdict of every exam is drawn first and its times are made to fit it, so the truth needs no arithmetic of times.
Half of the hospitals have an order list; there some exams are never uploaded, and some orders are never performed.
Small hospitals have a part of their exams read by a large one of their city.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from radlake.contracts import load_table
from radlake.synth.rows.exams import Exams, Period
from radlake.synth.rows.places import MODALITIES, Places

__all__ = ["VERDICTS", "Service", "draw_service"]

VERDICTS = ("in_time", "late", "waiting", "never_uploaded", "pending", "clock_ahead", "not_counted")
IN_TIME, LATE, WAITING, NEVER, PENDING, AHEAD, NOT_COUNTED = range(7)
_SHARES = (0.84, 0.07, 0.05, 0.03, 0.0, 0.01)  # of the verdicts but the last
_HOUR = 3600
_SHANGHAI = 8 * _HOUR
_CONNECTED_DAYS = 60  # a hospital is connected so many days after the period began: before that all is backfill


@dataclass(frozen=True)
class Service:
    """Rows of ops.upload and ref.exam_service, and the truth of each performed exam.

    Attributes
    ----------
    hospital, month : np.ndarray
        Id, and `yyyy-mm` of the end of the exam in Asia/Shanghai.
    verdict : np.ndarray
        Number in VERDICTS.
    reader, report_hours : np.ndarray
        Who reads it, and how long after the exam it was reported: infinite when it was not.
    is_listed, is_open : np.ndarray
        It is in an order list; it is younger than a day.
    """

    uploads: pa.Table
    services: pa.Table
    hospital: np.ndarray
    month: np.ndarray
    verdict: np.ndarray
    reader: np.ndarray
    report_hours: np.ndarray
    is_listed: np.ndarray
    is_open: np.ndarray

    def counts(self) -> Mapping[tuple[str, str], dict[str, int]]:
        """Exams by month and hospital, and by verdict."""
        found: dict[tuple[str, str], dict[str, int]] = {}
        for month, hospital, verdict in zip(self.month, self.hospital, self.verdict, strict=True):
            if verdict != NOT_COUNTED:
                cell = found.setdefault((str(month), str(hospital)), dict.fromkeys(VERDICTS[:-1], 0))
                cell[VERDICTS[verdict]] += 1
        return found


def draw_service(rng: np.random.Generator, exams: Exams, *, places: Places, period: Period) -> Service:
    """Draw what became of exams; those without a date are left out."""
    shown = np.flatnonzero(exams.is_dated & (exams.day >= 0))
    n = len(shown)
    hospital = exams.hospital[shown]
    has_list = hospital % 2 == 0
    observed = np.int64((datetime.combine(period.end, datetime.min.time()) - datetime(1970, 1, 1)).total_seconds())
    observed += 12 * _HOUR  # noon of the last day, in Shanghai
    start = np.int64((datetime.combine(period.start, datetime.min.time()) - datetime(1970, 1, 1)).total_seconds())
    connected = start + _CONNECTED_DAYS * 86_400
    ended = start + exams.day[shown].astype(np.int64) * 86_400 + exams.second[shown] + rng.integers(120, 4_200, n)
    verdict = rng.choice(6, n, p=_SHARES)
    is_known = np.ones(n, bool)
    verdict[(verdict == NEVER) & ~has_list] = WAITING
    is_stored = (verdict != WAITING) | (rng.random(n) < 0.5)  # of what waits, half is not even begun
    verdict[(verdict == WAITING) & ~is_stored & has_list] = NEVER  # the list knows it, and nothing is here
    is_known[(verdict == NEVER) & is_stored] = False
    age = observed - ended
    verdict[(age <= 12 * _HOUR) & (age >= 0) & (verdict != AHEAD)] = PENDING
    verdict[age < 0] = AHEAD
    is_known[age < 0] = is_stored[age < 0] = True
    is_backfill = ended < connected
    verdict[is_backfill] = NOT_COUNTED
    completed = ended + np.select(
        [verdict == IN_TIME, verdict == LATE, verdict == AHEAD],
        [
            rng.integers(300, 12 * _HOUR + 1, n),
            rng.integers(12 * _HOUR + 1, 20 * 86_400, n),
            -rng.integers(1, 7_200, n),
        ],
        default=rng.integers(300, 12 * _HOUR, n),
    )
    # What is late, but has not come by the end of the period, still waits; a pending exam may have come or not.
    completed[is_backfill] = connected + 86_400
    has_come = (verdict != WAITING) & (verdict != NEVER) & (completed <= observed)
    verdict[(verdict == LATE) & ~has_come] = WAITING
    ids = np.array([f"e{number}" for number in shown])
    names = np.array(places.hospital_id)[hospital]
    keep = is_known | ~has_list
    uploads = _rows(
        "ops.upload",
        {
            "hospital_id": names[keep],
            "study_instance_uid": np.array([f"2.25.{number + 1}" for number in shown])[keep],
            "exam_pseudo_id": [one if stored else None for one, stored in zip(ids[keep], is_stored[keep], strict=True)],
            "state": np.where(has_come, "complete", np.where(is_stored, "partial", "discovered"))[keep],
            "ended_at": _utc(ended[keep]),
            "discovered_at": _utc(np.maximum(ended, connected)[keep]),
            "completed_at": [
                at if come else None for at, come in zip(_utc(completed[keep]), has_come[keep], strict=True)
            ],
            "connected_at": _utc(np.full(int(keep.sum()), connected)),
            "observed_at": _utc(np.full(int(keep.sum()), observed)),
        },
    )
    reader = _readers(rng, hospital, places)
    hours = np.where(rng.random(n) < 0.06, np.inf, np.minimum(rng.lognormal(1.2, 1.0, n), 300.0))
    hours = np.maximum(np.round(hours * _HOUR), 1) / _HOUR
    hours[ended + hours * _HOUR > observed] = np.inf
    services = _services(rng, ids, names, exams.modality[shown], ended, reader, hours, has_list, observed)
    return Service(
        uploads, services, names, _months(ended), verdict, reader, hours, has_list & (ended <= observed),
        age <= 86_400,
    )  # fmt: skip


def _readers(rng: np.random.Generator, hospital: np.ndarray, places: Places) -> np.ndarray:
    """Small hospitals have half of their exams read by the first large one of their city, if there is one."""
    hub = {}
    for number in range(len(places)):
        if places.level[number].startswith("3"):
            hub.setdefault(int(places.city[number]), number)
    reads = np.array(
        [
            number if places.level[number].startswith("3") else hub.get(int(places.city[number]), number)
            for number in range(len(places))
        ]
    )
    is_remote = rng.random(len(hospital)) < 0.5
    names = np.array(places.hospital_id)
    reader = np.where(is_remote, names[reads[hospital]], names[hospital]).astype(object)
    reader[rng.random(len(hospital)) < 0.02] = "UNKNOWN"
    return reader


def _services(
    rng: np.random.Generator,
    ids: np.ndarray,
    names: np.ndarray,
    modality: np.ndarray,
    ended: np.ndarray,
    reader: np.ndarray,
    hours: np.ndarray,
    has_list: np.ndarray,
    observed: np.int64,
) -> pa.Table:
    """The lists, with orders beside that nobody performed."""
    listed = np.flatnonzero(has_list & (ended <= observed))
    other = rng.choice(listed, len(listed) // 20, replace=False)
    reported = [None if np.isinf(h) else h for h in hours[listed]]
    at = _utc(ended[listed])
    found = {
        "hospital_id": [*names[listed], *names[other]],
        "exam_pseudo_id": [*ids[listed], *(f"{one}x" for one in ids[other])],
        "order_status": ["performed"] * len(listed) + ["cancelled", "scheduled"] * (len(other) // 2 + 1),
        "modality_group": np.array(MODALITIES)[modality[[*listed, *other]]],
        "performed_at": [*at, *([None] * len(other))],
        "reader_id": [*reader[listed], *(["UNKNOWN"] * len(other))],
        "reported_at": [
            *(
                None if h is None else one + timedelta(seconds=round(h * _HOUR))
                for one, h in zip(at, reported, strict=True)
            ),
            *([None] * len(other)),
        ],
        "listed_at": _utc(np.full(len(listed) + len(other), observed)),
    }
    found["order_status"] = found["order_status"][: len(listed) + len(other)]
    return _rows("ref.exam_service", found)


def _utc(local: np.ndarray) -> list[datetime]:
    return (local - _SHANGHAI).astype("datetime64[s]").tolist()


def _months(local: np.ndarray) -> np.ndarray:
    return local.astype("datetime64[s]").astype("datetime64[M]").astype(str)


def _rows(name: str, columns: Mapping[str, object]) -> pa.Table:
    schema = load_table(name).arrow_schema()
    return pa.table([pa.array(list(columns[field.name]), field.type) for field in schema], schema=schema)  # pyright: ignore
