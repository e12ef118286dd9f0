"""Other worlds of tables with totals: cells that change crosswise, so that hardly anything shown changes with them.

A cube holds one count of things that lie in cells: exams by month, hospital and modality. Tables show its cells, and
sums of them. A *change* adds to a cell and takes away from others: along each dimension either from the same cells of
another label, so that totals over the dimension stay, or from none, so that they change too. (The change over n
dimensions is the hypercube of suppressed cells of statistical disclosure control.) Every row of every table in which
the change can be seen is withheld; then it leads to a world in which all that is shown is the same.

For each count that must not be told changes are taken until it can be the number that policy wants: those that nobody
sees anyway first, then the one that costs least worth for what it gives. One world serves all counts that are another
in it. What is proven stays proven when more is withheld later. In the end other worlds are looked for without the rows
of most worth, which are then shown again.

`views` says how tables show a cube, `costs` where a world is seen and what it costs to withhold that. `batch` finds the
best changes of some cells with a few labels each, beside tables of wider labels (`around`), `far` those that are made
up for elsewhere; `search` takes the cheapest. `cube` holds worlds and rows.
"""

from __future__ import annotations

from radlake.stats.crosswise.cube import Aim, Cube
from radlake.stats.crosswise.views import Cell, Shown, View

__all__ = ["Aim", "Cell", "Cube", "Shown", "View"]
