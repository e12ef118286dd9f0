"""The root key at rest: wrapped, wrapped anew, backed up; damaged or with another passphrase it opens nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from radlake import log
from radlake.cli.init import ensure_key
from radlake.config import Settings, resolve_secret
from radlake.deidentify import KeyRing, key_ring
from radlake.deidentify.keyfile import backup, key_from_backup, rewrap, write_key_file
from radlake.errors import ConfigInvalid
from support.lakes import KEY, settings_of

ROOT = bytes.fromhex(KEY)
PASSPHRASE = "correct horse battery"


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("FIRST_KEK", "1a" * 32)
    monkeypatch.setenv("SECOND_KEK", "2b" * 32)
    return settings_of(tmp_path / "lake")


def wrapped(lake: Settings, kek: str) -> Settings:
    return lake.model_copy(update={"key_wrap": f"env:{kek}"})


def test_wrapping_anew_changes_no_pseudonym(lake: Settings) -> None:
    plain = key_ring(lake).check_value()
    rewrap(lake, wrap="env:FIRST_KEK")
    path = Path(resolve_path(lake))
    assert KEY not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert key_ring(wrapped(lake, "FIRST_KEK")).check_value() == plain
    rewrap(wrapped(lake, "FIRST_KEK"), wrap="env:SECOND_KEK")
    assert key_ring(wrapped(lake, "SECOND_KEK")).check_value() == plain
    with pytest.raises(ConfigInvalid, match="wrapped with another key"):
        key_ring(wrapped(lake, "FIRST_KEK"))
    with pytest.raises(ConfigInvalid, match="RADLAKE_KEY_WRAP"):
        key_ring(lake)
    assert [item.name for item in path.parent.iterdir() if item.name.startswith("root.key")] == ["root.key"]


def resolve_path(lake: Settings) -> str:
    return lake.key.removeprefix("file:")


def test_a_failed_wrap_leaves_the_file(lake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT", "ab" * 16)
    with pytest.raises(ConfigInvalid, match="64 hexadecimal digits"):
        rewrap(lake, wrap="env:SHORT")
    assert resolve_secret(lake.key) == KEY


def test_a_new_lake_can_begin_wrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST_KEK", "1a" * 32)
    settings = Settings(lake=str(tmp_path / "new"), key_wrap="env:FIRST_KEK")
    assert ensure_key(settings)
    assert json.loads(resolve_secret(settings.key))["radlake"] == "root key"
    assert len(key_ring(settings).check_value()) == 32


def test_an_existing_key_is_never_overwritten(lake: Settings) -> None:
    assert not write_key_file(Path(resolve_path(lake)), bytes(32))
    assert resolve_secret(lake.key) == KEY


def test_a_backup_opens_with_its_passphrase_only() -> None:
    text = backup(ROOT, passphrase=PASSPHRASE)
    assert KEY not in text
    assert key_from_backup(text, passphrase=PASSPHRASE, path="b") == ROOT
    with pytest.raises(ConfigInvalid, match="passphrase is another one"):
        key_from_backup(text, passphrase=PASSPHRASE + "!", path="b")
    with pytest.raises(ConfigInvalid, match="12 characters"):
        backup(ROOT, passphrase="short")


@pytest.mark.parametrize("field", ["sealed", "nonce", "check_value", "scrypt"])
def test_a_damaged_backup_is_told(field: str) -> None:
    document = json.loads(backup(ROOT, passphrase=PASSPHRASE))
    if field == "scrypt":
        document[field]["n"] = 2
    else:
        document[field] = document[field][:-1] + ("0" if document[field][-1] != "0" else "1")
    with pytest.raises(ConfigInvalid) as caught:
        key_from_backup(json.dumps(document), passphrase=PASSPHRASE, path="b")
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"radlake": "root key", "version": 1}', KEY])
def test_what_is_no_backup_is_told(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="no root key backup"):
        key_from_backup(text, passphrase=PASSPHRASE, path="b")


def test_a_traceback_shows_no_key(lake: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    keys = KeyRing(ROOT)
    try:
        keys.patient_key(None)  # type: ignore[arg-type]
    except AttributeError:
        log.get_logger().warning("key_failed", exc_info=True)
    told = capsys.readouterr().err
    assert "AttributeError" in told
    assert KEY not in told
    assert repr(ROOT)[2:20] not in told


def test_the_command_line_shows_no_key_when_it_crashes(lake: Settings) -> None:
    program = (
        "import sys; from radlake import cli; from radlake.deidentify import KeyRing\n"
        "def crash(self): root = self._root; raise RuntimeError('crash')\n"
        "KeyRing.check_value = crash\n"
        f"sys.argv = ['radlake', '--lake', {lake.lake!r}, 'key', 'status']\n"
        "cli.main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert "RuntimeError: crash" in ended.stderr
    assert KEY not in ended.stderr
    assert repr(ROOT)[2:20] not in ended.stderr
