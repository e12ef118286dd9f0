"""Results come home: checked against object, provenance and release; once, whole, and readable again."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import xxhash
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from typer.testing import CliRunner

import radlake
from radlake.cli.cohort import app
from radlake.cohort.approval import revoke
from radlake.cohort.candidate import open_candidate
from radlake.cohort.pull import ReleaseClosed, open_release
from radlake.cohort.results.check import KINDS, ResultRefused, checked_content, checked_provenance
from radlake.cohort.results.persons import Persons, persons_of
from radlake.cohort.results.referred import Referred
from radlake.cohort.results.take import take_results
from radlake.cohort.results.taken import TABLE, results_store, taken_results
from radlake.config import Settings
from radlake.contracts import load_table
from radlake.errors import ConfigInvalid, SourceMissing
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from radlake.referee import identifiers_told, judge_derived, read
from radlake.vault.lake_key import lake_keys
from radlake.vault.trail import AuditTrail
from support.cohorts import NOW, approved, built_everybody, lake_of_cts, released, write_cts
from support.killing import run_killed
from support.kills.scenario import files_of
from support.results import ALGORITHM, changed, of_person, take_all, write_results


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A lake with a release that is approved, and a folder of results beside it."""
    folder = tmp_path_factory.mktemp("results")
    settings = lake_of_cts(folder, write_cts(folder / "in", persons=5))
    made = released(settings, built_everybody(settings))
    approved(settings, made.release_id, expires_on=date(2099, 1, 1))
    write_results(settings, made.release_id, folder / "home")
    return folder, made.release_id


@pytest.fixture
def settings(origin: tuple[Path, str], tmp_path: Path) -> Settings:
    return Settings(lake=str(shutil.copytree(origin[0] / "lake", tmp_path / "lake")), workers=0)


@pytest.fixture
def home(origin: tuple[Path, str], tmp_path: Path) -> Path:
    return shutil.copytree(origin[0] / "home", tmp_path / "home")


@pytest.fixture
def release_id(origin: tuple[Path, str]) -> str:
    return origin[1]


def one_of(home: Path, kind: str) -> Path:
    return next(path for path in sorted(home.glob("*/*/*.dcm")) if told_of(path)["kind"] == kind)


def told_of(path: Path) -> dict[str, Any]:
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def refusal_of(settings: Settings, release_id: str, path: Path) -> str:
    """Why this one is refused; all others come home."""
    found = {one.place: one for one in take_all(settings, release_id, path.parents[2])}
    refused = found.pop(path.relative_to(path.parents[2]).as_posix())
    assert [one.refused for one in found.values()] == [""] * 6
    assert {row["sop_instance_uid"] for row in taken_results(Lake.from_settings(settings))} == {
        one.sop_instance_uid for one in found.values()
    }
    assert len(list(results_store(Lake.from_settings(settings)).list())) == 6
    assert path.is_file()
    return refused.refused


def test_by_the_command_line_they_come_home_once_and_can_be_had_again(
    settings: Settings, release_id: str, home: Path, tmp_path: Path
) -> None:
    def run(*words: str) -> Any:
        result = CliRunner().invoke(app, ["results", *words], obj=settings)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    before = files_of(home)
    first = run("take", release_id, str(home), "--by", "office", "--json")
    assert (len(first["taken"]), first["here"], first["refused"]) == (7, [], {})
    stored = files_of(Path(settings.lake) / "results")
    version = Lake.from_settings(settings).version(TABLE)
    again = run("take", release_id, str(home), "--by", "another", "--json")
    assert (again["taken"], sorted(again["here"])) == ([], sorted(first["taken"]))
    assert files_of(home) == before
    assert files_of(Path(settings.lake) / "results") == stored
    assert Lake.from_settings(settings).version(TABLE) == version
    rows = run("list", release_id, "--json")
    assert {row["sop_instance_uid"] for row in rows} == set(first["taken"])
    assert {row["taken_by"] for row in rows} == {"office"}
    assert {(row["algorithm_name"], row["algorithm_version"], row["algorithm_parameters"]) for row in rows} == {
        ("thresholder", "1.2", '{"hu": "100"}')
    }
    assert run("get", release_id, str(tmp_path / "back"), "--json") == {"written": 7, "here": 0}
    assert files_of(tmp_path / "back") == before
    assert run("get", release_id, str(tmp_path / "back"), "--json") == {"written": 0, "here": 7}
    catalogue = radlake.open_cohort(release_id, lake=settings.lake, results=tmp_path / "back").results.catalogue()
    assert set(catalogue["sop_instance_uid"]) == set(first["taken"])
    shown = CliRunner().invoke(app, ["results", "list", release_id], obj=settings).output
    assert "thresholder 1.2" in shown
    assert shown.count("segmentation") == 5


