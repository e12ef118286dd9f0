"""What a hospital that pushes declares: who may send, and what closes a study. Part of the hospitals file.

Whether somebody is that sender is decided in `radlake.receive.senders`, whether a study is closed in
`radlake.receive.closing`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

__all__ = ["AETitle", "CloseRule", "ConfigModel", "Network", "Push", "SecretRef"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConfigModel(BaseModel):
    """A part of the hospitals file: every key is known, no value changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _ae_title(value: str) -> str:
    """PS3.5 6.2, VR AE: at most 16 characters of the default repertoire, no backslash, no control characters."""
    value = value.strip(" ")
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", value):
        raise ValueError("an AE title has 1 to 16 ASCII characters and no backslash")
    return value


def _reference(value: str) -> str:
    if not re.fullmatch(r"(env|file):.+", value):
        raise ValueError("write where the secret is, not the secret: env:NAME or file:PATH")
    return value


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as exc:
        raise ValueError("write an address or a network, as in 10.1.2.3 or 10.1.2.0/24") from exc


AETitle = Annotated[str, AfterValidator(_ae_title)]
SecretRef = Annotated[str, AfterValidator(_reference)]


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
    """

    ae_titles: tuple[AETitle, ...] = ()
    hosts: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    token: SecretRef | None = None
    max_associations: int = Field(default=16, ge=1, le=64, strict=True)
    close: CloseRule = CloseRule()

    @model_validator(mode="after")
    def _somebody(self) -> Push:
        if bool(self.ae_titles) != bool(self.hosts):
            raise ValueError("ae_titles and hosts come together: an AE title alone proves nothing")
        if not (self.ae_titles or self.token):
            raise ValueError("name who sends: ae_titles and hosts for DIMSE, token for STOW-RS")
        return self

    @property
    def networks(self) -> tuple[Network, ...]:
        return tuple(ipaddress.ip_network(host) for host in self.hosts)
