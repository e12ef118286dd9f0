"""Rendering: a snapshot and a view become a page or a file in the language of the request."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from radlake.cohort.pull import Release
from radlake.contracts.periods import is_of_period
from radlake.web import exams
from radlake.web.access.audit import AuditLog
from radlake.web.access.gate import BEFORE, SESSION, SIGN_IN, Access, Person, local_path
from radlake.web.access.roles import Right
from radlake.web.audited import AuditView, Sight
from radlake.web.cells import MASKED, Cell, Kind, Writer, is_alarming
from radlake.web.export import FORMATS, attachment, csv_from, xlsx_from
from radlake.web.figures import FIGURES, Figure
from radlake.web.grid import Grid
from radlake.web.i18n import LANGUAGES, Words, language_from, load_words
from radlake.web.pages import DEFINITIONS, PAGES, Page, why_empty
from radlake.web.places import above
from radlake.web.releases import COLUMNS, LISTED, Choice, cells_of, modalities_of
from radlake.web.snapshot import Snapshot
from radlake.web.view import PARAMETERS, WINDOWS, View
from radlake.web.written import WrittenRow, written_rows

__all__ = ["Renderer", "templates"]

ROWS_SHOWN = 40
_KINDS: Sequence[tuple[str, Kind]] = (("_share", "share"), ("_fen", "fen"), ("_bytes", "bytes"))  # ends of columns


@cache
def templates() -> jinja2.Environment:
    """The templates of the pages and of order entry; what a template does not know is an error."""
    web = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([web / "templates", web / "cds" / "templates"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["urlencode_all"] = lambda text: quote(text, safe="")
    environment.filters["instant"] = datetime.fromisoformat
    environment.tests["withheld"] = lambda cell: cell is MASKED
    environment.tests["alarming"] = is_alarming
    return environment


class Renderer:
    """Fills the templates; `static` is the URL path of the static files."""

    def __init__(self, *, static: str, access: Access, may_trace: bool = False, has_releases: bool = False) -> None:
        self.has_releases = has_releases
        self.may_trace = may_trace
        self.static = static
        self.access = access

    def page(self, request: Request, page: Page, snapshot: Snapshot, person: Person) -> Response:
        view = View.from_query(request.query_params, snapshot=snapshot)
        words = _words(request)
        writer, link = _writer(words, snapshot), _Links(request, words, view)
        may_trace = self.may_trace and person.may(Right.LINEAGE)

        def narrowed(cell: Cell, kind: Kind) -> str:
            narrower = _drill(cell, kind, page)
            return link(link.path, rows="", **narrower) if narrower else ""

        def traced(name: str) -> str:
            return link(f"/exams/{name}" if person.may(Right.EXAMS) and _leads_to_exams(name) else f"/trace/{name}")

        def rows(grid: Grid) -> list[WrittenRow]:
            numbers = grid.shown(None if view.rows else ROWS_SHOWN)
            return list(written_rows(grid, numbers, writer, narrowed=narrowed, traced=traced if may_trace else None))

        figures = [
            _figure(FIGURES[name], snapshot, view, writer, rows)
            for name in page.figures
            if person.may(FIGURES[name].right)
        ]
        empties = {figure["empty"] for figure in figures}
        return self._html(
            "about.html" if page.name == "about" else "page.html",
            request,
            words,
            view=view,
            person=person,
            page=page,
            snapshot=snapshot,
            writer=writer,
            data_to=_data_to(snapshot, writer),
            tiles=page.tiles(snapshot, view),
            figures=figures,
            empty=empties.pop() if len(empties) == 1 else None,
            choices=[_choice(field, snapshot, view, writer) for field in page.filters],
            hidden=[
                (PARAMETERS[field], value)
                for field in PARAMETERS
                if field not in page.filters and (value := getattr(view, field)) and field != "rows"
            ],
            definitions=DEFINITIONS,
            threshold=snapshot.threshold,
            may_export=person.may(Right.EXPORT),
            trail=_trail(snapshot, view) if "region" in page.filters else (),
        )

    def export(self, request: Request, figure: Figure, suffix: str, snapshot: Snapshot) -> Response:
        view = View.from_query(request.query_params, snapshot=snapshot)
        words = _words(request)
        writer, grid = _writer(words, snapshot), figure.build(snapshot, view)
        title = words(f"figure.{figure.name}.title")
        content = csv_from(grid, writer) if suffix == "csv" else xlsx_from(grid, writer, title=title)
        headers = {
            "content-disposition": attachment(figure.name, title=title, period=view.period, suffix=suffix),
            "content-language": words.language,
            "cache-control": "no-cache",
        }
        return Response(content, media_type=FORMATS[suffix], headers=headers)

    def trace(self, request: Request, snapshot: Snapshot, person: Person, found: dict[str, Any]) -> Response:
        """The way of a number; exams are told to who may see them."""
        view, words = View.from_query(request.query_params, snapshot=snapshot), _words(request)
        writer = _writer(words, snapshot)
        return self._html(
            "trace.html",
            request,
            words,
            view=view,
            person=person,
            snapshot=snapshot,
            found=found,
            value=writer.screen(found["value"], _kind_of(found["column"], found["value"])),
            writer=writer,
            may_see_exams=person.may(Right.EXAMS),
            is_of_period=is_of_period(found["number"]),
        )

    def exams(self, request: Request, snapshot: Snapshot, person: Person, found: dict[str, Any]) -> Response:
        """The first exams that a number counts."""
        view, words = View.from_query(request.query_params, snapshot=snapshot), _words(request)
        writer = _writer(words, snapshot)
        return self._html(
            "exams.html",
            request,
            words,
            view=view,
            person=person,
            snapshot=snapshot,
            found=found,
            name=found["number"],
            value=writer.screen(found["value"], "count"),
            writer=writer,
            grid=exams.listing(found["exams"]),
        )

    def audit(self, request: Request, snapshot: Snapshot, person: Person, view: AuditView, log: AuditLog) -> Response:
        """Who saw what, and whether nobody changed it."""
        words, root = _words(request), request.scope.get("root_path", "").rstrip("/")
        sight = Sight(view, root=root)
        problems = log.problems(tell=sight.add)
        found = sight.seen()
        return self._html(
            "audit.html",
            request,
            words,
            view=view,
            person=person,
            found=found,
            problems=problems,
            people=[(name, name) for name in _offered(found.people, view.who)],
            routes=[(route, route) for route in _offered(found.routes, view.route)],
            days=[(day, day) for day in _offered(found.days, view.on)],
            writer=_writer(words, snapshot),
        )

    def release(
        self, request: Request, snapshot: Snapshot, person: Person, choice: Choice, release: Release | None
    ) -> Response:
        """What a release holds, to choose from; without one the page asks for its id.

        Raises
        ------
        ViewInvalid
        """
        words, told = _words(request), {}
        if release is not None:
            rows = choice.listed(release)
            title = release.document["title"]
            told = {
                "title": title["zh" if words.language == "zh-CN" else "en"],
                "modalities": modalities_of(release),
                "columns": COLUMNS,
                "rows": [cells_of(row) for row in rows[:LISTED]],
                "n_listed": len(rows),
                "command": f"radlake cohort pull {release.release_id}.manifest FOLDER",
            }
        return self._html(
            "releases.html",
            request,
            words,
            view=choice,
            person=person,
            release=release,
            writer=_writer(words, snapshot),
            **told,
        )

    def error(
        self, request: Request, status: int, kind: str, *, person: Person | None = None, **facts: str
    ) -> Response:
        return self._html(
            "error.html", request, _words(request), status=status, kind=kind, facts=facts, view=View(), person=person
        )

    def sign_in(self, request: Request, access: Access, *, wanted: str = "", is_wrong: bool = False) -> Response:
        before = request.cookies.get(BEFORE) or secrets.token_urlsafe(16)
        response = self._html(
            "sign_in.html",
            request,
            _words(request),
            view=View(),
            status=401 if is_wrong else 200,
            is_wrong=is_wrong,
            token=access.form_token(before),
            wanted=local_path(wanted or request.query_params.get("to", "")),
            has_accounts=bool(access.accounts and access.accounts.all()),
            has_provider=access.provider is not None,
        )
        secure = request.url.scheme == "https"
        response.set_cookie(BEFORE, before, httponly=True, samesite="strict", secure=secure, max_age=3600)
        response.headers["cache-control"] = "no-store"
        return response

    def to_sign_in(self, request: Request) -> Response:
        """To the sign-in, and from there to where the reader wanted to."""
        root = request.scope.get("root_path", "").rstrip("/")
        path = request.url.path.removeprefix(root) or "/"
        wanted = quote(path + (f"?{request.url.query}" if request.url.query else ""), safe="")
        language = request.query_params.get("lang")
        asked = f"&lang={quote(language, safe='')}" if language else ""
        return RedirectResponse(f"{root}{SIGN_IN}?to={wanted}{asked}", 303)

    def _html(
        self,
        template: str,
        request: Request,
        words: Words,
        *,
        view: View | AuditView | Choice,
        person: Person | None = None,
        status: int = 200,
        **context: Any,
    ) -> Response:
        link = _Links(request, words, view)
        text = (
            templates()
            .get_template(template)
            .render(
                t=words,
                link=link,
                root=link.root,
                path=link.path,
                reset=f"{link.root}{link.path}" + (f"?lang={link.asked}" if link.asked else ""),
                static=link.root + self.static,
                asked_language=link.asked,
                languages=LANGUAGES,
                pages=[page for page in PAGES if person and person.may(page.right)],
                may_pull=self.has_releases and person is not None and person.may(Right.RELEASES),
                may_audit=person is not None and person.may(Right.AUDIT) and self.access.audit is not None,
                person=person,
                sign_out_token=self.access.form_token(request.cookies.get(SESSION, "")) if person else "",
                view=view,
                status=status,
                **context,
            )
        )
        is_personal = person is not None and person.name
        headers = {
            "content-language": words.language,
            "vary": "Accept-Language, Cookie",
            "cache-control": "private, no-cache" if is_personal else "no-cache",
        }
        return HTMLResponse(text, status_code=status, headers=headers)


class _Links:
    """Links of a page to others, which keep what the reader has chosen, but for changes.

    Attributes
    ----------
    root, path : str
        What the paths of the deployment begin with, and the path of the page after it.
    asked : str
        The language, when the URL asks for it.
    """

    def __init__(self, request: Request, words: Words, view: View | AuditView | Choice) -> None:
        self.asked = words.language if "lang" in request.query_params else ""
        self.root = request.scope.get("root_path", "").rstrip("/")
        self.path = request.url.path.removeprefix(self.root) or "/"
        self._view = view
        self._unchanged = view.query(lang=self.asked)

    def __call__(self, path: str, **changes: str) -> str:
        query = self._view.query(**{"lang": self.asked, **changes}) if changes else self._unchanged
        return f"{self.root}{path}?{query}" if query else f"{self.root}{path}"


def _figure(
    figure: Figure, snapshot: Snapshot, view: View, writer: Writer, rows: Callable[[Grid], list[WrittenRow]]
) -> dict[str, Any]:
    grid = figure.build(snapshot, view)
    chart = grid.payload(writer)
    is_empty = not grid.rows or (grid.chart is not None and chart is None)
    return {
        "name": figure.name,
        "table": figure.table,
        "grid": grid,
        "is_folded": figure.is_folded,
        "rows": rows(grid),
        "chart": chart,
        "empty": why_empty(figure, grid, snapshot=snapshot, view=view) if is_empty else None,
        "updated_at": snapshot.updated_at.get(figure.table),
        "version": snapshot.versions[figure.table],
    }


def _kind_of(column: str, value: object) -> Kind:
    """How a column of a table is written."""
    for end, kind in _KINDS:
        if column.endswith(end):
            return kind
    return "count" if isinstance(value, int) else "rate" if isinstance(value, float) else "text"


def _choice(field: str, snapshot: Snapshot, view: View, writer: Writer) -> dict[str, Any]:
    options = snapshot.once(("options", field, writer.words.language), lambda: _options(field, snapshot, writer))
    value = getattr(view, field)
    if value and value not in dict(options):
        options = [*options, (value, value)]  # a month of the link that this lake does not have
    return {
        "name": PARAMETERS[field],
        "field": field,
        "value": value,
        "everything": writer.words(f"filter.{field}.all"),
        "options": options,
    }


def _options(field: str, snapshot: Snapshot, writer: Writer) -> Sequence[tuple[str, str]]:
    """Values of a filter, and how each is written."""

    def written(codes: Iterable[str], kind: Kind) -> list[tuple[str, str]]:
        return [(code, writer.screen(code, kind)) for code in codes]

    match field:
        case "region":
            indents = (len({*above(code)} & {*snapshot.places}) for code in snapshot.places)
            names = written(snapshot.places, "region")
            return [(code, "\u2003" * n + name) for n, (code, name) in zip(indents, names, strict=True)]
        case "hospital":
            return written(snapshot.hospitals, "hospital")
        case "first" | "last":
            return written(snapshot.months, "text")
        case "modality":
            return written(snapshot.modalities, "modality")
        case "window":
            return [(days, writer.words("filter.days", n=days)) for days in WINDOWS]
        case "year":
            return written(snapshot.years, "text")
        case "day":
            return written(snapshot.days, "text")
        case "part":
            return written(snapshot.parts, "part")
        case _:
            return [(name, titles[_column(writer.words)]) for name, titles in snapshot.measures.items()]


def _drill(code: Cell, kind: Kind, page: Page) -> dict[str, str]:
    """Filters that narrow the page to one row of a table; none where the page cannot be narrowed so."""
    if not isinstance(code, str):
        return {}
    if kind == "month" and len(code) == len("2026-01") and code[:1].isdigit() and "first" in page.filters:
        return {"first": code, "last": code}
    return {kind: code} if kind in page.filters else {}


def _offered(known: Sequence[str], chosen: str) -> Sequence[str]:
    """What a filter offers, with what the link asks for: nothing is shown under another filter than it says."""
    return known if not chosen or chosen in known else [*known, chosen]


def _leads_to_exams(name: str) -> bool:
    """Whether a number counts exams of one hospital over all months: these can be listed (radlake.lineage.listed)."""
    *key, column = name.split("/")
    is_of_hospital = any(part.startswith("hospital_id=") for part in key)
    return column in ("n_exams", "n_duplicates") and is_of_hospital and not is_of_period(name)


def _trail(snapshot: Snapshot, view: View) -> list[tuple[str, Kind, dict[str, str]]]:
    """From all regions down to the chosen hospital, each with the filters that lead there; empty when none is."""
    place = view.region
    if view.hospital:
        asked = "SELECT place_code FROM ref.place WHERE hospital_id = $hospital"
        place = next((code for (code,) in snapshot.rows(asked, {"hospital": view.hospital})), place)
    trail: list[tuple[str, Kind, dict[str, str]]] = [("all", "region", {"region": "", "hospital": ""})]
    regions = [code for code in (*above(place), place) if code in snapshot.places]
    for code in regions:
        trail.append((code, "region", {"region": code, "hospital": ""}))
    if view.hospital:
        trail.append((view.hospital, "hospital", {"region": place, "hospital": view.hospital}))
    return trail if len(trail) > 1 else []


def _data_to(snapshot: Snapshot, writer: Writer) -> str:
    month = writer.screen(snapshot.data_to, "month")
    is_incomplete = snapshot.data_to is not None and snapshot.is_incomplete(snapshot.data_to)
    return writer.words("meta.incomplete", month=month) if is_incomplete else month


def _words(request: Request) -> Words:
    return load_words(language_from(request.query_params.get("lang"), request.headers.get("accept-language", "")))


def _column(words: Words) -> int:
    """Which of a Chinese and an English name is written."""
    return 0 if words.language == "zh-CN" else 1


def _writer(words: Words, snapshot: Snapshot) -> Writer:
    column = _column(words)
    return snapshot.once(
        ("writer", words.language),
        lambda: Writer(
            words,
            {code: names[column] for code, names in snapshot.hospitals.items()},
            {code: names[column] for code, names in snapshot.regions.items()},
        ),
    )
