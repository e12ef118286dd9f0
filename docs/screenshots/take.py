"""Take the pictures of this folder: `python docs/screenshots/take.py URL [PATH ...]`, with the URL of `radlake serve`.

Each page in Chinese, in English on dark ground, and on a phone. Chromium may reach no other machine than this one.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, ViewportSize

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from support.browser import ALL_DRAWN, chromium

_PATHS = (
    "/", "/harvest", "/service", "/duplicates", "/reminders", "/film", "/dose", "/epidemiology", "/quality", "/storage",
    "/about",
)  # fmt: skip
_DESK: ViewportSize = {"width": 1280, "height": 900}
_PHONE: ViewportSize = {"width": 390, "height": 844}
_LOOKS: tuple[tuple[str, str, Literal["light", "dark"], ViewportSize, int], ...] = (
    ("zh", "zh-CN", "light", _DESK, 3600),
    ("en-dark", "en", "dark", _DESK, 3600),
    ("zh-phone", "zh-CN", "light", _PHONE, 2400),
)


def take(browser: Browser, url: str, path: str) -> None:
    """Write the pictures of a page, cut off where it is very long."""
    for look, locale, scheme, viewport, height in _LOOKS:
        context = browser.new_context(viewport=viewport, locale=locale, color_scheme=scheme)
        page = context.new_page()
        page.goto(url + path)
        page.wait_for_function(ALL_DRAWN)
        page.wait_for_timeout(1500)  # charts move into place
        image = Image.open(io.BytesIO(page.screenshot(full_page=True)))
        image = image.crop((0, 0, image.width, min(image.height, height))).convert("RGB")
        name = f"{path.strip('/') or 'overview'}-{look}.webp"
        image.save(Path(__file__).with_name(name), lossless=True, method=6)
        context.close()


def main() -> None:
    """Take them all, or those of the paths that are named."""
    url, *paths = sys.argv[1:]
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("Chromium is needed: apt install chromium")
    with chromium(program) as browser:
        for path in paths or _PATHS:
            take(browser, url.rstrip("/"), path)


if __name__ == "__main__":
    main()