def test_rows_keep_the_contract_and_name_nothing_of_the_lake(settings: Settings, release_id: str, home: Path) -> None:
    take_all(settings, release_id, home)
    lake = Lake.from_settings(settings)
    with duck.connect(lake, zone="restricted", tables=[TABLE, "dicom.instance", "dicom.study"]) as connection:
        rows = connection.sql(f"FROM {TABLE}").to_arrow_table()
        keys = connection.sql("SELECT DISTINCT patient_key FROM dicom.study").fetchall()
        uids = connection.sql("SELECT sop_instance_uid, series_instance_uid, study_instance_uid FROM dicom.instance")
        names = {uid for row in uids.fetchall() for uid in row} | {f"{key:016x}" for (key,) in keys}
    assert load_table(TABLE).problems(rows.cast(load_table(TABLE).arrow_schema())) == []
    with duck.connect(lake, tables=[TABLE]) as connection:
        assert connection.sql(f"FROM {TABLE}").fetchall() == []  # who reads the lake does not see it
    assert len(names) > 20
    stored = [path for path in (Path(settings.lake) / "results").rglob("*") if path.is_file()]
    for text in (str(rows.to_pylist()), *(str(path) for path in stored)):
        assert not any(name in text for name in names)
    for path in stored:
        assert not any(name.encode() in path.read_bytes() for name in names)
    for row in rows.to_pylist():
        content = results_store(lake).read(row["object_path"], row["object_offset"], row["instance_bytes"])
        assert content == next(home.glob(f"*/*/{row['sop_instance_uid']}.dcm")).read_bytes()


def named(ds: Dataset) -> None:
    ds.PatientName = "Wang^Xiaolan"


def with_creator(ds: Dataset) -> None:
    ds.ContentCreatorName = "Li^Lei"


def with_private(ds: Dataset) -> None:
    ds.private_block(0x0011, "SOMEBODY", create=True).add_new(1, "LO", "bed 12")


def with_telephone(ds: Dataset) -> None:
    ds.SeriesDescription = "call 13812345678"


def with_hospital(ds: Dataset) -> None:
    ds.InstitutionName = "City Hospital"


def born(ds: Dataset) -> None:
    ds.PatientBirthDate = "19600101"


def other_study(ds: Dataset) -> None:
    ds.StudyInstanceUID = generate_uid()


def other_day(ds: Dataset) -> None:
    ds.StudyDate = "20260101"


def other_frame(ds: Dataset) -> None:
    ds.FrameOfReferenceUID = generate_uid()


def foreign_source(ds: Dataset) -> None:
    ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID = "1.2.3.4"


def foreign_series(ds: Dataset) -> None:
    ds.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3.4"


def burned_in(ds: Dataset) -> None:
    ds.BurnedInAnnotation = "YES"


def more_pixels(ds: Dataset) -> None:
    ds.PixelData += b"A name behind the last frame...."


def as_ct(ds: Dataset) -> None:
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"


