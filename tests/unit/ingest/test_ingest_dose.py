"""Dose reports are read once from stored bytes, and again when their bytes change."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake.commit_points import listening
from radlake.contracts import load_table
from radlake.ingest.dose import ReadReports, read_dose_reports
from radlake.lake import Lake, duck
from support.dicom import dicom_bytes
from support.dose import ct_report
from support.rows import rows

CLASS = "1.2.840.10008.5.1.4.1.1.88.67"


class Stored:
    """Objects of a lake, in memory; counts what is read."""

    def __init__(self, lake: Lake) -> None:
        self.lake, self.objects, self.n_reads = lake, {}, 0

    def put(self, path: str, data: bytes, *, digest: str, version: int = 1) -> None:
        self.objects[path] = data
        row = {"hospital_id": "h1", "sop_instance_uid": path, "sop_class_uid": CLASS, "object_path": path}
        row |= {"study_instance_uid": "1.5", "object_offset": 0, "instance_bytes": len(data), "digest": digest}
        data_table = rows("dicom.instance", row)
        key = data_table.select(["hospital_id", "sop_instance_uid", "study_month"])
        self.lake.tables.commit_batch("dicom.instance", data_table, batch_id=f"{path}-{version}", replace=key)

    def read(self, path: str, offset: int, length: int) -> bytes:
        from radlake.errors import SourceMissing

        self.n_reads += 1
        if path not in self.objects:
            raise SourceMissing(path=path)
        return self.objects[path][offset : offset + length]


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted"))


def events(lake: Lake) -> list[tuple]:
    with duck.connect(lake, tables={"dose"}) as connection:
        return connection.execute(
            "SELECT irradiation_event_uid, dlp_mgy_cm, target_part_code FROM dose.irradiation_event ORDER BY ALL"
        ).fetchall()


def report(*dlps: float, **more) -> bytes:
    return dicom_bytes(ct_report([{"uid": f"1.9.{i}", "dlp": dlp} for i, dlp in enumerate(dlps)], **more))


def test_a_report_is_read_once(stored: Stored) -> None:
    stored.put("1.1", report(300, 20), digest="a" * 32)
    assert read_dose_reports(stored.lake, read=stored.read) == ReadReports(1, 2, 0, 0)
    assert events(stored.lake) == [("1.9.0", 300.0, "CHEST"), ("1.9.1", 20.0, "CHEST")]
    assert read_dose_reports(stored.lake, read=stored.read) == ReadReports(0, 0, 0, 0)
    assert stored.n_reads == 1


def test_a_report_whose_bytes_changed_replaces_its_events(stored: Stored) -> None:
    stored.put("1.1", report(300, 20), digest="a" * 32)
    read_dose_reports(stored.lake, read=stored.read)
    stored.put("1.1", report(310), digest="b" * 32, version=2)
    read_dose_reports(stored.lake, read=stored.read)
    assert events(stored.lake) == [("1.9.0", 310.0, "CHEST")]


def test_a_kill_between_events_and_report_is_made_good(stored: Stored) -> None:
    stored.put("1.1", report(300), digest="a" * 32)

    def stop(point: str) -> None:
        if point == "table.committed":
            raise KeyboardInterrupt

    with listening(stop), pytest.raises(KeyboardInterrupt):
        read_dose_reports(stored.lake, read=stored.read)
    read_dose_reports(stored.lake, read=stored.read)
    assert events(stored.lake) == [("1.9.0", 300.0, "CHEST")]


@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"no dicom" * 20, "no_event"), (report(300, stated=2), "events_missing")],
    ids=["garbage", "fewer events than stated"],
)
def test_a_report_with_a_problem_is_told_and_stops_nothing(stored: Stored, data: bytes, problem: str) -> None:
    stored.put("1.1", data, digest="a" * 32)
    stored.put("1.2", report(5), digest="c" * 32)
    assert read_dose_reports(stored.lake, read=stored.read).n_problems == 1
    with duck.connect(stored.lake, tables={"dose"}) as connection:
        found = connection.execute("SELECT problem FROM dose.report ORDER BY sop_instance_uid").fetchall()
    assert found == [(problem,), ("",)]


def test_a_report_that_its_hospital_keeps_is_read_when_somebody_brings_it(stored: Stored) -> None:
    stored.put("1.1", report(300), digest="a" * 32)
    kept = stored.objects.pop("1.1")
    assert read_dose_reports(stored.lake, read=stored.read) == ReadReports(0, 0, 0, 1)
    stored.objects["1.1"] = kept
    assert read_dose_reports(stored.lake, read=stored.read) == ReadReports(1, 1, 0, 0)


def test_no_text_of_a_report_has_a_column() -> None:
    names = {column.name for name in ("dose.report", "dose.irradiation_event") for column in load_table(name).columns}
    assert not {name for name in names if any(word in name for word in ("name", "text", "comment", "protocol"))}
