"""The pages over a real lake and a real socket: every page, language and fill; files; links; refresh."""

from __future__ import annotations

import csv
import io
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin

import httpx
import pytest

from radlake.config import Settings
from radlake.errors import PortBusy
from radlake.lake import Lake, duck
from radlake.lineage import number as naming
from radlake.web.app import create_app
from radlake.web.figures import FIGURES
from radlake.web.i18n import LANGUAGES, load_words
from radlake.web.pages import PAGES
from radlake.web.render import Renderer
from radlake.web.server import app_of, listen
from radlake.web.snapshot import TABLES, copying, take_snapshot
from radlake.web.view import View
from support import weblake
from support.webserver import running

SCALES = {"empty": 0, "filled": 40, "masked": 1}
PATHS = [page.path for page in PAGES]


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Settings]:
    """Settings of three lakes: empty, filled, and so small that many cells are withheld."""
    found = {}
    for name, scale in SCALES.items():
        settings = Settings(lake=str(tmp_path_factory.mktemp(name)))
        if scale:
            weblake.fill(Lake.from_settings(settings), scale=scale)
        found[name] = settings
    return found


@pytest.fixture(scope="module")
def pages(lakes: dict[str, Settings]) -> Iterator[dict[str, httpx.Client]]:
    """A client of each lake's pages."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(httpx.Client(base_url=stack.enter_context(running(app_of(settings))), timeout=30))
            for name, settings in lakes.items()
        }


class Tables(HTMLParser):
    """Text of every table of a page, by the id of its card; and the page's ids and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.ids: set[str] = set()
        self.links: list[str] = []
        self._card = ""
        self._cell: list[str] | None = None
        self._is_badge = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if identifier := given.get("id"):
            assert identifier not in self.ids, f"id {identifier} twice"
            self.ids.add(identifier)
        if href := given.get("href"):
            self.links.append(href)
        if tag == "section":
            self._card = given.get("id") or ""
        elif tag == "table":
            self.tables[self._card] = []
        elif tag == "tr":
            self.tables[self._card].append([])
        elif tag in ("td", "th"):
            self._cell = []
        self._is_badge = tag == "span" and given.get("class") == "badge"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self.tables[self._card][-1].append("".join(self._cell).strip())
            self._cell = None
        self._is_badge = False

    def handle_data(self, data: str) -> None:
        if self._cell is not None and not self._is_badge:
            self._cell.append(data)


@pytest.mark.parametrize("lake", SCALES)
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("path", PATHS)
def test_page(pages: dict[str, httpx.Client], lake: str, language: str, path: str) -> None:
    answer = pages[lake].get(path, params={"lang": language})

    assert answer.status_code == 200
    assert f'<html lang="{language}">' in answer.text
    assert answer.headers["content-language"] == language
    for name in ("style=", "onclick=", "<style", "http://", "https://"):
        assert name not in answer.text, name
    assert re.findall(r"<script(?! type=\"(?:module|application/json)\")", answer.text) == []


@pytest.mark.parametrize("lake", SCALES)
@pytest.mark.parametrize("path", PATHS)
def test_no_english_is_left_in_chinese_cells(pages: dict[str, httpx.Client], lake: str, path: str) -> None:
    """Headings and names are translated; codes of tables, columns, queries and transports are not words."""
    page = Tables(pages[lake].get(path, params={"lang": "zh-CN"}).text)
    words = load_words("en")
    english = {
        words.texts[key] for key in words.texts if key.startswith(("column.", "outcome.", "modality.", "scope."))
    }
    english -= set(load_words("zh-CN").texts.values())

    cells = {cell for table in page.tables.values() for row in table for cell in row}
    assert cells & english == set()


def test_links_of_every_page_answer(pages: dict[str, httpx.Client]) -> None:
    client, seen = pages["filled"], set()
    for path in PATHS:
        page = Tables(client.get(path, params={"lang": "en"}).text)
        for link in page.links:
            target, _, anchor = urljoin(path, link).partition("#")
            if (target, anchor) in seen or target.startswith("/trace/"):  # each takes a process: tests/acceptance
                continue
            seen.add((target, anchor))
            answer = client.get(target) if target else client.get(path)
            assert answer.status_code == 200, link
            if anchor:
                assert anchor in Tables(answer.text).ids, link
    assert len(seen) > 60


