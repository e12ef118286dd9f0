"""What else goes on while somebody is withdrawn: releases, holds, links, backups, questions."""

from __future__ import annotations

import gzip
import os
import sqlite3
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from radlake.cli import cohort as cohort_verb
from radlake.cli import withdraw as verb
from radlake.cohort.build import built_cohorts, open_built
from radlake.cohort.candidate import candidates
from radlake.cohort.definition import shipped_cohorts
from radlake.commit_points import listening
from radlake.config import Settings
from radlake.expiry import hold
from radlake.expiry import release as release_hold
from radlake.ingest.build import build_lake
from radlake.ingest.duplicates import build_repeats
from radlake.lake import Lake, duck
from radlake.lake.cache import FetchBusy
from radlake.lake.ledger import Claim, Ledger
from radlake.lake.ledger_tables import PUSH_COMMITMENT, VAULT_ALIAS
from radlake.lake.person_links import MAP, Decision, PersonLinks, Revision, person_of, publish_links
from radlake.lake.reminders import ReminderJournal, ShownReminder
from radlake.lake.withdrawals import LAKE, LakeBusy, WithdrawalRows
from radlake.vault.lake_key import lake_keys, open_ledger
from radlake.vault.record import patient_alias
from radlake.vault.trail import AuditTrail
from radlake.withdrawal import (
    PersonUnclear,
    RemnantsFound,
    WithdrawalHeld,
    remove,
    resume,
    withdraw,
)
from support.cohorts import approved, built_everybody, released
from support.lakes import picture
from support.postgres import postgres, postgres_cluster
from support.withdrawal import NOW, PATIENT, REASON, left_of, names_of, of_person, withdrawn_person

__all__ = ["postgres", "postgres_cluster"]


def once(name: str, work: Callable[[], object], *, at: int = 1) -> Callable[[str], None]:
    """Work at the nth time that a commit point is reached."""
    n = 0

    def listener(reached: str) -> None:
        nonlocal n
        n += reached == name
        if reached == name and n == at:
            work()

    return listener


def test_nothing_is_made_of_a_lake_that_somebody_leaves(settings: Settings) -> None:
    lake = Lake.from_settings(settings)
    built, [release_id] = open_built(lake, built_cohorts(lake)[0]), candidates(lake)
    definition = str(next(iter(shipped_cohorts().values())))
    with closing(open_ledger(settings)) as ledger, ledger.claim(LAKE, Claim.BUILD) as is_held:
        assert is_held
        for work in (
            lambda: released(settings, built, project="beta"),
            lambda: approved(settings, release_id),
            lambda: build_repeats(settings, now=NOW),
        ):
            with pytest.raises(LakeBusy):
                work()
        result = CliRunner().invoke(cohort_verb.app, ["build", definition], obj=settings)
        assert isinstance(result.exception, LakeBusy)


def test_a_release_that_was_made_since_the_plan_ends_too(settings: Settings) -> None:
    lake = Lake.from_settings(settings)
    names, built = names_of(settings), open_built(lake, built_cohorts(lake)[0])
    keys = lake_keys(settings).for_project("beta")
    names |= {keys.uid(uid) for uid in names if uid.startswith("2.25.")}
    with listening(once("withdrawal.begun", lambda: released(settings, built, project="beta"))):
        done = withdrawn_person(settings)
    told = [one["release_id"].rpartition(".")[2] for one in done.report.content["removed"]["releases"]]
    assert told == ["alpha", "beta"]
    assert left_of(settings, names) == set()
    assert candidates(lake) == []


class Killed(BaseException):
    pass


@pytest.mark.parametrize(("point", "at"), [("release.object", 16), ("release.batch", 1)])
def test_a_release_that_is_half_made_is_begun_anew(settings: Settings, point: str, at: int) -> None:
    lake = Lake.from_settings(settings)
    names, built = names_of(settings), open_built(lake, built_cohorts(lake)[0])
    keys = lake_keys(settings).for_project("beta")
    names |= {keys.uid(uid) for uid in names if uid.startswith("2.25.")}

    def kill() -> None:
        raise Killed

    with listening(once(point, kill, at=at)), pytest.raises(Killed):
        released(settings, built, project="beta")
    assert "beta" in str(left_of(settings, names))
    withdrawn_person(settings)
    assert left_of(settings, names) == set()
    assert list((Path(settings.lake) / "releases").rglob("*.zip")) == []
    made = released(settings, open_built(lake, built.cohort_id), project="beta")
    assert made.document["n_persons"] == 7


def test_a_hold_that_is_placed_after_it_began_is_kept(settings: Settings) -> None:
    before, uid = picture(settings), of_person(settings).lake_studies[1]
    with closing(open_ledger(settings)) as ledger:

        def place() -> None:
            hold(settings, ledger, uid, reason=REASON)

        with listening(once("withdrawal.begun", place)), pytest.raises(WithdrawalHeld, match="legal hold"):
            withdraw(settings, ledger, of_person(settings), reason=REASON, now=NOW)
        with pytest.raises(WithdrawalHeld, match="withdraw resume"):
            resume(settings, ledger, now=NOW)
        assert picture(settings) == before
        release_hold(settings, ledger, uid, reason=REASON)
        (done,) = resume(settings, ledger, now=NOW)
    assert done.report.content["remnants"] == 0


