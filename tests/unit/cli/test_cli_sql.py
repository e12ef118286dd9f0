"""`radlake sql`: answers for people, spreadsheets and programs; errors in words; a shell."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from radlake import log
from radlake.cli import main
from radlake.lake import Lake
from support.rows import rows

EXAM = "core.exam"
KEY = 2**63 - 1


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "lake" / "restricted")
    at = datetime(2026, 3, 1, 8, 30)
    data = rows(EXAM, {"exam_pseudo_id": "a", "patient_key": KEY, "study_at": at}, {"exam_pseudo_id": "b"})
    lake.tables.commit_batch(EXAM, data, batch_id="b1")
    lake.restricted_tables.overwrite("stats.exam_volume", rows("stats.exam_volume", {"n_exams": 3}), batch_id="b1")
    return lake


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def radlake(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., Done]:
    """The command line's entry point in this process: `radlake sql ...`."""

    def run(*arguments: str, stdin: str = "") -> Done:
        monkeypatch.setenv("RADLAKE_LAKE", lake.url)
        monkeypatch.setattr(sys, "argv", ["radlake", "sql", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capfdbinary.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfdbinary.readouterr()
        return Done(code, out.decode(), err.decode())

    yield run
    log.configure(strict=True)


def test_an_answer_for_people(radlake):
    question = "SELECT exam_pseudo_id AS exam, patient_key, '胸部' AS part, study_at FROM core.exam ORDER BY 1"
    done = radlake(question)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert lines[0] == ["exam", "patient_key", "part", "study_at"]
    assert lines[2:] == [
        ["a", str(KEY), "胸部", "2026-03-01", "08:30:00"],
        ["b", "1", "胸部", "NULL"],
        ["2", "rows"],
    ]


def test_a_long_answer_says_that_it_goes_on(radlake):
    done = radlake("SELECT range AS n FROM range(1000)")
    assert "the first 100 rows; -o FILE writes all" in done.stdout


@pytest.mark.parametrize("question", ["SHOW ALL TABLES", "show tables ;"])
def test_the_list_of_tables_can_be_read(radlake, question: str):
    lines = radlake(question).stdout.splitlines()
    assert max(map(len, lines)) <= 160
    assert [line for line in lines if line.split()[:1] == ["core.exam"]]


def test_csv_is_what_a_spreadsheet_opens(radlake, tmp_path: Path):
    path = tmp_path / "answer.csv"
    question = """SELECT exam_pseudo_id, '胸部, "a"' AS part, study_at, is_patient_known, sum(n_series) AS n
                  FROM core.exam GROUP BY ALL ORDER BY 1"""
    done = radlake(question, "-o", str(path))
    assert (done.returncode, done.stderr) == (0, f"2 rows in {path}\n")
    content = path.read_bytes()
    assert content.startswith(b"\xef\xbb\xbfexam_pseudo_id,part,study_at,is_patient_known,n\r\n")
    assert content.count(b"\r\n") == content.count(b"\n") == 3
    with path.open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file))[1:] == [
            ["a", '胸部, "a"', "2026-03-01 08:30:00", "true", "1"],
            ["b", '胸部, "a"', "", "true", "1"],
        ]
    assert [file.name for file in tmp_path.glob(".*")] == []


def test_json_is_a_list_of_objects(radlake):
    question = "SELECT patient_key, study_at, sum(n_series) AS n, '胸部' AS part FROM core.exam GROUP BY ALL ORDER BY 1"
    assert json.loads(radlake(question, "--format", "json").stdout) == [
        {"patient_key": 1, "study_at": None, "n": 1, "part": "胸部"},
        {"patient_key": KEY, "study_at": "2026-03-01T08:30:00", "n": 1, "part": "胸部"},
    ]
    assert json.loads(radlake("SELECT 1 AS a WHERE false", "--format", "json").stdout) == []


def test_parquet_keeps_types(radlake, tmp_path: Path):
    path = tmp_path / "answer.parquet"
    assert radlake("FROM core.exam", "-o", str(path)).returncode == 0
    table = pq.read_table(path)
    assert table.num_rows == 2
    assert str(table.schema.field("patient_key").type) == "int64"
    assert str(table.schema.field("study_at").type) == "timestamp[us]"


