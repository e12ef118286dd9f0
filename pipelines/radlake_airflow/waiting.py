"""Waiting without a worker: a task whose node is at rest, or whose studies lie on tape, frees its slot until then.

`patient_task` is `@task` for harvests. The triggerer keeps the moment; the same task then goes on at the study where it
stopped.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.standard.decorators.python import _PythonDecoratedOperator
from airflow.sdk.bases.decorator import task_decorator_factory
from airflow.sdk.exceptions import AirflowFailException

from radlake.errors import NodeAtRest

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["ASK_AGAIN_MINUTES", "PatientOperator", "patient_task", "plan_wait"]

PATIENCE: Final = timedelta(hours=20)  # a nightly run is over before the next one
LONGEST: Final = timedelta(hours=1)  # between two requests for what lies on tape
ASK_AGAIN_MINUTES: Final = 10  # before the second request; each wait is twice as long as the one before


def plan_wait(*, since: datetime, now: datetime, first: timedelta, until: datetime | None = None) -> datetime | None:
    """The instant to ask a node again; None when that is past all patience.

    Parameters
    ----------
    since : datetime
        When the waiting began.
    until : datetime, optional
        From when on the node may be asked; when nobody knows, the time waited is doubled, by an hour at most.
    """
    moment = until or now + min(max(now - since, first), LONGEST)
    return moment if moment <= since + PATIENCE else None


class PatientOperator(_PythonDecoratedOperator):
    """Runs the function; defers itself on `NodeAtRest`, and while the function returns `studies_offline` above 0.

    What is still missing when patience ends fails the task for good: a person has to ask the hospital.
    """

    custom_operator_name = "@patient_task"

    def execute(self, context: Context) -> Any:
        return self._work(context, since=None)

    def resume(self, context: Context, since: str, event: Any = None) -> Any:  # noqa: ARG002  (Airflow gives it)
        """Where the task goes on when the triggerer woke it."""
        return self._work(context, since=datetime.fromisoformat(since))

    def _work(self, context: Any, *, since: datetime | None) -> Any:
        until = None
        try:
            done: Any = super().execute(context)
        except NodeAtRest as exc:
            why, until = str(exc), exc.facts["until_at"]
        else:
            if not done["studies_offline"]:
                return done
            why = (
                f"{done['studies_offline']} studies lie on tape at {done['hospital_id']}; the node was asked for them."
            )
        now = datetime.now(UTC)
        since = since or now
        first = timedelta(minutes=context["params"]["ask_again_minutes"])
        moment = plan_wait(since=since, now=now, first=first, until=until)
        if moment is None:
            raise AirflowFailException(f"{why} It was waited for since {since:%Y-%m-%d %H:%M} UTC.")
        self.log.info("%s The slot is free until %s UTC.", why, f"{moment:%Y-%m-%d %H:%M:%S}")
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        return self.defer(trigger=DateTimeTrigger(moment), method_name="resume", kwargs={"since": since.isoformat()})


patient_task = partial(task_decorator_factory, decorated_operator_class=PatientOperator)
