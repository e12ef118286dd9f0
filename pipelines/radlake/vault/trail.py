"""The audit trail of the vault: who asked for what and why, in a chain that nobody can change unseen.

Each entry carries a keyed digest of itself and of the entry before it; the last one is also kept in a file of the
restricted zone, so that entries which are missing at the end are noticed too. Field names follow FHIR AuditEvent.
No identifier of a patient is ever entered.
"""

from __future__ import annotations

import json
import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from radlake.commit_points import reached
from radlake.deidentify import KeyRing
from radlake.lake.chain import HeadFile, Link, broken_links
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import VAULT_AUDIT

__all__ = ["AuditEntry", "AuditTrail", "Reason", "os_user"]

_HEAD = "vault-audit.head"
_UNSET = 2**32 - 1  # login uid of a process that nobody logged in for (audit(7))


@dataclass(frozen=True)
class Reason:
    """Who asks, and why, as they say themselves; both are mandatory."""

    by: str
    why: str


@dataclass(frozen=True)
class AuditEntry:
    """One entry.

    Attributes
    ----------
    action : str
        `ask` before anything is looked up, `answer` before it is shown, `rotate`, `backup`, ...
    kind, pseudonym, hospital_id : str
        What was asked for: never an identifier.
    outcome : str
        Of an answer: how many records, or why there is none.
    agent, purpose : str
        Who asked and why, in their own words.
    os_user, host : str
        Who it was to the machine.
    """

    seq: int
    recorded_at: datetime
    action: str
    kind: str
    pseudonym: str
    hospital_id: str
    outcome: str
    agent: str
    os_user: str
    host: str
    purpose: str
    previous_mac: str
    mac: str


class AuditTrail:
    """The table `vault_audit` of the ledger's database.

    Parameters
    ----------
    restricted : Path
        Folder of the restricted zone: the last entry is kept there too.
    """

    def __init__(self, ledger: Ledger, keys: KeyRing, *, restricted: Path) -> None:
        self._ledger = ledger
        self._keys = keys
        self._head = HeadFile(restricted / _HEAD)

    def record(
        self,
        action: str,
        *,
        reason: Reason,
        now: datetime,
        kind: str = "",
        pseudonym: str = "",
        hospital_id: str = "",
        outcome: str = "",
    ) -> int:
        """Append an entry; it is durable when this returns.

        Returns
        -------
        int
            Its number.
        """
        with self._ledger.writing() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("LOCK TABLE vault_audit IN EXCLUSIVE MODE"))
            last = connection.execute(sa.select(VAULT_AUDIT).order_by(VAULT_AUDIT.c.seq.desc()).limit(1)).mappings()
            seq, previous = max([(row["seq"], row["mac"]) for row in last] + [self._head.read() or (0, "")])
            values = {
                "seq": seq + 1,
                "recorded_at": now,
                "action": action,
                "kind": kind,
                "pseudonym": pseudonym,
                "hospital_id": hospital_id,
                "outcome": outcome,
                "agent": reason.by,
                "os_user": os_user(),
                "host": socket.gethostname(),
                "purpose": reason.why,
                "previous_mac": previous,
            }
            values["mac"] = self._mac(AuditEntry(**values, mac=""))
            connection.execute(VAULT_AUDIT.insert().values(**values))
        reached("audit.entered")
        self._head.write((values["seq"], values["mac"]))
        reached("audit.kept")
        return values["seq"]

    def entries(self) -> Iterator[AuditEntry]:
        """All entries, oldest first."""
        with self._ledger.reading() as connection:
            query = sa.select(VAULT_AUDIT).order_by(VAULT_AUDIT.c.seq).execution_options(yield_per=1000)
            for row in connection.execute(query).mappings():
                yield AuditEntry(**row)

    def problems(self) -> list[str]:
        """What is wrong with the chain: entries that were changed, removed or put in; none when it is whole."""
        links = (Link(entry.seq, entry.previous_mac, entry.mac, self._mac(entry)) for entry in self.entries())
        return [problem for _, problem in broken_links(links, kept=self._head.read(), name=_HEAD)]

    def _mac(self, entry: AuditEntry) -> str:
        fields = {name: value for name, value in vars(entry).items() if name != "mac"}
        fields["recorded_at"] = entry.recorded_at.isoformat()
        return self._keys.audit_mac(json.dumps(fields, sort_keys=True, ensure_ascii=False))


def os_user() -> str:
    """The user of this process as the kernel knows it, and who logged in, when that is another one (sudo)."""
    user, login = os.getuid(), _UNSET
    with suppress(OSError, ValueError):
        login = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
    told = _name(user)
    return told if login in (user, _UNSET) else f"{told}, logged in as {_name(login)}"


def _name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return f"({uid})"
