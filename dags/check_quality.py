"""Fail where somebody must look: what the quality gate held back, what checks warned of, hospitals with much missing.

Runs by itself after each build. It changes nothing and stops nobody: the gate has already kept what is bad out of the
lake. This task is red so that it is seen.

**Triage**

- `check` *failed* with `QualityLow`: its log names each problem, one per line.
- *held back*: the gate kept the studies of a batch in quarantine. `radlake quarantine list` groups them; correct the
  cause (profile, vocabulary, node), then `radlake quarantine replay`.
- *warned*: a check of `sql/LAYER/TABLE/checks.sql` found rows. The build stands; `radlake sql "FROM ops.build"`.
- *of its studies are complete*: `radlake sql "FROM ops.completeness"`, then `radlake backfill status HOSPITAL`.
- It is *up for retry*: the store does not answer. Wait.

It looks back 24 hours (`hours`), so what is repaired is green a day later, or at once when triggered with less.
"""

from __future__ import annotations

from airflow.sdk import Param, dag, task

from radlake_airflow.assets import STATS
from radlake_airflow.retry import RETRIES


@dag(
    schedule=[STATS],
    catchup=False,
    max_active_runs=1,
    params={
        "hours": Param(24, type="number", exclusiveMinimum=0, description="Looks at what was checked since then."),
        "min_complete_share": Param(0.95, type="number", minimum=0, maximum=1, description="Of a hospital's studies."),
    },
    default_args=RETRIES,
    tags=["radlake", "quality 质量"],
    doc_md=__doc__,
)
def check_quality():
    @task
    def check(**context):
        from radlake_airflow import tasks

        return tasks.quality(context["params"])

    check()


check_quality()
