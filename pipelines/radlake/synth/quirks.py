"""Quirks of PACS: what real ones do that a harvester must survive. One field, one quirk, off by default."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

from radlake.errors import ConfigInvalid

__all__ = ["Quirks", "quirks_from_json"]


@dataclass(frozen=True, slots=True)
class Quirks:
    """How a simulated PACS deviates.

    Attributes
    ----------
    answer_charset : str
        Specific Character Set of every answer to a query, whatever the question's was.
    omit_counts : bool
        Answers carry no NumberOf…Related… attributes.
    result_cap : int
        Queries stop after so many answers and report success; 0: they do not.
    drop_after_n : int
        The connection is cut once, when so many instances have been sent; 0: it is not.
    fail_instances : tuple of str
        SOP Instance UIDs that the PACS answers for but cannot send.
    """

    answer_charset: str = "ISO_IR 192"
    omit_counts: bool = False
    result_cap: int = 0
    drop_after_n: int = 0
    fail_instances: tuple[str, ...] = ()


def quirks_from_json(text: str) -> Quirks:
    """Read quirks from a JSON object.

    >>> quirks_from_json('{"result_cap": 200}').result_cap
    200
    """
    try:
        given = json.loads(text)
    except json.JSONDecodeError as exc:
        raise ConfigInvalid(path="quirks", problems=[str(exc)]) from exc
    unknown = set(given) - {field.name for field in fields(Quirks)}
    if unknown:
        raise ConfigInvalid(path="quirks", problems=[f"{name}: no such quirk" for name in sorted(unknown)])
    return Quirks(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})  # pyright: ignore[reportArgumentType]
