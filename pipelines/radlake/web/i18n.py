"""Languages of the pages: one catalogue a language, and which one a request gets.

Every word on a page comes from `locales/<language>.yaml`. Numbers are written by `cells`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from radlake.resources import schemas_root
from radlake.stats.league import topics

__all__ = ["LANGUAGES", "Words", "language_from", "load_words"]

LANGUAGES = ("zh-CN", "en")
_LOCALES = Path(__file__).parent / "locales"


@dataclass(frozen=True)
class Words:
    """The catalogue of one language; calling it gives one text with its facts filled in."""

    language: str
    texts: dict[str, str]

    def __call__(self, key: str, **facts: object) -> str:
        text = self.texts[key]
        return text.format(**facts) if facts else text

    def get(self, key: str) -> str | None:
        """The text, or None where the catalogue has no name for a code that came with the data."""
        return self.texts.get(key)


@cache
def load_words(language: str) -> Words:
    """Read a catalogue, and the words that `schemas/` has: reasons, topics, grounds, body parts, definitions."""
    short, root = language.partition("-")[0], schemas_root()

    def read(path: str) -> Any:
        with (root / path).open(encoding="utf-8") as file:
            return yaml.load(file, Loader=yaml.CSafeLoader)

    with (_LOCALES / f"{language}.yaml").open(encoding="utf-8") as file:
        texts = yaml.safe_load(file)
    for code, reason in read("reasons.yaml").items():
        texts |= {f"reason.{code}": reason[short]["meaning"], f"remedy.{code}": reason[short]["remedy"]}
    for code, topic in topics().items():
        texts |= {f"topic.{code}": topic.title[short].rstrip("。."), f"topic_remedy.{code}": topic.remedy[short]}
    texts |= {f"ground.{one['code']}": one[short] for one in read("rules/duplicates/grounds.yaml")["grounds"]}
    texts |= {
        f"part.{one['code']}": one[f"name_{short}"] for one in read("vocab/body_parts.yaml") if "+" not in one["code"]
    }
    for path in sorted((root / "definitions").glob("*.yaml")):
        definition = read(f"definitions/{path.name}")
        key = f"about.{definition['table']}"
        formulas = [f"{one['name'][short]}: {one['formula']}" for one in definition["formulas"]]
        text = "\n".join([definition["text"][short].strip(), *formulas])
        texts.setdefault(f"{key}.title", definition["title"][short])
        texts.setdefault(f"{key}.text", text.replace("{", "{{").replace("}", "}}"))
    return Words(language, texts)


def language_from(asked: str | None, accepted: str) -> str:
    """The language of a page: `?lang=` decides, then Accept-Language (RFC 9110, 12.5.4), then Chinese.

    >>> language_from(None, "fr, en-GB;q=0.8, zh;q=0.3"), language_from("zh", "en")
    ('en', 'zh-CN')
    """
    if asked and (found := _language(asked)):
        return found
    ranges = []
    for order, item in enumerate(accepted.split(",")):
        tag, _, weight = item.partition(";q=")
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            quality = 0.0
        if (found := _language(tag.strip())) and quality > 0:
            ranges.append((-quality, order, found))
    return min(ranges)[2] if ranges else LANGUAGES[0]


def _language(tag: str) -> str | None:
    primary = tag.lower().partition("-")[0]
    return next((language for language in LANGUAGES if language.lower().partition("-")[0] == primary), None)
