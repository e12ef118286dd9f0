"""Local accounts: names, roles and Argon2id hashes in one file of the restricted zone. Passwords are never kept."""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from radlake.errors import ConfigInvalid, PermanentError
from radlake.lake.store import write_whole
from radlake.web.access.roles import Role

if TYPE_CHECKING:
    from argon2 import PasswordHasher

__all__ = ["Account", "AccountInvalid", "Accounts"]

LEAST_LETTERS = 12
MOST_LETTERS = 256
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@cache
def _hasher() -> PasswordHasher:
    """Argon2id by RFC 9106, 4: the second recommended option (64 MiB), for machines that do other work too."""
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)


@cache
def _nobody() -> str:
    """A hash to check where no account has the name: it takes as long all the same."""
    return _hasher().hash(secrets.token_hex(16))


class AccountInvalid(PermanentError):
    sentence = "The account {name} cannot be: {reason}."


@dataclass(frozen=True)
class Account:
    """A person, or a screen on a wall, that signs in by name."""

    name: str
    role: Role
    password_hash: str


class Accounts:
    """The accounts of a deployment; the file is read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._one_at_a_time = threading.Lock()  # a hash takes 64 MiB
        self._read: tuple[tuple[int, ...], Mapping[str, Account]] = (), {}

    def all(self) -> Mapping[str, Account]:
        """Accounts by name, as the file is now; empty before the first was made.

        Raises
        ------
        ConfigInvalid
            A damaged file lets nobody in: it must not look like a deployment without accounts.
        """
        try:
            with self.path.open(encoding="utf-8") as file:
                now = os.fstat(file.fileno())
                version = now.st_ino, now.st_mtime_ns, now.st_size
                if self._read[0] != version:
                    given = json.load(file)
                    found = {
                        one["name"]: Account(one["name"], Role(one["role"]), one["password_hash"]) for one in given
                    }
                    self._read = version, found
            return self._read[1]
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError) as exc:
            raise ConfigInvalid(path=self.path, problems=[f"it is damaged ({type(exc).__name__}); restore it"]) from exc

    def put(self, name: str, role: Role, password: str) -> Account:
        """Make an account, or give it another role and password: its sessions end with their next request.

        Raises
        ------
        AccountInvalid
        """
        if not _NAME.fullmatch(name):
            raise AccountInvalid(name=name, reason="a name has up to 64 of a-z, 0-9, dot, dash and underscore")
        if not LEAST_LETTERS <= len(password) <= MOST_LETTERS:
            raise AccountInvalid(name=name, reason=f"a password has {LEAST_LETTERS} to {MOST_LETTERS} characters")
        account = Account(name, role, _hasher().hash(password))
        self._write({**self.all(), name: account})
        return account

    def remove(self, name: str) -> None:
        """Remove an account; its sessions end with their next request.

        Raises
        ------
        AccountInvalid
        """
        known = dict(self.all())
        if name not in known:
            raise AccountInvalid(name=name, reason="there is none of this name")
        del known[name]
        self._write(known)

    def verified(self, name: str, password: str) -> Account | None:
        """The account if the password is right; a name that nobody has takes as long."""
        from argon2.exceptions import InvalidHashError, VerificationError

        account = self.all().get(name)
        with self._one_at_a_time:
            try:
                _hasher().verify(account.password_hash if account else _nobody(), password[: MOST_LETTERS + 1])
            except (VerificationError, InvalidHashError):
                return None
        return account

    def _write(self, accounts: dict[str, Account]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(self.path, json.dumps([asdict(one) for _, one in sorted(accounts.items())], indent=1) + "\n")
