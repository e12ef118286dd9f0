"""A build on a real lake: from rows of dicom.study to published tables, and what happens when a check fails."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from radlake.contracts import load_tables
from radlake.errors import ContractBroken
from radlake.lake import Lake, duck
from radlake.sqlrun import BuiltTable, build, load_queries
from radlake.sqlrun.reference import load_defaults, load_reference
from radlake.stats.policy import Policy
from radlake.stats.release import mask
from support.rows import rows

NOW = datetime(2026, 6, 1, 2)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    (tmp_path / "lake" / "restricted").mkdir(parents=True)
    lake = Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "lake" / "restricted")
    load_defaults(lake, batch_id="defaults")
    return lake


def true_studies(n: int = 240, **changes: Any) -> list[dict[str, Any]]:
    """Studies of 30 persons at true times; some exams have two studies, few are MR."""
    return [
        {
            "hospital_id": "h1" if number % 3 else "h2",
            "study_instance_uid": f"2.25.{number + 1}",
            "exam_pseudo_id": f"e{number // 2 if number % 4 < 2 else number}",
            "patient_key": (number // 2 if number % 4 < 2 else number) % 40,
            "study_at": datetime(2026, 1, 1, 9) + timedelta(days=number // 2),
            "modality_group": "CT" if number // 2 % 25 else "MR",
            "modalities_in_study": "CT" if number // 2 % 25 else "MR",
            "body_part_code": "CHEST",
            "body_part_source": "code",
            "laterality_code": "U",
            "patient_sex": "F",
            "n_instances": 10,
            "study_bytes": 1000,
        }
        | changes
        for number in range(n)
    ]


def harvested(lake: Lake, studies: list[dict[str, Any]], *, offset: int, batch_id: str = "s1") -> None:
    """Commit the studies with their dates moved."""
    made = []
    for study in studies:
        at = study["study_at"] + timedelta(days=offset)
        made.append(study | {"study_at": at, "study_month": at.year * 100 + at.month})
    lake.tables.commit_batch("dicom.study", rows("dicom.study", *made), batch_id=batch_id)


def built(lake: Lake, *, offset: int, run_id: str = "r1", **options: Any) -> list[BuiltTable]:
    return build(
        lake,
        date_offsets=lambda keys: np.full(len(keys), offset * 86_400),
        mask=mask,
        run_id=run_id,
        now=NOW,
        **options,
    )


def content(lake: Lake, name: str, **options: Any) -> pa.Table:
    with duck.connect(lake, **options) as connection:
        return connection.sql(f"FROM {name} ORDER BY ALL").to_arrow_table()


def test_from_studies_to_statistics(lake: Lake) -> None:
    harvested(lake, true_studies(), offset=-100)
    tables = {table.name: table for table in built(lake, offset=-100)}
    assert list(tables) == [query.name for query in load_queries()]
    assert tables["core.exam"].n_rows == content(lake, "core.exam").num_rows < 240
    total = [
        row
        for row in content(lake, "stats.exam_volume").to_pylist()
        if row["exam_month"] == row["hospital_id"] == row["modality_group"] == "all"
    ]
    assert [(row["n_exams"], row["n_patients"], row["n_instances"]) for row in total] == [
        (tables["core.exam"].n_rows, 30, 2400)
    ]


def test_the_months_are_true_months_whatever_the_offsets_are(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "other" / "restricted").mkdir(parents=True)
    other = Lake(url=str(tmp_path / "other"), restricted=tmp_path / "other" / "restricted")
    load_defaults(other, batch_id="defaults")
    for one, offset in ((lake, -17), (other, -300)):
        harvested(one, true_studies(), offset=offset)
        built(one, offset=offset)
    names = [name for name in load_tables() if name.startswith("stats.")]
    assert names
    for name in names:
        assert content(lake, name) == content(other, name)
        assert content(lake, name, zone="restricted") == content(other, name, zone="restricted")
    months = set(content(lake, "stats.exam_volume").column("exam_month").to_pylist())
    assert months == {"2026-01", "2026-02", "2026-03", "2026-04", "all"}


def test_no_true_date_is_in_the_lake(lake: Lake) -> None:
    harvested(lake, true_studies(), offset=-300)
    built(lake, offset=-300)
    exams = content(lake, "core.exam").column("study_at").to_pylist()
    assert all(at < datetime(2026, 1, 1) for at in exams)
    files = [path.read_bytes() for path in Path(lake.url).rglob("*.parquet")]
    assert files
    assert not any(b"date_offset" in data for data in files)


def test_exact_in_the_restricted_zone_masked_in_the_lake(lake: Lake) -> None:
    harvested(lake, true_studies(), offset=-5)
    tables = {table.name: table for table in built(lake, offset=-5)}
    exact = content(lake, "stats.exam_volume", zone="restricted")
    public = content(lake, "stats.exam_volume")
    assert not any(exact.column("is_masked").to_pylist())
    assert sum(public.column("is_masked").to_pylist()) == tables["stats.exam_volume"].n_masked > 0
    shown = [row["n_exams"] for row in public.to_pylist() if not row["is_masked"]]
    assert shown
    assert min(shown) >= Policy().threshold
    assert lake.restricted_tables.version("core.exam") is None


def test_the_same_again_writes_nothing(lake: Lake) -> None:
    harvested(lake, true_studies(), offset=-5)
    first = built(lake, offset=-5)
    again = built(lake, offset=-5, run_id="r2")
    assert all(table.is_new for table in first)
    assert not any(table.is_new for table in again)
    assert [table.version for table in again] == [table.version for table in first]


def test_new_studies_are_counted_and_old_content_comes_back(lake: Lake) -> None:
    """A -> B -> A: content that was there before is written again, not taken for done."""
    harvested(lake, true_studies(), offset=-5)
    built(lake, offset=-5)
    before = content(lake, "core.exam")
    more = true_studies(3, study_instance_uid="2.25.9999", exam_pseudo_id="new", hospital_id="h9")[:1]
    harvested(lake, more, offset=-5, batch_id="s2")
    built(lake, offset=-5, run_id="r2")
    assert content(lake, "core.exam").num_rows == before.num_rows + 1
    keys = rows("dicom.study", *more).select(["hospital_id", "study_instance_uid"])
    empty = rows("dicom.study").slice(0, 0)
    lake.tables.commit_batch("dicom.study", empty, batch_id="withdrawn", replace=keys)
    (exam,) = [table for table in built(lake, offset=-5, run_id="r3") if table.name == "core.exam"]
    assert exam.is_new
    assert content(lake, "core.exam") == before


def test_lineage(lake: Lake) -> None:
    harvested(lake, true_studies(), offset=-5)
    tables = {table.name: table for table in built(lake, offset=-5)}
    recorded = {row["built_table"]: row for row in content(lake, "ops.build").to_pylist()}
    assert set(recorded) == {f"{name}_v1" for name in tables}
    volume = recorded["stats.exam_volume_v1"]
    assert json.loads(volume["inputs"]) == {"core.exam": tables["core.exam"].version, "core.person_link": None}
    assert json.loads(recorded["core.exam_v1"]["inputs"]) == {
        "dicom.study": lake.tables.version("dicom.study"),
        "ref.hospital": None,
    }
    assert (volume["run_id"], volume["built_at"], volume["n_rows"]) == ("r1", NOW, tables["stats.exam_volume"].n_rows)
    assert len(volume["query_sha256"]) == 64
    assert any("ref.hospital does not have" in warning for warning in json.loads(recorded["core.exam_v1"]["warnings"]))


def test_a_link_and_its_undoing_recount_persons_and_write_no_exam_anew(lake: Lake) -> None:
    def persons() -> int:
        rows = content(lake, "stats.exam_volume", zone="restricted").to_pylist()
        return next(
            r["n_patients"] for r in rows if r["exam_month"] == r["hospital_id"] == r["modality_group"] == "all"
        )

    harvested(lake, true_studies(), offset=-5)
    tables = {table.name: table for table in built(lake, offset=-5)}
    before, exams = persons(), tables["core.exam"].version
    link = rows("core.person_link", {"patient_key": 4, "person_key": 0}, {"patient_key": 8, "person_key": 0})
    lake.tables.overwrite("core.person_link", link, batch_id="person-link-1")
    linked = {table.name: table for table in built(lake, offset=-5)}
    assert (persons(), linked["core.exam"].version) == (before - 2, exams)
    recorded = {row["built_table"]: row for row in content(lake, "ops.build").to_pylist()}
    inputs = json.loads(recorded["stats.exam_volume_v1"]["inputs"])
    assert inputs["core.person_link"] == lake.tables.version("core.person_link")
    lake.tables.overwrite("core.person_link", rows("core.person_link"), batch_id="person-link-2")
    built(lake, offset=-5)
    assert persons() == before


def test_the_same_run_again_replaces_its_lineage(lake: Lake) -> None:
    harvested(lake, true_studies(), offset=-5)
    built(lake, offset=-5)
    built(lake, offset=-5)
    assert content(lake, "ops.build").num_rows == len(load_queries())


def test_only_some_layers(lake: Lake) -> None:
    harvested(lake, true_studies(), offset=-5)
    assert [table.name for table in built(lake, offset=-5, layers=["core"])] == ["core.exam", "core.exam_dose"]
    assert lake.tables.version("stats.exam_volume") is None
    assert "core.exam" not in [table.name for table in built(lake, offset=-5, layers=["stats"])]
    assert content(lake, "stats.exam_volume").num_rows > 0


def test_a_failed_check_publishes_neither_the_table_nor_what_reads_it(lake: Lake) -> None:
    harvested(lake, true_studies(), offset=-5)
    built(lake, offset=-5)
    before = {name: lake.tables.version(name) for name in load_tables()}
    harvested(lake, true_studies(1, hospital_id="all", study_instance_uid="2.25.777"), offset=-5, batch_id="s2")
    with pytest.raises(ContractBroken) as caught:
        built(lake, offset=-5, run_id="r2")
    told = str(caught.value)
    assert "core.exam: a hospital is named `all`, the label of totals (1 row)" in told
    assert "stats.exam_volume: reads core.exam" in told
    after = {name: lake.tables.version(name) for name in load_tables()}
    assert after == before | {name: after[name] for name in ("dicom.study_v1", "ops.build_v1")}
    built_again = {row["built_table"] for row in content(lake, "ops.build").to_pylist() if row["run_id"] == "r2"}
    assert built_again == {
        "stats.reminder_v1",
        "stats.report_turnaround_v1",
        "stats.retrieval_v1",
        "stats.upload_compliance_v1",
    }  # they read no exam


def test_a_failed_check_leaves_the_other_tables_alone(lake: Lake) -> None:
    """Two prices on one day: no saving is published, everything else is."""
    harvested(lake, true_studies(), offset=-5)
    overlap = {"item": "cloud_film", "modality_group": "all", "valid_from": datetime(2020, 1, 1).date(), "price_fen": 1}
    load_reference(lake, "ref.price", rows("ref.price", overlap | {"source": "test"}), batch_id="overlap")
    with pytest.raises(ContractBroken, match="two prices of one item are valid on the same day") as caught:
        built(lake, offset=-5)
    assert "stats.exam_volume" not in str(caught.value)
    assert lake.tables.version("stats.film_saving") is None
    assert content(lake, "stats.exam_volume").num_rows > 0
    recorded = content(lake, "ops.build").column("built_table").to_pylist()
    assert "stats.exam_volume_v1" in recorded
    assert "stats.film_saving_v1" not in recorded


def test_an_empty_lake_builds_empty_tables(lake: Lake) -> None:
    assert [table.n_rows for table in built(lake, offset=-5)] == [0] * len(load_queries())


def test_what_a_query_cannot_hold_in_memory_goes_to_the_scratch_folder(lake: Lake) -> None:
    folders: list[Path] = []

    def look(connection: duckdb.DuckDBPyConnection) -> None:
        [(folder,)] = connection.sql("SELECT current_setting('temp_directory')").fetchall()
        folders.append(Path(folder))

    harvested(lake, true_studies(), offset=0)
    built(lake, offset=0, prepare=look)
    assert folders == [lake.scratch]
    assert lake.scratch.is_dir()
