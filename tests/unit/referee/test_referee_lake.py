"""A lake, a folder and the line under the referee: leaks outside of objects are found, and one stops a harvest."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import pytest

from radlake import cli
from radlake.cli.hospitals import hospital_of_files
from radlake.config import Settings
from radlake.deidentify import load_profile
from radlake.errors import IdentifierLeak
from radlake.ingest import harvest_folder, replay_quarantine, spot_check
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from radlake.referee import Policy, Report, check_written, verify_folder, verify_lake, verify_release
from support.deid import deidentified_bytes
from support.dicom import ct_study, dicom_bytes, mr_study, write_all
from support.lakes import settings_of

NAME = "Wang^Xiulan=王^秀兰"


@pytest.fixture(scope="module")
def harvested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `cd`, the originals, and `lake`, what became of them."""
    root = tmp_path_factory.mktemp("harvested")
    write_all(ct_study(n=2, patient=NAME, patient_id="ZY19511029", accession="B6407996968"), root / "cd")
    write_all(mr_study(n=2, patient=NAME, patient_id="ZY19511029", accession="B6407996969"), root / "cd2")
    settings = settings_of(root / "lake")
    for folder in ("cd", "cd2"):
        harvest_folder(settings, root / folder, hospital=hospital_of_files(settings, "h1"))
    return root


@pytest.fixture
def place(harvested: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(harvested, tmp_path / "copy"))


def verified(root: Path, **options: Any) -> Report:
    settings = Settings(lake=str(root / "lake"), workers=0)
    ledger = Ledger(settings.ledger)
    try:
        return verify_lake(
            Lake.from_settings(settings),
            ledger=ledger,
            **{
                "originals": [root / "cd", root / "cd2"],
                "policy": Policy.of_profile(load_profile("default")),
                **options,
            },
        )
    finally:
        ledger.close()


def an_object(root: Path) -> Path:
    return sorted((root / "lake" / "objects").rglob("*.zip"))[0]


def rules(report: Report) -> set[tuple[str, str]]:
    return {(finding.rule, finding.kind) for finding in report.findings}


def test_a_lake_is_clean_and_every_object_finds_its_original(harvested: Path) -> None:
    report = verified(harvested)
    assert report.findings == []
    assert (report.looked_at["pairs"], report.looked_at["rows"], report.looked_at["pixels equal"]) == (4, 4, 4)


def test_an_original_that_a_node_sent_with_other_meta_information_is_found_by_its_uids(place: Path) -> None:
    for file in (place / "cd").rglob("*.dcm"):
        ds = pydicom.dcmread(file)
        ds.file_meta.ImplementationVersionName = "AS_SENT"
        ds.save_as(file)
    report = verified(place)
    assert report.findings == []
    assert (report.looked_at["pairs"], dict(report.notes)) == (4, {})


def test_a_sample_is_the_same_every_time(harvested: Path) -> None:
    first, second = verified(harvested, sample=2), verified(harvested, sample=2)
    assert first.looked_at["objects"] == 2
    assert first.looked_at == second.looked_at


@pytest.mark.parametrize(
    ("text", "kind"), [("王秀兰", "name"), ("B6407996968", "id"), ("13851234567", "phone")], ids=["name", "id", "phone"]
)
def test_a_leak_in_a_parquet_column_is_found(place: Path, text: str, kind: str) -> None:
    table = pa.table({"note": [f"CT {text}", None], "n": [1, 2]})
    pq.write_table(table, place / "lake" / "tables" / "dicom" / "extra.parquet", write_statistics=False)
    rule = "telltale" if kind == "phone" else "identifier-in-table"  # no original told that number
    assert (rule, kind) in rules(verified(place))


def test_a_leak_in_nested_columns_dictionaries_and_metadata_is_found(place: Path) -> None:
    values = pa.array([{"who": ["王秀兰"]}])
    words = pa.array(["B6407996969", "x"]).dictionary_encode()
    table = pa.table({"a": values, "b": words.take(pa.array([0]))}).replace_schema_metadata({"made for": "zy19511029"})
    pq.write_table(table, place / "lake" / "tables" / "dicom" / "extra.parquet", use_dictionary=False)
    found = {f.path for f in verified(place).findings if f.rule == "identifier-in-table"}
    assert {"column a", "column b", "footer"} <= found


def test_a_leak_in_a_commit_log_is_found(place: Path) -> None:
    log = sorted((place / "lake" / "tables").rglob("*.json"))[0]
    stats = json.dumps({"minValues": {"name": "王秀兰"}})  # JSON in JSON
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    [info] = [line["commitInfo"] for line in lines if "commitInfo" in line]
    info["userMetadata"] = stats
    log.write_text("\n".join(map(json.dumps, lines)))
    assert ("identifier-in-file", "name") in rules(verified(place))


