"""Figures: every table and chart that a page can show, by name."""

from __future__ import annotations

from radlake.web.figures import duplicates, film, harvest, quality, rates, volume
from radlake.web.figures.figure import Figure

__all__ = ["FIGURES", "Figure"]

FIGURES: dict[str, Figure] = {
    figure.name: figure for module in (volume, harvest, duplicates, film, rates, quality) for figure in module.FIGURES
}
