"""Who sends: a calling AE title and its address, or a bearer token, belong to one hospital or to nobody."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator
from itertools import combinations

from radlake.config import resolve_secret
from radlake.errors import ConfigInvalid
from radlake.net import Hospital
from radlake.net.push import Network, Push

__all__ = ["Senders"]


class Senders:
    """The hospitals that push.

    Raises
    ------
    ConfigInvalid
        If nobody does, a sender or a token would be of two hospitals, or a hospital keeps its pixels.
    KeyMissing
        If a token is not where its reference says.
    """

    def __init__(self, hospitals: Iterable[Hospital], *, path: str) -> None:
        self._pushing: list[tuple[Hospital, Push]] = [(h, h.push) for h in hospitals if h.push is not None]
        problems = [*_shared_titles(self._pushing), *_shared_tokens(self._pushing)]
        problems += [
            f"push: {hospital.hospital_id} keeps its pixels (storage_policy: index), so they may not be sent here"
            for hospital, _ in self._pushing
            if hospital.storage_policy == "index"
        ]
        if not self._pushing:
            problems.append("no hospital pushes; give one a push: entry, see docs/how-to/receive.md")
        if problems:
            raise ConfigInvalid(path=path, problems=problems)
        self._by_token: dict[bytes, Hospital] = {}
        self._read_tokens()

    def __iter__(self) -> Iterator[Hospital]:
        return iter([hospital for hospital, _ in self._pushing])

    def of_association(self, calling: str, address: str) -> Hospital | None:
        """Hospital of a calling AE title at an address."""
        try:
            caller = ipaddress.ip_address(address)
        except ValueError:
            return None
        for hospital, push in self._pushing:
            if calling in push.ae_titles and any(caller in network for network in push.networks):
                return hospital
        return None

    def of_token(self, token: str) -> Hospital | None:
        """Hospital of a bearer token (RFC 6750).

        Tokens are known by their digest, so that the time of a search tells nothing of them. One that changed where
        its reference says is neither taken for what it was nor missed.
        """
        digest = _digest(token)
        owner = self._by_token.get(digest)
        if owner is None or not _is_token_of(owner, digest):
            self._read_tokens()
            owner = self._by_token.get(digest)
        return owner

    def _read_tokens(self) -> None:
        self._by_token = {
            _digest(resolve_secret(push.token)): hospital for hospital, push in self._pushing if push.token
        }


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _is_token_of(hospital: Hospital, digest: bytes) -> bool:
    push = hospital.push
    return push is not None and push.token is not None and _digest(resolve_secret(push.token)) == digest


def _shared_titles(pushing: Iterable[tuple[Hospital, Push]]) -> Iterator[str]:
    """Senders that nothing tells apart."""
    by_title: dict[str, list[tuple[Hospital, Push]]] = {}
    for hospital, push in pushing:
        for title in push.ae_titles:
            by_title.setdefault(title, []).append((hospital, push))
    for title, owners in sorted(by_title.items()):
        for (first, push), (second, twin) in combinations(owners, 2):
            if any(_overlap(one, other) for one in push.networks for other in twin.networks):
                names = f"{first.hospital_id} and {second.hospital_id}"
                yield f"push: {names} have AE title {title} at the same addresses; narrow hosts or rename one"


def _overlap(one: Network, other: Network) -> bool:
    if isinstance(one, ipaddress.IPv4Network):
        return isinstance(other, ipaddress.IPv4Network) and one.overlaps(other)
    return isinstance(other, ipaddress.IPv6Network) and one.overlaps(other)


def _shared_tokens(pushing: Iterable[tuple[Hospital, Push]]) -> Iterator[str]:
    owners: dict[str, str] = {}
    for hospital, push in pushing:
        name = hospital.hospital_id
        if push.token and (first := owners.setdefault(resolve_secret(push.token), name)) != name:
            yield f"push: {first} and {name} have the same token; give each its own"
