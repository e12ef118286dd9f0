"""Structured logs: an event name in the past tense and keys from an allow-list.

A key that is not on the list raises in tests (`strict=True`) and is dropped in production, so that no
identifier of a patient can slip into a log line. Foreign loggers that print identifiers stay silent.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

# fmt: off
ALLOWED_KEYS = frozenset({
    "event", "level", "timestamp", "exc_info", "error_class",
    "hospital", "node", "table", "zone", "version", "batch_id", "run_id", "partition", "month", "layer",
    "reason", "status", "state", "stage", "verb", "profile", "transfer_syntax",
    "n_found", "n_expected", "n_instances", "n_stored", "n_quarantined", "n_duplicate", "n_studies", "n_rows",
    "n_files", "n_failed", "attempt", "seconds", "bytes", "path_kind", "port", "rule",
})
# fmt: on

# pynetdicom logs the identifiers of C-FIND and C-MOVE at INFO and DEBUG; pydicom warns with values.
_TALKATIVE = ("pynetdicom", "pydicom", "httpx", "httpcore", "botocore", "aiobotocore", "s3fs", "great_expectations")


class LogKeyForbidden(ValueError):
    """A log call used a key that is not on the allow-list."""


def configure(*, level: str = "warning", strict: bool = False) -> None:
    """Set up logging once, at the entry point.

    Parameters
    ----------
    level : str
        Lowest level shown on standard error.
    strict : bool
        Raise on a key outside the allow-list instead of dropping it.
    """
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)

    def allow(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        foreign = set(event) - ALLOWED_KEYS
        if foreign and strict:
            raise LogKeyForbidden(f"log keys not on the allow-list: {sorted(foreign)}")
        for key in foreign:
            del event[key]
        return event

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            allow,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                exception_formatter=structlog.dev.plain_traceback,  # the default prints local variables
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # the standard error of the moment
    )


def get_logger() -> Any:
    return structlog.get_logger()
