"""How a node is reached: TLS from its PEM files (the peer is always checked, PS3.15 B), and why it is not reached."""

from __future__ import annotations

import socket
import ssl

from radlake.errors import ConfigInvalid
from radlake.net.node import Tls

__all__ = ["client_context", "server_context", "why_unreachable"]


def client_context(tls: Tls, *, node: str) -> ssl.SSLContext:
    """For connections that we open; without `ca`, the authorities of this machine are trusted.

    Raises
    ------
    ConfigInvalid
        If a file is missing or is not PEM.
    """
    return _context(ssl.Purpose.SERVER_AUTH, tls, node=node)


def server_context(tls: Tls, *, node: str) -> ssl.SSLContext:
    """For connections that the node opens to our storage SCP: it must show a certificate too.

    Raises
    ------
    ConfigInvalid
    """
    if tls.certificate is None:
        raise ConfigInvalid(path=f"node {node}", problems=["tls.certificate and tls.key: needed for C-MOVE over TLS"])
    context = _context(ssl.Purpose.CLIENT_AUTH, tls, node=node)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _context(purpose: ssl.Purpose, tls: Tls, *, node: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(purpose, cafile=tls.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as exc:
        files = ", ".join(str(path) for path in (tls.ca, tls.certificate, tls.key) if path)
        raise ConfigInvalid(path=f"node {node}", problems=[f"tls: {files}: {exc.strerror or exc}"]) from exc
    return context


def why_unreachable(exc: BaseException) -> str:
    """What a person can do something about, from a failed connection; the first cause that says something."""
    cause: BaseException | None = exc
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, socket.gaierror):
        return "its host name is not known"
    if cause is None or isinstance(cause, TimeoutError):
        return "no answer: a wrong address, or a firewall"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause.reason or cause}"
    return (cause.strerror or str(cause)).lower()
