"""The rules that descriptions are read by, as one value: words, spellings, grammar, and how parts are put together.

The rules are data in schemas/vocab (reading.yaml, spellings.csv, rules.yaml, and the words of body_parts.yaml and
words.yaml). How a text is read by them is in `reading`; what may leave in a description is `load.vocabulary` alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

from radlake.resources import schemas_root
from radlake.vocab.load import Lexicon, Word, csv_rows, vocabulary, yaml_of

__all__ = ["ANY", "FILES", "Grammar", "Rules", "rules", "rules_digest"]

ANY = "ANY"  # of the other parts
_SIDES = {"左": "L", "右": "R", "双": "B"}  # first character of a word that names a paired part: 双肾
_SIDED = ("左侧", "右侧", "双侧")
# What decides; labelled_exams.csv measures and vendors.yaml is about something else.
FILES = (
    "body_part_terms.csv",
    "body_parts.yaml",
    "loinc.csv",
    "modalities.yaml",
    "reading.yaml",
    "rules.yaml",
    "spellings.csv",
    "words.yaml",
)


@dataclass(frozen=True)
class Grammar:
    """Tokens of English phrases about contrast; `modalities` in which a bare W or WO is about contrast."""

    modalities: frozenset[str]
    without: frozenset[str]
    with_: frozenset[str]
    both: frozenset[str]
    nouns: frozenset[str]
    joins: frozenset[str]
    after: frozenset[str]
    oral: frozenset[str]
    strong: frozenset[str]
    other: frozenset[str]

    @cached_property
    def tokens(self) -> frozenset[str]:
        """Tokens that mean something only together."""
        return self.without | self.with_ | self.both | self.nouns | self.joins | self.oral


@dataclass(frozen=True)
class Rules(Lexicon):
    """Everything that a description is read by.

    Attributes
    ----------
    zh, en : dict
        Words, beside those that may leave: `load.Vocabulary`.
    contrast_in : dict
        What a word says about contrast, by modality group ("": not known).
    modality_of : dict
        Modality groups that a word names.
    broader : dict
        Part -> the broader parts that it lies in.
    absorbed : tuple
        (part, by, otherwise): an auxiliary part, what makes it disappear, and what it is otherwise.
    """

    version: int
    contrast_in: dict[str, dict[str, bool]]
    modality_of: dict[str, str]
    grammar: Grammar
    patterns: tuple[tuple[re.Pattern[str], str], ...]
    spellings: tuple[dict[str, str], ...]
    simplified: Mapping[int, int]
    broader: dict[str, frozenset[str]]
    umbrellas: frozenset[str]
    absorbed: tuple[tuple[str, str, str], ...]
    everything: str
    part_of_modality: dict[str, str]
    given_names: frozenset[str]


@cache
def rules() -> Rules:
    """The rules of this installation, read once."""
    known, data, how, modalities = vocabulary(), yaml_of("reading"), yaml_of("rules"), yaml_of("modalities")
    zh, en = dict(known.zh), dict(known.en)

    def add(entry: dict[str, Any], *, keep: bool = False, **what: Any) -> None:
        """Give words a meaning; with `keep` beside the one that they have."""
        for phrase in entry.get("zh", ()):
            zh[phrase] = replace(zh.get(phrase, Word()) if keep else Word(), **what)
        for phrase in (tuple(str(text).split()) for text in entry.get("en", ())):
            en[phrase] = replace(en.get(phrase, Word()) if keep else Word(), **what)

    add(data["context"], keep=True)
    for code, entry in data["parts"].items():
        paired = bool(set(code.split("+")) & known.paired)
        add(entry, parts=frozenset(code.split("+")), is_paired=paired or code == "AXILLA")
    for code, entry in data["paired"].items():
        add(entry, parts=frozenset({code}), is_paired=True)
    for side, entry in data["laterality"].items():
        add(entry, side=side)

    for entry in data["modality"].values():
        add(entry, keep=True)
    contrast_in: dict[str, dict[str, bool]] = {}
    everywhere = (*known.group_precedence, "")
    for given, entries in ((True, data["contrast"]["given"]), (False, data["contrast"]["not_given"])):
        for entry in entries:
            add(entry, keep=True)
            for word in (*entry["zh"], *map(str, entry["en"])):
                contrast_in.setdefault(word, {}).update(dict.fromkeys(entry.get("in", everywhere), given))
    grammar = data["contrast"]["grammar"]
    spoken = {token for name in ("without", "with", "both", "nouns", "strong") for token in grammar[name]}
    for words in (known.zh, known.en):
        for key, word in words.items():
            text = key if isinstance(key, str) else " ".join(key)
            is_phrase = isinstance(key, tuple) and spoken & set(key)
            if word.contrast is not None and not is_phrase:
                contrast_in.setdefault(text, dict.fromkeys(everywhere, word.contrast))

    # 冠状动脉造影 names the part that its words name; not the way of an instrument (经直肠), nor a department.
    around = set(data["context"]["zh"])
    named = {word: meaning for word, meaning in zh.items() if meaning.parts}
    for word in sorted(zh.keys() - around, key=len):
        inside = [] if word.startswith("经") else _words_inside(word, zh)
        if word not in named:
            zh[word] = replace(
                zh[word],
                parts=frozenset[str]().union(*(named[part].parts for part in inside if part in named)),
                is_paired=any(named[part].is_paired for part in inside if part in named),
            )
        said = {group: given for part in inside for group, given in contrast_in.get(part, {}).items()}
        if said and word not in contrast_in:
            contrast_in[word] = said
    for word, meaning in list(zh.items()):
        if word in data["split"] or (word[:2] in _SIDED and word[2:] in zh and zh[word[2:]].is_paired):
            del zh[word]
        elif meaning.parts and meaning.is_paired and (side := _SIDES.get(word[0], "B" if "双" in word else None)):
            zh[word] = replace(meaning, side=side)

    return Rules(
        version=how["version"],
        zh=zh,
        en=en,
        contrast_in=contrast_in,
        modality_of={
            str(word): group for group, entry in data["modality"].items() for word in (*entry["zh"], *entry["en"])
        },
        grammar=Grammar(
            frozenset(grammar["in"]),
            *(
                frozenset(grammar[name])
                for name in ("without", "with", "both", "nouns", "joins", "after", "oral", "strong", "other")
            ),
        ),
        patterns=tuple((re.compile(pattern), replacement) for pattern, replacement in data["patterns"]),
        spellings=tuple(csv_rows("spellings")),
        simplified=str.maketrans(data["traditional"]["from"], data["traditional"]["to"]),
        broader=_broader(),
        umbrellas=frozenset(how["umbrellas"]),
        absorbed=tuple((entry["part"], entry["by"], entry["otherwise"]) for entry in how["absorbed"]),
        everything=how["everything"],
        part_of_modality=modalities["body_part"],
        given_names=frozenset(data["names"]),
    )


def rules_digest() -> str:
    """Digest of every file that decides: when it changes, the version must."""
    folder = schemas_root() / "vocab"
    digest = hashlib.sha256()
    for name in FILES:
        content = (folder / name).read_bytes().replace(b"\r\n", b"\n")
        digest.update(name.encode() + b"\0" + re.sub(rb"(?m)^digest:.*\n", b"", content))
    return digest.hexdigest()[:16]


def _words_inside(phrase: str, words: Mapping[str, Word]) -> list[str]:
    """The longest words of two and more characters in a phrase, without the phrase."""
    spans = [(at, end) for at in range(len(phrase)) for end in range(at + 2, len(phrase) + 1)]
    inside = [(at, end) for at, end in spans if phrase[at:end] in words and end - at < len(phrase)]
    return [
        phrase[at:end] for at, end in inside if not any(a <= at and end <= e and (a, e) != (at, end) for a, e in inside)
    ]


def _broader() -> dict[str, frozenset[str]]:
    """Broader parts of each part, and theirs."""
    direct = {part["code"]: frozenset(part.get("in", ())) for part in yaml_of("body_parts") if "+" not in part["code"]}
    found = dict.fromkeys(direct, frozenset[str]())
    for _ in direct:
        found = {code: parts.union(*(found[part] for part in parts)) for code, parts in direct.items()}
    everything = frozenset({"WHOLEBODY"})
    return {code: parts | (everything if code != "WHOLEBODY" else frozenset()) for code, parts in found.items()}
