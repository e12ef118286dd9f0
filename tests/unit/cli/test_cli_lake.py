"""A mistyped lake is told: it is no empty answer and no new lake."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from radlake import cli, log
from radlake.net import load_hospitals

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in a folder of its own: exit code, and what it said."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["radlake", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        log.configure(strict=True)
        said = capsys.readouterr()
        return int(stopped.value.code or 0), said.out + said.err

    return command


@pytest.mark.parametrize(
    "verb",
    [
        ("sql", "SELECT 1"),
        ("serve", "--port", "0"),
        ("quarantine", "list"),
        ("quarantine", "replay", "--all"),
        ("review", "list"),
        ("tidy",),
        ("ref", "list"),
        ("ref", "defaults"),
        ("build",),
        ("harvest", "folder", ".", "--hospital", "h1"),
        ("harvest", "node"),
    ],
    ids=" ".join,
)
def test_no_verb_makes_a_lake_but_init(run: Run, verb: tuple[str, ...], tmp_path: Path) -> None:
    assert run("--lake", "province", "init")[0] == 0
    code, said = run("--lake", "provinze", *verb)
    assert code == 1
    assert f"There is no lake at {tmp_path / 'provinze'}. Did you mean province?" in said
    assert "radlake --lake provinze init" in said
    assert [path.name for path in tmp_path.iterdir()] == ["province"]


def test_a_lake_that_init_made_can_be_asked(run: Run) -> None:
    run("--lake", "province", "init")
    assert run("--lake", "province", "sql", "SELECT count(*) AS n FROM core.exam", "--format", "csv") == (
        0,
        "n\r\n0\r\n",
    )


def test_init_does_not_say_that_a_missing_key_is_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADLAKE_KEY", "env:PROVINCE_ROOT_KEY")
    code, said = run("init")
    assert code == 1
    assert "Set the environment variable PROVINCE_ROOT_KEY." in said


def test_a_store_that_is_none_is_refused(run: Run, tmp_path: Path) -> None:
    code, said = run("--lake", "ftp://host/lake", "init")
    assert code == 1
    assert "ftp:// is no store of a lake; name a folder or s3://" in said
    assert not list(tmp_path.iterdir())


def test_init_leaves_examples_of_hospitals_and_no_hospital(run: Run, tmp_path: Path) -> None:
    assert "write your hospitals there" in run("--lake", "province", "init")[1]
    file = tmp_path / "province" / "hospitals.yaml"
    assert load_hospitals(file) == {}
    assert "no hospital is registered yet" in run("--lake", "province", "node", "list")[1]
    assert "no hospital is registered yet" in run("--lake", "province", "harvest", "node")[1]
    file.write_text("hospitals: []\n")
    run("--lake", "province", "init")
    assert file.read_text() == "hospitals: []\n"


def test_the_examples_are_valid_as_soon_as_they_are_uncommented(run: Run, tmp_path: Path) -> None:
    run("--lake", "province", "init")
    file = tmp_path / "province" / "hospitals.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(re.sub("^#  ", "  ", text, flags=re.MULTILINE), encoding="utf-8")
    assert [hospital.node.kind for hospital in load_hospitals(file).values()] == ["dimse", "dicomweb", "folder", "push"]
