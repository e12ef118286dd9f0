"""The pages in a real Chromium that can reach nothing but this machine."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser, Page, Route

from radlake.cohort.pull import manifest_from_text
from radlake.config import Settings
from radlake.lake import Lake, duck
from radlake.machine import utc_now
from radlake.web.access import Access, Role
from radlake.web.app import create_app
from radlake.web.pages import PAGES
from radlake.web.server import access_of, accounts_of, app_of
from radlake.web.snapshot import TABLES, copying
from radlake.web.tracing import Tracer
from support import need, weblake
from support.browser import ALL_DRAWN, chromium
from support.cohorts import approved, built_everybody, lake_of_cts, released, write_cts
from support.webserver import running

pytestmark = pytest.mark.chromium

CHARTS = {
    "/": 5, "/harvest": 2, "/service": 7, "/duplicates": 7, "/reminders": 3, "/film": 3, "/dose": 2, "/epidemiology": 5,
    "/quality": 2, "/storage": 5, "/about": 0,
}  # fmt: skip

# Colours of a canvas that are not its background: a chart has its axis, its text and its marks.
COUNT_COLOURS = """canvas => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const colours = new Set();
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] > 200) colours.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
  }
  return colours.size;
}"""
HAS_COLOUR = """([canvas, colour]) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const wanted = [1, 3, 5].map(i => parseInt(colour.slice(i, i + 2), 16)).concat(255);
  for (let i = 0; i < data.length; i += 4) if (wanted.every((byte, k) => data[i + k] === byte)) return true;
  return false;
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = Settings(lake=str(tmp_path_factory.mktemp("lake")))
    weblake.fill(Lake.from_settings(settings), scale=40)
    with running(app_of(settings)) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(need.program("chromium", package="chromium")) as browser:
        yield browser


@dataclass
class Tab:
    """A page of the browser and everything that went wrong on it."""

    page: Page
    foreign: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, url: str) -> Page:
        self.page.goto(url)
        self.page.wait_for_function(ALL_DRAWN)
        return self.page


def open_tab(browser: Browser, **options: object) -> Tab:
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})  # pyright: ignore[reportArgumentType]
    tab = Tab(context.new_page())

    def only_loopback(route: Route) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            tab.foreign.append(route.request.url)
            route.abort()

    context.route("**/*", only_loopback)
    tab.page.on("console", lambda message: tab.complaints.append(f"{message.type}: {message.text}"))
    tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
    tab.page.on("requestfailed", lambda request: tab.complaints.append(f"failed: {request.url}"))
    return tab


def violations(page: Page) -> list[tuple[str, list[str]]]:
    """Rules of axe-core that the page breaks, and where."""
    page.evaluate((resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found]


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    tab = open_tab(browser, locale="zh-CN")
    yield tab
    tab.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_draws_its_charts_and_complains_of_nothing(browser: Browser, site: str, scheme: str) -> None:
    tab = open_tab(browser, color_scheme=scheme)
    for page in PAGES:
        tab.open(f"{site}{page.path}?lang=en")
        drawn = [tab.page.evaluate(COUNT_COLOURS, canvas) for canvas in tab.page.query_selector_all("canvas")]
        assert len(drawn) == CHARTS[page.path], page.path
        assert all(colours > 5 for colours in drawn), (page.path, drawn)
    tab.page.context.close()
    assert tab.foreign == []
    assert tab.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["zh-CN", "en"])
def test_every_page_is_accessible(browser: Browser, site: str, language: str, scheme: str) -> None:
    """All rules of axe-core, also those of good practice, with every table unfolded."""
    tab = open_tab(browser, color_scheme=scheme)
    found = {}
    for page in PAGES:
        tab.open(f"{site}{page.path}?lang={language}")
        tab.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
        found[page.path] = violations(tab.page)
    tab.page.context.close()
    assert {path: told for path, told in found.items() if told} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_of_who_signed_in_and_of_a_region_are_accessible(browser: Browser, tmp_path: Path, scheme: str) -> None:
    """The sign-in, the audit, a region with its trail, and a list of exams; on a phone without sideways scroll."""
    settings = Settings(lake=str(tmp_path))
    weblake.fill(Lake.from_settings(settings), scale=40)
    settings.prepare_restricted()
    for role in (Role.ADMIN, Role.ENGINEER):
        accounts_of(settings).put(role.value, role, "a password for tests")
    listed = {
        "hospital_id": "h06", "exam_pseudo_id": "003e255923c4c5cf", "study_at": "2026-03-01T10:00:00",
        "modality_group": "CT", "body_part_code": "CHEST", "laterality_code": "U", "patient_sex": "F",
        "patient_age_years": 61, "n_studies": 1, "n_instances": 204, "exam_bytes": 31_000_000,
    }  # fmt: skip
    number = "stats.duplicate_exam/hospital_id=h06/window_days=30/n_duplicates"
    lake = Lake.from_settings(settings)
    app = create_app(
        copying(lambda: duck.connect(lake, tables=TABLES)),
        access=access_of(settings, "0.0.0.0"),
        tracer=Tracer(lambda *_: {"number": number, "value": 12, "n_exams": 12, "exams": [listed] * 12}),
    )
    tab, found = open_tab(browser, color_scheme=scheme, viewport={"width": 390, "height": 844}, locale="zh-CN"), {}

    def look(path: str) -> None:
        tab.open(f"{url}{path}")
        found[path] = violations(tab.page)
        assert tab.page.evaluate("document.documentElement.scrollWidth") == 390, path

    with running(app) as url:
        look("/sign-in")
        for role, paths in {
            Role.ENGINEER: ("/duplicates?region=320400&hospital=h06", "/harvest?region=320481", f"/exams/{number}"),
            Role.ADMIN: ("/audit", "/audit?who=engineer&route=/exams"),
        }.items():
            tab.page.context.clear_cookies()
            page = tab.open(f"{url}/sign-in?to=/about")
            page.fill("#name", role.value)
            page.fill("#password", "a password for tests")
            with page.expect_navigation():
                page.locator("main form button").click()
            for path in paths:
                look(path)
    tab.page.context.close()
    assert {path: told for path, told in found.items() if told} == {}


