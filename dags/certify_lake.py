"""Issue each hospital's certificate of the day, then prove that nobody changed ledger, history or catalogue.

Runs by itself after each build, and at 23:30 in Shanghai whatever happened, so that each day has its certificate. It
counts per hospital what is expected, stored and catalogued. A second run of a day issues another certificate only when
something changed.

**Triage**

- `certify` *failed* with `CertificateBroken`: its log names hospital, place and study (by its UID in the lake).
  docs/how-to/certify-completeness.md says what each sentence means and what to do. Tell the data protection officer
  when somebody changed a row. Clear the task when it is repaired.
- It failed with `CertificateRefused`: its log says why, mostly a clock that is wrong.
- It is *up for retry*: a hospital is being harvested and had to be looked at again, or the store does not answer. Wait.
- It is green and studies are missing: they are partial, on tape or in quarantine, which the certificate says:
  `radlake sql "FROM ops.certificate"`.

Send the digests of the last certificates to somebody outside: `radlake ledger certify` shows them.
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, dag, task

from radlake_airflow.assets import STATS
from radlake_airflow.retry import RETRIES


@dag(
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("30 23 * * *", timezone="Asia/Shanghai"), assets=[STATS]
    ),
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    default_args=RETRIES,
    tags=["radlake", "certify 存证"],
    doc_md=__doc__,
)
def certify_lake():
    @task
    def certify():
        from radlake_airflow import tasks

        return tasks.certify()

    certify()


certify_lake()
