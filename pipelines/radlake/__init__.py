"""radlake: the data platform under a province's imaging cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radlake.cohort.opened import open_cohort

__all__ = ["open_cohort"]


def __getattr__(name: str) -> Any:
    if name == "open_cohort":  # two seconds of import, for who asks for it
        from radlake.cohort.opened import open_cohort

        return open_cohort
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
