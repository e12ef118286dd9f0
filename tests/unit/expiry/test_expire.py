"""Expiry: what is due goes wholly and leaves a tombstone; what is held or not due stays."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from radlake.cli import retention as verb
from radlake.config import Settings
from radlake.expiry import StudyExpired, StudyUnknown, hold, release
from radlake.ingest import harvest_folder
from radlake.lake import Lake, duck
from radlake.lake.retention import RetentionRows
from radlake.lake.store import LocalStore
from radlake.vault.lake_key import lake_keys, open_ledger
from radlake.vault.trail import AuditTrail
from support import expiry
from support.expiry import REASON, expired, lake_of_2009, write_archive
from support.lakes import leads_back, picture, states


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def whole(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake in which nothing has expired yet."""
    return Path(lake_of_2009(tmp_path_factory.mktemp("whole") / "lake", archive).lake)


@pytest.fixture
def settings(whole: Path, tmp_path: Path) -> Settings:
    return Settings(lake=str(shutil.copytree(whole, tmp_path / "lake")), workers=0)


@pytest.fixture(scope="module")
def uninterrupted(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    settings = Settings(lake=str(shutil.copytree(whole, tmp_path_factory.mktemp("done") / "lake")), workers=0)
    expired(settings)
    return everything(settings)


def everything(settings: Settings) -> dict[str, Any]:
    with duck.connect(Lake.from_settings(settings)) as connection:
        told = connection.execute("FROM ops.tombstone ORDER BY ALL").fetchall()
    with closing(open_ledger(settings)) as ledger:
        stones = [
            (item.lake_study_uid, item.digest, item.finished_at is None) for item in RetentionRows(ledger).tombstones()
        ]
    return picture(settings) | {
        "states": states(settings),
        "vault": leads_back(settings),
        "told": told,
        "stones": stones,
    }


def outpatient(settings: Settings) -> str:
    with duck.connect(Lake.from_settings(settings)) as connection:
        return connection.execute("SELECT study_instance_uid FROM dicom.study WHERE modality_group = 'CT'").fetchall()[
            0
        ][0]


def test_only_the_outpatient_study_goes_and_wholly(settings: Settings) -> None:
    uid = outpatient(settings)
    before = everything(settings)
    done = expired(settings)
    assert [(item.lake_study_uid, item.rule, item.n_instances) for item in done.removed] == [
        (uid, "outpatient, 15 years", 2)
    ]
    after = everything(settings)
    assert not [row for name in ("dicom.study", "dicom.series", "dicom.instance") for row in after[name] if uid in row]
    assert {path for path in before["objects"] if uid not in path} == set(after["objects"])
    assert sorted(after["states"].values()) == [
        ("complete", ""),
        ("complete", ""),
        ("withdrawn", "expired: outpatient, 15 years"),
    ]
    assert [row[0] for row in after["vault"]] == [row[0] for row in before["vault"] if row[0] != uid]
    (told,) = after["told"]
    assert told[:2] == ("h1", uid)
    assert len(told[-1]) == 32
    assert expired(settings).removed == []
    assert everything(settings) == after


@pytest.mark.parametrize(("year", "n_removed"), [(2024, 0), (2025, 1), (2039, 1), (2040, 3)])
def test_fifteen_and_thirty_years(settings: Settings, year: int, n_removed: int) -> None:
    assert len(expired(settings, today=date(year, 12, 31)).removed) == n_removed


def test_a_held_study_never_goes_until_it_is_released(settings: Settings) -> None:
    uid = outpatient(settings)
    before = picture(settings)
    with closing(open_ledger(settings)) as ledger:
        assert hold(settings, ledger, uid, reason=REASON) == ["h1"]
    assert expired(settings).removed == []
    assert picture(settings) == before
    with closing(open_ledger(settings)) as ledger:
        release(settings, ledger, uid, reason=REASON)
        with pytest.raises(StudyUnknown):
            release(settings, ledger, uid, reason=REASON)
    assert len(expired(settings).removed) == 1
    with closing(open_ledger(settings)) as ledger:
        with pytest.raises(StudyExpired):
            hold(settings, ledger, uid, reason=REASON)
        trail = AuditTrail(ledger, lake_keys(settings), restricted=settings.restricted)
        assert [(entry.action, entry.pseudonym) for entry in trail.entries()] == [
            ("hold", uid), ("release", uid), ("expire", uid),
        ]  # fmt: skip
        assert trail.problems() == []


def test_an_expired_study_does_not_come_back(settings: Settings, archive: Path) -> None:
    expired(settings)
    before = everything(settings)
    harvest_folder(settings, archive, hospital=expiry.hospital_of_files(settings, "h1"))
    assert everything(settings) == before


def test_what_the_store_refuses_to_delete_is_told_and_tried_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, uninterrupted: dict[str, Any]
) -> None:
    """An object lock: the store takes the request and keeps the object."""
    with monkeypatch.context() as locked:
        locked.setattr(LocalStore, "delete", lambda *_: None)
        done = expired(settings)
    assert done.removed == []
    assert list(done.refused.values()) == ["it is still there: object lock, or another writer"]
    assert len(expired(settings).removed) == 1
    assert everything(settings) == uninterrupted


def test_the_command_shows_first_and_removes_only_when_told(settings: Settings) -> None:
    def run(*arguments: str) -> dict[str, Any]:
        result = CliRunner().invoke(verb.app, [*arguments, "--json"], obj=settings)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout.splitlines()[-1])

    before = picture(settings)
    (due,) = run("expire")["due"]
    assert (due["rule"], due["retain_until"], due["is_held"]) == ("outpatient, 15 years", "2024-03-05", False)
    assert picture(settings) == before
    assert CliRunner().invoke(verb.app, ["expire", "--yes"], obj=settings).exit_code == 2
    assert run("expire", "--yes", "--by", "Archive board", "--why", "decision 7")["removed"] == [
        due["study_instance_uid"]
    ]
    assert run("expire")["due"] == []
    assert run("list")["n_expired"] == 1
    assert {row["tier"] for row in run("plan", "--province", "--ratio", "3")["rows"]} == {
        "hot",
        "warm",
        "cold",
        "archive",
    }
