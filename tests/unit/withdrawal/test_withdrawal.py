"""Withdrawal: everything of one person goes, from every version and place, and nothing of anybody else."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from deltalake import DeltaTable
from typer.testing import CliRunner

from radlake.cli import withdraw as verb
from radlake.cli.cohort import app as cohort_app
from radlake.cohort.build import built_cohorts, open_built, rebuild_cohort
from radlake.cohort.candidate import candidates
from radlake.cohort.pull import Manifest, open_release, pull
from radlake.cohort.pull.released import ReleaseClosed
from radlake.config import Settings
from radlake.errors import QuarantineError
from radlake.expiry import hold
from radlake.expiry import release as release_hold
from radlake.ingest import harvest_folder
from radlake.ingest.build import build_lake
from radlake.ingest.certify import certify, verify
from radlake.ingest.offsets import date_offsets
from radlake.lake import Lake, duck
from radlake.lake.ledger import Claim
from radlake.lake.ledger_tables import STUDY, VAULT_ALIAS
from radlake.lake.purge import reissued
from radlake.lake.quarantine import Quarantine
from radlake.lake.store import LocalStore
from radlake.lake.withdrawals import LAKE, LakeBusy, WithdrawalRows
from radlake.machine import shanghai_day
from radlake.vault.lake_key import lake_keys, open_ledger
from radlake.vault.lookup import LookupRefused
from radlake.vault.record import patient_alias
from radlake.vault.trail import AuditTrail, Reason
from radlake.withdrawal import (
    RemnantsFound,
    Subject,
    SubjectUnknown,
    report_problems,
    reports,
    resume,
    subject_of_person,
    withdraw,
)
from radlake.withdrawal.run import WithdrawalForbidden, _carry_out
from support.cohorts import CONTACT, approved, released
from support.dicom import ct_study, write
from support.lakes import picture, states
from support.residency import the_hospital
from support.withdrawal import (
    NOW,
    PATIENT,
    REASON,
    WHY,
    left_of,
    names_of,
    of_person,
    of_study,
    withdrawn_person,
)


def rows_of_others(settings: Settings, names: set[str]) -> dict[str, list[Any]]:
    return {
        name: [row for row in rows if not names & {str(value) for value in row}]
        for name, rows in picture(settings).items()
        if name != "objects"
    }


def test_nothing_of_the_person_is_left_and_everything_of_the_others(settings: Settings) -> None:
    names = names_of(settings)
    others, objects = rows_of_others(settings, names), picture(settings)["objects"]
    assert len(left_of(settings, names)) > 20
    done = withdrawn_person(settings)
    assert left_of(settings, names) == set()
    after = picture(settings)
    assert {name: rows for name, rows in after.items() if name != "objects"} == others
    assert after["objects"] == {
        path: digest for path, digest in objects.items() if not any(name in path for name in names)
    }
    removed = done.report.content["removed"]
    assert removed["objects"] == 2
    assert removed["object_bytes"] > 1000
    assert removed["rows"]["dicom.instance"] == 4
    assert removed["rows"]["core.exam"] == 2
    assert done.report.content["remnants"] == 0
    assert WHY in done.report.document
    assert names.isdisjoint(done.report.document.replace('"', " ").split())
    assert PATIENT not in done.report.document


def test_no_version_of_any_table_leads_back_and_pins_tell_it(settings: Settings) -> None:
    names = names_of(settings)
    tables = Lake.from_settings(settings).tables
    ((pin, versions),) = tables.pins().items()
    uri, version = f"{tables.root}/dicom/instance_v1", versions["dicom.instance_v1"]
    n_before = DeltaTable(uri, version=version).to_pyarrow_table().num_rows
    withdrawn_person(settings)
    assert tables.pins() == {pin: versions}
    assert {item["table"] for item in reissued(tables, pin)} >= {"dicom.instance_v1", "core.exam_v1"}
    for folder in sorted(Path(tables.root).glob("*/*_v1")):
        for number in range(DeltaTable(folder).version() + 1):
            sizes = DeltaTable(folder, version=number).get_add_actions(flatten=True)
            rows = pa.table(sizes).to_pylist()
            told = {row["path"]: (row["size_bytes"], row["num_records"]) for row in rows}
            for path, (size, n_rows) in told.items():
                assert (folder / path).stat().st_size == size
                assert n_rows in (None, pq.read_metadata(folder / path).num_rows)
            for path in told:
                content = duckdb.sql(f"FROM read_parquet('{folder / path}')").fetchall()
                assert names.isdisjoint(str(value) for row in content for value in row)
    assert n_before - DeltaTable(uri, version=version).to_pyarrow_table().num_rows == 4


def test_the_cohort_is_built_again_and_its_release_ended_and_the_holder_told(settings: Settings) -> None:
    lake = Lake.from_settings(settings)
    (cohort_id,) = built_cohorts(lake)
    before = open_built(lake, cohort_id)
    n_exams = pq.read_table(before.table("exam")).num_rows
    done = withdrawn_person(settings)
    after = open_built(lake, cohort_id)
    assert after.snapshot == before.snapshot
    assert pq.read_table(after.table("exam")).num_rows == n_exams - 2
    (told,) = done.report.content["removed"]["releases"]
    assert told["release_id"].startswith(cohort_id)
    assert [(one["holder"], one["purpose"], one["expires_on"]) for one in told["holders"]] == [
        ("institute", "lung nodules", "2027-01-01")
    ]
    assert [path.name for path in (Path(settings.lake) / "releases").rglob("*") if path.is_file()] == ["state.json"]
    with pytest.raises(ReleaseClosed, match=f"was revoked, .*Ask {CONTACT}"):
        open_release(settings, told["release_id"], today=NOW.date())
    listed = CliRunner().invoke(cohort_app, ["releases", "--json"], obj=settings)
    assert [(one["decision"], one["holder"]) for one in json.loads(listed.output)] == [("ended", "institute")]


@pytest.mark.parametrize("layout", ["dicom", "zip", "webdataset"])
def test_who_pulled_before_is_told_what_to_delete(layout: str, settings: Settings, tmp_path: Path) -> None:
    lake, home = Lake.from_settings(settings), tmp_path / "home"
    (release_id,) = candidates(lake)
    wanted = Manifest(release_id)
    before = open_release(settings, release_id, today=NOW.date())
    assert pull(before, home, manifest=wanted, layout=layout).strays == []
    withdrawn_person(settings)
    (cohort_id,) = built_cohorts(lake)
    assert released(settings, open_built(lake, cohort_id)).release_id == release_id
    approved(settings, release_id)
    after = open_release(settings, release_id, today=NOW.date())
    strays = pull(after, home, manifest=wanted, layout=layout).strays
    gone = before.series_uids - after.series_uids
    assert len(gone) == 2
    named = {
        "dicom": {path.name for path in strays},
        "zip": {path.name.rsplit(".", 2)[0] for path in strays},
        "webdataset": gone if [path.suffix for path in strays] == [".tar"] else set(),
    }
    assert named[layout] == gone
    for path in strays:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert pull(after, home, manifest=wanted, layout=layout).strays == []


def test_a_harvest_brings_nothing_back_and_later_studies_are_turned_away(
    settings: Settings, archive: Path, tmp_path: Path
) -> None:
    names = names_of(settings)
    withdrawn_person(settings)
    before = picture(settings)
    again = shutil.copytree(archive, tmp_path / "again")
    for number, ds in enumerate(
        ct_study(n=2, patient_id=PATIENT, patient="Wang^Number0003", study=7, accession="A00037", seed=9)
    ):
        write(ds, again / f"new-{number}.dcm")
        names |= {str(ds.StudyInstanceUID), str(ds.SOPInstanceUID)}
    summary = harvest_folder(settings, again, hospital=the_hospital(settings))
    assert summary.instances_stored == 0
    assert picture(settings) == before
    assert left_of(settings, names) == set()
    found = sorted(reason for _, reason in states(settings).values() if reason)
    assert found == ["the person withdrew before it came", "withdrawn: withdrawal 1", "withdrawn: withdrawal 1"]


def test_a_study_goes_alone_and_does_not_come_back(settings: Settings, archive: Path) -> None:
    first, second = of_person(settings).studies
    with closing(open_ledger(settings)) as ledger:
        done = withdraw(settings, ledger, of_study(settings, first.study_uid), reason=REASON, now=NOW)
    assert done.report.content["kind"] == "study"
    assert left_of(settings, {first.study_uid, first.lake_study_uid}) == set()
    assert [study.lake_study_uid for study in of_person(settings).studies] == [second.lake_study_uid]
    before = picture(settings)
    assert len(before["dicom.study"]) == 15
    harvest_folder(settings, archive, hospital=the_hospital(settings))
    assert picture(settings) == before
    with duck.connect(Lake.from_settings(settings)) as connection:
        assert connection.execute("SELECT count(*) FROM core.exam").fetchall() == [(15,)]


def test_the_history_stays_whole_and_certificates_hold(settings: Settings) -> None:
    certify(settings, [], shanghai_day(NOW), NOW)
    withdrawn_person(settings)
    assert list(verify(settings, now=NOW)) == []
    path = settings.restricted / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:  # what was made unreadable is under a seal
        connection.execute("UPDATE study_event SET state = 'partial' WHERE redaction IS NOT NULL AND what = 'settle'")
        connection.commit()
    assert any("was changed, or written with another key" in problem.told for problem in verify(settings, now=NOW))


def test_twice_is_harmless(settings: Settings) -> None:
    done = withdrawn_person(settings)
    before = picture(settings)
    again = withdrawn_person(settings)
    assert again.verification is None
    assert again.report == done.report
    assert picture(settings) == before
    with pytest.raises(SubjectUnknown):
        of_person(settings, "P9999")


def test_a_lock_of_the_store_forbids_all_of_it_and_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder locks nothing; that S3 tells its locks is in tests/integration."""
    before, subject = picture(settings), of_person(settings)
    monkeypatch.setattr(LocalStore, "lock_of", lambda *_: "COMPLIANCE until 2040-01-01")
    with closing(open_ledger(settings)) as ledger, pytest.raises(WithdrawalForbidden, match=r"locked .*COMPLIANCE"):
        withdraw(settings, ledger, subject, reason=REASON, now=NOW)
    assert picture(settings) == before


