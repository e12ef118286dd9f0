"""What a hospital that pushes declares: who may send, and what closes a study. Part of the hospitals file.

Whether somebody is that sender is decided in `radlake.receive.senders`, whether a study is closed in
`radlake.receive.closing`.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from radlake.net.parts import AETitle, ConfigModel, SecretRef, Tls

__all__ = ["CloseRule", "Listener", "Network", "Push"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as exc:
        raise ValueError("write an address or a network, as in 10.1.2.3 or 10.1.2.0/24") from exc


class CloseRule(ConfigModel):
    """What closes a study that is pushed.

    Attributes
    ----------
    count : bool
        After the quiet time the hospital's node is asked what the study has (C-FIND at IMAGE level, QIDO-RS).
    notice : bool
        A notice tells what the study has, and that is all of it: MPPS (PS3.4 F.7), or JSON to `/notices`. Say false
        where a notice tells only a part, as that of one modality of several: it is then expected, and proves nothing.
    quiet : float
        Minutes of silence after which what came is ingested in any case. It proves nothing by itself: without a count
        or a notice the study stays partial.
    """

    count: bool = True
    notice: bool = True
    quiet: float = Field(default=15, gt=0, le=720)


class Listener(ConfigModel):
    """Where a sender hears of the storage commitment that it asked for, when it has hung up (PS3.4 J.3.3)."""

    ae_title: AETitle
    host: str = Field(min_length=1)
    port: int = Field(default=104, ge=1, le=65535, strict=True)
    tls: Tls | None = None


class Push(ConfigModel):
    """Who may send for a hospital.

    Attributes
    ----------
    ae_titles : tuple of str
        Calling AE titles of its senders.
    hosts : tuple of str
        Addresses or networks that they call from: an AE title alone proves nothing.
    token : str, optional
        Where the bearer token of its STOW-RS requests and notices is.
    max_associations : int
        How many of its associations are served at a time.
    commitment : tuple of Listener
        For senders that ask for storage commitment and do not stay to hear the result.
    """

    ae_titles: tuple[AETitle, ...] = ()
    hosts: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    token: SecretRef | None = None
    max_associations: int = Field(default=16, ge=1, le=64, strict=True)
    close: CloseRule = CloseRule()
    commitment: tuple[Listener, ...] = ()

    @model_validator(mode="after")
    def _somebody(self) -> Push:
        if bool(self.ae_titles) != bool(self.hosts):
            raise ValueError("ae_titles and hosts come together: an AE title alone proves nothing")
        if not (self.ae_titles or self.token):
            raise ValueError("name who sends: ae_titles and hosts for DIMSE, token for STOW-RS")
        titles = [listener.ae_title for listener in self.commitment]
        if strangers := set(titles) - set(self.ae_titles):
            raise ValueError(f"commitment names {', '.join(sorted(strangers))}, which is not one of ae_titles")
        if len(set(titles)) < len(titles):
            raise ValueError("commitment names an AE title twice")
        return self

    def listener(self, ae_title: str) -> Listener | None:
        """Where a sender listens."""
        return next((listener for listener in self.commitment if listener.ae_title == ae_title), None)

    @property
    def networks(self) -> tuple[Network, ...]:
        return tuple(ipaddress.ip_network(host) for host in self.hosts)
