"""Other worlds of tables with totals: cells that change crosswise, so that hardly anything shown changes with them.

A cube holds one count of things that lie in cells: exams by month, hospital and modality. Tables show its cells, and
sums of them. A *change* adds to a cell and takes away from others: along each dimension either from the same cells of
another label, so that totals over the dimension stay, or from none, so that they change too. (The change over n
dimensions is the hypercube of suppressed cells of statistical disclosure control.) Every row of every table in which
the change can be seen is withheld; then it leads to a world in which all that is shown is the same.

For each count that must not be told changes are taken until it can be as large and as small as policy wants: those
that nobody sees anyway first, then the one that costs least worth for what it gives. What is proven stays proven when
more is withheld later. Many cells are looked at together, each with a few labels to exchange with.

`views` says how tables show a cube, `costs` what it costs to withhold their rows. `batch` finds the best changes of
some cells, beside tables of wider labels (`around`), `far` what a cell without neighbours does. `cube` is the search.
"""

from __future__ import annotations

from radlake.stats.crosswise.cube import Aim, Cube
from radlake.stats.crosswise.views import Cell, Shown, View

__all__ = ["Aim", "Cell", "Cube", "Shown", "View"]