def held_in_quarantine(settings: Settings, folder: Path, **given: Any) -> str:
    """Id of an instance that was set aside, of a study that the ledger does not know."""
    (ds,) = ct_study(n=1, accession="A90001", seed=90, **given)
    error = QuarantineError(reason="unreadable_file", detail="")
    path = write(ds, folder / f"{ds.StudyInstanceUID}.dcm")
    with closing(open_ledger(settings)) as ledger:
        quarantine = Quarantine(ledger, settings.restricted / "quarantine")
        told = quarantine.hold(path, hospital_id="h1", error=error, now=NOW, study_uid=str(ds.StudyInstanceUID))
    return told.quarantine_id


def test_of_quarantine_goes_what_is_the_persons_not_what_only_has_such_a_number(
    settings: Settings, tmp_path: Path
) -> None:
    own = held_in_quarantine(settings, tmp_path, patient_id=PATIENT, study=90)
    other = held_in_quarantine(settings, tmp_path, patient_id="Wang^Number0003", study=91)  # the person's name
    removed = withdrawn_person(settings).report.content["removed"]
    assert (removed["held"], removed["kept"]) == (1, 1)
    with closing(open_ledger(settings)) as ledger:
        quarantine = Quarantine(ledger, settings.restricted / "quarantine")
        assert [quarantine.path(one).exists() for one in (own, other)] == [False, True]
        assert [record["quarantine_id"] for record in quarantine.held()] == [other]


