"""Publish how far behind each hospital is, each hour, so that dashboards have figures of the 12-hour rule.

Replaces each hospital's line of `ops.lag`: hours from the exam until the study is complete, what is late, who fell
silent, whose clock is wrong. Studies that wait grow older by themselves, so it runs by the clock, not after harvests.
It reads the ledger, asks no node and changes no study.

**Triage**

- `publish` is *up for retry*: the store or the ledger's database does not answer. Wait; the next hour replaces all
  figures anyway.
- It *failed* with `ConfigInvalid`: hospitals.yaml is not valid, the log names each problem. Repair it, clear the task.
- It is green and `n_late` or `n_dark` is above 0: `radlake board` shows which hospitals and why; telephone a dark one.
- It is green and the figures are old: `updated_at` of `radlake sql "FROM ops.lag"` tells their age. Is this DAG paused?
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import CronDataIntervalTimetable, dag, task

from radlake_airflow.retry import RETRIES


@dag(
    schedule=CronDataIntervalTimetable("10 * * * *", timezone="Asia/Shanghai"),
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    default_args=RETRIES,
    tags=["radlake", "lag 滞后"],
    doc_md=__doc__,
)
def publish_lag():
    @task
    def publish():
        from radlake_airflow import tasks

        return tasks.publish_board()

    publish()


publish_lag()
