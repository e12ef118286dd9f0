"""Releases: two of the same people cannot be joined, pixels stay, small classes stay out, and nobody pulls unasked."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import pytest
import xxhash

import radlake
from radlake.cohort.approval import ReleaseUnfit, decisions, revoke, standing
from radlake.cohort.build import Built
from radlake.cohort.candidate import Candidate, open_candidate
from radlake.cohort.columns import identities
from radlake.cohort.linking import common_offsets, joined_values
from radlake.cohort.rekey import new_identity
from radlake.cohort.series import store_of
from radlake.config import Settings
from radlake.deidentify import KeyRing
from radlake.errors import ConfigInvalid
from radlake.ingest.offsets import date_offsets
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from support.cohorts import CONTACT, NOW, approved, built_everybody, lake_of_cts, released, write_cts
from support.dicom import ct_study, presentation_state, write
from support.lakes import KEY

_FOLLOWED = (
    "{cohort: followed, version: 1, title: {zh: 复查, en: Followed}, include: {}, index: first,"
    " follow_up: {to_days: 300}}"
)


_CONTROLLED = (
    "{cohort: controlled, version: 1, title: {zh: 对照, en: Controlled}, include: {sex: M},"
    " controls: {per_case: 1, match: [age, region], seed: 1, sex: F}}"
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("cohort")
    return lake_of_cts(folder, write_cts(folder / "in", persons=8, exams=2))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """One person has an object that nobody else has."""
    folder = tmp_path_factory.mktemp("odd")
    archive = write_cts(folder / "in", persons=6, slices=2)
    write(presentation_state(of=ct_study(n=1, patient_id="P0003", study=0)[0]), archive / "pr.dcm")
    return lake_of_cts(folder, archive)


@pytest.fixture(scope="module")
def built(settings: Settings) -> Built:
    return built_everybody(settings)


@pytest.fixture(scope="module")
def alpha(settings: Settings, built: Built) -> Candidate:
    return released(settings, built, "alpha")


@pytest.fixture(scope="module")
def beta(settings: Settings, built: Built, alpha: Candidate) -> Candidate:
    return released(settings, built, "beta")


def tables(candidate: Candidate) -> dict[str, pa.Table]:
    return {name: pq.read_table(path) for name, path in candidate.tables.items()}


def files(settings: Settings, candidate: Candidate) -> dict[str, bytes]:
    """Part-10 files of a release by SOP Instance UID."""
    store = store_of(Lake.from_settings(settings), candidate.release_id)
    found = {}
    for path in store.list():
        with zipfile.ZipFile(io.BytesIO(store.read(path, 0, store.size(path)))) as archive:
            found |= {name.removesuffix(".dcm"): archive.read(name) for name in archive.namelist()}
    return found


def lake_pixels(settings: Settings) -> dict[str, str]:
    """Digest of the pixels of every instance of the lake, by its UID there."""
    lake = Lake.from_settings(settings)
    with duck.connect(lake, tables=["dicom.instance"]) as connection:
        rows = connection.execute(
            "SELECT sop_instance_uid, object_path, object_offset, instance_bytes FROM dicom.instance"
        ).fetchall()
    return {uid: pixels(lake.objects.read(path, offset, length)) for uid, path, offset, length in rows}


def pixels(data: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(pydicom.dcmread(io.BytesIO(data)).get("PixelData", b""))


def who(built: Built, project: str) -> dict[str, int]:
    """The truth: person of the lake by pseudonym of a project."""
    keys = KeyRing.from_secret(KEY).for_project(project)
    persons = set(pq.read_table(built.table("exam"))["person_key"].to_pylist())
    return {new_identity(keys, person_key=key, lake_offset_seconds=0).person_pseudo_id: key for key in persons}


def test_no_value_of_any_column_joins_two_projects_of_the_same_people(
    built: Built, alpha: Candidate, beta: Candidate
) -> None:
    ours, theirs = tables(alpha), tables(beta)
    one, other = who(built, "alpha"), who(built, "beta")
    assert set(ours["person"]["person_pseudo_id"].to_pylist()) == set(one)
    assert len(set(one.values()) & set(other.values())) == 8
    for name in ours:
        for column in identities(name):
            for others in theirs:
                for theirs_column in theirs[others].column_names:
                    common = set(ours[name][column].to_pylist()) & set(theirs[others][theirs_column].to_pylist())
                    assert common - {None} == set(), (name, column, others, theirs_column)
    joins = {f"{found.column}={found.other}": found.pairs for found in joined_values(ours, theirs)}
    right = {name for name, pairs in joins.items() if any(one[a] == other[b] for a, b in pairs)}
    assert right == set()


def test_no_offset_joins_the_dates_of_two_projects(alpha: Candidate, beta: Candidate, settings: Settings) -> None:
    ours, theirs = tables(alpha), tables(beta)
    assert common_offsets(ours, theirs) == []
    moved = [None if at is None else at + timedelta(days=3) for at in ours["exam"]["study_at"].to_pylist()]
    shifted = {"exam": pa.table({"study_at": pa.array(moved, type=pa.timestamp("us"))})}
    assert ("exam.study_at", "exam.study_at", timedelta(days=-3)) in common_offsets(ours, shifted)


def test_neither_bytes_nor_names_of_objects_hold_anything_of_the_lake_or_of_another_project(
    settings: Settings, built: Built, alpha: Candidate, beta: Candidate
) -> None:
    one, other = files(settings, alpha), files(settings, beta)
    assert len(one) == len(other) == 8 * 2 * 3
    with duck.connect(Lake.from_settings(settings), tables=["dicom"]) as connection:
        told = connection.execute(
            "SELECT printf('%016x', patient_key) FROM dicom.study UNION SELECT study_instance_uid FROM dicom.study"
            " UNION SELECT series_instance_uid FROM dicom.series UNION SELECT sop_instance_uid FROM dicom.instance"
            " UNION SELECT exam_pseudo_id FROM dicom.study"
        ).fetchall()
    old = [text.encode() for (text,) in told]
    theirs = [uid.encode() for uid in other] + [person.encode() for person in who(built, "beta")]
    for name, data in one.items():
        assert not [text for text in (*old, *theirs) if text in data or text in name.encode()]
    assert not {xxhash.xxh3_128_hexdigest(data) for data in one.values()} & {
        xxhash.xxh3_128_hexdigest(data) for data in other.values()
    }


def test_pixels_are_those_of_the_lake_and_references_still_lead_somewhere(odd: Settings) -> None:
    alpha = released(odd, built_everybody(odd))
    one = files(odd, alpha)
    assert sorted(map(pixels, one.values())) == sorted(lake_pixels(odd).values())
    read = {uid: pydicom.dcmread(io.BytesIO(data)) for uid, data in one.items()}
    [state] = [ds for ds in read.values() if ds.Modality == "PR"]
    referred = state.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID
    assert read[referred].SeriesInstanceUID == state.ReferencedSeriesSequence[0].SeriesInstanceUID
    assert read[referred].PatientID == state.PatientID
    assert {ds.file_meta.MediaStorageSOPInstanceUID for ds in read.values()} == set(read)
    for row in tables(alpha)["instance"].to_pylist():
        data = one[row["sop_instance_uid"]]
        assert (xxhash.xxh3_128_hexdigest(data), len(data)) == (row["digest"], row["instance_bytes"])
        if row["pixel_offset"] is not None:
            ds = read[row["sop_instance_uid"]]
            assert data[row["pixel_offset"] :][: len(ds.PixelData)] == ds.PixelData


def test_days_between_exams_of_a_person_survive_in_tables_and_headers(settings: Settings, alpha: Candidate) -> None:
    days: dict[str, set[date]] = {}
    for ds in (pydicom.dcmread(io.BytesIO(data)) for data in files(settings, alpha).values()):
        if ds.Modality == "CT":
            days.setdefault(ds.PatientID, set()).add(date.fromisoformat(ds.StudyDate))
    in_tables: dict[str, set[date]] = {}
    for row in tables(alpha)["exam"].to_pylist():
        in_tables.setdefault(row["person_pseudo_id"], set()).add(row["study_at"].date())
    assert days == in_tables
    true = {  # of write_cts: February has 28 days in 2026
        (date(2026, 4, 1 + (8 * p + 1) % 28) - date(2026, 1, 1 + 7 * p % 28)).days for p in range(8)
    }
    assert {(max(found) - min(found)).days for found in days.values()} == true


def test_ages_are_bands_and_who_would_be_alone_is_left_out(tmp_path: Path) -> None:
    archive = write_cts(tmp_path / "in", persons=20, slices=1, PatientWeight=80)
    [odd] = ct_study(n=1, patient_id="ODD", patient="Odd^One", sex="F", birth_date="20200101", accession="X")
    write(odd, archive / "odd.dcm")
    settings = lake_of_cts(tmp_path, archive)
    made = released(settings, built_everybody(settings))
    persons = tables(made)["person"].to_pylist()
    assert {(row["patient_sex"], row["age_from_years"], row["age_to_years"]) for row in persons} == {("M", 65, 69)}
    assert (made.document["n_persons"], made.document["rejected"]) == (20, {"small_class": 1})
    assert made.document["risk"]["smallest_class"] == 20
    headers = [pydicom.dcmread(io.BytesIO(data)) for data in files(settings, made).values()]
    assert {(ds.PatientAge, ds.PatientSex, "PatientWeight" in ds) for ds in headers} == {("065Y", "M", False)}


def test_making_a_release_again_gives_the_same_bytes(settings: Settings, built: Built, alpha: Candidate) -> None:
    before = {path: path.read_bytes() for path in sorted(alpha.folder.glob("tables/*"))}
    assert released(settings, built, "alpha").digest == alpha.digest
    assert {path: path.read_bytes() for path in sorted(alpha.folder.glob("tables/*"))} == before


def test_what_the_lake_has_damaged_is_rejected_with_its_reason(tmp_path: Path) -> None:
    settings = lake_of_cts(tmp_path, write_cts(tmp_path / "in", persons=6, slices=2))
    lake = Lake.from_settings(settings)
    path = Path(lake.objects.store.uri(sorted(lake.objects.list())[0]))
    data = bytearray(path.read_bytes())
    data[-900] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(data))
    made = released(settings, built_everybody(settings))
    assert made.document["rejected"] == {"source_damaged": 1}
    assert (made.document["n_series"], len(files(settings, made))) == (5, 10)
    page = (made.folder / "review" / "index.html").read_text(encoding="utf-8")
    assert "source_damaged" in page
    assert "<5" in page.replace("&lt;", "<")
    assert "://" not in page


def test_the_review_asks_about_intervals_and_about_other_releases(
    settings: Settings, odd: Settings, beta: Candidate
) -> None:
    told = json.loads((beta.folder / "review" / "review.json").read_text(encoding="utf-8"))
    assert told["risk"]["intervals"]["n_several"] == 8
    assert any("several exams" in question for question in told["questions"])
    both = [released(odd, built_everybody(odd), project) for project in ("one", "two")]
    told = json.loads((both[1].folder / "review" / "review.json").read_text(encoding="utf-8"))
    assert any(both[0].release_id in question and "series.modality" in question for question in told["questions"])


def test_nothing_of_a_release_is_told_before_it_is_approved_or_after_it_ended(settings: Settings, built: Built) -> None:
    made = released(settings, built, "gamma")
    folder = Path(settings.lake) / "releases" / made.release_id
    state = folder / "state.json"
    assert json.loads(state.read_text()) == {"contact": CONTACT, "state": "waiting"}
    assert sorted(path.name for path in folder.iterdir()) == ["objects", "state.json"]
    approved(settings, made.release_id)
    approved(settings, made.release_id)  # by a twin, or after a kill
    told = json.loads((folder / "release.json").read_text())
    assert told["approval"]["expires_on"] == "2027-01-01"
    assert told["approval"]["digest"] == open_candidate(Lake.from_settings(settings), made.release_id).digest
    revoke(settings, made.release_id, by="committee", why="2026-18", now=NOW)
    assert not (folder / "release.json").exists()
    assert json.loads(state.read_text())["state"] == "revoked"
    ledger = Ledger(settings.ledger)
    try:
        found = [(one.decision, one.holder, one.why) for one in decisions(ledger, made.release_id)]
        now = standing(Lake.from_settings(settings), ledger)
    finally:
        ledger.close()
    assert found == [("approved", "institute", "2026-17"), ("revoked", "", "2026-18")]
    assert (last := now[made.release_id]) is not None
    assert (last.decision, last.holder, last.why) == ("revoked", "institute", "2026-18")


def test_an_approval_without_a_future_or_a_purpose_is_refused(settings: Settings, alpha: Candidate) -> None:
    with pytest.raises(ReleaseUnfit, match="not in the future"):
        approved(settings, alpha.release_id, expires_on=date(2026, 11, 22))
    with pytest.raises(ConfigInvalid, match="up to 64 lower-case"):
        released(settings, built_everybody(settings), "No Name")


def test_a_person_with_two_pseudonyms_has_one_offset_again() -> None:
    keys = KeyRing.from_secret(KEY).for_project("p")
    lake = [(-100 * 86_400 + 5), (-7 * 86_400 + 59)]
    ids = [new_identity(keys, person_key=7, lake_offset_seconds=seconds) for seconds in lake]
    true = NOW
    assert len({one.at(true + timedelta(seconds=s)) for one, s in zip(ids, lake, strict=True)}) == 1
    assert {
        one.shift.of_date(f"{true + timedelta(seconds=s):%Y%m%d}", time=f"{true + timedelta(seconds=s):%H%M%S}")
        for one, s in zip(ids, lake, strict=True)
    } == {f"{ids[0].at(true + timedelta(seconds=lake[0])):%Y%m%d}"}


def test_follow_ups_keep_their_true_days(settings: Settings) -> None:
    made = released(settings, built_everybody(settings, _FOLLOWED), "delta")
    found = tables(made)
    at = {row["exam_pseudo_id"]: row["study_at"] for row in found["exam"].to_pylist()}
    pairs = found["follow_up"].to_pylist()
    assert len(pairs) == 8
    for pair in pairs:
        assert (at[pair["exam_pseudo_id"]].date() - at[pair["index_exam_pseudo_id"]].date()).days == pair["days_after"]


def test_controls_are_told_by_their_new_names(tmp_path: Path) -> None:
    archive = write_cts(tmp_path / "in", persons=12)
    for path in archive.glob("*.dcm"):
        if int(path.name.split("-")[0]) >= 6:
            ds = pydicom.dcmread(path)
            ds.PatientSex = "F"
            ds.save_as(path, enforce_file_format=True)
    settings = lake_of_cts(tmp_path, archive)
    made = released(settings, built_everybody(settings, _CONTROLLED))
    found = tables(made)
    exams = {row["exam_pseudo_id"]: row for row in found["exam"].to_pylist()}
    sexes = {row["person_pseudo_id"]: row["patient_sex"] for row in found["person"].to_pylist()}
    pairs = found["control"].to_pylist()
    assert len(pairs) == 6
    for pair in pairs:
        case, control = exams[pair["index_exam_pseudo_id"]], exams[pair["exam_pseudo_id"]]
        assert (case["role"], control["role"]) == ("index", "control")
        assert control["person_pseudo_id"] == pair["person_pseudo_id"]
        assert (sexes[case["person_pseudo_id"]], sexes[control["person_pseudo_id"]]) == ("M", "F")
    assert found["series"].num_rows == 12
    approved(settings, made.release_id)
    opened = radlake.open_cohort(made.release_id, lake=settings.lake)
    assert len(opened.controls) == 6


def test_the_lakes_offsets_are_undone(settings: Settings, built: Built, alpha: Candidate) -> None:
    keys = KeyRing.from_secret(KEY).for_project("alpha")
    with date_offsets(settings) as offsets:
        for row in pq.read_table(built.table("exam")).to_pylist():
            [lake] = offsets(np.array([row["patient_key"]]))
            true = row["study_at"] - timedelta(seconds=int(lake))
            identity = new_identity(keys, person_key=row["person_key"], lake_offset_seconds=int(lake))
            assert identity.at(row["study_at"]) == true + keys.offset(int(identity.person_pseudo_id, 16))
