"""Pages: which filters, tiles and figures each has, and what an empty one says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from radlake.web.access.roles import Right
from radlake.web.cells import Cell, Kind
from radlake.web.figures import (
    Figure,
    dose,
    duplicates,
    film,
    harvest,
    league,
    quality,
    reminders,
    service,
    storage,
    volume,
    watch,
)
from radlake.web.grid import Grid
from radlake.web.snapshot import Snapshot
from radlake.web.view import WINDOWS, View

__all__ = ["DEFINITIONS", "PAGES", "Empty", "Page", "Tile", "why_empty"]

# Sections of the definitions page: the tables that figures show, then what holds for all of them.
DEFINITIONS = (
    "stats.exam_volume",
    "stats.duplicate_exam",
    "stats.repeat_window",
    "stats.film_saving",
    "stats.exam_rate",
    "stats.measure",
    "stats.upload_compliance",
    "stats.report_turnaround",
    "stats.retrieval",
    "stats.reminder",
    "stats.dose",
    "stats.repeat_dose",
    "ref.drl",
    "stats.data_quality",
    "ops.completeness",
    "ops.lag",
    "ops.certificate",
    "ops.quarantine",
    "ops.harvest_run",
    "ops.quality",
    "ops.storage",
    "ops.build",
    "disclosure",
    "time",
    "privacy",
)


@dataclass(frozen=True)
class Tile:
    """A number to be read from across the room; `note` is a catalogue key that may name `part` and `whole`."""

    label: str
    cell: Cell
    kind: Kind
    note: str | None = None
    part: Cell = None
    whole: Cell = None

    @property
    def part_kind(self) -> Kind:
        return "text" if isinstance(self.part, str) else "count"


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes
    ----------
    name, path : str
        Name in the catalogues (`page.<name>.title`), and path of the URL.
    filters : sequence of str
        Fields of `View` that the reader can set here.
    figures : sequence of str
        Names of its figures, in order.
    tiles : callable
        Groups of tiles: (catalogue key, tiles).
    right : Right
        What a reader must be allowed to see.
    """

    name: str
    path: str
    filters: Sequence[str] = ()
    figures: Sequence[str] = ()
    tiles: Callable[[Snapshot, View], Sequence[tuple[str, Sequence[Tile]]]] = lambda _, __: ()
    right: Right = Right.STATISTICS


@dataclass(frozen=True)
class Empty:
    """Why a figure shows nothing (a catalogue key), and the command that changes it."""

    reason: str
    command: str | None = None


def why_empty(figure: Figure, grid: Grid, *, snapshot: Snapshot, view: View) -> Empty:
    """Why a figure has no rows, or rows without anything to draw."""

    def has_rows(table: str, where: str = "true") -> bool:
        return bool(snapshot.rows(f"SELECT 1 FROM {table} WHERE {where} LIMIT 1"))

    if grid.n_withheld:
        return Empty("empty.withheld")
    if figure.table == "ops.quality" and not has_rows("ops.quality"):
        return Empty("empty.quality", "radlake harvest")
    if figure.name == "quality_failures":
        return Empty("empty.no_failures")
    if figure.table == "stats.exam_rate" and has_rows(figure.table) and not has_rows(figure.table, "n_residents > 0"):
        return Empty("empty.rate", "radlake ref")
    if view.region and not view.hospital and figure.right is Right.SERVICE and has_rows(figure.table):
        return Empty("empty.region")
    if figure.table == "stats.repeat_window":
        return (
            Empty("empty.repeat_window")
            if has_rows(figure.table)
            else Empty("empty.repeats", "radlake duplicates build")
        )
    if grid.rows and view.has_range:
        return Empty("empty.several_months")
    if has_rows(figure.table) and not view.is_everything:
        return Empty("empty.filter")
    if figure.table == "ops.lag":
        return Empty("empty.lag", "radlake board --publish")
    if figure.table == "ops.build":
        return Empty("empty.build", "radlake build")
    if figure.table == "stats.measure":
        return Empty("empty.measure", "radlake measure run")
    if figure.table == "stats.reminder":
        return Empty("empty.reminder", "radlake reminder serve")
    if not has_rows("ops.completeness"):
        return Empty("empty.harvest", "radlake harvest")
    if figure.table == "stats.retrieval":
        return Empty("empty.retrieval")
    if figure.table == "stats.report_turnaround":
        return Empty("empty.orders", "radlake service orders")
    if figure.table == "ops.quarantine":
        return Empty("empty.no_quarantine")
    if not has_rows("stats.exam_volume"):
        return Empty("empty.build", "radlake build")
    if figure.table == "stats.film_saving":
        return Empty("empty.film", "radlake ref")
    if figure.table == "stats.repeat_dose":
        return Empty("empty.repeat_dose", "radlake build")
    if figure.table == "ref.drl":
        return Empty("empty.drl", "radlake ref")
    if figure.table == "stats.dose":
        return Empty("empty.dose", "radlake benefit dose read")
    if figure.name == "storage_forecast" and has_rows(figure.table):
        return Empty("empty.short_history")
    if figure.table == "ops.storage":
        return Empty("empty.build", "radlake build")
    if figure.table in ("stats.upload_compliance", "stats.data_quality"):
        return Empty("empty.build", "radlake build")
    return Empty("empty.window")


