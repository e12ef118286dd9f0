"""Airflow in a process of its own, since it changes logging for good: `python airflow_probe.py parse|run FILE`.

`parse` writes to FILE what the DAG files are; `run` also runs them with `dag.test()` and writes what became of
each task. There is one retry, and it follows at once, so that a test need not wait for minutes. The environment
says which DAGs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any


def parse() -> tuple[dict[str, Any], dict[str, Any]]:
    from airflow.dag_processing.dagbag import DagBag

    before = set(sys.modules)
    start = time.process_time()
    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    facts = {
        "seconds": time.process_time() - start,
        "files": {Path(stat.file).name: stat.duration.total_seconds() for stat in bag.dagbag_stats},
        "errors": bag.import_errors,
        "imported": sorted({name.partition(".")[0] for name in set(sys.modules) - before}),
        "dags": {
            dag_id: {
                "doc": dag.doc_md,
                "tags": sorted(dag.tags),
                "schedule": getattr(getattr(dag.timetable, "timetable", dag.timetable), "expression", None),
                "assets": [asset.uri for asset in getattr(dag.timetable.asset_condition, "objects", ())],
                "params": dict(dag.params),
                "timezone": str(dag.timezone),
                "max_active_runs": dag.max_active_runs,
                "catchup": dag.catchup,
                "tasks": {
                    task.task_id: {
                        "outlets": [asset.uri for asset in task.outlets],
                        "is_mapped": task.is_mapped,
                        "max_at_once": task.max_active_tis_per_dag,
                        "retries": task.retries,
                    }
                    for task in dag.tasks
                },
            }
            for dag_id, dag in bag.dags.items()
        },
    }
    return facts, bag.dags


def run(dag: Any, *, logical_date: datetime | None) -> dict[str, Any]:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    for task in dag.tasks:
        task.retries, task.retry_delay = 1, timedelta(0)
    dag_run = dag.test(logical_date=logical_date)
    with create_session() as session:
        rows = session.query(XComModel).filter_by(dag_id=dag.dag_id, run_id=dag_run.run_id)
        xcoms = {f"{row.task_id}[{row.map_index}]": XComModel.deserialize_value(row) for row in rows}
        instances = dag_run.get_task_instances(session=session)
        tasks = {
            f"{ti.task_id}[{ti.map_index}]": {"state": ti.state, "tries": ti.try_number, "label": ti.rendered_map_index}
            for ti in instances
        }
    return {"state": dag_run.state, "tasks": tasks, "xcoms": xcoms}


def main(verb: str, target: str) -> None:
    from airflow.utils import db

    db.initdb()
    facts, dags = parse()
    if verb == "run":
        night = datetime.fromisoformat("2026-03-02T02:00:00+08:00")
        facts["runs"] = {
            "harvest_studies": run(dags["harvest_studies"], logical_date=night),
            "build_lake": run(dags["build_lake"], logical_date=None),
            "check_quality": run(dags["check_quality"], logical_date=None),
            "certify_lake": run(dags["certify_lake"], logical_date=night),
            "publish_lag": run(dags["publish_lag"], logical_date=night),
            "retain_studies": run(dags["retain_studies"], logical_date=night),
            "tidy_lake": run(dags["tidy_lake"], logical_date=night),
        }
    Path(target).write_text(json.dumps(facts, default=str), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