@pytest.mark.parametrize("lake", ["filled", "masked"])
@pytest.mark.parametrize("query", ["", "from=2026-02&to=2026-10&hospital=h02"], ids=["everything", "filtered"])
@pytest.mark.parametrize("path", [page.path for page in PAGES if page.figures])
def test_file_holds_the_numbers_of_the_screen(pages: dict[str, httpx.Client], lake: str, query: str, path: str) -> None:
    client = pages[lake]
    page = Tables(client.get(f"{path}?lang=en&rows=all&{query}").text)
    assert page.tables or query
    for name, table in page.tables.items():
        answer = client.get(f"/export/{name}.csv?lang=en&{query}")
        assert answer.content.startswith(b"\xef\xbb\xbf")
        lines = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
        assert len(lines) == len(table)
        for shown, stored in zip(table, lines, strict=True):
            for screen, plain in zip(shown, stored, strict=True):
                assert same(screen, plain), (name, shown, stored)


def same(screen: str, plain: str) -> bool:
    """Whether a cell of the screen is the cell of the file, rounded as the screen rounds it."""
    if screen == plain:
        return True
    if screen.startswith("≥"):
        return plain.startswith(">=") and same(screen.removeprefix("≥ "), plain.removeprefix(">="))
    value = Decimal(plain)
    if screen.endswith("%"):
        return abs(value * 100 - Decimal(screen.removesuffix("%"))) <= Decimal("0.005000001")
    if unit := re.fullmatch(r"([\d.,]+) (B|kB|MB|GB|TB|PB)", screen):
        power = 1000 ** ("B", "kB", "MB", "GB", "TB", "PB").index(unit[2])
        return abs(value / power - Decimal(unit[1].replace(",", ""))) <= Decimal("0.005000001")
    digits = -Decimal(screen.replace(",", "")).as_tuple().exponent  # pyright: ignore[reportOperatorIssue]
    return abs(value - Decimal(screen.replace(",", ""))) <= Decimal(10) ** -digits / 2


@pytest.mark.parametrize("name", [n for n in FIGURES if re.match("(volume|duplicates|film)_by_(month|hosp|modal)", n)])
def test_rows_add_up_to_the_total(pages: dict[str, httpx.Client], name: str) -> None:
    """Unknown months and modalities are rows like the others; columns with something withheld are left out."""
    answer = pages["filled"].get(f"/export/{name}.csv?lang=en")
    heading, *rows = csv.reader(io.StringIO(answer.content.decode("utf-8-sig")))
    added_up = []
    for title, *cells, total in zip(heading, *rows, strict=True):
        is_additive = not re.search("Share|Persons|Withheld", title)
        if is_additive and all(re.fullmatch(r"-?[\d.]+", cell) for cell in [*cells, total]):
            assert sum(map(Decimal, cells)) == Decimal(total), title
            added_up.append(title)
    assert any(title.startswith(("Exams", "Total")) for title in added_up)


def test_withheld_is_neither_blank_nor_zero(pages: dict[str, httpx.Client]) -> None:
    page = Tables(pages["masked"].get("/", params={"lang": "en"}).text)
    cells = [cell for table in page.tables.values() for row in table for cell in row]

    assert "*" in cells
    assert "" not in cells
    assert "Withheld. The count is &lt;5" in pages["masked"].get("/", params={"lang": "en"}).text


def test_filters_are_kept_by_links_and_languages(pages: dict[str, httpx.Client]) -> None:
    query = "hospital=h02&from=2026-02&to=2026-10&modality=CT"
    page = Tables(pages["filled"].get(f"/?{query}").text)

    assert f"/film?{query}" in page.links
    assert f"/export/volume_by_month.csv?{query}" in page.links
    assert f"/?{query}&lang=en" in page.links


