"""Lay out anew what came in many small files, and delete the files that nobody needs, each night.

Runs at 05:00 in Shanghai, after the harvest and the build. It may run while others harvest, build and read: it
deletes files that were replaced more than seven days ago, never those of a current or a pinned version.

**Triage**

- `tidy` is *up for retry*: the store does not answer, or somebody committed to the same table. Wait, it is tried
  five times in about two hours.
- It *failed*: the last line of its log says what a person must change. Nothing was lost; clear the task. A night
  without it costs speed and disk, no data.
- It is green and the disk is full all the same: pins keep files (docs/how-to/tidy-the-lake.md), and so does the
  quarantine (`radlake quarantine list`).

A person who opted out must not wait seven days: `radlake tidy --keep-days 0`.
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import CronDataIntervalTimetable, dag, task

from radlake_airflow.retry import RETRIES


@dag(
    schedule=CronDataIntervalTimetable("0 5 * * *", timezone="Asia/Shanghai"),
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    default_args=RETRIES,
    tags=["radlake", "tidy 整理"],
    doc_md=__doc__,
)
def tidy_lake():
    @task
    def tidy():
        from radlake_airflow import tasks

        return tasks.tidy()

    tidy()


tidy_lake()