def _harvest_tiles(snapshot: Snapshot, view: View) -> tuple[str, Sequence[Tile]]:
    found, watched = harvest.total(snapshot, view), watch.total(snapshot, view)
    return "tiles.harvest", (
        Tile("hospitals", found["n_hospitals"], "count", "registered", found["n_registered"]),
        Tile("studies", found["n_complete"], "count", "known", found["n_studies"]),
        Tile("complete", found["complete_share"], "share", "share", found["n_complete"], found["n_studies"]),
        Tile("instances", found["n_instances_stored"], "count", "expected", found["n_instances_expected"]),
        Tile("dark", watched["n_dark"], "count", "watched", watched["n_watched"]),
    )


def _duplicate_tiles(snapshot: Snapshot, view: View, *, scope: str = "any") -> list[Tile]:
    tiles = []
    for window in (view.window,) if view.window else WINDOWS:
        found = duplicates.total(snapshot, view, window=window, scope=scope)
        tiles.append(
            Tile(
                f"duplicates_{scope}_{window}",
                duplicates.share(found.get("n_duplicates"), found.get("n_exams")),
                "share",
                "share",
                part=found.get("n_duplicates"),
                whole=found.get("n_exams"),
            )
        )
    return tiles


def _duplicate_page_tiles(snapshot: Snapshot, view: View) -> Sequence[tuple[str, Sequence[Tile]]]:
    window = view.window or WINDOWS[0]
    found = duplicates.total(snapshot, view, window=window)
    unmatchable, exams = found.get("n_unmatchable"), found.get("n_exams")
    return (
        (
            "tiles.statistics",
            (
                *_duplicate_tiles(snapshot, view),
                *_duplicate_tiles(snapshot, view, scope="across_hospitals"),
                Tile("unmatchable", duplicates.share(unmatchable, exams), "share", "share", unmatchable, exams),
            ),
        ),
    )


def _overview_tiles(snapshot: Snapshot, view: View) -> Sequence[tuple[str, Sequence[Tile]]]:
    exams, saved = volume.total(snapshot, view), film.total(snapshot, view)
    return (
        _harvest_tiles(snapshot, view),
        (
            "tiles.statistics",
            (
                Tile("exams", exams.get("n_exams"), "count", "persons", exams.get("n_patients")),
                *_duplicate_tiles(snapshot, view),
                Tile("net_saving", saved.get("net_saving_fen"), "fen", "sheets", saved.get("n_sheets_avoided")),
            ),
        ),
    )


def _film_tiles(snapshot: Snapshot, view: View) -> Sequence[tuple[str, Sequence[Tile]]]:
    found = film.total(snapshot, view)
    costs = ("film_cost", "cloud_cost")
    return (
        (
            "tiles.statistics",
            (
                Tile("net_saving", found.get("net_saving_fen"), "fen", "sheets", found.get("n_sheets_avoided")),
                *(Tile(name, found.get(f"{name}_fen"), "fen", "exams", found.get("n_exams")) for name in costs),
                Tile("printed_cost", found.get("printed_cost_fen"), "fen"),
            ),
        ),
    )


def _service_tiles(snapshot: Snapshot, view: View) -> Sequence[tuple[str, Sequence[Tile]]]:
    uploads, reports = service.COMPLIANCE.total(snapshot, view), service.TURNAROUND.total(snapshot, view)
    waits = service.RETRIEVAL.total(snapshot, view)
    return (
        (
            "tiles.service",
            (
                Tile(
                    "in_time", uploads.get("in_time_share"), "percent", "share",
                    uploads.get("n_in_time"), uploads.get("n_due"),
                ),
                Tile("upload_hours", uploads.get("p95_hours"), "decimal"),
                Tile(
                    "within_24_hours", reports.get("within_24_hours_share"), "percent", "reported",
                    reports.get("n_reported"), reports.get("n_exams"),
                ),
                Tile("report_hours", reports.get("p50_hours"), "decimal"),
                Tile(
                    "within_3_seconds", waits.get("within_3_seconds_share"), "percent", "retrievals",
                    waits.get("n_retrievals"),
                ),
            ),
        ),
    )  # fmt: skip


def _reminder_tiles(snapshot: Snapshot, view: View) -> Sequence[tuple[str, Sequence[Tile]]]:
    found = reminders.REMINDERS.total(snapshot, view)
    orders, shown = found.get("n_orders"), found.get("n_shown")
    return (
        (
            "tiles.reminders",
            (
                Tile("shown", found.get("shown_share"), "hundred", "of_orders", orders),
                Tile("accepted", found.get("accepted_share"), "percent", "accepted", found.get("n_accepted"), shown),
                Tile("overridden", found.get("n_overridden"), "count"),
                Tile("opened", found.get("n_opened"), "count"),
                Tile("open_seconds", found.get("p50_open_seconds"), "decimal"),
            ),
        ),
    )


