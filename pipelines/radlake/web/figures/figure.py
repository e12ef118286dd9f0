"""A figure: one table of a page, with or without a chart, that has a name in the URL of its export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from radlake.web.access.roles import Right
from radlake.web.grid import Grid
from radlake.web.snapshot import Snapshot
from radlake.web.view import View

__all__ = ["Figure"]


@dataclass(frozen=True)
class Figure:
    """How a figure is made.

    Attributes
    ----------
    name : str
        Name in the catalogues (`figure.<name>.title`) and in the URL of the export.
    table : str
        Published table that it shows: its definition, version and time are told under the title.
    build : callable
        Makes the grid of a view.
    is_folded : bool
        The table opens on demand: for those that are long and seldom read.
    """

    name: str
    table: str
    build: Callable[[Snapshot, View], Grid]
    is_folded: bool = False

    @property
    def right(self) -> Right:
        """What a reader must be allowed to see."""
        if self.table in _SERVICE:
            return Right.SERVICE
        return Right.OPERATIONS if self.table in _OPERATIONS else Right.STATISTICS


_SERVICE = ("stats.upload_compliance", "stats.report_turnaround", "stats.retrieval", "stats.reminder")
_OPERATIONS = ("ops.quality", "ops.build", "ops.certificate", "ops.storage")
