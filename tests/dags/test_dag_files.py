"""A DAG file is one DAG that a colleague understands without opening another file."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from support.airflow import DAGS

FILES = sorted(DAGS.glob("*.py"))


def of_each_file(test):
    return pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)(test)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def decorated(tree: ast.AST, *names: str) -> list[ast.FunctionDef]:
    """Functions whose decorator is one of `@name` or `@name(...)`."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any(getattr(getattr(d, "func", d), "id", None) in names for d in node.decorator_list)
    ]


def test_there_are_dags() -> None:
    assert [path.stem for path in FILES] == [
        "backfill_studies",
        "build_lake",
        "certify_lake",
        "check_quality",
        "harvest_studies",
        "publish_lag",
        "retain_studies",
        "tidy_lake",
    ]


@of_each_file
def test_at_most_80_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 80


@of_each_file
def test_one_dag_named_like_its_file(path: Path) -> None:
    assert [function.name for function in decorated(parsed(path), "dag")] == [path.stem]


@of_each_file
def test_its_docstring_tells_what_to_do_when_it_fails(path: Path) -> None:
    assert "**Triage**" in (ast.get_docstring(parsed(path)) or "")


@of_each_file
def test_a_task_is_imports_and_one_call(path: Path) -> None:
    tasks = decorated(parsed(path), "task", "patient_task")
    assert tasks
    for task in tasks:
        *before, last = task.body
        assert isinstance(last, ast.Return), task.name
        assert isinstance(last.value, ast.Call), task.name
        assert not [node for node in ast.walk(task) if isinstance(node, (ast.If, ast.For, ast.While, ast.Try))]
        assert all(isinstance(node, (ast.Import, ast.ImportFrom, ast.Assign)) for node in before), task.name


@of_each_file
def test_it_imports_only_the_sdk_our_adapter_and_the_standard_library(path: Path) -> None:
    modules = [node.module for node in parsed(path).body if isinstance(node, ast.ImportFrom) and node.module]
    assert not [node for node in parsed(path).body if isinstance(node, ast.Import)]
    assert {module.partition(".")[0] for module in modules} <= {
        "__future__",
        "airflow",
        "radlake_airflow",
        *sys.stdlib_module_names,
    }
    assert {module for module in modules if module.startswith("airflow")} == {"airflow.sdk"}
    assert "radlake_airflow.tasks" not in modules
