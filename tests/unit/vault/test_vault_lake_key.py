"""Another key is noticed at once, wherever the first one is remembered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from radlake.cli.hospitals import hospital_of_files
from radlake.cli.init import ensure_key
from radlake.config import Settings
from radlake.deidentify import KeyRing, key_ring
from radlake.errors import KeyMismatch
from radlake.ingest import harvest_folder
from radlake.ingest.build import build_lake
from radlake.ingest.study import IngestJob, ingest_study
from radlake.lake.ledger import Ledger, LedgerMissing
from radlake.lake.ledger_tables import FACT
from radlake.machine import utc_now
from radlake.vault import lake_key
from radlake.vault.lake_key import KeyUnproven, LakeKeyMissing, claim_key
from support.dicom import ct_study, write_all
from support.lakes import KEY, settings_of

OTHER = "a0" * 32


@pytest.fixture(scope="module")
def harvested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keyed")
    write_all(ct_study(n=2), folder / "files")
    harvest(settings_of(folder / "lake"), folder / "files")
    return folder


@pytest.fixture
def lake(harvested: Path, tmp_path: Path) -> Settings:
    """A lake with one study."""
    shutil.copytree(harvested, tmp_path / "k")
    return Settings(lake=str(tmp_path / "k" / "lake"), workers=0)


def harvest(settings: Settings, files: Path) -> None:
    harvest_folder(settings, files, hospital=hospital_of_files(settings, "h1"))


def files_of(lake: Settings) -> Path:
    return Path(lake.lake).parent / "files"


def give_key(lake: Settings, key: str) -> None:
    (lake.restricted / "root.key").write_text(key)


def forget(lake: Settings, *, ledger: bool = False, fact: bool = False, file: bool = False) -> None:
    """Lose the ledger with the ends of its histories, its check value, or that of the lake."""
    if ledger:
        shutil.rmtree(lake.restricted / "heads", ignore_errors=True)
        for path in lake.restricted.glob("ledger.db*"):
            path.unlink()
    if fact:
        known = Ledger(lake.ledger)
        with known.writing() as connection:
            connection.execute(FACT.delete())
        known.close()
    if file:
        (Path(lake.lake) / "key.check").unlink()


@pytest.mark.parametrize(
    "lost",
    [{}, {"file": True}, {"ledger": True}, {"fact": True, "file": True}],
    ids=["nothing", "the lake's", "the ledger", "both: a lake older than check values"],
)
def test_another_key_harvests_and_builds_nothing(lake: Settings, lost: dict[str, bool]) -> None:
    forget(lake, **lost)
    give_key(lake, OTHER)
    with pytest.raises(KeyMismatch, match="second pseudonym") as caught:
        harvest(lake, files_of(lake))
    assert OTHER not in str(caught.value)
    with pytest.raises(KeyMismatch):
        build_lake(lake, now=utc_now())


@pytest.mark.parametrize("lost", [{"file": True}, {"ledger": True}, {"fact": True, "file": True}])
def test_the_right_key_goes_on_and_is_entered_again(lake: Settings, lost: dict[str, bool]) -> None:
    forget(lake, **lost)
    harvest(lake, files_of(lake))
    assert (Path(lake.lake) / "key.check").read_text().strip() == KeyRing.from_secret(KEY).check_value()


def test_a_lake_with_data_and_nothing_to_compare_with_needs_a_person(lake: Settings) -> None:
    forget(lake, ledger=True, file=True)
    with pytest.raises(KeyUnproven, match="radlake key verify --adopt"):
        harvest(lake, files_of(lake))
    ledger = Ledger(lake.ledger)
    claim_key(key_ring(lake), lake, ledger=ledger, adopt=True)
    ledger.close()
    harvest(lake, files_of(lake))


def test_two_may_make_a_lake_at_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other claims the key and makes its tables between two looks of this one."""
    settings = settings_of(tmp_path / "lake")
    write_all(ct_study(n=1), tmp_path / "files")
    has_tables = lake_key._has_tables

    def twin_is_faster(seen: Settings) -> bool:
        monkeypatch.setattr(lake_key, "_has_tables", has_tables)
        harvest(settings, tmp_path / "files")
        return has_tables(seen)

    monkeypatch.setattr(lake_key, "_has_tables", twin_is_faster)
    with closing(Ledger(settings.ledger)) as ledger:
        assert claim_key(key_ring(settings), settings, ledger=ledger) == key_ring(settings).check_value()


def test_a_ledger_that_is_gone_is_not_begun_anew_unless_a_person_says_so(lake: Settings) -> None:
    for path in lake.restricted.glob("ledger.db*"):
        path.unlink()
    for use in (lambda: harvest(lake, files_of(lake)), lambda: Ledger(lake.ledger)):
        with pytest.raises(LedgerMissing, match="newest backup"):
            use()
    assert not Path(lake.ledger.removeprefix("sqlite:///")).exists()
    with closing(Ledger(lake.ledger, is_anew=True)) as ledger:
        claim_key(key_ring(lake), lake, ledger=ledger, adopt=True)
    harvest(lake, files_of(lake))


def test_no_new_key_is_made_for_a_lake_with_data(lake: Settings) -> None:
    (lake.restricted / "root.key").unlink()
    for lost in ({}, {"file": True}, {"ledger": True}):
        forget(lake, **lost)
        with pytest.raises(LakeKeyMissing, match="import-backup"):
            ensure_key(lake)
    assert not (lake.restricted / "root.key").exists()


def test_a_worker_with_another_key_does_nothing(lake: Settings) -> None:
    right = KeyRing.from_secret(KEY).check_value()
    give_key(lake, OTHER)
    with pytest.raises(KeyMismatch, match="this worker"):
        ingest_study(IngestJob(lake, "h1", "1.2", (), key_check=right))


def test_the_key_stays_out_of_core_dumps(lake: Settings) -> None:
    program = (
        "import resource; from radlake.config import Settings; from radlake.deidentify import key_ring;"
        f"key_ring(Settings(lake={lake.lake!r})); print(resource.getrlimit(resource.RLIMIT_CORE)[0], flush=True);"
        "import os; os.abort()"
    )
    command = ["sh", "-c", 'ulimit -c unlimited 2>/dev/null; exec "$@"', "sh", sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=lake.lake, env=dict(os.environ), check=False)
    assert ended.stdout.split() == ["0"]
    assert not list(Path(lake.lake).glob("core*.*"))
