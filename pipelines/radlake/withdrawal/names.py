"""What is searched for in what a withdrawal left: the values of a subject, as texts, numbers and bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import ahocorasick

from radlake.withdrawal.subject import Subject

__all__ = ["Names", "automaton_of", "hits", "spans"]

_MIN_TEXT = 8  # characters of a number that is searched for in bytes: a shorter one is found by chance
_UID_BYTES = frozenset(b"0123456789.")
_WORD_BYTES = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class Names:
    """What is searched for: texts and numbers of columns, and bytes of files."""

    def __init__(self, subject: Subject) -> None:
        kinds: dict[str, str] = dict.fromkeys(subject.uids, "uid")
        kinds |= dict.fromkeys(subject.exams, "pseudonym")
        kinds |= dict.fromkeys(subject.reminders, "pseudonym")
        kinds |= dict.fromkeys(subject.release_names, "name in a release")
        kinds |= {text: "pseudonym" for key in subject.patient_keys for text in (f"{key:016x}", str(key))}
        self.numbers = frozenset(subject.patient_keys)
        self.of_others = automaton_of(kinds)  # of what stays though it has a number of the subject
        self.kept = frozenset(subject.kept)
        self.texts = dict(kinds)  # told exactly: a column's value, whole
        long = [text for text in subject.identifiers if len(text) >= _MIN_TEXT and any(c.isdigit() for c in text)]
        kinds |= dict.fromkeys(long, "identifier")
        self.texts |= dict.fromkeys(long, "identifier")
        names = [text for text in subject.identifiers if text not in long and len(text) > 1]
        wide = [name for name in names if len(name.encode()) >= _MIN_TEXT]
        self.public = automaton_of(kinds | dict.fromkeys(wide, "identifier"))
        self.own = automaton_of(kinds)  # of the restricted zone: another patient there may have the same name
        self.every = automaton_of(kinds | dict.fromkeys(names, "identifier"))
        self.n_short = len(names) - len(wide)

    def __len__(self) -> int:
        return len(self.texts) + len(self.numbers)

    def masked(self, place: str) -> str:
        """A place without the names that stand in it."""
        data = place.encode()
        for begin, end, kind in sorted(spans(self.every, data), reverse=True):
            data = data[:begin] + f"[{kind}]".encode() + data[end:]
        return data.decode("utf-8", "replace")


def automaton_of(kinds: Mapping[str, str]) -> Any:
    """Aho-Corasick over bytes as Latin-1; texts that are not ASCII in UTF-8 and in GB18030."""
    automaton = ahocorasick.Automaton()
    for text, kind in kinds.items():
        for encoding in ("utf-8", "gb18030"):
            data = text.encode(encoding, "replace")
            if len(data) > 3:
                automaton.add_word(data.decode("latin-1"), (data, kind))
    if len(automaton):
        automaton.make_automaton()
    return automaton


def hits(automaton: Any, data: bytes) -> Iterator[str]:
    """Kinds of the names that stand in bytes."""
    return (kind for _, _, kind in spans(automaton, data))


def spans(automaton: Any, data: bytes) -> Iterator[tuple[int, int, str]]:
    """Begin, end and kind of the names that stand in bytes, each whole: 1.2.3 does not stand in 1.2.34."""
    if not len(automaton):
        return
    for end, (word, kind) in automaton.iter(data.decode("latin-1")):
        around = _UID_BYTES if kind == "uid" else _WORD_BYTES
        before, after = data[end - len(word) : end - len(word) + 1], data[end + 1 : end + 2]
        if end >= len(word) and before and before[0] in around and word[0] in around:
            continue
        is_file_name = kind == "uid" and after == b"." and not data[end + 2 : end + 3].isdigit()
        if after and after[0] in around and word[-1] in around and not is_file_name:
            continue
        yield end - len(word) + 1, end + 1, kind