def test_regions_lead_to_counties_hospitals_and_back(pages: dict[str, httpx.Client]) -> None:
    """Each step is a link; the numbers of a link are the same for everybody who opens it."""
    client = pages["filled"]
    page = Tables(client.get("/duplicates?window=30&lang=en").text)
    assert "/duplicates?region=320400&window=30&lang=en" in page.links
    city = client.get("/duplicates?region=320400&window=30&lang=en")
    rows = {row[0]: row[1:] for row in Tables(city.text).tables["duplicates_by_region"]}
    assert set(rows) == {"Region", "Tianning", "Liyang", "Total"}
    assert "/duplicates?region=320481&window=30&lang=en" in Tables(city.text).links
    county = Tables(client.get("/duplicates?region=320481&window=30&lang=en").text)
    assert [row[0] for row in county.tables["duplicates_by_hospital"]][1:-1] == ["Example County Hospital"]
    assert county.tables["duplicates_by_hospital"][1][1:] == rows["Liyang"]
    hospital = Tables(client.get("/duplicates?region=320481&hospital=h06&window=30&lang=en").text)
    assert "/duplicates?region=320400&window=30&lang=en" in hospital.links  # the way back
    with httpx.Client(base_url=client.base_url, timeout=30) as other:
        assert other.get("/duplicates?region=320400&window=30&lang=en").text == city.text


def test_masked_hospitals_make_lower_limits_of_their_region(pages: dict[str, httpx.Client]) -> None:
    page = Tables(pages["masked"].get("/duplicates?window=30&from=2026-03&to=2026-03&lang=en").text)
    regions = {row[0]: row[1:] for row in page.tables["duplicates_by_region"]}
    assert regions["Wuxi"][0] == "19"
    assert regions["Xuzhou"] == ["≥ 10", "*", "*"]  # h04 is shown, h05 is not
    assert regions["Changzhou"] == ["*", "*", "*"]


def test_row_of_a_table_leads_to_its_numbers_alone(pages: dict[str, httpx.Client]) -> None:
    page = Tables(pages["filled"].get("/film?from=2026-01").text)

    assert "/film?hospital=h02&from=2026-01" in page.links
    assert "/film?from=2026-03&to=2026-03" in page.links
    assert "/film?from=2026-01&modality=CT" in page.links
    assert not [link for link in page.links if "unknown" in link]


@pytest.mark.parametrize("query", ["from=2026-13", "hospital=h99", "window=45", "from=2026-05&to=2026-01"])
@pytest.mark.parametrize("path", ["/", "/export/volume_by_month.csv"])
def test_unknown_filter_is_told_and_not_guessed(pages: dict[str, httpx.Client], path: str, query: str) -> None:
    answer = pages["filled"].get(f"{path}?{query}&lang=en")

    assert answer.status_code == 400
    assert query.partition("&")[0].partition("=")[2] in answer.text
    assert load_words("en")("error.view.title") in answer.text


@pytest.mark.parametrize("path", ["/nothing", "/export/nothing.csv", "/export/builds.pdf", "/docs", "/openapi.json"])
def test_page_that_does_not_exist(pages: dict[str, httpx.Client], path: str) -> None:
    answer = pages["filled"].get(path, headers={"accept-language": "zh-CN"})

    assert answer.status_code == 404
    assert "没有这个页面" in answer.text


@pytest.mark.parametrize("path", ["/", "/nothing", "/healthz", "/export/builds.csv", "/?from=x"])
def test_every_answer_has_the_security_headers(pages: dict[str, httpx.Client], path: str) -> None:
    headers = pages["filled"].get(path).headers

    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_pages_only_read(pages: dict[str, httpx.Client]) -> None:
    assert pages["filled"].head("/").status_code == 200
    assert pages["filled"].post("/").status_code == 405
    assert pages["filled"].delete("/harvest").status_code == 405


def test_file_is_named_in_chinese(pages: dict[str, httpx.Client]) -> None:
    answer = pages["filled"].get("/export/film_by_hospital.xlsx?from=2026-01&to=2026-03&lang=zh-CN")

    assert answer.content.startswith(b"PK")
    assert unquote(answer.headers["content-disposition"]).endswith("UTF-8''各医院净节约_2026-01_2026-03.xlsx")


def test_cold_page_is_light(pages: dict[str, httpx.Client]) -> None:
    client = pages["filled"]
    page = client.get("/")
    files = [path for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text) if not path.endswith(".svg")]
    library = next((Path(weblake.__file__).parents[2] / "pipelines/radlake/web/static/vendor/echarts").glob("*.js"))
    files.append(f"{files[0].rpartition('/')[0]}/vendor/echarts/{library.name}")
    weights = [int(client.get(path).num_bytes_downloaded) for path in ["/", *files]]

    assert len(weights) == 4
    assert sum(weights) < 400_000
    assert "immutable" in client.get(files[0]).headers["cache-control"]


