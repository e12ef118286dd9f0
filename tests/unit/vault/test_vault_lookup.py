"""Look-ups: the way back and the way there, each of them in the audit trail before its answer."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from radlake import log
from radlake.cli import main
from radlake.cli.hospitals import hospital_of_files
from radlake.config import Settings
from radlake.errors import KeyMismatch
from radlake.ingest import harvest_folder
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import VAULT, VAULT_AUDIT
from radlake.machine import utc_now
from radlake.vault.lookup import LookupRefused, Vault
from radlake.vault.rotation import rotate
from radlake.vault.trail import Reason
from support.dicom import ct_study, mr_study, write_all
from support.lakes import settings_of
from support.postgres import postgres, postgres_cluster

__all__ = ["postgres", "postgres_cluster"]

WHY = Reason("Zhang, data protection officer", "ethics approval 2026-17")
NATIONAL = "11010519491231002X"


def archive(folder: Path) -> Path:
    """Two studies of Li Lei; of the other person the hospital knows the national number too."""
    write_all(ct_study(n=2, patient="李雷"), folder)
    write_all(mr_study(n=1, patient="李雷", study=2, accession="A0002"), folder)
    other = ct_study(n=1, patient="韩梅梅", patient_id="P2", study=3, accession="A0003")
    number = Dataset()
    number.PatientID = NATIONAL
    other[0].OtherPatientIDsSequence = [number]
    write_all(other, folder)
    return folder


def harvested(folder: Path, **given: str) -> Settings:
    settings = settings_of(folder / "lake", **given)
    harvest_folder(settings, archive(folder / "files"), hospital=hospital_of_files(settings, "h1"))
    return settings


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vault")
    harvested(folder)
    return folder


@pytest.fixture
def lake(made: Path, tmp_path: Path) -> Settings:
    shutil.copytree(made / "lake", tmp_path / "lake")
    return Settings(lake=str(tmp_path / "lake"), workers=0)


@pytest.fixture
def vault(lake: Settings) -> Iterator[Vault]:
    opened = Vault(lake, clock=utc_now)
    yield opened
    opened.close()


def pseudonyms(settings: Settings, modality: str) -> dict[str, str]:
    """Of one instance of the study, each level's."""
    with duck.connect(Lake.from_settings(settings)) as connection:
        query = """
            SELECT study_instance_uid, series_instance_uid, sop_instance_uid, exam_pseudo_id, study.patient_key
            FROM dicom.instance JOIN dicom.study AS study USING (study_instance_uid)
            WHERE modalities_in_study = $modality ORDER BY patient_key, sop_instance_uid LIMIT 1
        """
        [row] = connection.execute(query, {"modality": modality}).fetchall()
    return dict(zip(("study", "series", "instance", "exam", "patient"), map(str, row), strict=True))


