"""Whether a key is the key of this lake: a second set of pseudonyms for the same persons must never begin.

The check value of the root key (`KeyRing.check_value`) is kept twice: in the ledger, and in `key.check` of the lake
itself, in case that the restricted zone is lost. It tells keys apart and nothing about them.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from radlake.commit_points import reached
from radlake.config import Settings
from radlake.deidentify import KeyRing, key_ring
from radlake.errors import KeyMismatch, KeyMissing, PermanentError, SourceMissing
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.lake.store import open_store
from radlake.lake.vault import VaultRows

__all__ = ["KeyUnproven", "LakeKeyMissing", "check_key", "claim_key", "lake_keys", "open_ledger", "refuse_new_key"]

_NAME = "key.check"


class KeyUnproven(PermanentError):
    sentence = (
        "{lake} has data, but nothing tells whether the key {key} made it: its ledger is lost or another one.\n"
        "Point RADLAKE_RESTRICTED and RADLAKE_LEDGER at those of this lake. If they are lost and the key is known to "
        "be the right one, enter it once with `radlake key verify --adopt`."
    )


class LakeKeyMissing(PermanentError):
    sentence = (
        "{lake} has data, but its key {key} is missing. A new key would give every person a second pseudonym.\n"
        "Bring it back with `radlake key import-backup FILE`, or point RADLAKE_KEY at it. "
        "For a new lake, name another folder with --lake."
    )


@dataclass(frozen=True)
class _Known:
    """Check values that were entered before; empty texts when there are none."""

    ledger: str
    lake: str
    is_proven: bool  # a stored study was replaced with this key

    def __bool__(self) -> bool:
        """Whether the key is known to be this lake's."""
        return bool(self.ledger or self.lake) or self.is_proven


def lake_keys(settings: Settings) -> KeyRing:
    """The keys of this lake, not compared yet.

    Raises
    ------
    LakeKeyMissing
        If something was stored with a key that is missing now.
    KeyMissing, ConfigInvalid
    """
    try:
        return key_ring(settings)
    except KeyMissing as error:
        if error.facts["ref"] == settings.key:
            refuse_new_key(settings)
        raise


def open_ledger(settings: Settings) -> Ledger:
    """The ledger of this lake, to change studies in: their history is sealed with its key.

    Raises
    ------
    LakeKeyMissing, KeyMissing, KeyMismatch, ConfigInvalid
    """
    keys = lake_keys(settings)
    settings.prepare_restricted()
    ledger = Ledger(settings.ledger, heads=settings.restricted / "heads")
    try:
        check_key(keys, settings, ledger=ledger)
        ledger.unlock(keys.ledger_mac)
    except BaseException:
        ledger.close()
        raise
    return ledger


def check_key(keys: KeyRing, settings: Settings, *, ledger: Ledger) -> bool:
    """Refuse a key that is known to be another lake's.

    Returns
    -------
    bool
        Whether it is known to be this lake's.

    Raises
    ------
    KeyMismatch
    """
    return bool(_known(keys, settings, ledger))


def claim_key(keys: KeyRing, settings: Settings, *, ledger: Ledger, adopt: bool = False) -> str:
    """Check the key before something is written with it, and enter its check value where there is none yet.

    Parameters
    ----------
    adopt : bool
        Also enter it in a lake that has data and nothing to compare with.

    Returns
    -------
    str
        The check value, for workers that resolve the key themselves.

    Raises
    ------
    KeyMismatch, KeyUnproven
    """
    known = _known(keys, settings, ledger)
    if not (known or adopt) and _has_tables(settings):
        known = _known(keys, settings, ledger)  # a twin claims its key before it makes tables, maybe since we looked
        if not known:
            raise KeyUnproven(lake=settings.lake, key=settings.key)
    value, rows = keys.check_value(), VaultRows(ledger)
    if not known.ledger:
        rows.claim(value)
        reached("key.claimed")
    if not known.lake:
        _write(settings, value)
        reached("key.checked_in")
    if not (known.ledger and known.lake):
        _known(keys, settings, ledger)  # a twin with another key may have been first
    return value


def _is_in_use(settings: Settings) -> bool:
    """Whether something was stored in this lake or entered in its ledger: its key is not to be made anew."""
    if _read(settings) or _has_tables(settings):
        return True
    path = Path(settings.ledger.removeprefix("sqlite:///"))
    if settings.ledger.startswith("sqlite") and not path.exists():
        return False
    ledger = Ledger(settings.ledger)
    try:
        rows = VaultRows(ledger)
        return bool(rows.key_check or rows.a_stored_study())
    finally:
        ledger.close()


def refuse_new_key(settings: Settings) -> None:
    """Call before a root key is made.

    Raises
    ------
    LakeKeyMissing
        If the lake or its ledger was made with a key that is missing now.
    """
    if _is_in_use(settings):
        raise LakeKeyMissing(lake=settings.lake, key=settings.key)


def _known(keys: KeyRing, settings: Settings, ledger: Ledger) -> _Known:
    ours, rows = keys.check_value(), VaultRows(ledger)
    entered, study = rows.key_check, rows.a_stored_study()
    in_lake = _read(settings)
    for place, found in (("the ledger", entered), (settings.lake, in_lake)):
        if found and found != ours:
            raise KeyMismatch(key=settings.key, place=place, expected=found[:8], given=ours[:8])
    is_proven = study is not None and keys.uid(study[0]) == study[1]
    if not entered and study is not None and not is_proven:  # a ledger that is older than check values
        raise KeyMismatch(key=settings.key, place="the ledger", expected="unknown", given=ours[:8])
    return _Known(entered, in_lake, is_proven)


def _has_tables(settings: Settings) -> bool:
    return Lake.from_settings(settings).tables.exists("dicom.study")


def _read(settings: Settings) -> str:
    lake = Lake.from_settings(settings)
    store = open_store(lake.url, options=lake.storage_options)
    if store.size(_NAME) is None:
        return ""
    try:
        return store.read(_NAME, offset=0, length=64).decode("ascii", "replace").strip()
    except SourceMissing:
        return ""


def _write(settings: Settings, value: str) -> None:
    lake = Lake.from_settings(settings)
    lake.scratch.mkdir(parents=True, exist_ok=True)
    part = lake.scratch / f"key-{secrets.token_hex(8)}.part"
    try:
        part.write_text(value + "\n", encoding="ascii")
        open_store(lake.url, options=lake.storage_options).put({_NAME: part})
    finally:
        part.unlink(missing_ok=True)
