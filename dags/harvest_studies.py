"""Harvest the studies of every hospital, each night after the day ended in Shanghai.

One task per hospital asks its node for the studies of the day and of three days before (images reach a PACS
late, and a night may fail), fetches what the lake does not have, de-identifies and stores it. What is complete
costs one line of a query. Then `build_lake` runs by itself.

**How much at once.** Four hospitals at a time. One hospital is never harvested twice at the same time, whoever
asks: the ledger holds a lock. How many associations a node bears is `max_associations` in hospitals.yaml.

**Triage**

- A hospital is *up for retry*: its node is away, or someone else is harvesting it. Wait, it is tried five times in
  about two hours. `radlake node echo HOSPITAL` tells more.
- A hospital is *deferred*: its node rests by its calendar, or brings studies from tape. It holds no slot and goes on by
  itself; its log says when.
- A hospital *failed*, the others are green: the last line of its log says what a person must change. Change it,
  then clear that one task.
- It failed with `PrivacyError`: an identifier was about to leave, nothing was published. Do not clear it; tell the
  data protection officer.
- `hospitals` failed: hospitals.yaml is missing or not valid, the log names each problem. Repair it, clear the task.
- All is green and a number looks too small: `radlake sql "FROM ops.completeness"`, `radlake quarantine list`.
- Days were missed: trigger with `look_back_days` = 30, or backfill (docs/how-to/run-airflow.md).
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import CronDataIntervalTimetable, Param, dag, task

from radlake_airflow.assets import DICOM
from radlake_airflow.retry import RETRIES
from radlake_airflow.waiting import ASK_AGAIN_MINUTES, patient_task


@dag(
    schedule=CronDataIntervalTimetable("0 2 * * *", timezone="Asia/Shanghai"),
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    params={
        "look_back_days": Param(3, type="integer", minimum=0, description="Days before the day of the run."),
        "ask_again_minutes": Param(
            ASK_AGAIN_MINUTES, type="number", description="Then a node is asked again for tape."
        ),
    },
    default_args=RETRIES,
    tags=["radlake", "harvest 采集"],
    doc_md=__doc__,
)
def harvest_studies():
    @task
    def hospitals() -> list[str]:
        from radlake_airflow import tasks

        return tasks.hospital_ids()

    @patient_task(outlets=[DICOM], max_active_tis_per_dag=4, map_index_template="{{ task.op_kwargs['hospital_id'] }}")
    def harvest(hospital_id: str, **context):
        from radlake_airflow import tasks

        look_back_days = context["params"]["look_back_days"]
        return tasks.harvest(hospital_id, run=context["dag_run"], look_back_days=look_back_days)

    harvest.expand(hospital_id=hospitals())


harvest_studies()
