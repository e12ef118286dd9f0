"""The palette can be told from its background in both colour schemes (WCAG 2.2: 1.4.3 text, 1.4.11 graphics)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import radlake.web
from radlake.web.tilemap import STEPS

CSS = (Path(radlake.web.__file__).parent / "static" / "app.css").read_text(encoding="utf-8")
LIGHT_BLOCK, _, DARK_BLOCK = CSS.partition("@media screen and (prefers-color-scheme: dark)")


def palette(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


LIGHT = palette(LIGHT_BLOCK)
DARK = palette(DARK_BLOCK)


def luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_black_on_white() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_dark_scheme_names_every_colour_of_the_light_one() -> None:
    assert set(LIGHT) == set(DARK)
    assert len(LIGHT) > 25


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_is_readable(scheme: dict[str, str]) -> None:
    for background in ("bg", "card"):
        for text in ("text", "muted", "accent", "warn"):
            assert contrast(scheme[text], scheme[background]) >= 4.5, (text, background)
    assert contrast(scheme["accent-text"], scheme["accent"]) >= 4.5


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_marks_are_visible(scheme: dict[str, str]) -> None:
    weak = {
        name: colour
        for name, colour in scheme.items()
        if name.startswith("c-") and contrast(colour, scheme["card"]) < 3
    }
    assert weak == {}


def test_every_chart_colour_has_a_key_in_the_legend() -> None:
    drawn = {name for name in LIGHT if name.startswith(("c-modality-", "c-window-", "c-state-", "c-withheld"))}
    assert {name for name in drawn if f".{name} " not in CSS} == set()


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_tiles_of_a_map_can_be_read(scheme: dict[str, str]) -> None:
    """Dark steps carry the colour of the card, the others that of the text; each step differs from the next one."""
    for step in range(STEPS):
        written = scheme["card"] if step > STEPS // 2 else scheme["text"]
        assert contrast(scheme[f"step-{step}"], written) >= 4.5, step
    assert all(contrast(scheme[f"step-{i}"], scheme[f"step-{i + 1}"]) > 1.25 for i in range(STEPS - 1))
