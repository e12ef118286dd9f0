"""Withdrawal from a lake on a real S3 store; what a bucket with versions keeps is forgotten too."""

from __future__ import annotations

import io
import json
import uuid
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from radlake.cli.cohort import app
from radlake.cohort.rekey import new_identity
from radlake.cohort.results.taken import results_store
from radlake.config import Settings
from radlake.ingest import harvest_folder
from radlake.ingest.build import build_lake
from radlake.lake import Lake
from radlake.lake.store import S3Store, open_store
from radlake.lake.store.policy import ObjectPolicy, S3Policy
from radlake.vault.lake_key import lake_keys
from support.cohorts import approved, built_everybody, released, write_cts
from support.kills.scenario import files_of
from support.lakes import KEY, picture
from support.residency import the_hospital
from support.results import write_results
from support.rgw import Rgw
from support.withdrawal import NOW, PATIENT, of_person, withdrawn_person

pytestmark = pytest.mark.rgw


def lake_on_s3(rgw: Rgw, folder: Path, *, slices: int = 1) -> Settings:
    """Five persons."""
    archive = write_cts(folder / "in", persons=5, slices=slices)
    hospitals = folder / "hospitals.yaml"
    entry = f"hospital_id: h1, name_zh: 样例, name_en: Sample, node: {{kind: folder, path: '{archive}'}}"
    hospitals.write_text(f"hospitals:\n  - {{{entry}}}\n", encoding="utf-8")
    settings = Settings(
        lake=f"{rgw.bucket()}/lake",
        restricted=folder / "restricted",
        hospitals=hospitals,
        s3_endpoint_url=rgw.endpoint_url,
        s3_access_key=rgw.options.access_key,
        s3_secret_key=rgw.options.secret_key,
        workers=0,
    )
    settings.prepare_restricted()
    (settings.restricted / "root.key").touch(mode=0o600)
    (settings.restricted / "root.key").write_text(KEY)
    harvest_folder(settings, archive, hospital=the_hospital(settings))
    build_lake(settings, now=NOW, layers=["core"])
    return settings


def left_of(settings: Settings, names: set[str]) -> set[str]:
    """Files of the bucket in whose name, bytes or columns one of the names stands: a search of its own."""
    store, found = open_store(settings.lake, options=Lake.from_settings(settings).storage_options), set()
    for key in store.list(""):
        content = store.read(key, offset=0, length=store.size(key) or 0)
        if key.endswith(".parquet"):
            rows = pq.ParquetFile(io.BytesIO(content)).read().to_pylist()
            content = "\n".join(map(str, rows)).encode()
        found |= {key for name in names if name.encode() in content or name in key}
    return found


def test_nothing_in_the_bucket_leads_back(rgw: Rgw, tmp_path: Path) -> None:
    settings = lake_on_s3(rgw, tmp_path)
    built_everybody(settings)
    subject = of_person(settings)
    names = {*subject.lake_studies, *subject.uids, *subject.exams, str(subject.patient_keys[0])}
    assert len(left_of(settings, names)) > 8
    done = withdrawn_person(settings)
    assert left_of(settings, names) == set()
    assert done.report.content["remnants"] == 0
    assert done.report.content["removed"]["objects"] == 1
    assert len(picture(settings)["dicom.study"]) == 4
    assert PATIENT not in json.dumps(done.report.content)


def test_results_of_research_come_home_to_the_bucket_and_go_with_their_person(
    rgw: Rgw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = lake_on_s3(rgw, tmp_path, slices=3)
    for name in ("s3_endpoint_url", "s3_access_key", "s3_secret_key"):
        monkeypatch.setenv(f"RADLAKE_{name.upper()}", getattr(settings, name))
    made = released(settings, built_everybody(settings))
    approved(settings, made.release_id, expires_on=date(2099, 1, 1))
    home, subject = write_results(settings, made.release_id, tmp_path / "home"), of_person(settings)

    def run(verb: str, *words: str) -> Any:
        result = CliRunner().invoke(app, ["results", verb, made.release_id, *words, "--json"], obj=settings)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    assert len(run("take", str(home), "--by", "office")["taken"]) == 7
    assert len(run("take", str(home), "--by", "office")["here"]) == 7
    assert run("get", str(tmp_path / "back"))["written"] == 7
    assert files_of(tmp_path / "back") == files_of(home)
    project = lake_keys(settings).for_project("alpha")
    called = new_identity(project, person_key=subject.patient_keys[0], lake_offset_seconds=0).person_pseudo_id
    ours = {row["sop_instance_uid"] for row in run("list") if row["person_pseudo_id"] == called}
    names = {called, *ours, *map(project.uid, subject.uids)}
    assert len(left_of(settings, names)) > 1
    done = withdrawn_person(settings)
    assert left_of(settings, names) == set()
    assert done.report.content["removed"]["results"] == len(ours) >= 1
    assert len(run("list")) == 7 - len(ours)
    kept = Lake.from_settings(settings)
    assert sorted(row["object_path"] for row in run("list")) == list(results_store(kept).list())


def test_what_was_there_before_versions_were_switched_on_is_forgotten_too(rgw: Rgw, tmp_path: Path) -> None:
    bucket = f"test-{uuid.uuid4().hex}"
    store = S3Store(f"s3://{bucket}", rgw.options)
    with closing(rgw.options.client(bucket)) as client:
        client.ask("PUT", "")
        for content in (b"with", b"without"):
            (tmp_path / "part").write_bytes(content)
            store.put({"log.json": tmp_path / "part"})
            status = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
            client.ask("PUT", "", query={"versioning": ""}, body=status)
        assert client.ask("GET", "", query={"versions": ""}).body.count(b"<Key>log.json</Key>") == 2
        store.forget_older("log.json")
        assert client.ask("GET", "", query={"versions": ""}).body.count(b"<Key>log.json</Key>") == 1
    assert store.read("log.json", offset=0, length=7) == b"without"


def test_a_bucket_with_versions_forgets_what_bore_the_name_and_tells_locks(rgw: Rgw, tmp_path: Path) -> None:
    bucket = f"test-{uuid.uuid4().hex}"
    with closing(rgw.options.client(bucket)) as client:
        client.ask("PUT", "", headers={"x-amz-bucket-object-lock-enabled": "true"})
    store = S3Store(f"s3://{bucket}/lake", rgw.options)

    def put(name: str, content: bytes) -> None:
        path = tmp_path / "part"
        path.write_bytes(content)
        store.put({name: path})

    for content in (b"with", b"with again", b"without"):
        put("log/1.json", content)
    put("log/1.json.other", b"of another name")
    put("log/1.json.other", b"of another name, again")
    store.forget_older("log/1.json")
    listed = store.client.ask("GET", "", query={"versions": "", "prefix": "lake/log/"}).body
    assert listed.count(b"<Key>lake/log/1.json</Key>") == 1
    assert listed.count(b"<Key>lake/log/1.json.other</Key>") == 2
    assert store.read("log/1.json", offset=0, length=7) == b"without"

    policy = S3Policy(objects=ObjectPolicy(lock="COMPLIANCE", lock_days=1))
    locking = S3Store(f"s3://{bucket}/lake", replace(rgw.options, policy=policy))
    (tmp_path / "part").write_bytes(b"x")
    locking.archive("objects/1.zip", tmp_path / "part")
    assert locking.lock_of("objects/1.zip").startswith("COMPLIANCE until ")
    assert [store.lock_of("log/1.json"), store.lock_of("nothing")] == ["", ""]