def test_a_leak_in_an_object_name_is_found_and_not_repeated(place: Path) -> None:
    path = an_object(place)
    shutil.copy(path, path.with_name("B6407996968.zip"))
    report = verified(place)
    assert ("identifier-in-name", "id") in rules(report)
    assert "B6407996968" not in json.dumps(report.to_json())


def test_a_comment_of_an_object_is_found(place: Path) -> None:
    with an_object(place).open("ab") as file:
        file.write("王秀兰".encode())
    assert ("identifier-in-archive", "name") in rules(verified(place))


def test_an_object_that_was_changed_differs_from_its_row(place: Path) -> None:
    path = an_object(place)
    data = bytearray(path.read_bytes())
    data[-300] ^= 1
    path.write_bytes(data)
    assert "row-differs" in verified(place).by_rule


def test_a_row_that_tells_something_else_is_found(place: Path) -> None:
    with duck.connect(Lake.from_settings(Settings(lake=str(place / "lake")))) as connection:
        [row] = connection.sql("SELECT * FROM dicom.instance ORDER BY digest LIMIT 1").to_arrow_table().to_pylist()
    from radlake.referee import row_findings

    store = Lake.from_settings(Settings(lake=str(place / "lake"))).objects
    data = store.read(row["object_path"], row["object_offset"], row["instance_bytes"])
    assert list(row_findings(row, data, where="")) == []
    wrong = {"modality": "US", "rows": 17, "kvp": 3.0, "patient_key": 1, "pixel_offset": 7, "image_type": "A\\B"}
    for name, value in wrong.items():
        assert [f.path for f in row_findings(row | {name: value}, data, where="")] == [f"column {name}"]


def test_other_files_are_searched_too(place: Path) -> None:
    (place / "run.log").write_text("stored 王秀兰\n", encoding="gb18030")
    report = verified(place, also=[place / "run.log"])
    assert {(f.rule, f.where, f.encoding) for f in report.findings} == {("identifier-in-file", "run.log", "gb18030")}


def test_a_release_is_searched_through_its_archives(tmp_path: Path) -> None:
    [original] = ct_study(n=1, patient=NAME)
    (tmp_path / "cd").mkdir()
    (tmp_path / "cd" / "a").write_bytes(dicom_bytes(original))
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("1.dcm", deidentified_bytes(original))
        archive.writestr("readme.txt", "Xiulan WANG")
    (tmp_path / "out").mkdir()
    with zipfile.ZipFile(tmp_path / "out" / "release.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.zip", inner.getvalue())
        archive.comment = "王秀兰".encode("gb18030")
    report = verify_release(tmp_path / "out", originals=[tmp_path / "cd"])
    assert {(f.rule, f.encoding) for f in report.findings} == {
        ("identifier-in-file", "reversed"),
        ("identifier-in-archive", "gb18030"),
    }


def test_a_folder_without_originals_is_judged_by_the_table_and_telltales(tmp_path: Path) -> None:
    [ds] = ct_study(n=1, patient=NAME)
    (tmp_path / "a.dcm").write_bytes(dicom_bytes(ds))
    (tmp_path / "b.dcm").write_bytes(deidentified_bytes(ds))
    report = verify_folder(tmp_path)
    assert {finding.where for finding in report.findings} == {"a.dcm"}
    assert {"markers", "must-be-removed"} <= set(report.by_rule)


