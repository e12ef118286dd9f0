"""How far a long task is, told as it goes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Progress", "never", "silent"]


@dataclass(frozen=True)
class Progress:
    """Told after each study or series object: hospital, how many are done, how many there are in all."""

    hospital_id: str
    n_done: int
    n_total: int


def never() -> bool:
    """Nobody asks to stop."""
    return False


def silent(_: Progress) -> None:
    """Tell nobody."""
