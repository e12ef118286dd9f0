"""What may be shown: the one value that every statistic is released by, read from schemas/disclosure/ or a file."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, isfinite, log10
from pathlib import Path
from typing import Any

import yaml

from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root

__all__ = ["Policy", "load_policy"]

SCOPES = ("internal", "public")
LEFT_OPEN = ("one", "every")
_FIELDS = {"scope": str, "threshold": int, "rounding": int, "complementary": bool, "left_open": str,
           "rate_digits": int, "title": dict, "source": str}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is small, and how what is shown is coarsened.

    Attributes
    ----------
    threshold : int
        Counts from 1 to threshold - 1 are withheld; zero is shown.
    rounding : int
        Shown counts are rounded to the nearest multiple; 1 shows them as they are.
    complementary : bool
        Further counts are withheld so that none of the small ones follows from what is shown.
    left_open : str
        What a small count of the fixed statistics could as well be, by everything that is shown: at least `one` other
        number from one on, so that nobody can calculate it; or `every` number below the threshold that it could be
        if nothing were shown, so that nobody can tell a smaller one from a larger. Measures leave every number open.
    scope : str
        Who may see the release: internal or public.
    rate_digits : int
        Significant digits of rates: with all of them, a standardised rate would tell the numbers of its strata.
    """

    name: str = "internal"
    scope: str = "internal"
    threshold: int = 5
    rounding: int = 1
    complementary: bool = True
    left_open: str = "one"
    rate_digits: int = 4

    def is_small(self, count: float) -> bool:
        return 0 < count < self.threshold

    def shown_count(self, count: int) -> int:
        """The count as it is shown, halves away from zero.

        >>> [Policy(rounding=5).shown_count(n) for n in (0, 12, 13, 1004)]
        [0, 10, 15, 1005]
        """
        return (count + self.rounding // 2) // self.rounding * self.rounding

    def shown_rate(self, value: float | None) -> float | None:
        """The rate as it is shown: so many significant digits.

        >>> Policy(rate_digits=3).shown_rate(1043.0247991469)
        1040.0
        """
        return None if value is None else round(value, self._digits(value))

    def rate_tolerance(self, value: float) -> float:
        """How far the true rate may be from the one that is shown."""
        return 0.5 * 10.0 ** -self._digits(value)

    def shown_mean(self, value: float | None, *, count: int) -> float | None:
        """A mean or median of so many things: None when they are few, for it would tell of single ones."""
        return None if count == 0 or self.is_small(count) else self.shown_rate(value)

    def _digits(self, value: float) -> int:
        return self.rate_digits - 1 - (floor(log10(abs(value))) if value and isfinite(value) else 0)


def load_policy(name: str) -> Policy:
    """The policy of a name (`internal`, `public`, `nhs`) or of a YAML file.

    Raises
    ------
    ConfigInvalid
        With all problems: there is no such policy, an unknown field, a value that cannot be.
    """
    known = {path.stem: path for path in sorted((schemas_root() / "disclosure").glob("*.yaml"))}
    path = known.get(name, Path(name))
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exc:
        problem = f"is neither a file nor one of {', '.join(known)}"
        raise ConfigInvalid(path=f"The disclosure policy {name}", problems=[problem]) from exc
    except yaml.YAMLError as exc:
        raise ConfigInvalid(path=path, problems=[str(exc)]) from exc
    if problems := _problems(data):
        raise ConfigInvalid(path=path, problems=problems)
    facts = {
        field: data[field] for field in ("scope", "threshold", "rounding", "complementary", "left_open", "rate_digits")
    }
    return Policy(name=path.stem, **facts)


def _problems(data: Any) -> list[str]:
    if not isinstance(data, dict):
        return ["is not a mapping"]
    problems = [f"unknown field {name}; there are {', '.join(_FIELDS)}" for name in data if name not in _FIELDS]
    problems += [f"{name} is missing" for name in _FIELDS if name not in data]
    problems += [
        f"{name} must be a {kind.__name__}"
        for name, kind in _FIELDS.items()
        if name in data and type(data[name]) is not kind
    ]
    if problems:
        return problems
    rules = [
        (data["scope"] not in SCOPES, f"scope must be one of {', '.join(SCOPES)}"),
        (data["threshold"] < 1, "threshold must be 1 or more"),
        (data["rounding"] < 1, "rounding must be 1 or more"),
        (not 1 <= data["rate_digits"] <= 6, "rate_digits must be from 1 to 6"),
        (data["left_open"] not in LEFT_OPEN, f"left_open must be one of {', '.join(LEFT_OPEN)}"),
        (data["scope"] == "public" and data["left_open"] != "every", "a public release leaves every number open"),
        (data["scope"] == "public" and data["threshold"] < 5, "a public release withholds counts below 5 at least"),
        (data["scope"] == "public" and not data["complementary"] and data["rounding"] == 1,
         "a public release needs complementary suppression or rounding"),
    ]  # fmt: skip
    return [sentence for is_broken, sentence in rules if is_broken]
