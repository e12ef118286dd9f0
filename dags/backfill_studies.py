"""Fetch the studies of past days, one day of Shanghai per run; what is complete is not fetched again.

`airflow backfill create --dag-id backfill_studies --from-date 2026-03-02T00:00+08:00 --to-date 2026-03-08T23:59+08:00`
makes seven runs for the seven days. **Write +08:00**: Airflow takes a bare date as UTC. Triggered by hand with
`first_day` and `last_day` one run does the range, with `hospitals` of some only. Each run asks the nodes what they
list, keeps that as plan and fetches what is missing; a live harvest goes first. Switched on, it looks at each day once
more when the day is over.

**Triage**

- A hospital is *deferred*: its node rests, or brings studies from tape. It holds no slot and goes on by itself.
- A hospital is *up for retry*: its node is away, another backfill has it, or studies came in part. Its log tells;
  it is tried five times in about two hours and goes on at the study.
- A hospital *failed* with `BackfillUnfinished`: `radlake backfill status HOSPITAL` says which days and why. Then clear
  the task.
- It failed and says that it waited: the studies lie on tape; ask the hospital to bring them, then clear the task.
- It failed otherwise: the last line of its log says what a person must change. Change it, clear the task.
- It failed with `BackfillPaused`: `radlake backfill resume HOSPITAL`, then clear the task.
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import CronDataIntervalTimetable, Param, dag, task

from radlake_airflow.assets import DICOM
from radlake_airflow.retry import RETRIES
from radlake_airflow.waiting import ASK_AGAIN_MINUTES, patient_task


@dag(
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="Asia/Shanghai"),
    start_date=datetime(2006, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    params={
        "first_day": Param(None, type=["null", "string"], format="date", description="Instead of the day of the run."),
        "last_day": Param(None, type=["null", "string"], format="date", description="And the days up to this one."),
        "hospitals": Param(None, type=["null", "array"], items={"type": "string"}, description="Of these only."),
        "ask_again_minutes": Param(
            ASK_AGAIN_MINUTES, type="number", description="Then a node is asked again for tape."
        ),
    },
    default_args=RETRIES,
    tags=["radlake", "backfill 补采"],
    doc_md=__doc__,
)
def backfill_studies():
    @task
    def hospitals(**context) -> list[str]:
        from radlake_airflow import tasks

        return tasks.askable_hospital_ids(context["params"]["hospitals"])

    @patient_task(outlets=[DICOM], max_active_tis_per_dag=2, map_index_template="{{ task.op_kwargs['hospital_id'] }}")
    def backfill(hospital_id: str, **context):
        from radlake_airflow import tasks

        return tasks.backfill(hospital_id, run=context["dag_run"], params=context["params"])

    backfill.expand(hospital_id=hospitals())


backfill_studies()
