"""The root key at rest: in plain, wrapped with a key-encryption key, or in a backup under a passphrase.

What is derived from it is in `keys`. Wrapping it anew changes no pseudonym.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from radlake.commit_points import reached
from radlake.config import Settings, resolve_secret
from radlake.deidentify.keys import KeyRing
from radlake.errors import ConfigInvalid
from radlake.machine import fsync, leave_no_core_dump

__all__ = ["backup", "key_from_backup", "key_ring", "read_root", "rewrap", "write_key_file"]

_NONCE_BYTES = 12
_SCRYPT = {"n": 1 << 17, "r": 8, "p": 1}  # 128 MiB and a third of a second for each guess
_MIN_PASSPHRASE = 12


def key_ring(settings: Settings) -> KeyRing:
    """The keys of a deployment; from here on this process leaves no core dump.

    Raises
    ------
    KeyMissing, ConfigInvalid
    """
    leave_no_core_dump()
    return KeyRing(read_root(settings))


def read_root(settings: Settings) -> bytes:
    """Read the root key, unwrapped with RADLAKE_KEY_WRAP when it is wrapped.

    Raises
    ------
    KeyMissing, ConfigInvalid
    """
    text = resolve_secret(settings.key)
    if not text.startswith("{"):
        return _bytes_of(text, path="root key")
    sealed = _document(text, kind="root key", path=settings.key)
    if not settings.key_wrap:
        problem = "it is wrapped; name its key-encryption key with RADLAKE_KEY_WRAP (file:PATH or env:NAME)"
        raise ConfigInvalid(path=settings.key, problems=[problem])
    kek = _kek(settings.key_wrap)
    return _opened(sealed, kek, path=settings.key, advice="it was wrapped with another key than RADLAKE_KEY_WRAP names")


def rewrap(settings: Settings, *, wrap: str) -> None:
    """Wrap the root key file with another key-encryption key, in one step; an empty reference leaves it in plain.

    Raises
    ------
    KeyMissing, ConfigInvalid
        The file is as it was then.
    """
    kind, _, name = settings.key.partition(":")
    if kind != "file":
        raise ConfigInvalid(path=settings.key, problems=["only a key in a file can be wrapped here"])
    root = read_root(settings)
    write_key_file(Path(name), root, wrap=wrap, replace=True)


def write_key_file(path: Path, root: bytes, *, wrap: str = "", replace: bool = False) -> bool:
    """Write a root key file, whole or not at all, readable by its owner only.

    Returns
    -------
    bool
        False when there was one and it was left alone.
    """
    text = json.dumps(_sealed(root, _kek(wrap), kind="root key")) if wrap else root.hex()
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(text + "\n")
        fsync(fresh)
        reached("key.written")
        if replace:
            fresh.replace(path)
        else:
            path.hardlink_to(fresh)  # an existing key is never overwritten, even by a twin
    except FileExistsError:
        return False
    finally:
        fresh.unlink(missing_ok=True)
    fsync(path.parent)
    reached("key.named")
    return True


def backup(root: bytes, *, passphrase: str) -> str:
    """The root key as text for a safe: scrypt (RFC 7914) makes a key of the passphrase, AES-256-GCM seals.

    Raises
    ------
    ConfigInvalid
        If the passphrase is short.
    """
    if len(passphrase) < _MIN_PASSPHRASE:
        raise ConfigInvalid(path="The passphrase", problems=[f"use at least {_MIN_PASSPHRASE} characters"])
    salt = secrets.token_bytes(16)
    kek = Scrypt(salt=salt, length=32, **_SCRYPT).derive(passphrase.encode())
    return json.dumps({**_sealed(root, kek, kind="root key backup"), "scrypt": {**_SCRYPT, "salt": salt.hex()}}) + "\n"


def key_from_backup(text: str, *, passphrase: str, path: str) -> bytes:
    """The root key of a backup.

    Raises
    ------
    ConfigInvalid
        If it is no backup, was damaged, or the passphrase is another one.
    """
    sealed = _document(text, kind="root key backup", path=path)
    try:
        cost = sealed["scrypt"]
        if (cost["n"], cost["r"], cost["p"]) != tuple(_SCRYPT.values()):
            raise ValueError
        kek = Scrypt(salt=bytes.fromhex(cost["salt"]), length=32, **_SCRYPT).derive(passphrase.encode())
    except (KeyError, TypeError, ValueError):
        raise ConfigInvalid(path=path, problems=["it is no backup of a root key, or was damaged"]) from None
    return _opened(sealed, kek, path=path, advice="the passphrase is another one, or the backup was damaged")


def _sealed(root: bytes, kek: bytes, *, kind: str) -> dict[str, Any]:
    check, nonce = KeyRing(root).check_value(), secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(kek).encrypt(nonce, root, _bound(kind, check))
    return {"radlake": kind, "version": 1, "check_value": check, "nonce": nonce.hex(), "sealed": sealed.hex()}


def _opened(document: dict[str, Any], kek: bytes, *, path: str, advice: str) -> bytes:
    try:
        nonce, sealed = bytes.fromhex(document["nonce"]), bytes.fromhex(document["sealed"])
        return AESGCM(kek).decrypt(nonce, sealed, _bound(document["radlake"], document["check_value"]))
    except (InvalidTag, KeyError, TypeError, ValueError):
        raise ConfigInvalid(path=path, problems=[advice]) from None


def _document(text: str, *, kind: str, path: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
        if (document["radlake"], document["version"]) == (kind, 1):
            return document
    except (KeyError, TypeError, ValueError):
        pass
    raise ConfigInvalid(path=path, problems=[f"it is no {kind}"])


def _bound(kind: str, check_value: str) -> bytes:
    return f"radlake/1/{kind}/{check_value}".encode()


def _kek(ref: str) -> bytes:
    kek = _bytes_of(resolve_secret(ref), path="key-encryption key")
    if len(kek) != 32:
        raise ConfigInvalid(path="key-encryption key", problems=["it must be 64 hexadecimal digits"])
    return kek


def _bytes_of(text: str, *, path: str) -> bytes:
    try:
        return bytes.fromhex(text.strip())
    except ValueError:  # not chained: the text of that error could show part of the secret
        raise ConfigInvalid(path=path, problems=[f"the {path} must be hexadecimal digits"]) from None