def behind_pixels(ds: Dataset) -> None:
    ds.add_new(0xFFFCFFFC, "OB", b"Li Lei..")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (named, r"\(0010,0010\) is not what its provenance tells"),
        (with_creator, r"not-a-pseudonym at \(0070,0084\) name"),
        (with_private, r"private-attribute at \(0011,1001\)"),
        (with_telephone, r"telltale at \(0008,103E\) phone"),
        (with_hospital, r"\(0008,0080\)"),
        (born, r"\(0010,0030\)"),
        (other_study, r"\(0020,000D\) is not what its provenance tells"),
        (other_day, r"\(0008,0020\) is not what the images of the release tell"),
        (other_frame, r"\(0020,0052\) refers to what is not in its provenance"),
        (foreign_source, r"\(0008,1155\) refers to what is not in its provenance"),
        (foreign_series, r"\(0020,000E\) refers to what is not in its provenance"),
        (burned_in, r"\(0028,0301\) says that its pixels tell"),
        (more_pixels, r"trailing-bytes at \(7FE0,0010\) not as long as rows"),
        (behind_pixels, "trailing-bytes at behind the pixels"),
        (as_ct, r"\(0008,0016\) is not what its provenance tells"),
    ],
)
def test_an_object_that_tells_more_is_refused_alone(
    change: Callable[[Dataset], None], reason: str, settings: Settings, release_id: str, home: Path
) -> None:
    path = one_of(home, "segmentation")
    changed(path, change)
    told = refusal_of(settings, release_id, path)
    assert re.search(reason, told), told
    assert "Wang" not in told
    assert "13812345678" not in told


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"source_series_instance_uid": "1.2.3"}, "a series that is not in"),
        ({"source_sop_instance_uids": ["1.2.3"]}, "names instances that are not of its source series"),
        ({"source_object_digest": "0" * 32}, "other content in this release"),
        ({"person_pseudo_id": "0123456789abcdef"}, "person_pseudo_id of its provenance is not that of"),
        ({"release_id": "another"}, "made from another release"),
        ({"release_digest": "0" * 64}, "was never approved as what its provenance tells"),
        (
            {"algorithm": {"name": "net", "version": "1", "parameters": {"checked_on": "Wang, Number0003"}}},
            "its provenance tells who somebody of the release is: name",
        ),
        ({"kind": "photograph"}, "its kind is none of"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.2"}, "its SOP Class is none of"),
        ({"algorithm": {"name": "net"}}, "name, version and parameters"),
        ({"created_at": "2026-11-22"}, "no time with an offset"),
        ({"note": "more"}, "more than provenance has"),
        ({"software": ""}, "software of its provenance is no text"),
        (
            {"algorithm": {"name": "net", "version": "1", "parameters": {"call": "13812345678"}}},
            "its provenance has what looks like a phone",
        ),
    ],
)
def test_provenance_that_does_not_hold_is_refused(
    told: dict[str, Any], reason: str, settings: Settings, release_id: str, home: Path
) -> None:
    path = one_of(home, "measurements")
    changed(path, **told)
    assert reason in refusal_of(settings, release_id, path)


@pytest.mark.parametrize("typed", ["Wang Number0003", "lesion of number0003 WANG", "wangnumber0003"])
def test_a_name_typed_by_hand_is_found_by_the_vault(
    typed: str, settings: Settings, release_id: str, home: Path
) -> None:
    """Of whomever of the release, in the object of whomever, without a title before it."""
    for path in sorted(home.glob("*/*/*.dcm")):
        if told_of(path)["kind"] == "segmentation":
            changed(path, lambda ds: setattr(ds.SegmentSequence[0], "SegmentLabel", typed))
    found = take_all(settings, release_id, home)
    refused = [one.refused for one in found if one.refused]
    assert (len(found), len(refused)) == (7, 5)
    assert set(refused) == {"identifier-in-element at (0062,0002)[0]>(0062,0005) name"}
    with closing(Ledger(settings.ledger)) as ledger:
        last = list(AuditTrail(ledger, lake_keys(settings), restricted=settings.restricted).entries())[-1]
    assert (last.action, last.kind, last.agent, last.purpose) == (
        "search",
        "results",
        "office",
        f"results of {release_id}",
    )


@pytest.mark.parametrize(
    ("label", "own", "of_another"),
    [
        ("李雷 左肺", "name", "name"),
        ("结节(李 雷)", "name", "name"),
        ("Li Lei nodule", "name", ""),  # in Latin letters, which others have too, of the person alone
        ("case 88123", "id", ""),
        ("No. 3201990012345", "id", "id"),
        ("born 1960-03-07", "date", ""),
        ("李 nodule 8812 of 19600308", "", ""),
        ("Lung", "", ""),
    ],
)
def test_what_the_vault_knows_is_found_as_it_is_typed(label: str, own: str, of_another: str, home: Path) -> None:
    """A short number, a birth date and a name in Latin letters count for their own person only."""
    path = one_of(home, "segmentation")
    changed(path, lambda ds: setattr(ds.SegmentSequence[0], "SegmentLabel", label))
    identity = {"patient_name": ["李雷"], "patient_id": ["88123"], "patient_birth_date": ["19600307"],
                "other_patient_ids": ["3201990012345"]}  # fmt: skip
    persons = Persons({"p1": identifiers_told(identity), "p2": identifiers_told({"patient_name": ["韩梅梅"]})})
    data = path.read_bytes()
    for person, kind in (("p1", own), ("p2", of_another)):
        _, found = judge_derived(data, read(data), searchers=persons.searchers(person), owner=person)
        assert {one.kind for one in found if one.rule.startswith("identifier")} == ({kind} if kind else set())
        assert persons.told_in(label, person=person) == ({kind} if kind else set())


