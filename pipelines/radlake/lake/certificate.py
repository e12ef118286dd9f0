"""Certificates of completeness: what the ledger said of a hospital on one day, so that nobody can say otherwise later.

Each names the certificate before it and the end of the hospital's history, and bears a keyed digest. It holds counts
and digests only. How they are kept is `certificate_store`'s business, what they are made of `certificate_survey`'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime

from radlake.lake.chain import canonical
from radlake.lake.events import Mac

__all__ = ["Certificate", "merkle_root"]


@dataclass(frozen=True)
class Certificate:
    """The certificate of a hospital and day.

    Attributes
    ----------
    number : int
        Of the hospital's certificates, from 1. A day has several when something changed after the first.
    day : date
        In Asia/Shanghai.
    issued_at : datetime
        UTC.
    studies : mapping
        Studies by state.
    expected, stored, set_aside, catalogued : int
        Instances: that the hospital is known to have, in the ledger, in quarantine, and in dicom.instance.
    disagreeing : int
        Studies of which ledger and catalogue do not say the same.
    root : str
        `merkle_root` of all studies' evidence.
    head_seq, head_mac : int, str
        End of the history.
    previous : str
        Digest of the certificate before; empty for the first one.
    """

    hospital_id: str
    number: int
    day: date
    issued_at: datetime
    studies: Mapping[str, int]
    expected: int
    stored: int
    set_aside: int
    catalogued: int
    disagreeing: int
    root: str
    head_seq: int
    head_mac: str
    previous: str = ""
    mac: str = ""

    @classmethod
    def from_document(cls, text: str) -> Certificate:
        """
        Raises
        ------
        ValueError, TypeError
            If that is no certificate.
        """
        told = json.loads(text)
        days = {"day": date.fromisoformat(told["day"]), "issued_at": datetime.fromisoformat(told["issued_at"])}
        return cls(**told | days)

    @property
    def document(self) -> str:
        """Its one JSON text."""
        days = {"day": self.day.isoformat(), "issued_at": self.issued_at.isoformat()}
        return canonical(vars(self) | days | {"studies": dict(self.studies)})

    @property
    def digest(self) -> str:
        """SHA-256 of the document: what the next certificate names, and a person may write down elsewhere."""
        return hashlib.sha256(self.document.encode()).hexdigest()

    def sealed(self, mac: Mac) -> str:
        """The keyed digest that it should have."""
        return mac("certificate" + replace(self, mac="").document)

    def says_the_same(self, other: Certificate) -> bool:
        """But for number, time and place in the chain."""
        when = {"number": other.number, "issued_at": other.issued_at, "previous": other.previous, "mac": other.mac}
        return replace(self, **when) == other


def merkle_root(evidence: Iterable[str]) -> str:
    """Merkle tree hash (RFC 9162, 2.1.1) over hexadecimal digests, in their order: one study's is proven by few others.

    >>> merkle_root([]) == hashlib.sha256().hexdigest()
    True
    """
    subtrees: list[tuple[int, bytes]] = []  # height and hash of complete trees, highest first
    for digest in evidence:
        subtrees.append((0, hashlib.sha256(b"\0" + bytes.fromhex(digest)).digest()))
        while len(subtrees) > 1 and subtrees[-1][0] == subtrees[-2][0]:
            (height, left), (_, right) = subtrees[-2:]
            subtrees[-2:] = [(height + 1, hashlib.sha256(b"\1" + left + right).digest())]
    if not subtrees:
        return hashlib.sha256().hexdigest()
    root = subtrees.pop()[1]
    while subtrees:
        root = hashlib.sha256(b"\1" + subtrees.pop()[1] + root).digest()
    return root.hex()