def test_new_version_of_the_lake_is_shown_without_a_restart(tmp_path: Path) -> None:
    lake = Lake.from_settings(Settings(lake=str(tmp_path)))
    tables = lake.tables
    app = create_app(
        copying(lambda: duck.connect(lake)), version=lambda: tables.version("ops.completeness"), check_seconds=0
    )
    with running(app) as url, httpx.Client(base_url=url) as client:
        before = client.get("/healthz").json()
        assert "radlake harvest" in client.get("/harvest").text
        weblake.fill_operations(lake, scale=1, batch_id="first")
        after = client.get("/healthz").json()
        assert "radlake harvest" not in client.get("/harvest").text
    assert before["status"] == after["status"] == "ok"
    assert before["snapshot"] != after["snapshot"]


def test_pages_of_an_old_snapshot_are_alive_and_not_ready(tmp_path: Path) -> None:
    lake, is_down = Lake.from_settings(Settings(lake=str(tmp_path))), []

    def version() -> int:
        if is_down:
            raise OSError("the store does not answer")
        return 1

    app = create_app(copying(lambda: duck.connect(lake)), version=version, check_seconds=0)
    with running(app) as url, httpx.Client(base_url=url) as client:
        assert client.get("/readyz").json()["status"] == "ok"
        is_down.append(True)
        assert client.get("/healthz").status_code == 200
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["old snapshot"])
        is_down.clear()
        assert client.get("/readyz").status_code == 200


def test_unreadable_lake_is_told(tmp_path: Path) -> None:
    def copy(_path: Path) -> None:
        raise OSError("the store does not answer")

    with running(create_app(copy)) as url, httpx.Client(base_url=url) as client:
        answer = client.get("/?lang=en")
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 503
    assert answer.status_code == 503
    assert "The lake cannot be read" in answer.text
    assert "does not answer" not in answer.text.replace("The store does not answer", "")


def test_fault_of_ours_is_told_without_its_inside(lakes: dict[str, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret inside")

    app = app_of(lakes["filled"])
    monkeypatch.setattr(Renderer, "page", broken)
    with running(app) as url, httpx.Client(base_url=url) as client:
        answer = client.get("/?lang=en")
    assert answer.status_code == 500
    assert "Something went wrong here" in answer.text
    assert "secret" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")


def test_pages_behind_a_prefix(lakes: dict[str, Settings]) -> None:
    app = app_of(lakes["filled"])
    app.root_path = "/imaging"
    with running(app) as url, httpx.Client(base_url=url) as client:
        page = Tables(client.get("/imaging/harvest?lang=en").text)
    assert all(link.startswith(("/imaging/", "#")) for link in page.links)


@pytest.mark.parametrize("view", [View(), View(hospital="h02"), View(first="2026-03", last="2026-03")], ids=str)
def test_number_of_a_cell_has_the_name_of_its_row(lakes: dict[str, Settings], view: View) -> None:
    """The name in a cell leads to the very number that the cell shows; a range that is added up has no name."""
    lake, named = Lake.from_settings(lakes["filled"]), set()
    snapshot = take_snapshot(copying(lambda: duck.connect(lake, tables=TABLES)))
    for figure in FIGURES.values():
        grid = figure.build(snapshot, view)
        for row in {0, len(grid.rows) - 1} if grid.rows else ():
            told = [(name, cell) for i, cell in enumerate(grid.rows[row]) if (name := grid.number(row, i))]
            for name, cell in told[-1:]:
                assert naming.shown(lake, naming.Number.from_text(name)).value == cell, (figure.name, name)
                named.add(figure.name)
    assert len(named) > 10
    several = View(first="2026-03", last="2026-04")
    grid = FIGURES["film_by_hospital"].build(snapshot, several)
    assert {grid.number(0, i) for i in range(len(grid.columns))} == {None}


def test_busy_port_is_told_with_the_next_free_one() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortBusy) as busy:
            listen("127.0.0.1", port)
    assert port < busy.value.facts["next_free"] <= port + 50


def test_command_serves_until_interrupted(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    command = [str(Path(sys.executable).with_name("radlake")), "--lake", str(tmp_path), "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
            assert url
            assert httpx.get(url[0], timeout=60).status_code == 200
            busy = subprocess.run(
                [*command[:-1], url[0].rstrip("/").rpartition(":")[2]], capture_output=True, text=True, timeout=60
            )
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert errors == ""
    assert busy.returncode == 1
    assert re.search(r"is in use by another program; try --port \d+", busy.stderr)
