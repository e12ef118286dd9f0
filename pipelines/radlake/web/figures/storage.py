"""Storage: how the archive grew, what will come with limits, in which tier it lies, and what that costs."""

from __future__ import annotations

from radlake.web.cells import Cell, Kind
from radlake.web.figures import volume
from radlake.web.figures.cube import calendar, read_cube, sort_value
from radlake.web.figures.figure import Figure
from radlake.web.grid import Chart, Column, Grid
from radlake.web.snapshot import Snapshot
from radlake.web.view import View

__all__ = ["FIGURES", "TIERS", "total"]

TABLE = "ops.storage"
TIERS = ("hot", "warm", "cold", "archive")


def total(snapshot: Snapshot, view: View) -> dict[str, Cell]:
    """Bytes of the exams of a view; what is stored this year and what that costs, and the same in the last year."""
    found = snapshot.rows(f"SELECT plan_year, n_bytes, cost_fen FROM {TABLE} WHERE tier = 'all' ORDER BY plan_year")
    first, last = (found[0], found[-1]) if found else ((None,) * 3, (None,) * 3)
    names = ("year", "n_bytes", "cost_fen")
    now, later = dict(zip(names, first, strict=True)), {f"last_{n}": v for n, v in zip(names, last, strict=True)}
    return {"exam_bytes": volume.total(snapshot, view).get("exam_bytes"), **now, **later}


def growth(snapshot: Snapshot, view: View) -> Grid:
    """Bytes of each month's exams."""
    cells = read_cube(snapshot, volume.TABLE, ("exam_bytes", "n_exams"), by=("exam_month",), view=view)
    months, n_older = calendar([month for (month,) in cells])
    whole = volume.total(snapshot, view)
    rows = [(month, *(cells.get((month,), {}).get(name, 0) for name in ("exam_bytes", "n_exams"))) for month in months]
    return Grid(
        [Column("exam_month", "month"), Column("exam_bytes", "bytes"), Column("n_exams", "count")],
        rows,
        chart=Chart("bars", series=(1,), colors=("volume",)),
        total=[whole.get("exam_bytes"), whole.get("n_exams")] if rows else (),
        incomplete=frozenset(i for i, month in enumerate(months) if snapshot.is_incomplete(month)),
        first_drawn=n_older,
    )


def by_hospital(snapshot: Snapshot, view: View) -> Grid:
    """Bytes and bytes of an exam by hospital, most first."""
    cells = read_cube(snapshot, volume.TABLE, ("exam_bytes", "n_exams"), by=("hospital_id",), view=view)
    rows: list[tuple[Cell, ...]] = []
    for (code,), values in cells.items():
        n_bytes, exams = values["exam_bytes"], values["n_exams"]
        mean = round(n_bytes / exams) if isinstance(n_bytes, int) and isinstance(exams, int) and exams else None
        rows.append((code, n_bytes, exams, mean))
    rows.sort(key=lambda row: (sort_value(row[1]), str(row[0])))
    return Grid(
        [Column("hospital", "hospital"), Column("exam_bytes", "bytes"), Column("n_exams", "count"),
         Column("bytes_per_exam", "bytes")],
        rows,
        chart=Chart("bars", series=(1,), colors=("volume",), horizontal=True),
    )  # fmt: skip


def forecast(snapshot: Snapshot, _: View) -> Grid:
    """Bytes that will come in each year, with the 95 % limits of the growth."""
    rows = snapshot.rows(
        f"""
        SELECT plan_year, coming_bytes, coming_low_bytes, coming_high_bytes
        FROM {TABLE}
        WHERE tier = 'all' AND coming_bytes IS NOT NULL
        ORDER BY plan_year
        """
    )
    names = ("plan_year", "coming_bytes", "coming_low_bytes", "coming_high_bytes")
    return Grid(
        [Column(names[0], "month"), *(Column(name, "bytes") for name in names[1:])],
        rows,
        chart=Chart("intervals", series=(1, 2, 3), colors=("volume",) * 3),
        incomplete=frozenset(range(len(rows))),
    )


def tiers(snapshot: Snapshot, _: View) -> Grid:
    return _plan(snapshot, "n_bytes", "bytes")


def cost(snapshot: Snapshot, _: View) -> Grid:
    return _plan(snapshot, "cost_fen", "fen")


def _plan(snapshot: Snapshot, measure: str, kind: Kind) -> Grid:
    """Years down, tiers across, the published total last."""
    found = snapshot.rows(f"SELECT plan_year, tier, {measure} FROM {TABLE} ORDER BY plan_year")
    of_year: dict[str, dict[str, int]] = {}
    for year, tier, value in found:
        of_year.setdefault(year, {})[tier] = value
    rows = [(year, *(values.get(tier, 0) for tier in (*TIERS, "all"))) for year, values in of_year.items()]
    return Grid(
        [Column("plan_year", "month"), *(Column(tier, kind, heading_kind="tier") for tier in (*TIERS, "all"))],
        rows,
        chart=Chart("stack", series=range(1, 1 + len(TIERS)), colors=[f"tier-{tier}" for tier in TIERS]),
    )


FIGURES = (
    Figure("storage_growth", volume.TABLE, growth),
    Figure("storage_tiers", TABLE, tiers),
    Figure("storage_cost", TABLE, cost),
    Figure("storage_forecast", TABLE, forecast),
    Figure("storage_by_hospital", volume.TABLE, by_hospital),
)
