"""Texts of the reminder, in Chinese and English: every word that a doctor or patient reads."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

from radlake.vocab.load import yaml_of
from radlake.web.i18n import LANGUAGES, Words, language_from

__all__ = ["LANGUAGES", "exam_name", "words_of"]

_LOCALES = Path(__file__).parent / "locales"


@cache
def _catalogue(language: str) -> Words:
    with (_LOCALES / f"{language}.yaml").open(encoding="utf-8") as file:
        texts = yaml.safe_load(file)
    name = "name_zh" if language == "zh-CN" else "name_en"
    parts = {f"part.{part['code']}": part[name] for part in yaml_of("body_parts") if name in part}
    return Words(language, texts | parts)


def words_of(accept_language: str, asked: str | None = None) -> Words:
    """The catalogue that a request asks for; Chinese when it asks for neither."""
    return _catalogue(language_from(asked, accept_language))


def exam_name(words: Words, *, modality_group: str, body_part_code: str, laterality_code: str = "NONE") -> str:
    """An exam as people call it.

    >>> exam_name(words_of("zh"), modality_group="DX", body_part_code="KNEE", laterality_code="L")
    '左侧膝关节X线'
    """
    parts = [words.get(f"part.{code}") or code for code in body_part_code.split("+")]
    if words.language == "en":
        parts = [part.lower() for part in parts]
    return words(
        "exam",
        side=words.get(f"side.{laterality_code}") or "",
        part=words("and").join(parts),
        modality=words.get(f"modality.{modality_group}") or modality_group,
    )