def sql(lake: Settings, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Run a statement on the ledger's database as somebody with a SQL client would."""
    with closing(sqlite3.connect(lake.restricted / "ledger.db")) as connection, connection:
        return connection.execute(statement, values).fetchall()


def trail(vault: Vault) -> list[tuple[str, str, str, str]]:
    return [(entry.action, entry.kind, entry.pseudonym, entry.outcome) for entry in vault.trail.entries()]


@pytest.mark.parametrize("kind", ["study", "series", "instance", "exam", "patient"])
def test_every_pseudonym_leads_back(kind: str, vault: Vault, lake: Settings) -> None:
    pseudonym = pseudonyms(lake, "MR")[kind]
    found = vault.find(kind, pseudonym, reason=WHY).found
    study = next(item for item in found if item.record and len(item.record.instances) == 1)
    assert study.record is not None
    assert len(found) == (2 if kind == "patient" else 1)
    assert study.record.identity["patient_name"] == ["李雷"]
    assert study.record.identity["accession_number"] == ["A0002"]
    assert study.record.study[0] == mr_study(n=1, study=2)[0].StudyInstanceUID
    assert study.record.instances[0][0] == mr_study(n=1, study=2)[0].SOPInstanceUID
    n = len(found)
    assert trail(vault) == [("ask", kind, pseudonym, ""), ("answer", kind, pseudonym, f"to 1: {n} records")]


def test_a_person_is_found_by_the_patient_id_of_an_object(vault: Vault, lake: Settings) -> None:
    key = int(pseudonyms(lake, "MR")["patient"])
    assert len(vault.find("patient", f"{key:016x}".upper(), reason=WHY).found) == 2


@pytest.mark.parametrize("number", ["P0001", " p0001", "P2", NATIONAL])
def test_a_hospitals_number_leads_to_the_pseudonym(number: str, vault: Vault) -> None:
    keys = vault.forward("h1", number, reason=WHY).patient_keys
    assert any(vault.n_studies(key) == (2 if "1" in number[:6] and len(number) < 10 else 1) for key in keys)
    assert [entry.kind for entry in vault.trail.entries()] == ["forward", "forward"]
    assert vault.n_studies(vault.forward("h2", number, reason=WHY).patient_keys[0]) == (1 if number == NATIONAL else 0)


def test_the_trail_never_holds_an_identifier(vault: Vault, lake: Settings) -> None:
    vault.forward("h1", "P0001", reason=WHY)
    for kind, text in (("study", "1.2.156.1"), ("patient", "李雷"), ("exam", "A0001")):
        with pytest.raises(LookupRefused, match="no pseudonym"):
            vault.find(kind, text, reason=WHY)
    with pytest.raises(LookupRefused, match="must not hold"):
        vault.forward("h1", "P0001", reason=Reason("Zhang", "for P0001"))
    with pytest.raises(LookupRefused, match="must not hold"):
        vault.find("study", "2.25.1", reason=Reason("Zhang", f"for {NATIONAL}"))
    with pytest.raises(LookupRefused, match="nobody in particular"):
        vault.forward("h1", "UNKNOWN", reason=WHY)
    told = json.dumps([vars(entry) | {"recorded_at": ""} for entry in vault.trail.entries()], ensure_ascii=False)
    assert not any(text in told for text in ("P0001", "李雷", "A0001", "1.2.156", NATIONAL, "UNKNOWN"))
    assert told.count("failed, LookupRefused") == 6
    assert not vault.trail.problems()


def test_nothing_identifying_lies_open_in_the_vault(lake: Settings) -> None:
    rows = sql(lake, "SELECT * FROM vault") + sql(lake, "SELECT * FROM vault_alias")
    told = repr(rows).encode() + b"".join(cell for row in rows for cell in row if isinstance(cell, bytes))
    known = ["P0001", "李雷", "A0001", NATIONAL, "19700102", str(ct_study(n=1)[0].StudyInstanceUID)]
    assert len(rows) == 3 + 3
    assert not any(text.encode() in told for text in known)


@pytest.mark.parametrize("missing", [Reason("", "why"), Reason("who", "  ")])
def test_who_and_why_are_mandatory(missing: Reason, vault: Vault) -> None:
    with pytest.raises(LookupRefused, match="--by, --why"):
        vault.find("study", "2.25.1", reason=missing)
    assert [entry.outcome for entry in vault.trail.entries()] == ["", "to 1: failed, LookupRefused"]


def test_the_question_is_entered_before_anything_is_opened(
    vault: Vault, lake: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[tuple[str, str, str, str]]] = []

    def crash(*_: object) -> None:
        seen.append(trail(vault))
        raise RuntimeError

    monkeypatch.setattr("radlake.vault.lookup.open_record", crash)
    study = pseudonyms(lake, "MR")["study"]
    with pytest.raises(RuntimeError):
        vault.find("study", study, reason=WHY)
    assert seen == [[("ask", "study", study, "")]]
    assert trail(vault)[1] == ("answer", "study", study, "to 1: failed, RuntimeError")


def radlake(lake: Settings, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["radlake", "--lake", lake.lake, *arguments])
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        log.configure(strict=True)
    return int(end.value.code or 0)


def test_a_flipped_bit_is_told_and_audited(
    vault: Vault, lake: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = pseudonyms(lake, "MR")
    [(record,)] = sql(lake, "SELECT record FROM vault WHERE lake_study_uid = ?", [told["study"]])
    flipped = bytes([*record[:-1], record[-1] ^ 1])
    sql(lake, "UPDATE vault SET record = ? WHERE lake_study_uid = ?", [flipped, told["study"]])
    asked = ["vault", "find", "--patient", told["patient"], "--by", "Zhang", "--why", "drill", "--json"]
    assert radlake(lake, *asked, monkeypatch=monkeypatch) == 1
    out, err = capsys.readouterr()
    assert f"the record of study {told['study']} is damaged" in err
    studies = json.loads(out)["studies"]
    assert sorted(item["is_damaged"] for item in studies) == [False, True]
    assert trail(vault)[1][3] == "to 1: 2 records, 1 damaged"
    n, damaged = vault.damaged(reason=WHY)
    assert (n, [item.study_uid for item in damaged]) == (3, [told["study"]])
    done = rotate(vault.keys, vault.rows)
    assert (done.n_sealed, done.damaged) == (2, (told["study"],))
    assert rotate(vault.keys, vault.rows).version == done.version + 1  # one damaged record stops no rotation


def test_another_key_looks_nothing_up(lake: Settings) -> None:
    (lake.restricted / "root.key").write_text("a0" * 32)
    with pytest.raises(KeyMismatch):
        Vault(lake, clock=utc_now)


def _ask(vault: Vault, n: int) -> None:
    for number in range(n):
        vault.find("study", f"2.25.{number}", reason=WHY)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("UPDATE vault_audit SET purpose = 'something else' WHERE seq = 3", "entry 3 was changed"),
        ("UPDATE vault_audit SET recorded_at = '2020-01-01 00:00:00.000000' WHERE seq = 1", "entry 1 was changed"),
        ("DELETE FROM vault_audit WHERE seq = 2", "entry 2 is missing"),
        ("DELETE FROM vault_audit WHERE seq > 4", "entries 5 to 6 are missing"),
        ("DELETE FROM vault_audit", "entries 1 to 6 are missing"),
        (
            "INSERT INTO vault_audit SELECT 7, recorded_at, action, kind, pseudonym, hospital_id, outcome, agent,"
            " os_user, host, purpose, mac, mac FROM vault_audit WHERE seq = 6",
            "entry 7 was changed",
        ),
    ],
)
def test_a_changed_trail_is_found(harm: str, told: str, vault: Vault, lake: Settings) -> None:
    _ask(vault, 3)
    assert not vault.trail.problems()
    sql(lake, harm)
    assert told in "\n".join(vault.trail.problems())


