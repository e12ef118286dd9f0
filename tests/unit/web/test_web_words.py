"""Both languages are complete: same keys, same placeholders, no word outside of the catalogues."""

from __future__ import annotations

import re
import string
from functools import cache
from pathlib import Path

import pytest
import yaml

import radlake.web
from radlake import errors
from radlake.web.figures import FIGURES, harvest
from radlake.web.i18n import LANGUAGES, language_from, load_words
from radlake.web.pages import DEFINITIONS, PAGES

WEB = Path(radlake.web.__file__).parent
PARTS = {"pages": WEB, "order entry": WEB / "cds"}
TEMPLATES = sorted(template for part in PARTS.values() for template in (part / "templates").glob("*.html"))
CJK = re.compile(r"[\u4e00-\u9fff]")


@cache
def catalogue(language: str, part: Path = WEB) -> dict[str, str]:
    return yaml.safe_load((part / "locales" / f"{language}.yaml").read_text(encoding="utf-8"))


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_catalogues_have_the_same_keys_and_placeholders(part: Path) -> None:
    zh, en = catalogue("zh-CN", part), catalogue("en", part)

    assert list(zh) == list(en)
    assert {key: placeholders(zh[key]) for key in zh} == {key: placeholders(en[key]) for key in en}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_no_key_is_given_twice(part: Path) -> None:
    for language in LANGUAGES:
        text = (part / "locales" / f"{language}.yaml").read_text(encoding="utf-8")
        keys = re.findall(r"^([\w.-]+):", text, flags=re.MULTILINE)
        assert len(keys) == len(set(keys)), language


def test_no_text_is_empty_or_left_in_the_other_language() -> None:
    same_in_both = re.compile(
        r"language\.|cell\.|legend\..*\.sign|export\.(csv|xlsx|png|svg)|modality\.CT|tile_note\.share|error\.trace\.text|caption\.measure_of_year|modality\.PT"
    )
    for key, text in catalogue("zh-CN").items():
        assert text.strip()
        assert CJK.search(text) or same_in_both.match(key), key
    for key, text in catalogue("en").items():
        assert text.strip()
        assert not CJK.search(text) or key == "language.zh-CN", key


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_template_has_no_bare_string(template: Path) -> None:
    text = template.read_text(encoding="utf-8")
    without_code = re.sub(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", "", text, flags=re.DOTALL)
    bare = re.findall(r">([^<]*)<", without_code)
    attributes = re.findall(r'\b(?:title|alt|placeholder|aria-label)="([^"]*)"', without_code)

    assert [found.strip() for found in [*bare, *attributes] if re.search(r"[^\W\d_]", found)] == []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_template_names_only_keys_that_exist(template: Path) -> None:
    asked = re.findall(r"""\bt\("([\w.-]+)"[,)]""", template.read_text(encoding="utf-8"))

    assert [key for key in asked if key not in catalogue("en", template.parents[1])] == []


def test_every_page_figure_and_definition_has_its_words() -> None:
    keys = [f"page.{page.name}.{part}" for page in PAGES for part in ("nav", "title", "lead")]
    keys += [f"figure.{name}.{part}" for name in FIGURES for part in ("title", "lead")]
    keys += [f"about.{anchor}.{part}" for anchor in DEFINITIONS for part in ("title", "text")]
    keys += [f"filter.{field}{part}" for page in PAGES for field in page.filters for part in ("", ".all")]
    keys += [f"column.state_{state}" for state in harvest.STATES]

    assert [key for key in keys if load_words("en").get(key) is None] == []
    assert {figure.table for figure in FIGURES.values()} <= set(DEFINITIONS)


def test_every_error_of_a_harvest_is_told_in_words() -> None:
    def leaves(error: type[Exception]) -> set[str]:
        below = error.__subclasses__()
        return {error.__name__} if not below else set().union(*(leaves(child) for child in below))

    ours = leaves(errors.RadlakeError) & set(errors.__all__)
    assert len(ours) > 10
    assert {name for name in ours if f"outcome.{name}" not in catalogue("en")} == set()


def test_reasons_of_the_quarantine_are_told_in_both_languages() -> None:
    zh, en = load_words("zh-CN"), load_words("en")

    assert CJK.search(zh("reason.not_dicom"))
    assert CJK.search(zh("remedy.not_dicom"))
    assert en("reason.not_dicom").isascii()


@pytest.mark.parametrize(
    ("asked", "accepted", "expected"),
    [
        ("en", "zh-CN", "en"),
        ("zh", "en", "zh-CN"),
        ("zh-TW", "en", "zh-CN"),
        ("fr", "en-GB,en;q=0.9", "en"),
        (None, "", "zh-CN"),
        (None, "fr-FR,fr;q=0.9", "zh-CN"),
        (None, "fr, en-GB;q=0.8, zh;q=0.3", "en"),
        (None, "en;q=0, zh;q=0.1", "zh-CN"),
        (None, "en;q=x,zh", "zh-CN"),
        (None, "zh;q=0.5,en;q=0.5", "zh-CN"),
    ],
)
def test_language_of_a_request(asked: str | None, accepted: str, expected: str) -> None:
    assert language_from(asked, accepted) == expected
