"""`radlake ref`, `build` and `check`, as a person runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake.cli import check
from radlake.lake import Lake, duck
from radlake.sqlrun.queries import load_queries
from support.rows import rows

HEADER = "region_code,year,sex,age_band,n_residents,source\n"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "lake" / "restricted")


def test_from_a_csv_file_to_a_rate(run, lake: Lake, tmp_path: Path) -> None:
    assert run("init")[0] == 0
    study = {"hospital_id": "h1", "patient_key": 1, "modality_group": "CT", "n_instances": 3}
    lake.tables.commit_batch("dicom.study", rows("dicom.study", study), batch_id="s1")
    people = tmp_path / "people.csv"
    people.write_text(HEADER + "320500,2026,F,00-04,1000,bulletin\n", encoding="utf-8")
    code, said = run("ref", "load", "population", str(people))
    assert code == 0, said
    assert "1 rows of people.csv are in ref.population" in said
    code, said = run("build")
    assert code == 0, said
    for part in ("core.exam", "stats.exam_rate", "new", "warning: core.exam: exams come from a hospital"):
        assert part in " ".join(said.split())
    with duck.connect(lake) as connection:
        assert connection.execute("SELECT count(*) FROM core.exam").fetchall() == [(1,)]
        assert connection.execute("SELECT count(*) FROM ref.price").fetchall()[0][0] > 0  # defaults came with the build
    assert "unchanged" in run("build", "--layers", "core")[1]


def test_a_file_with_problems_loads_nothing(run, lake: Lake, tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text(HEADER + "320500,2026,F,00-04,many,x\n320500,year,F,00-04,1,x\n", encoding="utf-8")
    code, said = run("ref", "load", "ref.population", str(people))
    assert code == 1
    assert "line 2, n_residents: 'many'" in said
    assert "line 3, year: 'year'" in said
    assert lake.tables.version("ref.population") is None


def test_defaults_and_list(run) -> None:
    run("init")
    assert "ref.price, ref.region" in run("ref", "defaults")[1]
    assert "left alone" in run("ref", "defaults")[1]
    assert "ref.region (14 rows)" in run("ref", "list")[1]


def test_a_layer_that_does_not_exist(run) -> None:
    code, said = run("build", "--layers", "gold")
    assert code == 2
    assert "no layer gold; there are core, stats" in said


def test_build_without_a_key_says_how_to_make_one(run, lake: Lake) -> None:
    run("init")
    (lake.restricted / "root.key").unlink()
    code, said = run("build")
    assert code == 1
    assert "radlake init" in said


def test_check_finds_nothing_wrong_here(run) -> None:
    code, said = run("check")
    assert code == 0, said
    assert "queries agree" in said


def test_check_tells_every_problem(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "type_check", lambda: ["stats.x: query.sql: one", "stats.x: query.sql: two"])
    code, said = run("check")
    assert code == 1
    assert "error: sql: stats.x: query.sql: one" in said
    assert "error: sql: stats.x: query.sql: two" in said


def test_check_wants_every_table_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "docs" / "reference" / "definitions.md"
    page.parent.mkdir(parents=True)
    others = [query.name for query in load_queries() if query.name != "stats.exam_rate"]
    page.write_text(" ".join(f"`{name}`" for name in (*others, "stats.gone")))
    monkeypatch.setattr(check, "data_root", lambda: tmp_path)
    assert check.find_problems() == [
        "docs/reference/definitions.md does not explain stats.exam_rate",
        "docs/reference/definitions.md explains stats.gone, which no query builds",
    ]