def test_of_a_number_of_several_persons_what_lies_in_quarantine_stays(settings: Settings, tmp_path: Path) -> None:
    held_in_quarantine(settings, tmp_path, patient_id=PATIENT, study=90)
    (key,) = of_person(settings).patient_keys
    alias = patient_alias(lake_keys(settings), hospital_id="h1", patient_id=PATIENT)
    with closing(open_ledger(settings)) as ledger, ledger.writing() as connection:
        connection.execute(VAULT_ALIAS.insert().values(alias=alias, patient_key=12))
    with closing(open_ledger(settings)) as ledger:
        lake, keys = Lake.from_settings(settings), lake_keys(settings)
        subject = subject_of_person(lake, ledger, keys, hospital_id="h1", patient_id=PATIENT, patient_key=key)
    assert (len(subject.studies), subject.quarantine_ids, len(subject.kept)) == (2, (), 1)


def test_a_study_that_another_hospital_has_too_goes_from_all_or_not_at_all(settings: Settings) -> None:
    study = of_person(settings).studies[0]
    with closing(open_ledger(settings)) as ledger:
        with ledger.writing() as connection:
            row = dict(
                connection.execute(sa.select(STUDY).where(STUDY.c.study_uid == study.study_uid)).mappings().one()
            )
            connection.execute(STUDY.insert().values({**row, "hospital_id": "h2", "patient_key": 12}))
        before = picture(settings)
        with pytest.raises(WithdrawalForbidden, match="is in h2 too"):
            withdraw(settings, ledger, of_person(settings), reason=REASON, now=NOW)
        assert picture(settings) == before
    assert of_study(settings, study.study_uid).hospitals == ["h1", "h2"]


