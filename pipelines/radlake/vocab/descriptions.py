"""Clean a free description: only words of the procedure vocabulary survive, so nothing of a person can.

An allow-list, never a search for names: names are written in more ways than anybody can list. A Chinese run survives
only as a whole, because a name may contain a word (张增强). Numbers survive only from two closed lists, at most two.
"""

from __future__ import annotations

from functools import lru_cache

from radlake.vocab.load import vocabulary
from radlake.vocab.words import Run, runs_of

__all__ = ["clean_description"]

MAX_LENGTH = 64  # characters of VR LO (PS3.5 section 6.2)
MAX_NUMBERS = 2


@lru_cache(maxsize=4096)
def clean_description(text: str) -> str | None:
    """The words of a study or series description that name the procedure, None when nothing is left.

    >>> clean_description("胸部CT平扫 王秀兰 张医生 12床")
    '胸部 CT 平扫'
    >>> clean_description("Chest WangSiyuan 5mm 13800138000")
    'CHEST 5MM'
    >>> clean_description("张增强") is None
    True
    """
    kept: list[tuple[str, bool]] = []
    for run in runs_of(text, vocabulary()):
        kept += _survivors(run)
    if sum(is_number for _, is_number in kept) > MAX_NUMBERS:
        kept = [(piece, is_number) for piece, is_number in kept if not is_number]
    cleaned = ""
    for piece, _ in kept:
        longer = f"{cleaned} {piece}".strip()
        if len(longer) > MAX_LENGTH:
            break
        cleaned = longer
    return cleaned or None


def _survivors(run: Run) -> list[tuple[str, bool]]:
    if run.is_chinese:
        return [("".join(piece.text for piece in run.pieces), False)] if run.is_whole else []
    return [(piece.text, piece.word.is_number) for piece in run.pieces if piece.word is not None]
