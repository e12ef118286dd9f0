"""The error tree: a leaf tells the machine what to do, its sentence tells the person what to do next.

    RadlakeError
    ├── TransientError     the orchestrator retries
    │   ├── NodeUnavailable, NodeAtRest, AssociationRejected, QueryFailed, RetrieveFailed, SlowDown, StoreFull,
    │   │   LedgerBusy, PortBusy, StoreUnavailable, WorkerKilled, WorkersLost
    ├── PermanentError     it stops, no retry
    │   ├── ConfigInvalid, ContractBroken, KeyMismatch, KeyMissing, CommitRefused, ObjectLocked, QueryInvalid,
    │   │   SourceMissing
    ├── QuarantineError    this object is set aside with a reason code, the run goes on
    └── PrivacyError       stop everything
        ├── IdentifierLeak

Raise with facts (`raise NodeUnavailable(node="jsph-pacs", reason="connection refused")`); the class writes
the sentence. Facts never hold an identifier of a patient. Every error survives pickling. A leaf that only one module
raises stands there (`cli.airflow`, `dicom.part10`).
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AssociationRejected",
    "CommitRefused",
    "ConfigInvalid",
    "ContractBroken",
    "IdentifierLeak",
    "KeyMismatch",
    "KeyMissing",
    "LedgerBusy",
    "NodeAtRest",
    "NodeUnavailable",
    "ObjectLocked",
    "PermanentError",
    "PortBusy",
    "PrivacyError",
    "QuarantineError",
    "QueryFailed",
    "QueryInvalid",
    "RadlakeError",
    "RetrieveFailed",
    "SlowDown",
    "SourceMissing",
    "StoreFull",
    "StoreUnavailable",
    "TransientError",
    "WorkerKilled",
    "WorkersLost",
]


def _rebuild(cls: type[RadlakeError], facts: dict[str, Any]) -> RadlakeError:
    return cls(**facts)


class RadlakeError(Exception):
    """Base of every error that radlake raises on purpose."""

    sentence: ClassVar[str] = "{facts}"

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        super().__init__(str(self))

    def __str__(self) -> str:
        known = {key: _readable(value) for key, value in self.facts.items()}
        known.setdefault("facts", ", ".join(f"{k}={v}" for k, v in known.items()))
        return self.sentence.format_map(_Known(known))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.facts)


class _Known(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "?"


def _readable(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "\n".join(f"  - {item}" for item in value)
    return str(value)


class TransientError(RadlakeError):
    """It may work later: the orchestrator retries with back-off."""


class NodeUnavailable(TransientError):
    sentence = (
        "{node} cannot be reached ({reason}).\n"
        "Check its host and port (`radlake node list`) and the network; "
        "the harvest goes on where it stopped when it is back."
    )


class AssociationRejected(TransientError):
    sentence = (
        "{node} rejected our association ({reason}).\n"
        "Check that its administrator registered our AE title and that we call it by its own; "
        "see docs/how-to/register-a-node.md."
    )


class QueryFailed(TransientError):
    sentence = "{node} failed the query at {level} level ({reason}). It is asked again at the next run."


class RetrieveFailed(TransientError):
    sentence = (
        "{node} failed to send a study ({reason}). What arrived is kept; the rest is asked again at the next run."
    )


class NodeAtRest(TransientError):
    """The fact `until_at` is the instant (aware) from which it may be asked again."""

    sentence = (
        "{node} is left in peace until {until} ({reason}). Nothing is lost; run the same command again after that. "
        "Its calendar is `courtesy` in the hospitals file, see docs/how-to/register-a-node.md."
    )


class SlowDown(TransientError):
    sentence = "{node} asks us to slow down ({reason})."


class StoreFull(TransientError):
    sentence = (
        "{path} cannot be written ({reason}). Free space there; nothing was lost, the run goes on where it stopped."
    )


class LedgerBusy(TransientError):
    sentence = "Another harvest of {hospital} is running. Wait for it or stop it; two would ask for the same studies."


class PortBusy(TransientError):
    sentence = "Port {port} of this machine cannot be opened ({reason}). Stop what has it, or choose another port."


class StoreUnavailable(TransientError):
    sentence = "The store {path} does not answer ({reason}). Nothing was lost; the run goes on where it stopped."


class WorkersLost(TransientError):
    sentence = (
        "The workers cannot go on ({reason}). Nothing was lost; run the same command again, "
        "with fewer of them (RADLAKE_WORKERS) when it happens again."
    )


class WorkerKilled(TransientError):
    sentence = (
        "A job has cost {n} workers their life; mostly memory ran out. "
        "Give workers more of it (RADLAKE_WORKER_MEMORY, or `dask worker --memory-limit`), then do it again."
    )


class PermanentError(RadlakeError):
    """Retrying cannot help: a person must change something."""


class ConfigInvalid(PermanentError):
    sentence = "{path} is not valid:\n{problems}"


class ContractBroken(PermanentError):
    sentence = "{table} breaks its contract:\n{problems}"


class KeyMissing(PermanentError):
    """A secret is not where its reference `ref` says: `env:NAME` or `file:PATH`."""

    sentence = "The secret {ref} is missing or empty. {remedy}"
    _REMEDIES: ClassVar = {
        "env": "Set the environment variable {name}.",
        "file": (
            "If it is the root key, `radlake init` creates it once, and RADLAKE_KEY points at one that exists. "
            "Otherwise write it to that file, readable by its owner only."
        ),
    }

    def __str__(self) -> str:
        kind, _, name = str(self.facts["ref"]).partition(":")
        remedy = self._REMEDIES.get(kind, "Write where it is: env:NAME or file:PATH.").format(name=name)
        return self.sentence.format(ref=self.facts["ref"], remedy=remedy)


class KeyMismatch(PermanentError):
    sentence = (
        "The key {key} is not the key of {place} (check value {given}…, and {expected}… is the right one). "
        "With it every person would get a second pseudonym.\n"
        "Point RADLAKE_KEY at the key of this lake; `radlake key import-backup FILE` brings it back from a safe."
    )


class CommitRefused(PermanentError):
    sentence = "A commit to {table} was refused ({reason}). Nothing was published; run the same command again."


class ObjectLocked(PermanentError):
    sentence = (
        "{path} is locked by the store ({mode}) until {until}: it cannot be deleted before. It stays as it is; "
        "the next `radlake tidy` after that day deletes it."
    )


class QueryInvalid(PermanentError):
    sentence = "The query cannot run: {reason}"


class SourceMissing(PermanentError):
    sentence = "{path} does not exist or cannot be read. Check the path and its permissions."


class QuarantineError(RadlakeError):
    """This one object is set aside with a reason code of schemas/reasons.yaml; the run goes on."""

    sentence = "Set aside: {reason} ({detail}). See `radlake quarantine list`."

    @property
    def reason(self) -> str:
        return str(self.facts["reason"])

    @property
    def detail(self) -> str:
        return str(self.facts.get("detail", ""))


class PrivacyError(RadlakeError):
    """Something identifying was about to leave the restricted zone: stop everything."""


class IdentifierLeak(PrivacyError):
    sentence = (
        "What was written breaks the privacy rule {rule} ({where}). Nothing of this batch was published.\n"
        "See `radlake quarantine list` and docs/how-to/verify-deidentification.md; correct the profile, then replay.\n"
        "A harvest that is started again stores the others, and leaves out what was set aside."
    )
