"""A certificate says what is expected, stored and catalogued, and holds everybody to it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from radlake.cli import main
from radlake.cli.hospitals import hospital_of_files
from radlake.config import Settings
from radlake.contracts import load_table
from radlake.ingest import harvest_folder
from radlake.ingest.batch import stage
from radlake.ingest.certify import HistoryGone, HospitalUnknown, certify, verify
from radlake.lake import Lake, duck
from radlake.lake.certificate_store import CertificateRefused
from radlake.lake.evidence import Settlement
from radlake.lake.ledger import Ledger, LedgerUnusable
from support.dicom import ct_study, mr_study, write_all
from support.lakes import settings_of
from support.postgres import postgres, postgres_cluster

__all__ = ["postgres", "postgres_cluster"]

NOW = datetime(2026, 3, 1, 17, 0)  # 01:00 of the 2nd in Shanghai
DAY = date(2026, 3, 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of two hospitals, each with its certificate."""
    folder = tmp_path_factory.mktemp("certified")
    settings = settings_of(folder / "lake")
    for name in ("h1", "h2"):
        write_all(ct_study(n=3), folder / name)
        write_all(mr_study(n=2, study=2, accession="A0002"), folder / name)
        harvest_folder(settings, folder / name, hospital=hospital_of_files(settings, name))
    certify(settings, (), DAY, NOW)
    return folder


@pytest.fixture
def lake(made: Path, tmp_path: Path) -> Settings:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return settings_of(tmp_path / "lake")


def told(settings: Settings) -> list[tuple[str, str, str]]:
    return [(problem.hospital_id, problem.where, problem.told) for problem in verify(settings)]


def lake_uids(settings: Settings, hospital_id: str = "h1") -> dict[str, str]:
    """UID in the lake by modality."""
    with duck.connect(Lake.from_settings(settings)) as connection:
        query = "SELECT modality, any_value(study_instance_uid) FROM dicom.instance WHERE hospital_id = ? GROUP BY ALL"
        return dict(connection.execute(query, [hospital_id]).fetchall())


def without_row(settings: Settings, name: str, value: str, *, hospital_id: str = "h1") -> None:
    table = load_table("dicom.instance")
    keys = pa.table({"hospital_id": [hospital_id], name: [value]})
    empty = table.arrow_schema().empty_table()
    Lake.from_settings(settings).tables.commit_batch(table, empty, batch_id=f"harm-{hospital_id}-{name}", replace=keys)


def one_instance(settings: Settings, uid: str) -> str:
    with duck.connect(Lake.from_settings(settings)) as connection:
        query = "SELECT min(sop_instance_uid) FROM dicom.instance WHERE study_instance_uid = ?"
        return str(connection.execute(query, [uid]).fetchall()[0][0])


def test_what_is_certified(lake: Settings) -> None:
    first, second = certify(lake, (), DAY, NOW + timedelta(hours=1))
    one = first.certificate
    assert (one.number, one.previous) == (1, "")  # nothing changed: it is the one that was issued before
    assert (one.studies["complete"], one.expected, one.stored, one.catalogued, one.disagreeing) == (2, 5, 5, 5, 0)
    assert second.certificate.hospital_id == "h2"
    assert told(lake) == []
    file = lake.restricted / "certificates" / "h1" / f"{DAY}.json"
    assert file.read_text() == one.document
    with duck.connect(Lake.from_settings(lake)) as connection:
        query = "SELECT hospital_id, n_complete, digest FROM ops.certificate ORDER BY ALL"
        rows = connection.execute(query).fetchall()
    assert rows == [("h1", 2, one.digest), ("h2", 2, second.certificate.digest)]


def test_the_next_one_follows_the_one_before(lake: Settings) -> None:
    (first,) = certify(lake, ["h1"], DAY, NOW)
    (second,) = certify(lake, ["h1"], DAY + timedelta(days=1), NOW + timedelta(days=1))
    assert (second.certificate.number, second.certificate.previous) == (2, first.certificate.digest)
    with pytest.raises(CertificateRefused):
        certify(lake, ["h1"], DAY, NOW + timedelta(days=1))
    with pytest.raises(CertificateRefused):
        certify(lake, ["h1"], DAY + timedelta(days=3), NOW + timedelta(days=1))
    with pytest.raises(HospitalUnknown):
        certify(lake, ["h9"], DAY, NOW)
    assert told(lake) == []


def test_what_came_on_the_same_day_gets_a_certificate_of_its_own(lake: Settings, tmp_path: Path) -> None:
    write_all(mr_study(n=1, study=3, accession="A0003"), tmp_path / "late")
    harvest_folder(lake, tmp_path / "late", hospital=hospital_of_files(lake, "h1"))
    (one,) = certify(lake, ["h1"], DAY, NOW)
    assert (one.certificate.number, one.certificate.studies["complete"]) == (2, 3)
    names = sorted(path.name for path in (lake.restricted / "certificates" / "h1").iterdir())
    assert names == [f"{DAY}.2.json", f"{DAY}.json"]
    assert told(lake) == []


