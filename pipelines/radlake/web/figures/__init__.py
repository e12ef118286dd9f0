"""Figures: every table and chart that a page can show, by name."""

from __future__ import annotations

from radlake.web.figures import (
    dose,
    duplicates,
    film,
    harvest,
    league,
    measures,
    quality,
    rates,
    reminders,
    repeats,
    service,
    storage,
    volume,
    watch,
)
from radlake.web.figures.figure import Figure

__all__ = ["FIGURES", "Figure"]

FIGURES: dict[str, Figure] = {
    figure.name: figure
    for module in (
        volume,
        harvest,
        watch,
        service,
        duplicates,
        repeats,
        reminders,
        film,
        dose,
        rates,
        measures,
        league,
        quality,
        storage,
    )
    for figure in module.FIGURES
}
