"""The list of commit points and the places in the code are the same."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import radlake
from radlake.commit_points import POINTS, listening, reached

_CODE = Path(radlake.__file__).parent


def names_in_code() -> Iterator[str]:
    """What `reached` is called with; of a name that is put together, what it begins with and a star."""
    for file in sorted(_CODE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "reached":
                [argument] = node.args
                if isinstance(argument, ast.JoinedStr):
                    first = argument.values[0]
                    assert isinstance(first, ast.Constant), f"{file.name}: a name begins with its group"
                    yield f"{first.value}*"
                else:
                    assert isinstance(argument, ast.Constant), f"{file.name}: a name is written out"
                    yield str(argument.value)


def test_every_named_point_is_in_the_code_and_every_one_in_the_code_is_named():
    called = set(names_in_code())
    groups = tuple(name[:-1] for name in called if name.endswith("*"))
    assert {name for name in called if not name.endswith("*")} <= POINTS.keys()
    assert {name for name in POINTS if name not in called and not (groups and name.startswith(groups))} == set()


def test_a_point_does_nothing_until_somebody_listens():
    heard: list[str] = []
    reached("study.begun")
    with listening(heard.append):
        reached("study.begun")
    reached("study.begun")
    assert heard == ["study.begun"]


def test_a_misspelt_point_is_refused():
    with listening(lambda _: None), pytest.raises(KeyError):
        reached("study.begun ")


def test_every_sentence_tells_what_is_done():
    assert [name for name, sentence in POINTS.items() if not sentence.endswith(".")] == []