def test_it_is_finished_on_a_later_day_after_a_certificate(settings: Settings) -> None:
    note, later = Path(settings.lake) / "notes.txt", NOW + timedelta(days=2)
    certify(settings, [], shanghai_day(NOW), NOW)
    note.write_text(of_person(settings).lake_studies[0])
    with pytest.raises(RemnantsFound):
        withdrawn_person(settings)
    note.unlink()
    certify(settings, [], shanghai_day(later), later)
    with closing(open_ledger(settings)) as ledger:
        (done,) = resume(settings, ledger, now=later)
    content = done.report.content
    assert (content["begun_at"], content["finished_at"]) == (NOW.isoformat(), later.isoformat())
    assert list(verify(settings, now=later)) == []


def test_what_a_simulated_hospital_keeps_is_no_remnant(settings: Settings, archive: Path) -> None:
    shutil.copytree(archive, settings.restricted / "demo" / "h1")
    assert withdrawn_person(settings).report.content["remnants"] == 0


def test_a_legal_hold_forbids_all_of_it(settings: Settings) -> None:
    before, subject = picture(settings), of_person(settings)
    uid = subject.lake_studies[0]
    with closing(open_ledger(settings)) as ledger:
        hold(settings, ledger, uid, reason=REASON)
        with pytest.raises(WithdrawalForbidden, match="legal hold"):
            withdraw(settings, ledger, subject, reason=REASON, now=NOW)
    assert picture(settings) == before
    with closing(open_ledger(settings)) as ledger:
        release_hold(settings, ledger, uid, reason=REASON)
    assert withdrawn_person(settings).report.content["remnants"] == 0


def test_a_remnant_is_an_error_with_its_place_until_it_is_gone(settings: Settings) -> None:
    subject, root = of_person(settings), Path(settings.lake)
    uid, key = subject.lake_studies[0], subject.patient_keys[0]
    paths = [root / "notes.txt", root / "restricted/copy.json", root / "restricted/other.parquet"]
    paths[0].write_text(f"see {uid}, please", encoding="utf-8")
    paths[1].write_text(f"see {key}, please", encoding="utf-8")
    duckdb.sql(f"COPY (SELECT {key}::BIGINT AS who) TO '{paths[2]}' (FORMAT parquet)")
    with closing(open_ledger(settings)) as ledger:
        with pytest.raises(RemnantsFound, match="3 remnants") as caught:
            withdraw(settings, ledger, subject, reason=REASON, now=NOW)
        while paths:
            assert all(path.name in str(caught.value) for path in paths)
            assert uid not in str(caught.value)
            assert reports(ledger) == []
            paths.pop().unlink()
            if paths:
                with pytest.raises(RemnantsFound, match=f"{len(paths)} remnants") as caught:
                    resume(settings, ledger, now=NOW)
        (done,) = resume(settings, ledger, now=NOW)
        assert done.report.content["remnants"] == 0
        assert resume(settings, ledger, now=NOW) == []


def test_reports_are_a_chain_that_shows_what_was_changed(settings: Settings) -> None:
    withdrawn_person(settings)
    withdrawn_person(settings, "P0004")
    mac = lake_keys(settings).withdrawal_mac
    with closing(open_ledger(settings)) as ledger:
        first, second = reports(ledger)
        assert second.content["previous"] == first.digest
        assert list(report_problems(ledger, settings.restricted, mac)) == []
        trail = AuditTrail(ledger, lake_keys(settings), restricted=settings.restricted)
        assert trail.problems() == []
        told = [entry.outcome for entry in trail.entries() if entry.action == "withdrawn"]
        assert told == [f"withdrawal {n}: 0 remnants, report {one.digest}" for n, one in ((1, first), (2, second))]
    with closing(sqlite3.connect(settings.restricted / "ledger.db")) as connection:
        changed = first.document.replace('"remnants":0', '"remnants":1')
        connection.execute("UPDATE withdrawal SET document = ? WHERE number = 1", [changed])
        connection.commit()
    with closing(open_ledger(settings)) as ledger:
        problems = list(report_problems(ledger, settings.restricted, mac))
    assert problems[0] == "report 1 was changed, or issued with another key"
    assert len(problems) == 3