def test_a_question_comes_from_a_file_or_a_pipe(radlake, tmp_path: Path):
    file = tmp_path / "question.sql"
    file.write_text("-- how many\nSELECT count(*) AS n FROM core.exam;\n", encoding="utf-8-sig")
    assert radlake("--file", str(file), "--format", "csv").stdout == "n\r\n2\r\n"
    assert radlake("--format", "csv", stdin="SELECT 1 AS n").stdout == "n\r\n1\r\n"
    missing = radlake("--file", str(tmp_path / "none.sql"))
    assert (missing.returncode, missing.stderr.split(" does not exist")[0]) == (1, f"error: {tmp_path / 'none.sql'}")


def test_the_zone_decides_between_masked_and_exact(radlake):
    question = "SELECT n_exams FROM stats.exam_volume"
    assert radlake(question, "--format", "csv").stdout == "n_exams\r\n"
    assert radlake(question, "--format", "csv", "--zone", "restricted").stdout == "n_exams\r\n3\r\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["SELECT * FROM core.exm"], "error: The query cannot run: there is no table exm. Did you mean core.exam?"),
        (["SELECT patient FROM core.exam"], "there is no column patient. Did you mean patient_key"),
        (["DELETE FROM core.exam"], "the lake is only read here"),
        (["SELECT * FROM '/etc/passwd'"], "there is no table /etc/passwd. `SHOW ALL TABLES` lists them."),
        (["FROM read_csv('/etc/passwd')"], "only the tables of the lake can be read here"),
        (["SELECT 1", "-o", "answer.doc"], "let -o end in .csv, .json, .parquet"),
        (["SELECT 1", "--format", "parquet"], "--format parquet needs -o FILE"),
        (["SELECT 1", "-o", "/nonexistent/answer.csv"], "No such file or directory"),
        (["SELECT 1", "--file", "x.sql"], "give a query or --file, not both"),
    ],
)
def test_what_goes_wrong_is_told_without_a_traceback(radlake, arguments: list[str], words: str):
    done = radlake(*arguments)
    assert done.returncode in (1, 2)
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_a_query_that_fails_on_the_way_leaves_the_older_answer(radlake, tmp_path: Path):
    path = tmp_path / "answer.csv"
    path.write_text("older", encoding="utf-8")
    done = radlake("SELECT error('stop') FROM core.exam", "-o", str(path))
    assert "error: The query cannot run: stop" in done.stderr
    assert path.read_text(encoding="utf-8") == "older"
    assert [file.name for file in tmp_path.glob(".*")] == []


def test_the_shell(lake: Lake):
    """In a real terminal: names, a question over two lines, an error, and on."""
    said = in_terminal(
        lake,
        ".tables\n",
        ".describe core.exam\n",
        ".describe core.exm\n",
        "SELECT count(*) AS n_of_exams\n",
        "FROM core.exam;\n",
        "SELECT * FROM core.exm;\n",
        "SELECT 'still here' AS answer;\n",
        ".quit\n",
    )
    for words in (
        "core.exam",
        "one row per exam",
        "Keyed pseudonym of",
        "there is no table core.exm",
        "n_of_exams",
        "Did you mean core.exam?",
        "still here",
    ):
        assert words in said, said
    history = Path(f"{lake.url}-state/radlake/sql_history")
    assert "FROM core.exam;" in history.read_text(encoding="utf-8")
    assert history.stat().st_mode & 0o077 == 0


def in_terminal(lake: Lake, *lines: str) -> str:
    """Type lines into `radlake sql` at each prompt; what it said."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "RADLAKE_LAKE": lake.url, "XDG_STATE_HOME": f"{lake.url}-state"}
    command = [sys.executable, "-c", "from radlake.cli import main; main()", "sql"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment | {"TERM": "dumb"})
    os.close(theirs)
    said = b""
    try:
        for line in lines:
            said += until_prompt(ours)
            os.write(ours, line.encode())
        said += until_prompt(ours)
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return said.decode()


def until_prompt(terminal: int) -> bytes:
    said = b""
    limit = time.monotonic() + 60
    while not said.endswith((b"radlake> ", b"... ")):
        assert select.select([terminal], [], [], limit - time.monotonic())[0], said
        try:
            said += os.read(terminal, 4096)
        except OSError:  # it has gone
            return said
    return said