def _dose_tiles(snapshot: Snapshot, view: View) -> Sequence[tuple[str, Sequence[Tile]]]:
    found = dose.total(snapshot, view)
    return (
        (
            "tiles.dose",
            (
                Tile("dose_exams", found["n_exams"], "count", "in_year", dose.year_of(snapshot, view)),
                Tile("above_drl", found["n_above"], "count", "of_parts", found["n_levels"]),
            ),
        ),
    )


def _storage_tiles(snapshot: Snapshot, view: View) -> Sequence[tuple[str, Sequence[Tile]]]:
    found = storage.total(snapshot, view)
    return (
        ("tiles.statistics", (Tile("exam_bytes", found["exam_bytes"], "bytes"),)),
        (
            "tiles.storage",
            (
                Tile("stored_bytes", found["n_bytes"], "bytes", "in_year", found["year"]),
                Tile("storage_cost", found["cost_fen"], "fen", "in_year", found["year"]),
                Tile("later_bytes", found["last_n_bytes"], "bytes", "in_year", found["last_year"]),
                Tile("later_cost", found["last_cost_fen"], "fen", "in_year", found["last_year"]),
            ),
        ),
    )


def _quality_tiles(snapshot: Snapshot, view: View) -> Sequence[tuple[str, Sequence[Tile]]]:
    found, scores = quality.total(snapshot, view), league.total(snapshot, view)
    return (
        ("tiles.league", (Tile("score", scores["score"], "decimal", "hospitals", scores["n_hospitals"]),)),
        (
            "tiles.quality",
            (
                Tile("batches", found["n_batches"], "count"),
                Tile("checks", found["n_checks"], "count"),
                Tile("passed", found["passed_share"], "share"),
                Tile("failed", found["n_failed_checks"], "count"),
            ),
        ),
    )


PAGES = (
    Page(
        "overview",
        "/",
        filters=("region", "hospital", "first", "last", "modality", "window"),
        figures=(
            "volume_by_month",
            "duplicates_by_hospital",
            "film_by_hospital",
            "harvest_states",
            "volume_by_hospital",
        ),
        tiles=_overview_tiles,
    ),
    Page(
        "harvest",
        "/harvest",
        filters=("region", "hospital"),
        figures=(
            "silent_hospitals",
            "harvest_board",
            "certificates",
            "harvest_states",
            "quarantine_by_reason",
            "harvest_runs",
        ),
        tiles=lambda snapshot, view: (_harvest_tiles(snapshot, view),),
    ),
    Page(
        "service",
        "/service",
        filters=("region", "hospital", "first", "last"),
        figures=(
            "compliance_by_month",
            "compliance_by_hospital",
            "retrieval_by_hospital",
            "retrieval_by_month",
            "turnaround_by_month",
            "turnaround_by_hospital",
            "turnaround_by_reader",
        ),
        tiles=_service_tiles,
        right=Right.SERVICE,
    ),
    Page(
        "duplicates",
        "/duplicates",
        filters=("region", "hospital", "first", "last", "modality", "window"),
        figures=(
            "duplicates_by_month",
            "duplicates_by_region",
            "duplicates_by_hospital",
            "duplicates_by_modality",
            "duplicates_by_scope",
            "repeats_by_window",
            "repeats_by_city",
            "repeats_by_level",
            "repeats_by_exam",
        ),
        tiles=_duplicate_page_tiles,
    ),
    Page(
        "reminders",
        "/reminders",
        filters=("region", "hospital", "first", "last"),
        figures=("reminders_by_month", "reminders_by_ground", "reminders_by_hospital"),
        tiles=_reminder_tiles,
        right=Right.SERVICE,
    ),
    Page(
        "film",
        "/film",
        filters=("region", "hospital", "first", "last", "modality"),
        figures=("film_by_month", "film_by_hospital", "film_by_modality"),
        tiles=_film_tiles,
    ),
    Page(
        "dose",
        "/dose",
        filters=("year", "hospital", "part"),
        figures=("dose_by_part", "dose_by_hospital", "dose_others", "dose_in_repeats", "drl_levels"),
        tiles=_dose_tiles,
    ),
    Page(
        "epidemiology",
        "/epidemiology",
        filters=("measure", "year", "modality"),
        figures=(
            "measure_by_region",
            "measure_by_year",
            "measure_by_sex_and_age",
            "rate_by_region",
            "rate_by_modality",
            "rate_by_year",
        ),
    ),
    Page(
        "quality",
        "/quality",
        filters=("hospital", "day"),
        figures=("quality_league", "quality_faults", "quality_failures", "quality_days", "quality_checks", "builds"),
        tiles=_quality_tiles,
        right=Right.OPERATIONS,
    ),
    Page(
        "storage",
        "/storage",
        filters=("region", "hospital", "first", "last", "modality"),
        figures=("storage_growth", "storage_tiers", "storage_forecast", "storage_cost", "storage_by_hospital"),
        tiles=_storage_tiles,
        right=Right.OPERATIONS,
    ),
    Page("about", "/about", right=Right.SERVICE),
)
