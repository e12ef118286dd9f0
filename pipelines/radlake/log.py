"""Structured logs: an event name in the past tense and keys from an allow-list.

A key that is not on the list raises in tests (`strict=True`) and is dropped in production, so that no
identifier of a patient can slip into a log line. The list is in force in every process that imports this module,
configured or not: in workers, and in Airflow, whose own logs stay as they are. Foreign loggers that print identifiers
stay silent.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
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
for _name in _TALKATIVE:
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class LogKeyForbidden(ValueError):
    """A log call used a key that is not on the allow-list."""


@dataclass(frozen=True)
class _How:
    level: int = logging.WARNING
    strict: bool = False
    as_json: bool = False


_how = _How()


def configure(*, level: str = "warning", strict: bool = False, as_json: bool = False) -> None:
    """Set up logging once, at the entry point of a process.

    Parameters
    ----------
    level : str
        Lowest level shown on standard error.
    strict : bool
        Raise on a key outside the allow-list instead of dropping it.
    as_json : bool
        A JSON object a line, for what collects the logs of servers.
    """
    global _how
    _how = _How(logging.getLevelNamesMapping()[level.upper()], strict, as_json)


def get_logger() -> Any:
    return structlog.wrap_logger(
        _Stderr(),
        processors=[
            _at_level,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _allow,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        cache_logger_on_first_use=False,
    )


def check_keys(keys: Iterable[str], *, allowed: frozenset[str] = ALLOWED_KEYS) -> set[str]:
    """Keys that are not allowed.

    Raises
    ------
    LogKeyForbidden
        If there are some, when configured as strict.
    """
    foreign = set(keys) - allowed
    if foreign and _how.strict:
        raise LogKeyForbidden(f"log keys not on the allow-list: {sorted(foreign)}")
    return foreign


class _Stderr:
    """The standard error of the moment."""

    def msg(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    debug = info = warning = error = critical = msg


def _at_level(_: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if logging.getLevelNamesMapping()[method.upper()] < _how.level:
        raise structlog.DropEvent
    return event


def _allow(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in check_keys(event):
        del event[key]
    return event


def _render(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    if _how.as_json:
        event = structlog.processors.format_exc_info(logger, method, event)
        return json.dumps(dict(event), ensure_ascii=False, default=str)
    render = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        exception_formatter=structlog.dev.plain_traceback,  # the default prints local variables
    )
    return render(logger, method, event)