@pytest.fixture(scope="module")
def release_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a release of five CT series, open to researchers."""
    folder = tmp_path_factory.mktemp("release")
    settings = lake_of_cts(folder, write_cts(folder / "in", persons=5, slices=2))
    made = released(settings, built_everybody(settings))
    approved(settings, made.release_id, expires_on=utc_now().date() + timedelta(days=9))
    with running(app_of(settings, Access(everyone=Role.RESEARCHER))) as url:
        yield f"{url}/releases?release={made.release_id}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_series_that_is_ticked_is_in_the_manifest(browser: Browser, release_page: str, scheme: str) -> None:
    """On a phone, by the keyboard alone, without a broken rule of accessibility."""
    tab = open_tab(browser, color_scheme=scheme, viewport={"width": 390, "height": 844}, locale="zh-CN")
    page = tab.open(release_page)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    box = page.locator("input[name=series]").nth(2)
    box.press("Space")
    with page.expect_download() as download:
        page.get_by_role("button", name="下载清单").press("Enter")
    assert download.value.suggested_filename.endswith(".alpha.manifest")
    text = download.value.path().read_text()
    assert manifest_from_text(text).series == (box.get_attribute("value"),)
    complaints = [told for told in tab.complaints if "/releases/manifest?" not in told]  # a download ends its request
    assert (tab.foreign, complaints) == ([], [])
    tab.page.context.close()


def test_inaccessible_page_would_be_seen(tab: Tab, site: str) -> None:
    page = tab.open(f"{site}/about")
    page.evaluate("document.querySelector('h1').style.color = '#ddd'")
    page.evaluate("document.querySelector('.brand img').removeAttribute('alt')")
    assert {rule for rule, _ in violations(page)} >= {"color-contrast", "image-alt"}


def test_inline_script_would_be_refused(tab: Tab, site: str) -> None:
    """The policy is at work: the test above would see a violation."""
    tab.open(site)
    tab.page.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.broken = 1'; document.body.append(s)"
    )
    assert tab.page.evaluate("window.broken") is None
    assert any("Content Security Policy" in complaint for complaint in tab.complaints)


def test_foreign_request_would_be_seen(tab: Tab, site: str) -> None:
    tab.open(site)
    tab.page.evaluate("window.open('http://example.org/')")
    tab.page.wait_for_timeout(100)
    assert tab.foreign == ["http://example.org/"]


def test_charts_change_colours_with_the_scheme(tab: Tab, site: str) -> None:
    tab.open(f"{site}/film")
    canvas = tab.page.query_selector("#film_by_month canvas")
    seen = {}
    for scheme in ("light", "dark"):
        tab.page.emulate_media(color_scheme=scheme)
        tab.page.wait_for_timeout(100)
        saving = tab.page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--c-saving').trim()")
        assert tab.page.evaluate(HAS_COLOUR, [canvas, saving]), scheme
        seen[scheme] = saving
    assert seen["light"] != seen["dark"]


def test_tooltip_tells_the_numbers_of_the_table(tab: Tab, site: str) -> None:
    page = tab.open(f"{site}/film?lang=en")
    chart = page.locator("#film_by_month .chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] - 40, box["y"] + box["height"] / 2)
    tip = page.locator("#film_by_month .tip")
    tip.wait_for()
    said = tip.inner_text()  # it goes when the mouse does
    assert "2026-11 (incomplete)" in said
    page.locator("#film_by_month summary").click()
    last = page.locator("#film_by_month tbody tr").last.locator("td").nth(1).inner_text()
    assert last in said


def test_language_follows_the_browser_and_the_switch(browser: Browser, site: str) -> None:
    tab = open_tab(browser, locale="en-GB")
    page = tab.open(f"{site}/film?hospital=h02")
    assert page.locator("h1").inner_text() == "Film saving"
    page.get_by_role("link", name="中文").click()
    assert page.locator("h1").inner_text() == "胶片节约"
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    page.get_by_role("link", name="采集").click()
    assert page.locator("h1").inner_text() == "各医院采集情况"
    assert "hospital=h02" in page.url
    tab.page.context.close()


def test_link_shows_the_same_numbers_in_another_browser(browser: Browser, site: str) -> None:
    first = open_tab(browser, locale="zh-CN")
    page = first.open(site)
    page.get_by_label("医院", exact=True).select_option("h02")
    page.get_by_label("起始月份").select_option("2026-02")
    page.get_by_label("检查类型").select_option("CT")
    page.get_by_role("button", name="应用").click()
    tiles = page.locator(".tile strong").all_inner_texts()
    link = page.locator("#volume_by_month").get_by_role("link", name="链接").get_attribute("href")
    assert link
    everything = first.open(site).locator(".tile strong").all_inner_texts()
    first.page.context.close()

    second = open_tab(browser, locale="en-GB")
    again = second.open(f"{site}{link}")
    assert again.locator(".tile strong").all_inner_texts() == tiles != everything
    assert again.get_by_label("医院", exact=True).input_value() == "h02"
    assert again.get_by_label("起始月份").input_value() == "2026-02"
    second.page.context.close()


@pytest.mark.parametrize("language", ["zh-CN", "en"])
def test_phone_has_no_sideways_scroll(browser: Browser, site: str, language: str) -> None:
    tab = open_tab(browser, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    for page in PAGES:
        tab.open(f"{site}{page.path}?lang={language}")
        tab.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
        assert tab.page.evaluate("document.documentElement.scrollWidth") == 390, page.path
    tab.page.context.close()


def test_keyboard_reaches_everything_in_order(tab: Tab, site: str) -> None:
    page = tab.open(f"{site}/film?lang=en")
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("(e => e.name || e.innerText || e.className)(document.activeElement)"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", reached[-1]
    wanted = ["Skip to content", "Overview", "Film saving", "hospital", "from", "Apply", "Table", "CSV"]
    positions = [next(i for i, text in enumerate(reached) if text == name) for name in wanted]
    assert positions == sorted(positions)


def test_page_on_a_wall_shows_a_new_snapshot_by_itself(tab: Tab, site: str) -> None:
    page = tab.page
    page.clock.install()
    tab.open(site)
    page.evaluate("document.body.dataset.snapshot = 'older'")
    with page.expect_navigation():
        page.clock.fast_forward(61_000)
    assert page.evaluate("document.body.dataset.snapshot") != "older"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_prints_on_white_paper_of_a4(browser: Browser, site: str, scheme: str) -> None:
    tab = open_tab(browser, color_scheme=scheme)
    for page in PAGES:
        pdf = tab.open(f"{site}{page.path}").pdf(prefer_css_page_size=True, print_background=True)
        sizes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox \[0 0 ([\d. ]+)\]", pdf)}
        assert all(abs(width - 842) < 1 and abs(height - 595) < 1 for width, height in sizes), page.path
        assert sizes, page.path
    tab.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    tab.page.emulate_media(media="print")
    assert tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(21, 32, 43)"
    for chart in tab.open(f"{site}/film").query_selector_all(".chart"):
        drawn, canvas = chart.bounding_box(), chart.query_selector("canvas").bounding_box()
        assert canvas["height"] <= drawn["height"] + 1, "a chart lies over what follows it"
        assert canvas["width"] <= drawn["width"] + 1
    assert tab.page.locator(".printed").is_visible()
    assert not tab.page.locator(".pages").is_visible()
    tab.page.context.close()


@pytest.mark.parametrize("form", ["png", "svg"])
def test_picture_of_a_chart_tells_what_it_shows(tab: Tab, site: str, form: str) -> None:
    page = tab.open(f"{site}/epidemiology?lang=en&year=2026")
    with page.expect_download() as waiting:
        page.locator(f"#measure_by_region [data-picture={form}]").click()
    content = Path(waiting.value.path()).read_bytes()
    assert waiting.value.suggested_filename == f"Measure by region_2026.{form}"
    if form == "png":
        width, height = struct.unpack(">II", content[16:24])
        assert (content[:8], width > 1400, height > 1000) == (b"\x89PNG\r\n\x1a\n", True, True)
        return
    words = {element.text for element in ElementTree.fromstring(content).iter() if element.text}
    assert {
        "Measure by region",
        "Nanjing",
        "All regions",
        "Persons examined by CT, per 1,000: sum(share x rate), 2026",
    } <= words
    assert any("Data to 2026-11" in text for text in words)
