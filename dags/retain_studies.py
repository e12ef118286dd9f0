"""Count the studies whose years of retention are over, each night; remove them only when a person says so.

The nightly run changes nothing. To remove what is due, trigger it with `expire` on, `by` and `why`: both are entered in
the audit trail. Held studies stay. What is removed leaves a tombstone and cannot be brought back.

**Triage**

- `retain` *failed* with `ConfigInvalid`: `expire` was on, but `by` or `why` was empty. Nothing was removed.
- It *failed* with `ExpiryRefused`: the store keeps some objects (object lock). Their tombstones stay open; trigger it
  again after the day that the log tells.
- It is *up for retry*: a hospital with expired studies is being harvested, or the store does not answer. Wait; the
  others are done.
- It is green and more is due than expected: `radlake retention list`, `radlake retention expire` (a dry run too).
- The wrong study is due: `radlake retention hold STUDY`, then correct the class (docs/how-to/retention.md).
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import CronDataIntervalTimetable, Param, dag, task

from radlake_airflow.retry import RETRIES


@dag(
    schedule=CronDataIntervalTimetable("0 6 * * *", timezone="Asia/Shanghai"),
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    params={
        "expire": Param(False, type="boolean", description="Remove what is due, for ever. Off: a dry run."),
        "by": Param("", type="string", description="With expire: who does it, name and role."),
        "why": Param("", type="string", description="With expire: the approval; never a patient's name or number."),
    },
    default_args=RETRIES,
    tags=["radlake", "retention 保存期限"],
    doc_md=__doc__,
)
def retain_studies():
    @task
    def retain(**context):
        from radlake_airflow import tasks

        return tasks.retain(context["params"])

    retain()


retain_studies()
