"""A delivery of reports becomes facts of exams; no text reaches the lake, and measures can ask for findings."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from radlake.deidentify import KeyRing
from radlake.epidemiology.definition import measure_from_yaml
from radlake.epidemiology.release import release_measures
from radlake.epidemiology.reports import code_delivery
from radlake.errors import ConfigInvalid
from radlake.findings import load_rules
from radlake.lake import Lake, duck
from radlake.stats.policy import Policy
from support.lakes import KEY, settings_of
from support.rows import rows

KEYS = KeyRing.from_secret(KEY)
SECRET = "患者张三丰今日来院"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake.from_settings(settings_of(tmp_path / "lake"))
    exams = [
        {
            "hospital_id": "h1",
            "exam_pseudo_id": KEYS.exam_pseudo_id(hospital_id="h1", accession_number=f"A{i}", study_uid=""),
            "patient_key": i,
            "region_code": "320500",
            "study_at": datetime(2025, 6, 1),
            "study_month": 202506,
            "modality_group": "CT",
        }
        for i in range(4)
    ]
    lake.tables.commit_batch("core.exam", rows("core.exam", *exams), batch_id="e")
    return lake


def delivered(lake: Lake, texts: dict[str, str], *, name: str = "reports.parquet") -> Path:
    folder = lake.restricted / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"accession_number": list(texts), "report_text": list(texts.values())}), folder / name)
    return folder / name


def coded(lake: Lake, path: Path):
    return code_delivery(lake, path, hospital_id="h1", keys=KEYS, rules=load_rules())


def found(lake: Lake) -> list[tuple[str, str]]:
    with duck.connect(lake) as connection:
        return connection.execute("SELECT finding_code, certainty_code FROM core.finding ORDER BY ALL").fetchall()


def test_facts_are_coded_and_a_new_delivery_replaces_those_of_its_exams(lake: Lake) -> None:
    first = delivered(lake, {"A0": f"{SECRET}，右侧气胸。", "A1": "未见肺炎。", "X9": "气胸"})
    result = coded(lake, first)
    assert (result.n_reports, result.n_facts, result.n_unmatched, result.is_new) == (3, 3, 1, True)
    assert found(lake) == [("pneumonia", "ABSENT"), ("pneumothorax", "PRESENT"), ("pneumothorax", "PRESENT")]
    assert not coded(lake, first).is_new
    coded(lake, delivered(lake, {"A0": "两肺清晰。"}, name="corrected.parquet"))
    assert found(lake) == [("pneumonia", "ABSENT"), ("pneumothorax", "PRESENT")]


def test_no_byte_of_the_text_is_in_the_lake(lake: Lake) -> None:
    coded(lake, delivered(lake, {"A0": f"{SECRET}，右侧气胸。"}))
    for file in (Path(lake.url) / "tables").rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes()
    with duck.connect(lake) as connection:
        values = {value for row in connection.execute("FROM core.finding").fetchall() for value in row}
    assert values.isdisjoint({"A0", SECRET, f"{SECRET}，右侧气胸。"})


def test_texts_in_the_part_that_everybody_reads_are_refused(lake: Lake) -> None:
    file = Path(lake.url) / "reports.csv"
    file.write_text("accession_number,report_text\nA1,气胸\n")
    with pytest.raises(ConfigInvalid, match="may not lie in the lake"):
        coded(lake, file)


def test_a_measure_of_a_finding(lake: Lake) -> None:
    coded(lake, delivered(lake, {"A0": "气胸", "A1": "气胸待排", "A2": "未见气胸", "A3": "既往气胸病史"}))
    asked = measure_from_yaml("""
        {measure: pneumothorax, version: 1, title: {zh: 气胸, en: x}, formula: {zh: x, en: x}, years: 2025,
         numerator: {count: persons, finding: {code: pneumothorax, certainty: [PRESENT, POSSIBLE]}},
         rate: {kind: crude}}""")
    release = release_measures(
        lake, [asked], date_offsets=nullcontext(lambda keys: np.zeros(len(keys))),
        policy=Policy(threshold=1, complementary=False), now=datetime(2026, 1, 1),
    )  # fmt: skip
    assert [row["n_persons"] for row in release.rows] == [2]
    assert set(release.snapshot) == {"core.exam", "core.finding"}
