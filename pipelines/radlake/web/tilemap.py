"""A tile map: every city of the province is a tile of one size, near its place. Ours; no boundary is drawn.

A small city counts as much to the eye as a large one, and no border of any map is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from radlake.web.cells import Cell, Masked

__all__ = ["JIANGSU", "STEPS", "Tile", "tiles_of"]

# GB/T 2260 code -> column and row, from north-west to south-east: cities that share a border touch where they can.
JIANGSU: Mapping[str, tuple[int, int]] = {
    "320300": (0, 0),  # Xuzhou
    "321300": (1, 0),  # Suqian
    "320700": (2, 0),  # Lianyungang
    "320800": (1, 1),  # Huai'an
    "320900": (2, 1),  # Yancheng
    "321000": (1, 2),  # Yangzhou
    "321200": (2, 2),  # Taizhou
    "320600": (3, 2),  # Nantong
    "320100": (0, 3),  # Nanjing
    "321100": (1, 3),  # Zhenjiang
    "320400": (2, 3),  # Changzhou
    "320200": (3, 3),  # Wuxi
    "320500": (4, 3),  # Suzhou
}
STEPS = 5


@dataclass(frozen=True)
class Tile:
    """One city: where it stands, what it tells, and its step of `STEPS` from low to high (None: nothing to colour)."""

    code: str
    column: int
    row: int
    cell: Cell
    step: int | None
    is_incomplete: bool


def tiles_of(values: Mapping[str, Cell], *, incomplete: frozenset[str] = frozenset()) -> tuple[Tile, ...]:
    """Tiles of the province by rate; empty when none of its cities is among the codes.

    Steps are equal parts of the range from the smallest to the largest rate.

    >>> [(tile.code, tile.step) for tile in tiles_of({"320100": 1.0, "320500": 9.0}) if tile.step is not None]
    [('320100', 0), ('320500', 4)]
    """
    if not set(values) & set(JIANGSU):
        return ()
    told = [cell for code, cell in values.items() if code in JIANGSU and isinstance(cell, int | float)]
    low, high = (min(told), max(told)) if told else (0.0, 0.0)

    def step(cell: Cell) -> int | None:
        if isinstance(cell, Masked) or not isinstance(cell, int | float):
            return None
        return min(STEPS - 1, int(STEPS * (cell - low) / (high - low))) if high > low else STEPS // 2

    return tuple(
        Tile(code, column, row, values.get(code), step(values.get(code)), code in incomplete)
        for code, (column, row) in JIANGSU.items()
    )