def test_a_fetch_that_is_under_way_ends_before_the_cache_is_emptied(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remove, "_PATIENCE_SECONDS", 0.1)
    lake, study = Lake.from_settings(settings), of_person(settings).studies[0]
    lake.cache.root.mkdir(exist_ok=True)
    with lake.cache.lock(f"h1/{study.lake_study_uid}", timeout=0), pytest.raises(FetchBusy):
        withdrawn_person(settings)
    with closing(open_ledger(settings)) as ledger:
        (done,) = resume(settings, ledger, now=NOW)
    assert done.report.content["remnants"] == 0


def linked(settings: Settings, *pairs: tuple[int, int]) -> None:
    """A revision that says so, published."""
    with closing(open_ledger(settings)) as ledger:
        decisions = [Decision(*pair, "merged", "model", "m1", 0.9) for pair in pairs]
        assert PersonLinks(ledger).append(decisions, revision=Revision(1, NOW, "run", "p", "by", "why", {}))
        publish_links(Lake.from_settings(settings), ledger)


def test_who_is_one_person_by_a_pseudonym_that_goes_stays_one(settings: Settings) -> None:
    lake = Lake.from_settings(settings)
    patient = {of_person(settings, f"P{n:04d}").patient_keys[0]: f"P{n:04d}" for n in range(8)}
    root, first, second, *_ = sorted(patient)
    linked(settings, (root, first), (root, second))
    build_lake(settings, now=NOW, layers=["core"])
    build_repeats(settings, now=NOW)
    built = built_everybody(settings)
    version = built.snapshot[MAP]
    withdrawn_person(settings, patient[root])

    with closing(open_ledger(settings)) as ledger:
        links = PersonLinks(ledger)
        assert person_of(links.linked().live) == {first: first, second: first}
        (decision,) = links.linked().live.values()
        assert (decision.decided_by, decision.reason, decision.probability) == (
            "rule",
            "linked_through_withdrawn",
            0.9,
        )
        (last,) = links.revisions()[-1:]
        assert (last.kind, last.by) == ("withdraw", REASON.by)
    for at in (lake.tables.version(MAP), version):  # the latest one, and the one that the cohort is pinned to
        with duck.connect(lake, snapshot={MAP: at}, tables=[MAP]) as connection:
            rows = connection.execute(f"SELECT patient_key, person_key FROM {MAP} WHERE person_key = ?", [first])
            assert rows.fetchall() == [(second, first)]
            assert connection.execute(f"SELECT count(*) FROM {MAP}").fetchall() == [(1,)]
    exams = pq.read_table(open_built(lake, built.cohort_id).table("exam")).to_pylist()
    assert {row["person_key"] for row in exams if row["patient_key"] in (first, second)} == {first}
    with duck.connect(lake, zone="restricted", tables=["core.exam_sequence"]) as connection:
        rows = connection.execute("SELECT patient_key, count(*) FROM core.exam_sequence GROUP BY ALL").fetchall()
    assert dict(rows)[first] == 4
    assert root not in dict(rows)
    assert left_of(settings, {f"{root:016x}", str(root)}) == set()


def planted(settings: Settings, place: str, uid: str) -> None:
    """Put something of the person where it is hard to find."""
    path = settings.restricted / place
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".parquet":
            pq.write_table(pa.table({"a": pa.array([[uid]], pa.list_(pa.large_string()))}), path)
        case ".gz":
            path.write_bytes(gzip.compress(f"see {uid}".encode()))
        case ".part":
            path.write_text(f"see {uid}")
        case ".db":
            with closing(sqlite3.connect(path)) as copy:
                copy.execute("CREATE TABLE study (stored BLOB)")
                copy.execute("INSERT INTO study VALUES (?)", [zlib.compress(f'["{uid}"]'.encode())])
                copy.commit()


BESIDE = (
    "../tables/.staging/tables-1/half.parquet",
    "tables/.staging/tables-1/half.parquet",
    "tables/core/.x.part",
    "../objects/h1/.x.part",
    "../tables/old/exam_v0/_delta_log/copy.parquet",
    "backup/ledger.db",
    "ledger.2026.db",
    "ledger.gz",
)


def test_what_lies_beside_is_searched_and_what_is_packed(settings: Settings) -> None:
    uid = of_person(settings).lake_studies[0]
    for place in BESIDE:
        planted(settings, place, uid)
    with pytest.raises(RemnantsFound) as caught:
        withdrawn_person(settings)
    found = {line.removeprefix("- ").partition(": ")[0] for line in str(caught.value).splitlines() if line[:2] == "- "}
    assert found == {os.path.normpath(f"restricted/{place}") for place in BESIDE}
    for place in BESIDE:
        (settings.restricted / place).unlink()
    with closing(open_ledger(settings)) as ledger:
        (done,) = resume(settings, ledger, now=NOW)
    assert done.report.content["remnants"] == 0