def test_results_of_a_release_that_was_approved_before_come_home(
    settings: Settings, release_id: str, home: Path
) -> None:
    """It was made and approved again since; what did not change of it may still be the source of results."""
    lake = Lake.from_settings(settings)
    candidate = open_candidate(lake, release_id)
    text = (candidate.folder / "candidate.json").read_text(encoding="utf-8")
    (candidate.folder / "candidate.json").write_text(text + "\n", encoding="utf-8")
    approved(settings, release_id, expires_on=date(2099, 1, 1))
    digest = open_release(settings, release_id, today=NOW.date()).document["approval"]["digest"]
    assert digest != told_of(one_of(home, "segmentation"))["release_digest"]
    assert all(one.is_new for one in take_all(settings, release_id, home))


def test_a_report_by_another_template_is_refused(settings: Settings, release_id: str, home: Path) -> None:
    path = one_of(home, "measurements")

    def by_another(ds: Dataset) -> None:
        ds.ContentTemplateSequence[0].TemplateIdentifier = "2000"

    changed(path, by_another)
    assert "no SR by TID 1500" in refusal_of(settings, release_id, path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(b""), "empty or cannot be read"),
        (lambda path: path.write_bytes(b"no DICOM at all" * 20), "cannot be read as DICOM Part 10"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "its digest is not that of its provenance"),
        (lambda path: path.with_suffix(".json").unlink(), "it has no provenance"),
        (lambda path: path.with_suffix(".json").write_text("{"), "cannot be read as JSON"),
        (lambda path: path.with_suffix(".json").write_text('{"kind": "\\ud800"}'), "cannot be read as JSON"),
        (lambda path: path.with_suffix(".json").write_text("[" * 100_000), "cannot be read as JSON"),
        (lambda path: path.with_suffix(".json").write_text("[]"), "no JSON object"),
        (lambda path: path.with_suffix(".json").write_text("{}"), "does not tell kind, person_pseudo_id"),
        (lambda path: changed(path, tail=b"Li Lei"), "trailing-bytes"),
        (lambda path: changed(path, preamble=b"Li Lei".ljust(128)), "preamble"),
    ],
)
def test_a_file_that_is_not_what_was_written_is_refused(
    spoil: Callable[[Path], object], reason: str, settings: Settings, release_id: str, home: Path
) -> None:
    path = one_of(home, "parametric_map")
    spoil(path)
    assert reason in refusal_of(settings, release_id, path)


@pytest.mark.parametrize("suffix", [".dcm", ".json"])
@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_what_is_no_file_is_refused(suffix: str, what: str, settings: Settings, release_id: str, home: Path) -> None:
    path = sorted(home.rglob("*.dcm"))[0].with_suffix(suffix)
    elsewhere = path.rename(home.parent / path.name)
    if what == "link":
        path.symlink_to(elsewhere)
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    (refused,) = [one for one in take_all(settings, release_id, home) if one.refused]
    assert refused.place == path.with_suffix(".dcm").relative_to(home).as_posix()
    assert "no file of this one" in refused.refused


def test_key_images_come_home(settings: Settings, release_id: str, home: Path) -> None:
    """A Key Object Selection of slices in their order in space, by TID 2010."""
    cohort = radlake.open_cohort(release_id, lake=settings.lake, results=home)
    volume = next(iter(cohort.volumes()))
    made = cohort.results.key_images(volume, [2, 0], description="two of three", algorithm=ALGORITHM)
    ds = dcmread(made.path)
    assert (ds.Modality, ds.ConceptNameCodeSequence[0].CodeMeaning) == ("KO", "Of Interest")
    shown = [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in ds.ContentSequence
             if "ReferencedSOPSequence" in item]  # fmt: skip
    assert shown == [volume.headers[number].SOPInstanceUID for number in (0, 2)]
    assert "two of three" in [item.get("TextValue") for item in ds.ContentSequence]
    (taken,) = [one for one in take_all(settings, release_id, home) if one.sop_instance_uid == made.sop_instance_uid]
    assert (taken.refused, taken.is_new) == ("", True)
    (row,) = [one for one in taken_results(Lake.from_settings(settings)) if one["result_kind"] == "key_images"]
    assert row["sop_instance_uid"] == made.sop_instance_uid
    with pytest.raises(ConfigInvalid, match="there is no slice 3 of 3"):
        cohort.results.key_images(volume, [3], algorithm=ALGORITHM)
    with pytest.raises(ConfigInvalid, match="it has no slice"):
        cohort.results.key_images(volume, [], algorithm=ALGORITHM)
    refers = dcmread(made.path).CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert refers.SeriesInstanceUID == volume.series_uid


