"""Logs: only keys of the allow-list, in every process, for people or as JSON."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from radlake import log

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


@pytest.fixture(autouse=True)
def strict_again() -> Iterator[None]:
    yield
    log.configure(strict=True)


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call of a logger in the product, and where it is."""
    for path in sorted([*ROOT.glob("pipelines/**/*.py"), *ROOT.glob("dags/*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                owner = ast.unparse(node.func.value)
                if owner == "log" or owner.endswith(("get_logger()", "logger")):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_every_log_call_has_allowed_keys_and_a_fixed_event() -> None:
    found = list(calls())
    assert len(found) > 25
    wrong = [
        f"{place} {keyword.arg}"
        for place, call in found
        for keyword in call.keywords
        if keyword.arg not in log.ALLOWED_KEYS
    ]
    assert wrong == []
    assert [place for place, call in found if not (call.args and isinstance(call.args[0], ast.Constant))] == []


def test_json_lines_have_what_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(level="info", as_json=True)
    log.get_logger().info("batch_committed", n_studies=3, patient="Wang")
    log.get_logger().debug("not_shown")
    [line] = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert told.pop("timestamp").endswith("Z")
    assert told == {"event": "batch_committed", "level": "info", "n_studies": 3}


def test_a_json_traceback_is_one_line_without_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(as_json=True)
    secret = "5f5f5f5f"
    try:
        raise ValueError(len(secret))
    except ValueError:
        log.get_logger().error("request_failed", exc_info=True)
    [line] = capsys.readouterr().err.splitlines()
    assert "ValueError: 8" in json.loads(line)["exception"]
    assert secret not in line


def test_a_process_that_nobody_configured_keeps_to_the_list() -> None:
    program = "from radlake import log; log.get_logger().warning('files_vanished', n_files=1, patient='Wang')"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == ""
    assert "files_vanished" in ended.stderr
    assert "Wang" not in ended.stderr


def test_logs_of_another_program_stay_as_it_set_them() -> None:
    program = "import structlog; before = structlog.get_config(); from radlake import log; log.configure(as_json=True)"
    program += "; assert structlog.get_config() == before"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
