"""Compute the core and stats tables, whenever a harvest brought something.

Runs by itself after `harvest_studies`: harvests that end while a build runs cause one more build, not many. Each
table is replaced as a whole in one commit, so a reader sees the old or the new one. Exact statistics go to the
restricted zone, masked ones to the lake.

**Triage**

- `build` is *up for retry*: the store does not answer. Wait, it is tried five times in about two hours.
- It failed with `ContractBroken` or a check: the log names table, check and rows; the tables stay as they were.
  Repair the cause, clear the task.
- It failed with an unmapped code: a vocabulary has no line for a code that a hospital sent. Add it, clear the task.
- It is green and a number did not change: `radlake sql "FROM ops.build"` says when and from which versions it
  was built.

To build again after a change of a query: trigger this DAG. Nothing is harvested.
"""

from __future__ import annotations

from airflow.sdk import dag, task

from radlake_airflow.assets import DICOM, STATS
from radlake_airflow.retry import RETRIES


@dag(
    schedule=[DICOM],
    catchup=False,
    max_active_runs=1,
    default_args=RETRIES,
    tags=["radlake", "build 统计"],
    doc_md=__doc__,
)
def build_lake():
    @task(outlets=[STATS])
    def build():
        from radlake_airflow import tasks

        return tasks.build()

    build()


build_lake()