def test_reports_are_a_chain_in_the_order_of_their_ends(settings: Settings) -> None:
    note, later = Path(settings.lake) / "notes.txt", NOW + timedelta(hours=1)
    note.write_text(of_person(settings).lake_studies[0], encoding="utf-8")
    with pytest.raises(RemnantsFound):
        withdrawn_person(settings)
    withdrawn_person(settings, "P0004")
    note.unlink()
    with closing(open_ledger(settings)) as ledger:
        (first,) = WithdrawalRows(ledger).all()[:1]
        resume(settings, ledger, now=later)
        told = [(report.content["number"], report.content["previous"]) for report in reports(ledger)]
        assert told == [(2, ""), (1, reports(ledger)[0].digest)]
        assert list(report_problems(ledger, settings.restricted, lake_keys(settings).withdrawal_mac)) == []
        again = _carry_out(settings, ledger, lake_keys(settings), first, now=later)  # a runner that saw it open
        assert (again.report, again.verification) == (reports(ledger)[1], None)


def test_one_subject_has_one_open_withdrawal(settings: Settings) -> None:
    with closing(open_ledger(settings)) as ledger:
        begun = [WithdrawalRows(ledger).begin(subject=one, sealed=b"", persons=[], now=NOW) for one in ("a", "a", "b")]
    assert [row.number for row in begun] == [1, 1, 2]


def test_a_kill_while_the_cohort_of_before_is_removed_loses_nothing(settings: Settings) -> None:
    lake = Lake.from_settings(settings)
    (cohort_id,) = built_cohorts(lake)
    built = open_built(lake, cohort_id)
    before = shutil.copytree(built.folder, built.folder.with_name(f".{cohort_id}.before"))
    (before / "cohort.json").unlink()
    assert rebuild_cohort(lake, cohort_id, date_offsets=date_offsets(settings)) == built
    assert not before.exists()


def test_no_build_goes_on_meanwhile(settings: Settings) -> None:
    with closing(open_ledger(settings)) as ledger, ledger.claim(LAKE, Claim.BUILD) as is_held:
        assert is_held
        with pytest.raises(LakeBusy):
            build_lake(settings, now=NOW, layers=["core"])


def test_who_and_why_may_not_name_the_patient(settings: Settings) -> None:
    subject = of_person(settings)
    study = of_study(settings, subject.studies[0].study_uid)
    for one, secret in ((subject, PATIENT), (study, study.studies[0].study_uid)):
        with closing(open_ledger(settings)) as ledger, pytest.raises(LookupRefused):
            withdraw(settings, ledger, one, reason=Reason("officer", f"request of {secret}"), now=NOW)


def test_whom_it_is_about_is_kept_sealed_only_while_it_is_open(settings: Settings) -> None:
    subject, keys = of_person(settings), lake_keys(settings)
    sealed = subject.sealed(keys)
    assert Subject.from_sealed(keys, sealed) == subject
    assert not any(uid.encode() in sealed for uid in subject.uids)


def test_the_command_shows_removes_and_lists(settings: Settings) -> None:
    def run(*arguments: str, **given: Any) -> str:
        result = CliRunner().invoke(verb.app, list(arguments), obj=settings, **given)
        assert result.exit_code == 0, result.output
        return result.output

    given = ["person", "h1:-", "--by", REASON.by, "--why", REASON.why]
    before = picture(settings)
    shown = run(*given, "--dry-run", input=f"{PATIENT}\n")
    assert "would go: 2 studies, 2 objects" in shown
    assert "tell its holders: institute" in shown
    assert picture(settings) == before
    done = run(*given, input=f"{PATIENT}\n")
    assert "remnants: 0; report 1" in done
    assert "gone before" in run(*given, input=f"{PATIENT}\n")
    assert "institute" in run("list")
    assert json.loads(run("list", "--json"))["number"] == 1
    assert "1 reports" in run("verify")
    assert "no withdrawal is open" in run("resume")
