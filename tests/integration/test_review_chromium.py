"""The reviewer's page in a real Chromium: rectangles by mouse and by keyboard, decisions by keyboard alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from radlake.lake.reviews import Review
from radlake.review import region_from_text
from radlake.web.review import create_review_app
from support import need
from support.browser import chromium
from support.waiting import COLUMNS, ROWS, Waiting, waiting_lake
from support.webserver import running

pytestmark = pytest.mark.chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(need.program("chromium", package="chromium")) as browser:
        yield browser


@dataclass
class Desk:
    waiting: Waiting
    page: Page
    complaints: list[str] = field(default_factory=list)

    def reviews(self) -> list[Review]:
        return self.waiting.queue().log()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def open_first_picture(self) -> None:
        """From the queue, by keyboard: a document has no picture."""
        self.press("j")
        self.page.wait_for_selector("#decision")
        while not self.page.query_selector("#stage"):
            self.turn("j")
        expect(self.page.locator("#status")).to_have_text(re.compile("Look at every frame"), timeout=60_000)

    def turn(self, key: str) -> None:
        before = self.page.url
        self.press(key)
        self.page.wait_for_url(lambda url: url != before)
        self.page.wait_for_selector("main")

    def box(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the image is on the screen."""
        point = self.page.evaluate(
            "([x, y]) => { const p = new DOMPoint(x, y).matrixTransform(document.getElementById('stage')"
            ".getScreenCTM()); return [p.x, p.y]; }",
            [x, y],
        )
        return point[0], point[1]


@pytest.fixture(params=[None, 3], ids=["single frames", "cine"])
def desk(tmp_path: Path, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Desk]:
    waiting = waiting_lake(tmp_path, frames=request.param)
    app = create_review_app(waiting.queue(), by="Dr Wang", token="t0ken", replay=list)
    with running(app) as base:
        context = browser.new_context(locale="en-GB", viewport={"width": 1440, "height": 900})
        desk = Desk(waiting, context.new_page())
        desk.page.on("console", lambda message: desk.complaints.append(message.text))
        desk.page.on("pageerror", lambda error: desk.complaints.append(str(error)))
        desk.page.goto(f"{base}/?token=t0ken")
        yield desk
        context.close()
    assert desk.complaints == []


def test_a_series_is_masked_by_keyboard_alone_and_undone(desk: Desk) -> None:
    desk.open_first_picture()
    while not desk.page.query_selector("#series"):
        desk.turn("j")
    desk.press("d", "ArrowRight", "ArrowDown", "Shift+ArrowRight", "Shift+ArrowDown", "m", "Escape", "e")
    assert desk.page.locator(".same rect").count() == 2  # each of the others shows the mask
    desk.press("m")
    desk.turn("Enter")
    reviews = desk.reviews()
    assert {(review.decision, review.by) for review in reviews} == {("mask", "Dr Wang")}
    assert len(reviews) == 3
    [told] = {review.regions for review in reviews}
    region = region_from_text(told[0])
    step = round(COLUMNS / 100)
    assert (region.left, region.top) == (step, step)
    assert (region.right, region.bottom) == (COLUMNS // 4 + 2 * step, ROWS // 16 + 2 * step)

    if "/items/" in desk.page.url:
        desk.turn("q")
    desk.page.locator(".undo").first.focus()
    with desk.page.expect_navigation():
        desk.press("Enter")
    assert [bool(review.undone_at) for review in desk.reviews()].count(True) == 1


def test_a_rectangle_is_drawn_with_the_mouse_and_corrected_with_numbers(desk: Desk) -> None:
    desk.open_first_picture()
    desk.page.mouse.move(*desk.box(10, 20))
    desk.page.mouse.down()
    desk.page.mouse.move(*desk.box(60, 40), steps=4)
    desk.page.mouse.up()
    assert desk.page.locator("[value=mask]").is_checked()
    desk.page.locator("#regions [data-side=right]").fill("70")
    desk.page.locator("#why").fill("name covered")
    desk.turn("Enter")
    [review] = desk.reviews()
    assert (review.regions, review.why) == (("10,20,70,40",), "name covered")


def test_a_click_is_no_rectangle_and_a_mask_needs_one(desk: Desk) -> None:
    desk.open_first_picture()
    desk.page.mouse.click(*desk.box(50, 50))
    assert desk.page.locator("#regions li").count() == 0
    desk.press("m", "Enter")
    expect(desk.page.locator("#status")).to_have_text(re.compile("at least one rectangle"))
    assert desk.reviews() == []


def test_frames_are_turned_and_contrast_is_changed_by_keyboard(desk: Desk) -> None:
    desk.open_first_picture()
    desk.press(".", ".", ".", ",")
    frame = desk.page.locator("#picture").get_attribute("href") or ""
    n_frames = int(desk.page.locator("#desk").get_attribute("data-frames") or 0)
    assert frame.endswith("/frames/2.png" if n_frames > 1 else "/frames/1.png")
    desk.press("c", "i")
    assert desk.page.locator("#stage.contrast.invert").count() == 1


def test_accept_and_reject_take_two_keys(desk: Desk) -> None:
    desk.open_first_picture()
    desk.press("a")
    desk.turn("Enter")
    while not desk.page.query_selector("#stage"):
        desk.turn("j")
    desk.press("r")
    desk.turn("Enter")
    assert [review.decision for review in desk.reviews()] == ["accept", "reject"]
