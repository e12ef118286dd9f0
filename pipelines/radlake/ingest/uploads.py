"""Publish ops.upload and ops.retrieval: when each study was made, known and complete, and how long people waited.

The end of an exam is its latest series: its time is in the lake, moved with its person, and moved back here in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from radlake.contracts import Table, load_table
from radlake.contracts.rows import arrow_rows
from radlake.deidentify import KeyRing
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import STUDY, STUDY_TIME
from radlake.lake.retrievals import retrievals
from radlake.lake.study_times import STUDIES_WITH_TIMES
from radlake.machine import utc_of_shanghai
from radlake.sqlrun.date_offsets import register_date_offsets

__all__ = ["DAYS", "publish_retrievals", "publish_uploads"]

DAYS = 400  # thirteen months: a year ago can be compared


def publish_uploads(
    lake: Lake,
    ledger: Ledger,
    *,
    keys: KeyRing,
    date_offsets: Callable[[np.ndarray], np.ndarray],
    now: datetime,
) -> int:
    """Publish the studies that became known in the last `DAYS`; returns the version of the table.

    Parameters
    ----------
    date_offsets : callable
        Seconds by which the times of each person were moved.
    now : datetime
        UTC.
    """
    table = load_table("ops.upload")
    studies = pa.Table.from_pylist(_studies(ledger, keys=keys, now=now.replace(tzinfo=None)), schema=_LEDGER)
    with duck.connect(lake, tables=["dicom.study", "dicom.series", "core.exam", "core.person_link"]) as connection:
        register_date_offsets(connection, date_offsets)
        connection.register("ledger", studies)
        data = connection.sql(_UPLOADS).to_arrow_table().cast(table.arrow_schema())
    return _replace(lake, table, data, now=now)


def publish_retrievals(lake: Lake, ledger: Ledger, *, now: datetime) -> int:
    """Publish how long people waited for pixels in the last `DAYS`; returns the version of ops.retrieval."""
    table = load_table("ops.retrieval")
    since = now.replace(tzinfo=None) - timedelta(days=DAYS)
    return _replace(lake, table, arrow_rows(table, retrievals(ledger, since=since)), now=now)


def _replace(lake: Lake, table: Table, data: pa.Table, *, now: datetime) -> int:
    """What is published holds the time it was made at, so it is another one each time."""
    store = lake.store_of(table)
    batch_id = f"{table.name}-{now:%Y%m%dT%H%M%S%f}-{store.version(table)}"
    return store.overwrite(table, data, batch_id=batch_id)


_LEDGER = pa.schema(
    [
        ("hospital_id", pa.string()),
        ("study_instance_uid", pa.string()),
        ("state", pa.string()),
        ("studied_at", pa.timestamp("us")),
        ("discovered_at", pa.timestamp("us")),
        ("completed_at", pa.timestamp("us")),
        ("connected_at", pa.timestamp("us")),
        ("observed_at", pa.timestamp("us")),
    ]
)

# A series without a time does not end its study; a month that was moved may be another one, so months are no key here.
_UPLOADS = """
WITH ended AS (
    SELECT
        study.hospital_id,
        study.study_instance_uid,
        any_value(study.exam_pseudo_id) AS exam_pseudo_id,
        max(series.series_at - to_seconds(date_offset.date_offset_seconds)) - INTERVAL 8 HOUR AS ended_at
    FROM dicom.study AS study
    INNER JOIN restricted.date_offset AS date_offset ON study.patient_key = date_offset.patient_key
    LEFT JOIN dicom.series AS series
        ON study.hospital_id = series.hospital_id AND study.study_instance_uid = series.study_instance_uid
    GROUP BY ALL
)

SELECT
    ledger.hospital_id,
    ledger.study_instance_uid,
    ended.exam_pseudo_id,
    ledger.state,
    coalesce(ended.ended_at, ledger.studied_at) AS ended_at,
    ledger.discovered_at,
    ledger.completed_at,
    ledger.connected_at,
    ledger.observed_at
FROM ledger
LEFT JOIN ended USING (hospital_id, study_instance_uid)
ORDER BY ALL
"""


def _studies(ledger: Ledger, *, keys: KeyRing, now: datetime) -> list[dict[str, Any]]:
    columns = (STUDY.c.hospital_id, STUDY.c.study_uid, STUDY.c.lake_study_uid, STUDY.c.state, STUDY.c.study_date,
               STUDY_TIME.c.studied_at, STUDY.c.discovered_at, STUDY.c.completed_at)  # fmt: skip
    since = now - timedelta(days=DAYS)
    query = sa.select(*columns).select_from(STUDIES_WITH_TIMES).where(STUDY.c.discovered_at >= since)
    first = sa.select(STUDY.c.hospital_id, sa.func.min(STUDY.c.discovered_at)).group_by(STUDY.c.hospital_id)
    with ledger.reading() as connection:
        connected = {row[0]: row[1] for row in connection.execute(first)}
        rows = connection.execute(query).mappings().all()
    return [
        {
            "hospital_id": row["hospital_id"],
            "study_instance_uid": row["lake_study_uid"] or keys.uid(row["study_uid"]),
            "state": row["state"],
            "studied_at": row["studied_at"] or _end_of_day(row["study_date"]),
            "discovered_at": row["discovered_at"],
            "completed_at": row["completed_at"] if row["state"] == "complete" else None,
            "connected_at": connected[row["hospital_id"]],
            "observed_at": now,
        }
        for row in rows
    ]


def _end_of_day(day: Any) -> datetime | None:
    """Of an exam of which only the day is known we know that it had ended by the next midnight."""
    return None if day is None else utc_of_shanghai(datetime.combine(day, datetime.min.time()) + timedelta(days=1))
