"""A view: what the reader chose to see. All of it is in the URL, so that a link shows the same numbers again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from radlake.web.snapshot import Snapshot

__all__ = ["PARAMETERS", "WINDOWS", "View", "ViewInvalid"]

# field of View -> parameter of the URL
PARAMETERS = {
    "region": "region",
    "hospital": "hospital",
    "first": "from",
    "last": "to",
    "modality": "modality",
    "window": "window",
    "year": "year",
    "day": "day",
    "part": "part",
    "measure": "measure",
    "rows": "rows",
}
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
WINDOWS = ("30", "90")


class ViewInvalid(ValueError):
    """A parameter of the URL cannot be; `parameter` and `value` say which."""

    def __init__(self, parameter: str, value: str) -> None:
        super().__init__(f"{parameter}={value}")
        self.parameter = parameter
        self.value = value


@dataclass(frozen=True)
class View:
    """Filters of a page; an empty string means everything.

    `rows` is `all` when the reader asked for every row of long tables.
    """

    region: str = ""
    hospital: str = ""
    first: str = ""
    last: str = ""
    modality: str = ""
    window: str = ""
    year: str = ""
    day: str = ""
    part: str = ""
    measure: str = ""
    rows: str = ""

    @classmethod
    def from_query(cls, query: Mapping[str, str], *, snapshot: Snapshot) -> View:
        """Read a URL's parameters strictly; parameters that are not ours are left alone.

        Raises
        ------
        ViewInvalid
            For a value that this lake does not know: a wrong number must not look like a right one.
        """
        known = {
            "region": snapshot.places,
            "hospital": snapshot.hospitals,
            "modality": snapshot.modalities,
            "window": WINDOWS,
            "year": snapshot.years,
            "day": snapshot.days,
            "part": snapshot.parts,
            "measure": snapshot.measures,
            "rows": ("all",),
        }
        values = {field: query.get(parameter, "").strip() for field, parameter in PARAMETERS.items()}
        for field, value in values.items():
            is_known = _MONTH.fullmatch(value) if field in ("first", "last") else value in known[field]
            if value and not is_known:
                raise ViewInvalid(PARAMETERS[field], value)
        if values["first"] and values["last"] and values["first"] > values["last"]:
            raise ViewInvalid("from", values["first"])
        return cls(**values)

    @property
    def has_range(self) -> bool:
        return bool(self.first or self.last)

    @property
    def period(self) -> str:
        """The chosen months, year or day, for the name of a file."""
        months = {self.first or self.last, self.last or self.first} - {""}
        return "_".join(sorted(months)) or self.year or self.day

    @property
    def is_everything(self) -> bool:
        return replace(self, rows="") == View()

    def query(self, **changes: Any) -> str:
        """The query string of this view with changes; `lang` may be among them."""
        changed = {**vars(self), **changes}
        return urlencode({PARAMETERS.get(name, name): value for name, value in changed.items() if value})
