"""Schemathesis over an OpenAPI document: whatever a client sends, it gets an answer and never a fault of ours."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

__all__ = ["TEXT", "statuses_of"]

TEXT = {"type": "string", "maxLength": 60}


def statuses_of(
    document: dict[str, Any],
    url: str,
    *,
    is_asked: Callable[[str], bool] = lambda _: True,
    send: Callable[[Any, str], dict[str, Any]] = lambda _, __: {},
    n_examples: int = 12,
) -> dict[str, set[int]]:
    """What the operations of a document answered to some requests each, valid and not, by their label.

    Parameters
    ----------
    send : callable
        What is given to `requests` for a case of an operation of this label.

    Raises
    ------
    AssertionError
        At an answer of 500 or more, with the smallest request that has it.
    """
    statuses: dict[str, set[int]] = {}
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = found.ok()
        if is_asked(operation.label):
            statuses[operation.label] = set()
            for mode in GenerationMode:
                with suppress(Unsatisfiable):  # nothing can be wrong with what takes nothing
                    _ask(operation, mode, url, statuses[operation.label], send, n_examples)
            assert statuses[operation.label]
    return statuses


def _ask(
    operation: Any,
    mode: GenerationMode,
    url: str,
    statuses: set[int],
    send: Callable[[Any, str], dict[str, Any]],
    n_examples: int,
) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis_settings(
        max_examples=n_examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    def asked(case: Any) -> None:
        answer = case.call(base_url=url, allow_redirects=False, timeout=30, **send(case, operation.label))
        statuses.add(answer.status_code)
        assert answer.status_code < 500, f"{operation.label} {case.query} {case.path_parameters} {case.body}"

    asked()
