"""The same lake on a real S3 store (Ceph RGW): the same code, the same promises."""

from __future__ import annotations

import zipfile
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest

from radlake.cli._lake import LakeEmpty, filled_lake
from radlake.cli.hospitals import hospital_of_files
from radlake.config import Settings
from radlake.errors import QueryInvalid, SourceMissing, StoreUnavailable
from radlake.ingest import harvest_folder, replay_quarantine
from radlake.ingest.build import build_lake
from radlake.lake import Lake, S3Options, duck
from radlake.lake.ledger import Ledger
from radlake.lake.quarantine import Quarantine
from radlake.lake.store import S3Store
from radlake.lake.upkeep import tidy
from radlake.recompress import recompress_hospital
from radlake.stats.duplicates.recent import RecentExams, build_index
from radlake.stats.duplicates.unsorted import repeats_unsorted
from radlake.web.app import create_app
from radlake.web.snapshot import copying
from support.dicom import ct_study, write_all
from support.rgw import Rgw
from support.rows import rows
from support.webserver import running
from support.writers import MOMENTS, Moment, at_once, commit, killed_at

pytestmark = pytest.mark.rgw

EXAM = "core.exam"
MEMBERS = [("1.2.3.dcm", b"\0" * 128 + b"DICM" + b"pixels" * 1000), ("1.2.4.dcm", b""), ("1.2.5.dcm", b"last")]


@pytest.fixture
def lake(rgw: Rgw, tmp_path: Path) -> Lake:
    return rgw.lake(tmp_path / "restricted")


def exams(*ids: str, **more: object) -> pa.Table:
    return rows(EXAM, *({"exam_pseudo_id": name, **more} for name in ids))


def contents(lake: Lake, **how: object) -> list[tuple[str, int]]:
    with duck.connect(lake, **how) as connection:
        return connection.execute("SELECT exam_pseudo_id, patient_key FROM core.exam ORDER BY ALL").fetchall()


def parquet_files(lake: Lake) -> list[str]:
    return [name for name in lake.tables.store.list("") if name.endswith(".parquet")]


def test_a_table_on_s3(lake: Lake):
    store = lake.tables
    assert not store.exists(EXAM)
    assert store.version(EXAM) is store.log_version(EXAM) is None
    assert contents(lake) == []
    assert store.commit_batch(EXAM, exams("a", "b", patient_key=2**63 - 1), batch_id="b1")
    assert store.exists(EXAM)
    assert store.log_version(EXAM) == store.log_version(EXAM, known=0) == store.version(EXAM) == 1
    assert not store.commit_batch(EXAM, exams("a", "b"), batch_id="b1")
    assert store.commit_batch(EXAM, exams("a", "c"), batch_id="b2", replace=key("a"))
    assert contents(lake) == [("a", 1), ("b", 2**63 - 1), ("c", 1)]
    assert contents(lake, snapshot={"core.exam_v1": 1}) == [("a", 2**63 - 1), ("b", 2**63 - 1)]
    assert all(file.startswith(f"{lake.url}/tables/core/exam_v1/study_month=202603/") for file in store.files(EXAM))
    assert store.files(EXAM, where="study_month = 209901") == []

    assert store.overwrite(EXAM, exams("z"), batch_id="o1") == 3
    assert store.overwrite(EXAM, exams("z"), batch_id="o1") == 3
    assert contents(lake) == [("z", 1)]
    with pytest.raises(SourceMissing, match="version 9"):
        store.files(EXAM, version=9)


def test_compaction_pins_and_vacuum_on_s3(lake: Lake):
    store = lake.tables
    for name in "abc":
        store.commit_batch(EXAM, exams(name), batch_id=name)
    store.pin("cohort-1", {"core.exam_v1": 2})
    assert store.pins() == {"cohort-1": {"core.exam_v1": 2}}
    assert store.compact(EXAM) == 1
    store.vacuum(EXAM, retention=timedelta(0))
    assert len(parquet_files(lake)) == 3, "two of the pin, one compact; the third is gone"
    assert contents(lake) == [("a", 1), ("b", 1), ("c", 1)]
    assert contents(lake, snapshot={"core.exam_v1": 2}) == [("a", 1), ("b", 1)]
    store.unpin("cohort-1")
    store.vacuum(EXAM, retention=timedelta(0))
    assert len(parquet_files(lake)) == 1


def test_a_reader_sees_the_tables_of_its_lake_and_no_other_object(lake: Lake, rgw: Rgw):
    lake.tables.commit_batch(EXAM, exams("a"), batch_id="b1")
    other = rgw.lake(lake.restricted)
    other.tables.commit_batch(EXAM, exams("secret"), batch_id="b1")
    for file in (*other.tables.files(EXAM), f"{lake.url}/objects/x.parquet"):
        sql = f"SELECT * FROM read_parquet('{file}')"
        with duck.connect(lake) as connection, pytest.raises(QueryInvalid, match="only the tables of the lake"):
            duck.select(connection, sql)


