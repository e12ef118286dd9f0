"""The other side, for trials and tests: a caller's key, its place on the allow-list, and tokens that it signs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from radlake.errors import ConfigInvalid
from radlake.lake.store import write_whole

__all__ = ["add_caller", "key_id", "signed_token"]


def add_caller(issuers: Path, *, iss: str, hospital_id: str, systems: Sequence[str], key: Path) -> None:
    """Make a P-384 key, and enter its public half with this issuer on the allow-list.

    Raises
    ------
    ConfigInvalid
        If the key's file is there already, or the issuer is.
    """
    rows: list[dict[str, Any]] = []
    if issuers.exists():
        rows = yaml.safe_load(issuers.read_text(encoding="utf-8"))["issuers"]
    if any(row["iss"] == iss for row in rows):
        raise ConfigInvalid(path=issuers, problems=[f"{iss} is on it already"])
    if key.exists():
        raise ConfigInvalid(path=key, problems=["there is a file already: a key is never written over"])
    private = ec.generate_private_key(ec.SECP384R1())
    key.touch(mode=0o600)
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = ECAlgorithm.to_jwk(private.public_key(), as_dict=True) | {"kid": key_id(private), "use": "sig"}
    name = f"reminder-keys-{hashlib.sha256(iss.encode()).hexdigest()[:12]}.json"
    write_whole(issuers.with_name(name), json.dumps({"keys": [public]}, indent=1) + "\n")
    row = {"iss": iss, "hospital": hospital_id, "keys": name, "identifiers": [{"system": one} for one in systems]}
    write_whole(issuers, yaml.safe_dump({"issuers": [*rows, row]}, allow_unicode=True, sort_keys=False))


def signed_token(key: Path, *, iss: str, audience: str, now: datetime, jti: str) -> str:
    """A token for one call; `now` is UTC."""
    private = load_pem_private_key(key.read_bytes(), password=None)
    algorithm = "ES384" if isinstance(private, ec.EllipticCurvePrivateKey) else "RS384"
    issued = now.replace(tzinfo=UTC)
    claims = {"iss": iss, "aud": audience, "iat": issued, "exp": issued + timedelta(minutes=5), "jti": jti}
    return jwt.encode(claims, private, algorithm=algorithm, headers={"kid": key_id(private)})  # pyright: ignore[reportArgumentType]


def key_id(private: Any) -> str:
    """Thumbprint of the public key (RFC 7638)."""
    is_curve = isinstance(private, ec.EllipticCurvePrivateKey)
    to_jwk: Callable[..., dict[str, Any]] = ECAlgorithm.to_jwk if is_curve else RSAAlgorithm.to_jwk
    public = to_jwk(private.public_key(), as_dict=True)
    needed = {name: public[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in public}
    return hashlib.sha256(json.dumps(needed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]
