"""Withdrawal: what researchers made of a person and brought home goes too, and the search finds it if it does not."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from radlake.cli import withdraw as verb
from radlake.cohort.build import built_cohorts, open_built
from radlake.cohort.candidate import candidates
from radlake.cohort.pull import ReleaseClosed
from radlake.cohort.rekey import new_identity
from radlake.cohort.results.taken import TABLE, taken_results
from radlake.config import Settings
from radlake.contracts import load_table
from radlake.lake import Lake, duck
from radlake.vault.lake_key import lake_keys, open_ledger
from radlake.withdrawal import RemnantsFound, remove, resume, withdraw
from support.cohorts import approved, released
from support.kills.scenario import files_of
from support.results import of_person, take_all, write_results
from support.withdrawal import (
    NOW,
    PATIENT,
    REASON,
    left_of,
    names_of,
    of_study,
    withdrawn_person,
)
from support.withdrawal import (
    of_person as subject_of,
)


@pytest.fixture(scope="module")
def home(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of each of sixteen series, and two more of the first."""
    settings = Settings(lake=str(whole), workers=0)
    return write_results(settings, release_of(settings), tmp_path_factory.mktemp("results") / "home")


@pytest.fixture
def taken(settings: Settings, home: Path) -> Settings:
    assert all(one.is_new for one in take_all(settings, release_of(settings), home))
    return settings


def release_of(settings: Settings) -> str:
    (release_id,) = candidates(Lake.from_settings(settings))
    return release_id


def rows_of(settings: Settings) -> list[dict[str, Any]]:
    return taken_results(Lake.from_settings(settings))


def called(settings: Settings, patient_id: str = PATIENT) -> str:
    """What the release calls a person."""
    (key,) = subject_of(settings, patient_id).patient_keys
    keys = lake_keys(settings).for_project("alpha")
    return new_identity(keys, person_key=key, lake_offset_seconds=0).person_pseudo_id


def names_in_release(settings: Settings) -> set[str]:
    """Pseudonym of the person in the release, and every UID of theirs that results could tell."""
    keys = lake_keys(settings).for_project("alpha")
    ours = {row[name] for row in rows_of(settings) if row["person_pseudo_id"] == called(settings)
            for name in ("sop_instance_uid", "series_instance_uid", "object_path", "digest")}  # fmt: skip
    return {called(settings), *ours, *(keys.uid(name) for name in names_of(settings) if name.startswith("2.25."))}


def test_a_persons_results_go_and_those_of_others_stay(taken: Settings, home: Path) -> None:
    person = called(taken)
    names = names_in_release(taken)
    others = [row for row in rows_of(taken) if row["person_pseudo_id"] != person]
    files = {name: digest for name, digest in files_of(Path(taken.lake) / "results").items() if person not in name}
    n_ours = len(rows_of(taken)) - len(others)
    assert n_ours == len(of_person(home)[person]) >= 2
    assert len(left_of(taken, names)) > 10
    done = withdrawn_person(taken)
    assert left_of(taken, names) == set()
    assert rows_of(taken) == others
    assert files_of(Path(taken.lake) / "results") == files
    removed = done.report.content["removed"]
    assert (removed["results"], removed["rows"][f"restricted {TABLE}"]) == (n_ours, n_ours)
    assert removed["result_bytes"] > 1000
    assert person not in done.report.document
    store = Lake.from_settings(taken).restricted_tables
    for version in range((store.version(TABLE) or 0) + 1):
        with duck.connect(Lake.from_settings(taken), zone="restricted", snapshot={TABLE: version}) as connection:
            told = connection.sql(f"SELECT count(*) FROM {TABLE} WHERE person_pseudo_id = '{person}'").fetchall()
        assert told == [(0,)]


def test_holders_are_told_what_to_delete_once(taken: Settings) -> None:
    """The command tells it at its end, and no report has it."""
    release_id, person, names = release_of(taken), called(taken), names_in_release(taken)
    words = ["person", f"h1:{PATIENT}", "--by", "Data protection officer", "--why", "request 12", "--json"]
    first, second = (CliRunner().invoke(verb.app, words, obj=taken) for _ in range(2))
    assert f"folders of {release_id} that its holders delete, wherever they are: {person}\n" in first.stderr
    assert "folders of" not in second.stderr
    assert first.stdout == second.stdout
    assert not any(name in first.stdout for name in names)
    assert left_of(taken, names) == set()