def test_a_dropped_row_of_the_catalogue_is_named(lake: Settings) -> None:
    study = lake_uids(lake)["CT"]
    without_row(lake, "sop_instance_uid", one_instance(lake, study))
    found = "1 of 3 stored instances are not catalogued"
    assert [(p.hospital_id, p.where, p.name, p.told) for p in verify(lake)] == [("h1", "catalogue", study, found)]
    (one,) = certify(lake, ["h1"], DAY, NOW)
    assert (one.certificate.catalogued, one.certificate.disagreeing) == (4, 1)
    assert [problem.name for problem in one.problems] == [study]


def test_a_batch_of_several_hospitals_that_waits_is_told_to_those_that_have_a_part_in_it(lake: Settings) -> None:
    for name in ("h1", "h2"):
        without_row(lake, "study_instance_uid", lake_uids(lake, name)["CT"], hospital_id=name)
    waiting = [Settlement(name, "1.2.3", stored={}, set_aside=()) for name in ("h1", "h9")]
    stage(Lake.from_settings(lake), tables={}, settlements=waiting)
    assert {name: "a staged batch waits" in text for name, _, text in told(lake)} == {"h1": True, "h2": False}


def test_rows_that_nobody_stored_are_named(lake: Settings) -> None:
    with closing(Ledger(lake.ledger)) as ledger, ledger.writing() as connection:
        connection.exec_driver_sql("DELETE FROM study WHERE hospital_id = 'h2'")
    assert ("h2", "catalogue", "it is catalogued, and the ledger does not know it as stored") in told(lake)


def change_digest(lake: Settings) -> None:
    """Replace a stored digest in the ledger, with the row otherwise as it was."""
    from radlake.lake.study_rows import entry_from_row, stored_columns

    with sqlite3.connect(lake.restricted / "ledger.db") as connection:
        connection.row_factory = sqlite3.Row
        query = "SELECT * FROM study WHERE hospital_id = 'h1' AND lake_study_uid = ?"
        row = connection.execute(query, [lake_uids(lake)["MR"]]).fetchone()
        from dataclasses import replace

        stored = dict(entry_from_row({name: row[name] for name in row.keys()}).stored)  # noqa: SIM118
        first = min(stored)
        stored[first] = replace(stored[first], digest="0" * 32)
        values = stored_columns(stored)
        update = "UPDATE study SET stored = ? WHERE hospital_id = 'h1' AND study_uid = ?"
        connection.execute(update, [values["stored"], row["study_uid"]])


def alter_file(lake: Settings) -> None:
    file = lake.restricted / "certificates" / "h1" / f"{DAY}.json"
    file.write_text(file.read_text().replace('"stored":5', '"stored":6'))


def drop_file(lake: Settings) -> None:
    (lake.restricted / "certificates" / "h1" / f"{DAY}.json").unlink()


def alter_certificate(lake: Settings) -> None:
    with sqlite3.connect(lake.restricted / "ledger.db") as connection:
        sql = """UPDATE certificate SET document = replace(document, '"stored":5', '"stored":6')"""
        connection.execute(sql + " WHERE hospital_id = 'h1'")


def drop_certificate(lake: Settings) -> None:
    with sqlite3.connect(lake.restricted / "ledger.db") as connection:
        connection.execute("DELETE FROM certificate WHERE hospital_id = 'h1'")


def drop_hospital(lake: Settings) -> None:
    """All that the ledger knows of a hospital."""
    with sqlite3.connect(lake.restricted / "ledger.db") as connection:
        for table in ("study", "study_event", "certificate"):
            connection.execute(f"DELETE FROM {table} WHERE hospital_id = 'h1'")


def restore_older(lake: Settings) -> None:
    """An older copy of the database, with the end of the history that it had."""
    (lake.restricted / "heads" / "h1.head").unlink()
    with sqlite3.connect(lake.restricted / "ledger.db") as connection:
        connection.execute("DELETE FROM study_event WHERE hospital_id = 'h1' AND seq > 2")


@pytest.mark.parametrize(
    ("harm", "where", "found"),
    [
        pytest.param(change_digest, "study", "somebody changed it", id="a stored digest"),
        pytest.param(change_digest, "catalogue", "1 instances have another digest", id="a stored digest, catalogue"),
        pytest.param(alter_file, "certificate", "its file was changed", id="a file"),
        pytest.param(drop_file, "certificate", "its file is missing", id="no file"),
        pytest.param(alter_certificate, "certificate", "it was changed", id="a certificate"),
        pytest.param(drop_certificate, "certificate", "the file is of no certificate", id="no certificate"),
        pytest.param(drop_certificate, "certificate", "ops.certificate of the lake has it", id="no certificate, lake"),
        pytest.param(drop_hospital, "chain", "entries 1 to 6 are missing", id="a hospital"),
        pytest.param(drop_hospital, "catalogue", "the ledger does not know it as stored", id="a hospital, catalogue"),
        pytest.param(drop_hospital, "certificate", "the file is of no certificate", id="a hospital, its files"),
        pytest.param(restore_older, "certificate", "the history has another event", id="an older history"),
    ],
)
def test_harm_is_found_and_its_hospital_named(
    harm: Callable[[Settings], None], where: str, found: str, lake: Settings
) -> None:
    harm(lake)
    problems = told(lake)
    assert {hospital for hospital, _, _ in problems} == {"h1"}
    assert found in "\n".join(text for _, place, text in problems if place == where)