def test_exact_statistics_stay_in_the_local_zone(lake: Lake):
    lake.restricted_tables.overwrite("stats.exam_volume", rows("stats.exam_volume", {"n_exams": 3}), batch_id="b1")
    question = "SELECT n_exams FROM stats.exam_volume"
    for zone, answer in (("lake", []), ("restricted", [(3,)])):
        with duck.connect(lake, zone=zone) as connection:
            assert connection.execute(question).fetchall() == answer
    assert parquet_files(lake) == []


def test_order_entry_finds_recent_exams_on_s3(lake: Lake):
    done = {"patient_key": 5, "modality_group": "CT", "body_part_code": "CHEST", "study_at": datetime(2026, 3, 1, 9)}
    lake.tables.commit_batch(EXAM, exams("a", study_month=202603, **done), batch_id="b1")
    now = datetime(2026, 3, 9)
    build_index(lake, date_offsets=np.zeros_like, now=now)
    recent = RecentExams(lake)
    for ask in (recent.from_index, recent.from_lake):
        found = ask(5, "CT", "CHEST", since=now - timedelta(days=30), until=now)
        assert [one.exam_pseudo_id for one in found] == ["a"]
    recent.close()


def test_repeats_of_exams_as_they_lie_on_s3(lake: Lake):
    done = {"patient_key": 5, "modality_group": "CT", "body_part_code": "CHEST"}
    for day, month in ((9, 202602), (1, 202603)):
        at = datetime(month // 100, month % 100, day, 8)
        lake.tables.commit_batch(EXAM, exams(f"e{day}", study_month=month, study_at=at, **done), batch_id=f"b{day}")
    found = repeats_unsorted(lake, date_offsets=np.zeros_like, window_days=30)
    place = ("UNKNOWN", "UNKNOWN", "CT")
    assert [tuple(row.values()) for row in found.to_pylist()] == [(202602, *place, 1, 0), (202603, *place, 1, 1)]


def test_batches_of_processes_at_once(lake: Lake):
    calls = [(commit, (lake, EXAM, exams(f"e{i}"), f"b{i}")) for i in range(2)]
    twins = [(commit, (lake, EXAM, exams("twin"), "twin")) for _ in range(2)]
    results = at_once([*calls, *twins])
    assert (results[:2], sorted(results[2:])) == ([True, True], [False, True])
    assert contents(lake) == [("e0", 1), ("e1", 1), ("twin", 1)]


@pytest.mark.parametrize("moment", ["the commit begins", "the commit is done"])
def test_a_writer_that_is_killed_on_s3(lake: Lake, moment: str):
    commit(lake, EXAM, exams("a"), "a")
    with killed_at(MOMENTS[moment], commit, lake, EXAM, exams("b"), "b"):
        is_done = moment == "the commit is done"
        assert contents(lake) == ([("a", 1), ("b", 1)] if is_done else [("a", 1)])
        assert commit(lake, EXAM, exams("b"), "b") is not is_done
        assert contents(lake) == [("a", 1), ("b", 1)]


def test_a_series_object_on_s3(lake: Lake, tmp_path: Path):
    store = lake.objects
    series = store.pack_series("h1/1.2/1.2.3", MEMBERS)
    assert list(store.list("h1/")) == [series.path]
    assert store.size(series.path) == series.n_bytes
    for (_, content), member in zip(MEMBERS, series.members, strict=True):
        assert store.read(series.path, member.offset, member.length) == content
    whole = tmp_path / "object.zip"
    whole.write_bytes(store.read(series.path, 0, series.n_bytes))
    with zipfile.ZipFile(whole) as archive:
        assert archive.testzip() is None
        assert [(name, archive.read(name)) for name in archive.namelist()] == MEMBERS
    local = type(store)(str(tmp_path / "objects"), scratch=store.scratch).pack_series("h1/1.2/1.2.3", MEMBERS)
    assert local == series, "a local folder holds the same object under the same name"
    assert list(store.scratch.iterdir()) == []

    for missing in (
        lambda: store.read("h1/none.zip", 0, 1),
        lambda: store.size("h1/none.zip"),
        lambda: store.read(series.path, series.n_bytes - 1, 2),
        lambda: store.read(series.path, series.n_bytes, 1),
    ):
        with pytest.raises(SourceMissing):
            missing()
    store.delete(series.path)
    store.delete(series.path)
    assert list(store.list("h1/")) == []


def test_the_same_object_is_not_sent_again(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    series = lake.objects.pack_series("h1/1.2/1.2.3", MEMBERS)
    monkeypatch.delattr(S3Store, "archive")
    assert lake.objects.pack_series("h1/1.2/1.2.3", MEMBERS) == series


def large() -> list[tuple[str, list[bytes]]]:
    """120 MiB: more than one part of a multipart upload."""
    return [("1.dcm", [bytes([i]) * (1 << 20) for i in range(120)])]


def pack(lake: Lake) -> object:
    return lake.objects.pack_series("h1/1.2/1.2.3", large())


def test_a_writer_that_is_killed_in_the_middle_of_an_object_leaves_none(lake: Lake):
    in_the_middle = Moment("before", "radlake.lake.store.client:S3Client", "ask", first_argument="PUT", nth=6)
    with killed_at(in_the_middle, pack, lake):
        assert list(lake.objects.list("")) == []
    series = lake.objects.pack_series("h1/1.2/1.2.3", large())
    assert list(lake.objects.list("")) == [series.path]
    assert lake.objects.read(series.path, series.members[0].offset + (119 << 20), 5) == bytes([119]) * 5


def test_a_store_that_does_not_answer_is_told_and_can_be_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("S3_KEY", "x")
    options = S3Options(endpoint_url="http://127.0.0.1:9", access_key="env:S3_KEY", secret_key="env:S3_KEY")
    lake = Lake(url="s3://bucket/lake", restricted=tmp_path, storage_options=options)
    with pytest.raises(StoreUnavailable):
        lake.objects.pack_series("h1/1.2/1.2.3", MEMBERS)
    with pytest.raises(StoreUnavailable):
        lake.tables.files(EXAM)


@pytest.mark.parametrize("how", ["no such key", "wrong secret", "no such bucket"])
def test_a_store_that_refuses_us_is_not_asked_again(
    rgw: Rgw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
):
    monkeypatch.setenv("S3_KEY", "x")
    url, options = rgw.bucket(), rgw.options
    if how == "no such bucket":
        url = "s3://no-such-bucket"
    else:
        options = replace(options, **{"access_key" if how == "no such key" else "secret_key": "env:S3_KEY"})
    lake = Lake(url=f"{url}/lake", restricted=tmp_path, storage_options=options)
    for ask in (
        lambda: lake.objects.pack_series("h1/1.2/1.2.3", MEMBERS),
        lambda: lake.objects.read("h1/1.2.zip", 0, 1),
        lambda: lake.tables.commit_batch(EXAM, exams("a"), batch_id="b1"),
    ):
        with pytest.raises(SourceMissing, match="Check the path and its permissions"):
            ask()


def key(exam: str) -> pa.Table:
    return pa.table({"exam_pseudo_id": [exam]})


def test_a_lake_without_a_table_is_told_to_who_reads_it(rgw: Rgw, tmp_path: Path):
    given = {f"s3_{name}": getattr(rgw.options, name) for name in ("endpoint_url", "access_key", "secret_key")}
    settings = Settings(lake=f"{rgw.bucket()}/provinze", restricted=tmp_path, **given)
    with pytest.raises(LakeEmpty, match="check the name and the bucket"):
        filled_lake(settings)


def test_the_whole_way_of_a_study_over_tls(rgw: Rgw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Harvest, quarantine and its replay, build, query, page, recompression and upkeep: with an encrypted lake."""
    monkeypatch.setenv("SSL_CERT_FILE", str(rgw.ca_file))  # how delta-rs learns of an authority
    policy = tmp_path / "policy.yaml"
    policy.write_text("encryption: aws:kms\nkms_key_id: lake-key\n")
    given = {f"s3_{name}": getattr(rgw.tls_options, name) for name in ("endpoint_url", "access_key", "secret_key")}
    settings = Settings(
        lake=f"{rgw.bucket()}/lake",
        restricted=tmp_path / "restricted",
        workers=0,
        s3_ca_file=rgw.ca_file,
        s3_policy=policy,
        **given,
    )
    settings.prepare_restricted()
    root_key = settings.restricted / "root.key"
    root_key.touch(mode=0o600)
    root_key.write_text("5f" * 32)
    study = ct_study(n=3)
    del study[2].SOPClassUID
    write_all(study, tmp_path / "files")
    hospital = hospital_of_files(settings, "h1")
    done = harvest_folder(settings, tmp_path / "files", hospital=hospital)
    assert (done.instances_stored, sum(done.quarantine_by_reason.values())) == (2, 1)
    again = harvest_folder(settings, tmp_path / "files", hospital=hospital)
    assert again.instances_stored == 0
    lake = filled_lake(settings)
    with closing(Ledger(settings.ledger)) as ledger:
        held = Quarantine(ledger, lake.quarantine).held()
    assert replay_quarantine(settings, hospital, held=held).instances_stored == 0
    assert recompress_hospital(settings, "h1", codec="jpegls").n_objects == 1
    build_lake(settings, now=datetime.now(UTC))
    with duck.connect(lake) as connection:
        assert connection.execute("SELECT count(*) FROM dicom.instance").fetchone() == (2,)
        [(path, offset, length)] = connection.execute(
            "SELECT object_path, object_offset, instance_bytes FROM dicom.instance ORDER BY ALL LIMIT 1"
        ).fetchall()
    assert lake.objects.read(path, offset, length)[128:132] == b"DICM"
    with closing(Ledger(settings.ledger)) as ledger:
        tidy(lake, ledger=ledger, retention=timedelta(0))
    assert list(lake.objects.list("")) == [path], "the object before recompression is gone"
    app = create_app(copying(lambda: duck.connect(lake)))
    with running(app) as url, httpx.Client(base_url=url, timeout=120) as client:
        assert client.get("/healthz").json()["status"] == "ok"
        assert client.get("/").status_code == 200