def test_damaged_headers_are_refused_or_taken_and_end_nothing(settings: Settings, release_id: str, home: Path) -> None:
    """Bytes of a header are changed at random, and the provenance fits: nothing but a refusal may come of it."""
    release, chance, outcomes = open_release(settings, release_id, today=NOW.date()), random.Random(7), Counter[bool]()
    digests = {release.document["approval"]["digest"]}
    persons = persons_of(settings, release_id, by="office", now=NOW)
    for kind in sorted({*KINDS} - {"key_images"}):
        path = one_of(home, kind)
        told, whole = checked_provenance(path, release_id=release_id, digests=digests), path.read_bytes()
        referred = Referred(release, series=[told["source_series_instance_uid"]], new=[told["sop_instance_uid"]])
        for _ in range(50):
            data = bytearray(whole)
            for _ in range(chance.choice([1, 2, 8])):
                data[chance.randrange(132, min(len(data), 4200))] = chance.randrange(256)
            try:
                digest = xxhash.xxh3_128_hexdigest(bytes(data))
                checked_content(bytes(data), {**told, "digest": digest}, referred, persons)
                outcomes[True] += 1
            except ResultRefused:
                outcomes[False] += 1
    assert min(outcomes[True], outcomes[False]) > 10


def test_a_uid_of_the_release_cannot_be_a_result(settings: Settings, release_id: str, home: Path) -> None:
    path = one_of(home, "segmentation")
    uid = told_of(path)["source_sop_instance_uids"][0]

    def named_so(ds: Dataset) -> None:
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid

    changed(path, named_so, sop_instance_uid=uid)
    assert "it bears the UID of an instance" in refusal_of(settings, release_id, path)


def test_what_came_home_is_never_replaced(settings: Settings, release_id: str, home: Path) -> None:
    take_all(settings, release_id, home)
    stored = files_of(Path(settings.lake) / "results")
    path = one_of(home, "segmentation")

    def relabelled(ds: Dataset) -> None:
        ds.ContentLabel = "OTHER"

    changed(path, relabelled)
    found = [one for one in take_all(settings, release_id, home) if one.refused]
    assert [one.refused.partition(":")[0] for one in found] == ["it came home before with other content or provenance"]
    assert files_of(Path(settings.lake) / "results") == stored


def test_of_two_files_of_one_object_the_second_is_refused(settings: Settings, release_id: str, home: Path) -> None:
    path = one_of(home, "segmentation")
    for suffix in (".dcm", ".json"):
        shutil.copy(path.with_suffix(suffix), path.with_name(f"z-copy{suffix}"))
    (refused,) = (one for one in take_all(settings, release_id, home) if one.refused)
    assert (Path(refused.place).name, "its UID is that of" in refused.refused) == ("z-copy.dcm", True)


def test_only_of_a_release_that_may_be_pulled(settings: Settings, release_id: str, home: Path) -> None:
    with pytest.raises(ReleaseClosed, match="expired on 2099"):
        list(take_results(settings, release_id, home, by="office", now=NOW + timedelta(days=40_000)))
    with pytest.raises(SourceMissing):
        take_all(settings, release_id, home / "nowhere")
    with pytest.raises(ConfigInvalid, match="--by is empty"):
        take_all(settings, release_id, home, by=" ")
    take_all(settings, release_id, home)
    revoke(settings, release_id, by="committee", why="2026-18", now=NOW)
    with pytest.raises(ReleaseClosed, match="was revoked"):
        take_all(settings, release_id, home)
    refused = CliRunner().invoke(app, ["results", "get", release_id, str(home / "back")], obj=settings)
    assert isinstance(refused.exception, ReleaseClosed)
    assert not (home / "back").exists()


def _take(lake: str, release_id: str, home: Path) -> None:
    take_all(Settings(lake=lake, workers=0), release_id, home)


@pytest.mark.parametrize("point", ["object.stored", "table.committed"])
def test_killed_and_taken_again_it_is_as_if_nobody_had(
    point: str, settings: Settings, release_id: str, home: Path, tmp_path: Path
) -> None:
    other = Settings(lake=str(shutil.copytree(settings.lake, tmp_path / "other")), workers=0)
    take_all(other, release_id, home)
    run_killed(_take, settings.lake, release_id, home, point=point)
    take_all(settings, release_id, home)
    assert taken_results(Lake.from_settings(settings)) == taken_results(Lake.from_settings(other))
    assert files_of(Path(settings.lake) / "results") == files_of(Path(other.lake) / "results")


def test_two_at_once_enter_each_result_once(settings: Settings, release_id: str, home: Path) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_take, args=(settings.lake, release_id, home)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    uids = [row["sop_instance_uid"] for row in taken_results(Lake.from_settings(settings))]
    assert sorted(uids) == sorted(uid for found in of_person(home).values() for uid in found)