def test_of_a_study_its_folder_is_told(taken: Settings) -> None:
    gone, *_ = subject_of(taken).studies
    uid = lake_keys(taken).for_project("alpha").uid(gone.lake_study_uid)
    with closing(open_ledger(taken)) as ledger:
        done = withdraw(taken, ledger, of_study(taken, gone.study_uid), reason=REASON, now=NOW)
    assert {name: list(told) for name, told in done.called.items()} == {release_of_id(done): [uid]}


def release_of_id(done: Any) -> str:
    (one,) = done.report.content["removed"]["releases"]
    return one["release_id"]


def test_a_study_goes_without_the_others_of_its_person(taken: Settings) -> None:
    person, keys = called(taken), lake_keys(taken).for_project("alpha")
    gone, *_ = subject_of(taken).studies
    uid = keys.uid(gone.lake_study_uid)
    before = rows_of(taken)
    assert {row["study_instance_uid"] for row in before if row["person_pseudo_id"] == person} > {uid}
    with closing(open_ledger(taken)) as ledger:
        withdraw(taken, ledger, of_study(taken, gone.study_uid), reason=REASON, now=NOW)
    assert rows_of(taken) == [row for row in before if row["study_instance_uid"] != uid]
    assert left_of(taken, {uid}) == set()


def test_an_object_that_no_row_names_goes_too(taken: Settings) -> None:
    names = names_in_release(taken)
    shutil.rmtree(Path(Lake.from_settings(taken).restricted_tables.root) / "research")
    done = withdrawn_person(taken)
    assert left_of(taken, names) == set()
    assert done.report.content["removed"]["results"] >= 2


@pytest.mark.parametrize("what", ["objects", "rows"])
def test_what_is_not_removed_is_found_and_goes_when_it_is_resumed(
    what: str, taken: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, names = called(taken), names_in_release(taken)
    with monkeypatch.context() as patch:
        if what == "objects":
            patch.setattr(remove, "_forget_results", lambda *_: None)
        else:
            purge = remove.purge

            def forgetful(store: Any, table: Any, *arguments: Any, **options: Any) -> None:
                if table != load_table(TABLE):
                    purge(store, table, *arguments, **options)

            patch.setattr(remove, "purge", forgetful)
        with pytest.raises(RemnantsFound) as caught:
            withdrawn_person(taken)
    assert ("results/" if what == "objects" else "research/derived_object_v1") in str(caught.value)
    assert person not in str(caught.value)
    with closing(open_ledger(taken)) as ledger:
        (done,) = resume(taken, ledger, now=NOW)
    assert done.report.content["remnants"] == 0
    assert left_of(taken, names) == set()


def test_results_of_a_release_that_was_ended_before_go_with_their_person(taken: Settings, home: Path) -> None:
    release_id, other = release_of(taken), called(taken, "P0004")
    withdrawn_person(taken)
    assert candidates(Lake.from_settings(taken)) == []
    assert other in {row["person_pseudo_id"] for row in rows_of(taken)}
    with pytest.raises(ReleaseClosed, match="was revoked"):
        take_all(taken, release_id, home)
    done = withdrawn_person(taken, "P0004")
    assert done.report.content["removed"]["results"] == len(of_person(home)[other])
    assert left_of(taken, {other}) == set()


def test_results_of_a_copy_that_a_holder_kept_do_not_come_back(taken: Settings, home: Path) -> None:
    release_id, person = release_of(taken), called(taken)
    withdrawn_person(taken)
    lake = Lake.from_settings(taken)
    (cohort_id,) = built_cohorts(lake)
    approved(taken, released(taken, open_built(lake, cohort_id)).release_id)
    before = rows_of(taken)
    found = take_all(taken, release_id, home)
    refused = {one.sop_instance_uid: one.refused for one in found if one.refused}
    assert refused.keys() == of_person(home)[person]
    assert all("a series that is not in" in reason for reason in refused.values())
    assert not any(one.is_new for one in found)
    assert rows_of(taken) == before


def test_the_command_tells_how_many_would_go(taken: Settings) -> None:
    words = ["person", f"h1:{PATIENT}", "--by", "Data protection officer", "--why", "request 12", "--dry-run"]
    result = CliRunner().invoke(verb.app, words, obj=taken)
    assert result.exit_code == 0, result.output
    n = len([row for row in rows_of(taken) if row["person_pseudo_id"] == called(taken)])
    assert f"would go: {n} results of research" in result.output
    assert (
        f"folders of {release_of(taken)} that its holders delete, wherever they are: {called(taken)}" in result.output
    )
    assert (n >= 2, len(rows_of(taken))) == (True, 18)