def test_packed_columns_of_the_ledger_and_the_journal_are_searched(settings: Settings) -> None:
    subject = of_person(settings)
    uid = subject.uids[0]
    wanted = zlib.compress(f'{{"1.2": ["{uid}"]}}'.encode())
    row = {"hospital_id": "h9", "transaction_uid": "1.9", "ae_title": "A", "wanted": wanted, "n_tried": 0}
    with closing(open_ledger(settings)) as ledger, ledger.writing() as connection:
        connection.execute(PUSH_COMMITMENT.insert().values(**row, due_at=NOW))
    with pytest.raises(RemnantsFound, match=r"ledger: uid in push_commitment\.wanted"):
        withdrawn_person(settings)
    with closing(open_ledger(settings)) as ledger, ledger.writing() as connection:
        connection.execute(PUSH_COMMITMENT.delete())

    reminder = ShownReminder(
        reminder_id="r1",
        hospital_id="h1",
        patient_key=subject.patient_keys[0],
        shown_at=NOW,
        is_muted=False,
        modality_group="CT",
        body_part_code="CHEST",
        laterality_code="",
        earlier_hospital_id="h1",
        earlier_exam_pseudo_id="e",
        earlier_days=1,
        policy_version=1,
        asked_by="u",
        linked_at=NOW,
    )

    def remind() -> None:
        with closing(ReminderJournal.from_settings(settings)) as journal:
            journal.enter([], [reminder], since=NOW)

    with closing(open_ledger(settings)) as ledger:
        with (
            listening(once("withdrawal.removed", remind)),
            pytest.raises(RemnantsFound, match=r"journal: value of reminder\.patient_key"),
        ):
            resume(settings, ledger, now=NOW)
        (done,) = resume(settings, ledger, now=NOW)
    assert done.report.content["remnants"] == 0


def test_a_place_that_tells_a_name_is_told_in_the_restricted_zone_only(settings: Settings) -> None:
    uid = of_person(settings).lake_studies[0]
    file = Path(settings.lake) / f"{uid}-{PATIENT}.txt"
    file.write_text("a note")
    with pytest.raises(RemnantsFound) as caught:
        withdrawn_person(settings)
    told = settings.restricted / "withdrawals" / "1.remnants"
    assert uid not in str(caught.value)
    assert PATIENT not in str(caught.value)
    assert "[uid]-[identifier].txt: uid in its name" in str(caught.value)
    assert file.name in told.read_text(encoding="utf-8")
    assert told.stat().st_mode & 0o777 == 0o600
    file.unlink()
    with closing(open_ledger(settings)) as ledger:
        resume(settings, ledger, now=NOW)
    assert not told.exists()


def test_who_asks_of_a_number_of_several_persons_is_in_the_audit_trail(settings: Settings) -> None:
    (other,) = of_person(settings, "P0004").patient_keys
    alias = patient_alias(lake_keys(settings), hospital_id="h1", patient_id=PATIENT)
    with closing(open_ledger(settings)) as ledger, ledger.writing() as connection:
        connection.execute(VAULT_ALIAS.insert().values(alias=alias, patient_key=other))

    def asked(why: str) -> BaseException | None:
        given = ["person", f"h1:{PATIENT}", "--by", REASON.by, "--why", why, "--dry-run"]
        return CliRunner().invoke(verb.app, given, obj=settings).exception

    assert isinstance(asked(REASON.why), PersonUnclear)
    assert asked(f"request of {PATIENT}") is not None
    with closing(open_ledger(settings)) as ledger:
        trail = AuditTrail(ledger, lake_keys(settings), restricted=settings.restricted)
        *_, first, last = trail.entries()
    assert (first.action, first.outcome, first.purpose) == (
        "withdraw",
        "nothing was withdrawn: PersonUnclear",
        REASON.why,
    )
    assert (last.outcome, last.purpose) == ("refused", "(not told)")


def test_pseudonyms_that_were_merged_are_counted_in_the_audit_trail(settings: Settings) -> None:
    one, other = sorted(of_person(settings, name).patient_keys[0] for name in (PATIENT, "P0004"))
    with closing(open_ledger(settings)) as ledger:
        trail = AuditTrail(ledger, lake_keys(settings), restricted=settings.restricted)
        trail.record("link", reason=REASON, now=NOW, kind="merge", pseudonym=f"{one:016x} {other:016x}")
    content = withdrawn_person(settings).report.content
    assert (content["remnants"], content["searched"]["n_audit"]) == (0, 1)


@pytest.mark.postgres
def test_of_those_who_begin_at_once_in_postgresql_all_go_on_with_one(postgres: str) -> None:
    n_runners = 6
    barrier = Barrier(n_runners)

    def begin(subject: str) -> int:
        with closing(Ledger(postgres)) as ledger:
            barrier.wait()
            return WithdrawalRows(ledger).begin(subject=subject, sealed=b"", persons=["p"], now=NOW).number

    with ThreadPoolExecutor(n_runners) as pool:
        for number in (1, 2, 3):
            assert list(pool.map(begin, [f"subject {number}"] * n_runners)) == [number] * n_runners
