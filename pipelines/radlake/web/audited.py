"""The audit as a page: who saw what, narrowed by person, route and day, newest first. Pure."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from radlake.web.cells import CHINA
from radlake.web.grid import Column, Grid
from radlake.web.view import ViewInvalid

__all__ = ["ROWS", "AuditView", "Seen", "Sight"]

ROWS = 200
_FIELDS = ("who", "route", "on", "before")
_FORMS = {"on": re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), "before": re.compile(r"[1-9][0-9]{0,11}")}
_COLUMNS = (
    Column("recorded_at", "text"), Column("who", "text"), Column("role", "role"), Column("address", "text"),
    Column("seen", "text"), Column("audit_outcome", "audit_outcome"), Column("told", "text"),
)  # fmt: skip


@dataclass(frozen=True)
class AuditView:
    """Filters of the page; an empty string means everything.

    Attributes
    ----------
    who, route, on : str
        Name, first part of the path, and day in China.
    before : str
        Only events before this number: the way to older ones.
    """

    who: str = ""
    route: str = ""
    on: str = ""
    before: str = ""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> AuditView:
        """Read a URL's parameters.

        Raises
        ------
        ViewInvalid
        """
        values = {name: query.get(name, "").strip() for name in _FIELDS}
        for name, form in _FORMS.items():
            if values[name] and not form.fullmatch(values[name]):
                raise ViewInvalid(name, values[name])
        return cls(**values)

    @property
    def is_everything(self) -> bool:
        return self == AuditView()

    def query(self, **changes: str) -> str:
        return urlencode({name: value for name, value in {**vars(self), **changes}.items() if value})


@dataclass(frozen=True)
class Seen:
    """Events of a view.

    Attributes
    ----------
    n_events, n_found : int
        All of the audit, and those that the view holds.
    people, routes, days : tuple of str
        What the filters offer, days newest first.
    older : str
        Number that the next page is before; empty on the last one.
    """

    n_events: int
    n_found: int
    grid: Grid
    people: tuple[str, ...]
    routes: tuple[str, ...]
    days: tuple[str, ...]
    older: str


class Sight:
    """Events of a view, added one by one, oldest first; `root` is what the paths of a deployment begin with."""

    def __init__(self, view: AuditView, *, root: str = "") -> None:
        self._view, self._root = view, root
        self._people: set[str] = set()
        self._routes: set[str] = set()
        self._days: set[str] = set()
        self._last: deque[tuple[int, tuple[str | None, ...]]] = deque(maxlen=ROWS + 1)
        self._n_events = self._n_found = 0

    def add(self, event: Mapping[str, Any]) -> None:
        view = self._view
        self._n_events += 1
        at = datetime.fromisoformat(event["recorded"]).astimezone(CHINA)
        agent = event["agent"][0]
        who, what = agent["who"]["identifier"]["value"], event["entity"][0]["what"]["display"]
        day, route = f"{at:%Y-%m-%d}", _route(what, self._root)
        self._people.add(who)
        self._routes.add(route)
        self._days.add(day)
        asked = ((view.who, who), (view.route, route), (view.on, day))
        if any(wanted and wanted != found for wanted, found in asked):
            return
        self._n_found += 1
        if not view.before or self._n_events < int(view.before):
            told = event.get("outcomeDesc", "")
            row = (f"{at:%Y-%m-%d %H:%M:%S}", who, agent["role"][0]["text"], agent["network"]["address"], what,
                   event["outcome"], told)  # fmt: skip
            self._last.append((self._n_events, tuple(cell or None for cell in row)))

    def seen(self) -> Seen:
        """The newest of them first."""
        shown = list(reversed(self._last))[:ROWS]
        return Seen(
            n_events=self._n_events,
            n_found=self._n_found,
            grid=Grid(_COLUMNS, [row for _, row in shown]),
            people=tuple(sorted(self._people - {""})),
            routes=tuple(sorted(self._routes)),
            days=tuple(sorted(self._days, reverse=True)),
            older=str(shown[-1][0]) if len(self._last) > ROWS else "",
        )


def _route(what: str, root: str) -> str:
    """The first part of a path.

    >>> _route("/trace/stats.dose/x?lang=en", ""), _route("/imaging/", "/imaging"), _route("/film", "/imaging")
    ('/trace', '/', '/film')
    """
    path = what.partition("?")[0]
    path = path.removeprefix(root) if root and path.startswith(f"{root}/") else path
    return "/" + path.lstrip("/").partition("/")[0]