def test_the_command_tells_by_its_exit_code(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["radlake", "--lake", str(place / "lake"), "deid", "verify", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code or 0, capsys.readouterr().out

    report = str(place / "report.json")
    originals = ("--originals", str(place / "cd"), "--originals", str(place / "cd2"))
    assert run()[0] == 0
    assert run(*originals, "--json", report)[0] == 0
    assert json.loads(Path(report).read_text())["is_clean"] is True
    pq.write_table(pa.table({"note": ["王秀兰"]}), place / "lake" / "tables" / "dicom" / "extra.parquet")
    code, told = run(*originals)
    assert code == 1
    assert "identifier-in-table" in told
    assert "王秀兰" not in told
    assert run("--written", str(place / "cd"), *originals)[0] == 1


def _leaking(original: Path, written: bytes, **options: Any) -> list:
    """As if de-identification had left a name in the first series."""
    ds = pydicom.dcmread(io.BytesIO(written))
    if ds.SeriesNumber == 1:
        ds.SeriesDescription = "CHEST 王秀兰"
    out = io.BytesIO()
    pydicom.dcmwrite(out, ds)
    return check_written(original, out.getvalue(), **options)


def _held(settings: Settings) -> list[tuple[str, str]]:
    ledger = Ledger(settings.ledger)
    held = [(record["reason"], record["detail"]) for record in ledger.held()]
    ledger.close()
    return held


OBJECTION = ("referee_objection", "identifier-in-element (0008,103E) name utf-8")


def test_an_objection_stops_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is published, the object is gone, the original is held; a replay stores it once the rule is right."""
    write_all(ct_study(n=2, patient=NAME), tmp_path / "cd")
    settings = settings_of(tmp_path / "lake")
    hospital = hospital_of_files(settings, "h1")
    with monkeypatch.context() as broken:
        broken.setattr(spot_check, "check_written", _leaking)
        with pytest.raises(IdentifierLeak, match="identifier-in-element"):
            harvest_folder(settings, tmp_path / "cd", hospital=hospital)
    lake = Lake.from_settings(settings)
    assert list(lake.objects.list("")) == []
    with duck.connect(lake) as connection:
        assert connection.execute("SELECT count(*) FROM dicom.instance").fetchall() == [(0,)]
    assert _held(settings) == [OBJECTION]
    partial = harvest_folder(settings, tmp_path / "cd", hospital=hospital)
    assert (partial.instances_stored, partial.studies_partial) == (1, 1)
    assert _held(settings) == [OBJECTION]
    ledger = Ledger(settings.ledger)
    held = ledger.held()
    ledger.close()
    assert replay_quarantine(settings, hospital, held=held).studies_complete == 1
    assert _held(settings) == []


def test_what_was_objected_to_stops_no_second_harvest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are stored; but something else that leaks stops the line again, beyond the sample too."""
    write_all(ct_study(n=1, patient=NAME), tmp_path / "cd")
    [sound] = ct_study(n=1, patient=NAME, study=2)
    sound.SeriesNumber = 2
    write_all([sound], tmp_path / "cd" / "sound")
    settings = settings_of(tmp_path / "lake", verify_sample=2)
    hospital = hospital_of_files(settings, "h1")
    monkeypatch.setattr(spot_check, "check_written", _leaking)
    with pytest.raises(IdentifierLeak):
        harvest_folder(settings, tmp_path / "cd", hospital=hospital)
    for _ in range(2):
        summary = harvest_folder(settings, tmp_path / "cd", hospital=hospital)
        assert summary.quarantine_by_reason == {"referee_objection": 1}
        assert (summary.studies_complete, summary.studies_quarantined) == (1, 1)
    for number in range(3):
        write_all(ct_study(n=1, patient=NAME, study=3 + number), tmp_path / "cd" / f"new{number}")
    with pytest.raises(IdentifierLeak):
        harvest_folder(settings, tmp_path / "cd", hospital=hospital)
    assert _held(settings) == [OBJECTION] * 4


def test_a_sample_takes_one_of_each_series_up_to_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all(ct_study(n=3, series=3), tmp_path / "cd")
    seen: list[int] = []

    def counted(outcomes: Any, n: int, **options: Any) -> list:
        picks = sample(outcomes, n, **options)
        seen.append(len(picks))
        return picks

    sample = spot_check.sample_of
    monkeypatch.setattr(spot_check, "sample_of", counted)
    for name, budget in (("one", 2), ("all", 32)):
        settings = settings_of(tmp_path / name, verify_sample=budget)
        harvest_folder(settings, tmp_path / "cd", hospital=hospital_of_files(settings, "h1"))
    assert seen == [2, 3]


def test_the_lakes_own_name_of_a_hospital_is_no_leak_outside_of_objects(tmp_path: Path) -> None:
    [original] = ct_study(n=1, patient=NAME, IssuerOfPatientID="SZ-FIRST")
    write_all([original], tmp_path / "cd")
    settings = settings_of(tmp_path / "lake")
    summary = harvest_folder(settings, tmp_path / "cd", hospital=hospital_of_files(settings, "sz-first"))
    assert summary.instances_stored == 1
    assert verified(tmp_path, originals=[tmp_path / "cd"]).findings == []
    clean = pydicom.dcmread(io.BytesIO(deidentified_bytes(original)))
    clean.SeriesDescription = "chest SZ-FIRST"
    out = io.BytesIO()
    clean.save_as(out)
    found = check_written(dicom_bytes(original), out.getvalue(), rows=[{"hospital_id": "sz-first"}])
    assert any(finding.rule.startswith("identifier") for finding in found)