def test_a_trail_without_its_kept_end_is_told(
    vault: Vault, lake: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _ask(vault, 1)
    assert radlake(lake, "vault", "audit", "--verify", monkeypatch=monkeypatch) == 0
    assert "2 entries" in capsys.readouterr().out
    (lake.restricted / "vault-audit.head").unlink()
    assert radlake(lake, "vault", "audit", "--verify", monkeypatch=monkeypatch) == 1
    assert "vault-audit.head is missing" in capsys.readouterr().err


def test_a_restored_database_is_told_and_used_on(vault: Vault, lake: Settings) -> None:
    _ask(vault, 1)
    vault.close()
    database, older = lake.restricted / "ledger.db", lake.restricted / "older.db"
    shutil.copy(database, older)  # closed: all of it is in this file
    again = Vault(lake, clock=utc_now)
    _ask(again, 2)
    again.close()
    shutil.copy(older, database)
    restored = Vault(lake, clock=utc_now)
    lost = "entries 3 to 6 are missing: removed, or the database was restored from an older copy"
    assert restored.trail.problems() == [lost]
    assert restored.find("study", pseudonyms(lake, "MR")["study"], reason=WHY).audit_seq == 7
    assert restored.trail.problems() == [lost]  # what happened stays visible
    restored.close()


def _versions(vault: Vault) -> dict[int, int]:
    return vault.rows.count_by_version()


def test_an_interrupted_rotation_is_finished(vault: Vault, lake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radlake.vault.rotation._STEP", 1)
    old = _records(lake)

    def interrupt(n: int) -> None:
        if n == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rotate(vault.keys, vault.rows, progress=interrupt)
    assert _versions(vault) == {1: 1, 2: 2}
    done = rotate(vault.keys, vault.rows)
    assert (done.version, done.n_sealed, done.is_new) == (2, 1, False)
    assert _versions(vault) == {2: 3}
    assert not old & _records(lake)
    assert not any(record in (lake.restricted / "ledger.db").read_bytes() for record in old)
    assert vault.find("study", pseudonyms(lake, "MR")["study"], reason=WHY).found[0].record is not None
    assert rotate(vault.keys, vault.rows).version == 3


def _records(lake: Settings) -> set[bytes]:
    return {row[0] for row in sql(lake, "SELECT record FROM vault")}


def test_after_a_rotation_a_harvest_seals_with_the_new_key(vault: Vault, lake: Settings, tmp_path: Path) -> None:
    rotate(vault.keys, vault.rows)
    write_all(ct_study(n=1, patient="李雷", study=9), tmp_path / "more")
    harvest_folder(lake, tmp_path / "more", hospital=hospital_of_files(lake, "h1"))
    assert _versions(vault) == {2: 4}


def test_a_study_that_comes_in_parts_has_a_record_of_each(vault: Vault, lake: Settings, tmp_path: Path) -> None:
    late = ct_study(n=3, patient="李雷")[2:]
    write_all(late, tmp_path / "late")
    harvest_folder(lake, tmp_path / "late", hospital=hospital_of_files(lake, "h1"))
    harvest_folder(lake, tmp_path / "late", hospital=hospital_of_files(lake, "h1"))
    uid = str(late[0].SOPInstanceUID)
    study = vault.find("study", vault.keys.uid(str(late[0].StudyInstanceUID)), reason=WHY)
    assert sorted(len(item.record.instances) for item in study.found if item.record) == [1, 2]
    [found] = vault.find("instance", vault.keys.uid(uid), reason=WHY).found
    assert found.record is not None
    assert found.record.instances == ((uid, vault.keys.uid(uid)),)


@pytest.mark.postgres
def test_all_of_it_on_postgresql(tmp_path: Path, postgres: str) -> None:
    settings = harvested(tmp_path, ledger=postgres)
    vault = Vault(settings, clock=utc_now)
    told = pseudonyms(settings, "MR")
    assert len(vault.find("patient", told["patient"], reason=WHY).found) == 2
    assert vault.n_studies(vault.forward("h1", "P0001", reason=WHY).patient_keys[0]) == 2
    assert rotate(vault.keys, vault.rows).n_sealed == 3
    assert vault.find("instance", told["instance"], reason=WHY).found[0].record is not None
    assert not vault.trail.problems()
    ledger = Ledger(postgres)
    with ledger.writing() as connection:
        connection.execute(VAULT_AUDIT.delete().where(VAULT_AUDIT.c.seq == 6))
        connection.execute(VAULT.update().values(record=b"\x01cut"))
    ledger.close()
    assert vault.trail.problems() == ["entry 6 is missing: removed, or the database was restored from an older copy"]
    assert vault.find("study", told["study"], reason=WHY).damaged
    vault.close()
