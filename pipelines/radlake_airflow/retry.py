"""Retries: the error tree of radlake decides, so that a DAG does not have to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from radlake.errors import PermanentError, PrivacyError, TransientError

__all__ = ["RETRIES"]

# Default arguments of every task: five retries, each after twice the time. The first time is Airflow's own setting
# `[core] default_task_retry_delay` (300 s): about two hours in all.
# An error that is not ours is retried too: nothing is known about it, and so is a task that was killed.
RETRIES: Final[dict[str, Any]] = {
    "retries": 5,
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(hours=1),
    "retry_policy": ExceptionRetryPolicy(
        [
            RetryRule(TransientError, RetryAction.RETRY, reason="it may work later"),
            RetryRule(PermanentError, RetryAction.FAIL, reason="a person must change something first"),
            RetryRule(PrivacyError, RetryAction.FAIL, reason="an identifier was about to leave"),
        ]
    ),
    "execution_timeout": timedelta(hours=12),
}
