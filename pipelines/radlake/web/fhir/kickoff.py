"""What a kick-off request of Bulk Data asks for, by its headers and parameters. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from radlake.cohort.fhir import TYPES
from radlake.web.fhir.outcomes import Refused

__all__ = ["Wanted", "require_async", "wanted_from_query"]

_FORMATS = ("application/fhir+ndjson", "application/ndjson", "ndjson")
_UNDERSTOOD = ("_outputFormat", "_since", "_type")


@dataclass(frozen=True)
class Wanted:
    """Types of resources, and since when they must have changed; None for whenever.

    Attributes
    ----------
    ignored : tuple of str
        What a lenient client is told that was passed over.
    """

    types: tuple[str, ...]
    since: datetime | None
    ignored: tuple[str, ...] = ()

    def types_of(self, approved_at: datetime) -> tuple[str, ...]:
        """Of a release: all that is in it changed when it was approved."""
        return () if self.since is not None and self.since >= approved_at else self.types


def require_async(prefer: str) -> None:
    """A page of another site cannot send this header, so that no link begins an export.

    Raises
    ------
    Refused
    """
    if "respond-async" not in _preferences(prefer):
        raise Refused(400, "required", "Send the header Prefer: respond-async.")


def wanted_from_query(query: Iterable[tuple[str, str]], *, prefer: str) -> Wanted:
    """Read the parameters; what is not supported is refused, or passed over when the client prefers handling=lenient.

    Raises
    ------
    Refused
    """
    is_lenient = "handling=lenient" in _preferences(prefer)
    types: list[str] = []
    problems: list[str] = []
    since = None
    for name, value in query:
        if name == "_outputFormat":
            if value.replace(" ", "+") not in _FORMATS:  # a plus sign that was not encoded arrives as a blank
                raise Refused(400, "not-supported", f"_outputFormat may be {', '.join(_FORMATS)}.")
        elif name == "_since":
            since = _instant(value)
        elif name == "_type":
            types += [one.strip() for one in value.split(",") if one.strip()]
        else:
            problems.append(f"{name} is not supported; there are {', '.join(_UNDERSTOOD)}.")
    for name in sorted(set(types) - set(TYPES)):
        problems.append(f"_type {name} is not exported; there are {', '.join(TYPES)}.")
    if problems and not is_lenient:
        raise Refused(400, "not-supported", " ".join(problems))
    chosen = tuple(name for name in TYPES if name in types) if types else TYPES
    return Wanted(chosen, since, tuple(problems))


def _instant(value: str) -> datetime:
    try:
        found = datetime.fromisoformat(value.replace(" ", "+"))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise Refused(400, "value", "_since is an instant with its offset, as 2026-11-22T08:00:00+08:00.")
    return found.astimezone(UTC)


def _preferences(prefer: str) -> set[str]:
    return {one.strip().lower() for part in prefer.split(",") for one in part.split(";")}