def test_no_certificate_hides_that_a_hospital_is_gone(lake: Settings) -> None:
    drop_hospital(lake)
    with pytest.raises(HistoryGone, match=r"Of h1 the ledger knows nothing any more"):
        certify(lake, (), DAY + timedelta(days=1), NOW + timedelta(days=1))
    assert [path.name for path in (lake.restricted / "certificates" / "h1").iterdir()] == [f"{DAY}.json"]
    assert len(list((lake.restricted / "certificates" / "h2").iterdir())) == 2  # the others are certified


def test_a_clock_that_was_ahead_is_told_and_stops_no_later_certificate(lake: Settings) -> None:
    ahead = timedelta(days=3650)
    certify(lake, ["h1"], DAY + ahead, NOW + ahead)
    ((hospital, where, text),) = told(lake)
    assert (hospital, where) == ("h1", "certificate")
    assert "its day has not come yet" in text
    (one,) = certify(lake, ["h1"], DAY + timedelta(days=1), NOW + timedelta(days=1))
    assert (one.certificate.number, one.problems) == (3, ())
    assert len(told(lake)) == 1
    with pytest.raises(CertificateRefused, match="has one already"):
        certify(lake, ["h1"], DAY, NOW + timedelta(days=1))


def test_a_damaged_file_is_no_passing_fault(lake: Settings) -> None:
    file = lake.restricted / "ledger.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    content = bytearray(file.read_bytes())
    half = len(content) // 2
    content[half : half + 8192] = b"\x5a" * 8192
    file.write_bytes(content)
    with pytest.raises(LedgerUnusable, match="newest backup"):
        told(lake)
    file.write_bytes(b"noise" * 10_000)
    with pytest.raises(LedgerUnusable, match="not a database"):
        told(lake)


@pytest.mark.postgres
def test_the_same_with_postgresql(postgres: str, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "lake", ledger=postgres)
    write_all(ct_study(n=2), tmp_path / "files")
    harvest_folder(settings, tmp_path / "files", hospital=hospital_of_files(settings, "h1"))
    (one,) = certify(settings, (), DAY, NOW)
    assert (one.certificate.stored, one.certificate.catalogued, told(settings)) == (2, 2, [])
    without_row(settings, "study_instance_uid", lake_uids(settings)["CT"])
    assert [where for _, where, _ in told(settings)] == ["catalogue"]


def run(settings: Settings, *words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["radlake", "--lake", settings.lake, "ledger", *words])
    try:
        main()
    except SystemExit as exc:
        return int(exc.code or 0)
    return 0


def test_the_command(lake: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lake, "verify", monkeypatch=monkeypatch) == 0
    assert "agree" in capsys.readouterr().out
    study = lake_uids(lake)["CT"]
    assert run(lake, "show", study, "--json", monkeypatch=monkeypatch) == 0
    events = json.loads(capsys.readouterr().out)
    assert [event["what"] for event in events if event["hospital_id"] == "h1"] == ["discover", "begin", "settle"]
    assert run(lake, "show", "1.2.3", monkeypatch=monkeypatch) == 2
    without_row(lake, "study_instance_uid", study)
    capsys.readouterr()
    assert run(lake, "verify", "h2", monkeypatch=monkeypatch) == 0
    assert run(lake, "verify", "--json", monkeypatch=monkeypatch) == 1
    out = capsys.readouterr().out
    (problem,) = json.loads(out[out.index("[") :])
    assert (problem["hospital_id"], problem["name"]) == ("h1", study)
    assert run(lake, "certify", "h1", "--json", monkeypatch=monkeypatch) == 1
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["stored"], one["catalogued"], one["disagreeing"]) == (5, 2, 1)


def test_what_changed_between_two_days(
    lake: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_all(ct_study(n=5), tmp_path / "more")
    harvest_folder(lake, tmp_path / "more", hospital=hospital_of_files(lake, "h1"))
    next_day = DAY + timedelta(days=1)
    certify(lake, ["h1"], next_day, NOW + timedelta(days=1))
    assert run(lake, "diff", "h1", str(DAY), str(next_day), "--json", monkeypatch=monkeypatch) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"]["instances stored"] == [5, 7]
    (study,) = found["studies"]
    assert (study["name"], study["before"], study["after"]) == (lake_uids(lake)["CT"], "complete", "complete")
    assert run(lake, "diff", "h1", "2026-01-01", str(DAY), monkeypatch=monkeypatch) == 1
    assert "none was issued" in capsys.readouterr().err
