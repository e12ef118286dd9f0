"""Accounts, limits and the audit of who saw what."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.auditevent import AuditEvent

from radlake.errors import ConfigInvalid, StoreFull
from radlake.web.access import Accounts, AuditLog, Right, Role
from radlake.web.access.accounts import AccountInvalid
from radlake.web.access.gate import local_path
from radlake.web.access.limits import Limit
from radlake.web.access.roles import MAY

PASSWORD = "correct horse battery"


def accounts(tmp_path: Path) -> Accounts:
    found = Accounts(tmp_path / "web" / "accounts.json")
    found.put("lin", Role.ANALYST, PASSWORD)
    return found


def test_password_is_kept_as_argon2id_and_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    found = accounts(tmp_path)
    text = found.path.read_text(encoding="utf-8")
    assert PASSWORD not in text
    assert json.loads(text)[0]["password_hash"].startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert stat.S_IMODE(found.path.stat().st_mode) == 0o600


def test_only_the_right_name_and_password_are_let_in(tmp_path: Path) -> None:
    found = accounts(tmp_path)
    account = found.verified("lin", PASSWORD)
    assert account
    assert account.role == Role.ANALYST
    assert found.verified("lin", PASSWORD + "x") is None
    assert found.verified("lin", "") is None
    assert found.verified("nobody", PASSWORD) is None
    found.put("lin", Role.VIEWER, "another long password")
    assert found.verified("lin", PASSWORD) is None
    found.remove("lin")
    assert found.all() == {}


@pytest.mark.parametrize(
    ("name", "password"),
    [("Lin", PASSWORD), ("", PASSWORD), ("a/b", PASSWORD), ("lin", "short"), ("lin", "x" * 257), ("x" * 65, PASSWORD)],
)
def test_bad_account_is_refused(tmp_path: Path, name: str, password: str) -> None:
    with pytest.raises(AccountInvalid):
        Accounts(tmp_path / "accounts.json").put(name, Role.VIEWER, password)
    with pytest.raises(AccountInvalid):
        Accounts(tmp_path / "accounts.json").remove("nobody")


@pytest.mark.parametrize("text", ["", "{", "[{}]", '[{"name": "a", "role": "king", "password_hash": ""}]'])
def test_damaged_accounts_are_no_accounts_for_nobody(tmp_path: Path, text: str) -> None:
    path = tmp_path / "accounts.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigInvalid):
        Accounts(path).all()


def test_accounts_are_read_again_when_their_file_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, others = accounts(tmp_path), accounts(tmp_path)
    n_read = 0

    def load(file: Any) -> Any:
        nonlocal n_read
        n_read += 1
        return json.loads(file.read())

    monkeypatch.setattr("radlake.web.access.accounts.json.load", load)
    assert [*ours.all()] == [*ours.all()] == ["lin"]
    assert n_read == 1
    others.put("wang", Role.VIEWER, PASSWORD)
    n_read = 0
    assert [*ours.all()] == [*ours.all()] == ["lin", "wang"]
    assert n_read == 1
    others.path.unlink()
    assert ours.all() == {}


def test_every_role_has_its_rights_and_the_exams_are_for_two() -> None:
    assert set(MAY) == set(Role)
    assert {role for role in Role if Right.EXAMS in MAY[role]} == {Role.RESEARCHER, Role.ENGINEER}
    assert {role for role in Role if Right.AUDIT in MAY[role]} == {Role.ADMIN}
    assert MAY[Role.DOCTOR] == {Right.SERVICE}
    assert Right.EXPORT not in MAY[Role.VIEWER]


def test_limit_lets_some_through_and_then_one_after_the_other() -> None:
    now = [0.0]
    limit = Limit(3, 30, clock=lambda: now[0])
    assert [limit.wait_seconds("a") for _ in range(4)] == [0, 0, 0, 10]
    assert limit.wait_seconds("b") == 0
    now[0] = 10.0
    assert [limit.wait_seconds("a") for _ in range(2)] == [0, 10]


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "evil",
        "",
        "/sign-in?to=/",
        "/a\r\nset-cookie: x",
        "/\\",
        "//[",
    ],
)
def test_sign_in_never_leads_elsewhere(wanted: str) -> None:
    assert local_path(wanted) == "/"


def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "web", clock=lambda: datetime(2026, 11, 22, 8, tzinfo=UTC))


def enter(one: AuditLog, what: str) -> None:
    one.enter(kind="rest", action="R", agent="lin", role="analyst", address="127.0.0.1", outcome="0", what=what)


def written(tmp_path: Path, n: int = 4) -> AuditLog:
    one = log(tmp_path)
    for number in range(n):
        enter(one, f"/film?from=2026-0{number + 1}")
    one.close()
    return one


def test_two_servers_share_one_chain(tmp_path: Path) -> None:
    one, other = log(tmp_path), log(tmp_path)
    for number in range(3):
        enter(one, f"/film?from=2026-0{number + 1}")
        enter(other, "/dose")
    one.close()
    other.close()
    assert log(tmp_path).problems() == []
    assert len(list(one.events())) == 6


def test_half_an_event_was_never_answered(tmp_path: Path) -> None:
    """A power cut left it; the chain goes on after the last whole event."""
    one = written(tmp_path)
    with one.path.open("a") as file:
        file.write('{"resourceType": "Audit')
    again = log(tmp_path)
    enter(again, "/dose")
    again.close()
    assert again.problems() == []
    assert len(list(again.events())) == 5


def test_what_a_full_disk_takes_in_part_is_no_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = written(tmp_path)
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr("radlake.web.access.audit.os.write", lambda file, line: real(file, line[:20]))
        with pytest.raises(StoreFull):
            enter(one, "/dose")
    enter(one, "/dose")
    one.close()
    assert log(tmp_path).problems() == []
    assert len(list(one.events())) == 5


def test_events_are_fhir_and_the_chain_goes_on_after_a_restart(tmp_path: Path) -> None:
    written(tmp_path)
    again = log(tmp_path)
    enter(again, "/dose")
    again.close()
    assert again.problems() == []
    events = [AuditEvent(**event) for event in again.events()]
    assert [event.entity[0].what.display for event in events][-1] == "/dose"
    assert str(events[0].recorded) == "2026-11-22 08:00:00+00:00"
    assert stat.S_IMODE(again.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("change", ["edit", "remove", "cut", "swap", "empty"])
def test_change_of_the_log_is_seen(tmp_path: Path, change: str) -> None:
    one = written(tmp_path)
    lines = one.path.read_text(encoding="utf-8").splitlines(keepends=True)
    if change == "edit":
        lines[1] = lines[1].replace('"lin"', '"liu"')
    elif change == "remove":
        del lines[1]
    elif change == "cut":
        del lines[-1]
    elif change == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    else:
        lines = []
    one.path.write_text("".join(lines), encoding="utf-8")
    assert log(tmp_path).problems() != []
