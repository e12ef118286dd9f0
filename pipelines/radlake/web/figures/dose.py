"""Dose of adults as machines report it, beside the national reference levels (DRL) of WS/T 637-2018."""

from __future__ import annotations

from collections.abc import Callable

from radlake.web.cells import MASKED, Cell, Kind, Writer
from radlake.web.figures.cube import sort_value
from radlake.web.figures.figure import Figure
from radlake.web.grid import Chart, Column, Grid
from radlake.web.numbers import names_of
from radlake.web.snapshot import Snapshot
from radlake.web.view import View

__all__ = ["FIGURES", "total", "year_of"]

TABLE = "stats.dose"
REPEATS = "stats.repeat_dose"
REFERENCE = "ref.drl"
# name of the column -> what it is, and how it is read from the table
LEVELS: dict[str, tuple[Kind, str]] = {
    "n_reported": ("count", "n_reported"),
    "ctdi_vol_median": ("decimal", "ctdi_vol_median_mgy"),
    "ctdi_vol_p75": ("decimal", "ctdi_vol_p75_mgy"),
    "ctdi_vol_drl": ("decimal", "ctdi_vol_drl_mgy"),
    "dlp_median": ("decimal", "dlp_median_mgy_cm"),
    "dlp_p75": ("decimal", "dlp_p75_mgy_cm"),
    "dlp_drl": ("decimal", "dlp_drl_mgy_cm"),
    "is_above_drl": ("yes_no", "CASE is_above_drl WHEN true THEN 'yes' WHEN false THEN 'no' END"),
    "is_drl_verified": ("yes_no", "CASE is_drl_verified WHEN true THEN 'yes' WHEN false THEN 'no' END"),
    "effective_dose_median": ("rate", "effective_dose_median_msv"),
}
OTHERS: dict[str, tuple[Kind, str]] = {
    "n_reported": ("count", "n_reported"),
    "n_events": ("count", "n_events"),
    "dap_median": ("decimal", "dap_median_gy_m2 * 1e6"),
    "agd_median": ("rate", "agd_median_mgy"),
    "effective_dose_median": ("rate", "effective_dose_median_msv"),
}
_PUBLIC = ("ctdi_vol_drl", "dlp_drl", "is_drl_verified")  # of the standard, and not of anybody's exams
CT = "modality_group = 'CT'"


def year_of(snapshot: Snapshot, view: View, *, table: str = TABLE) -> str:
    """The chosen year, or the last one with doses."""
    if view.year:
        return view.year
    [(year,)] = snapshot.rows(f"SELECT coalesce(max(exam_year), '') FROM {table} WHERE exam_year < 'a'")
    return year


def total(snapshot: Snapshot, view: View) -> dict[str, Cell]:
    """CT exams with a dose report, body parts with a reference level, and those of them that are above it."""
    [(n_rows, n_masked, n_exams, n_levels, n_above, n_masked_levels)] = snapshot.rows(
        f"""
        SELECT
            count(*), count(*) FILTER (is_masked), coalesce(sum(n_reported), 0)::BIGINT,
            count(*) FILTER (is_above_drl IS NOT NULL), count(*) FILTER (is_above_drl),
            count(*) FILTER (is_masked AND ctdi_vol_drl_mgy IS NOT NULL)
        FROM {TABLE}
        WHERE {CT} AND exam_year = $year AND hospital_id = $hospital
        """,
        {"year": year_of(snapshot, view), "hospital": view.hospital or "all"},
    )
    if not n_rows:
        return {"n_exams": None, "n_levels": None, "n_above": None}
    return {
        "n_exams": MASKED if n_masked and not n_exams else n_exams,
        "n_levels": n_levels,
        "n_above": MASKED if n_masked_levels and not n_levels else n_above,
    }


def by_part(snapshot: Snapshot, view: View) -> Grid:
    """CT by body part, the most exams first: median and 75th percentile beside the reference level."""
    where = f"{CT} AND hospital_id = $hospital"
    return _grid(
        snapshot, view, [Column("body_part", "part")], ["body_part_code"], where, LEVELS, chart=_levels_chart(1)
    )


def by_hospital(snapshot: Snapshot, view: View) -> Grid:
    """CT of one body part by hospital; of the one with the most exams when none was chosen."""
    part = view.part or next(iter(str(row[0]) for row in by_part(snapshot, View(year=view.year)).rows), "")
    where = f"{CT} AND hospital_id != 'all' AND $hospital IN ('all', hospital_id) AND body_part_code = $part"
    columns = [Column("hospital", "hospital"), Column("body_part", "part")]
    return _grid(
        snapshot, view, columns, ["hospital_id", "body_part_code"], where, LEVELS, chart=_levels_chart(2), part=part
    )


def others(snapshot: Snapshot, view: View) -> Grid:
    """What is no CT, by modality and body part."""
    where = f"NOT {CT} AND hospital_id = $hospital"
    columns = [Column("modality", "modality"), Column("body_part", "part")]
    return _grid(snapshot, view, columns, ["modality_group", "body_part_code"], where, OTHERS)


def in_repeats(snapshot: Snapshot, view: View) -> Grid:
    """Dose of repeats that nothing excuses, all hospitals together: reported doses and typical values in rows apart."""
    year = year_of(snapshot, view, table=REPEATS)
    found = snapshot.rows(
        f"""
        SELECT is_masked, modality_group, body_part_code, dose_basis, typical_source, n_repeats, dlp_mgy_cm,
            effective_dose_msv, effective_dose_low_msv, effective_dose_high_msv
        FROM {REPEATS}
        WHERE exam_year = $year AND modality_group != 'all' AND body_part_code != 'all'
        ORDER BY n_repeats DESC NULLS LAST, modality_group, body_part_code, dose_basis
        """,
        {"year": year},
    )
    rows = [(*labels, *(MASKED if is_masked else cell for cell in cells))
            for is_masked, *rest in found for labels, cells in [(rest[:4], rest[4:])]]  # fmt: skip
    columns = [
        *(Column("modality", "modality"), Column("body_part", "part"), Column("dose_basis", "basis")),
        *(Column("typical_source", "text"), Column("n_repeats", "count")),
        *(Column(name, "decimal") for name in ("dlp_sum", "dose_sum", "dose_sum_low", "dose_sum_high")),
    ]
    sums = {"dlp_sum": "dlp_mgy_cm", "dose_sum": "effective_dose_msv", "dose_sum_low": "effective_dose_low_msv"}
    names = names_of(
        REPEATS,
        by=("modality_group", "body_part_code", "dose_basis"),
        fixed={"exam_year": year},
        view=View(),
        columns={"n_repeats": "n_repeats", "dose_sum_high": "effective_dose_high_msv"} | sums,
    )
    return Grid(columns, rows, names=names, caption=_caption(snapshot, year) if rows else None)


def levels(snapshot: Snapshot, view: View) -> Grid:
    """The national reference levels themselves: what they are, where they are from, and whether that was compared."""
    rows = snapshot.rows(
        f"""
        SELECT
            body_part_code, quantity, p75, p50, p25,
            CASE WHEN is_verified THEN 'yes' ELSE 'no' END, strftime(valid_from, '%Y-%m-%d'), source
        FROM {REFERENCE}
        WHERE $part IN ('', body_part_code)
        ORDER BY ALL
        """,
        {"part": view.part},
    )
    columns = [
        *(Column("body_part", "part"), Column("quantity", "quantity")),
        *(Column(name, "decimal") for name in ("drl_p75", "drl_p50", "drl_p25")),
        *(Column("is_drl_verified", "yes_no"), Column("valid_from", "text"), Column("source", "text")),
    ]
    return Grid(columns, rows)


def _levels_chart(first: int) -> Chart:
    names = [*LEVELS]
    colors = {"ctdi_vol_median": "median", "ctdi_vol_p75": "p75", "ctdi_vol_drl": "drl"}
    series = [first + names.index(name) for name in colors]
    return Chart("bars", series=series, colors=[*colors.values()], horizontal=True)


def _grid(
    snapshot: Snapshot,
    view: View,
    labels: list[Column],
    keys: list[str],
    where: str,
    measures: dict[str, tuple[Kind, str]],
    *,
    chart: Chart | None = None,
    part: str | None = None,
) -> Grid:
    parameters: dict[str, object] = {"year": year_of(snapshot, view), "hospital": view.hospital or "all"}
    if part is not None:
        parameters["part"] = part
    found = snapshot.rows(
        f"""
        SELECT is_masked, {", ".join(keys)}, {", ".join(sql for _, sql in measures.values())}
        FROM {TABLE}
        WHERE exam_year = $year AND {where}
        ORDER BY {", ".join(keys)}
        """,
        parameters,
    )
    rows: list[tuple[Cell, ...]] = []
    for is_masked, *cells in found:
        told = zip(measures, cells[len(keys) :], strict=True)
        shown = [MASKED if is_masked and name not in _PUBLIC else cell for name, cell in told]
        rows.append((*cells[: len(keys)], *shown))
    rows.sort(key=lambda row: (sort_value(row[len(keys)]), str(row[: len(keys)])))
    columns = [*labels, *(Column(name, kind) for name, (kind, _) in measures.items())]
    names = names_of(
        TABLE,
        by=keys,
        fixed={"modality_group": "CT", "hospital_id": view.hospital, "exam_year": str(parameters["year"])},
        view=View(),
        columns={name: sql for name, (_, sql) in measures.items() if sql.isidentifier()},
    )
    caption = _caption(snapshot, str(parameters["year"])) if rows else None
    return Grid(columns, rows, chart=chart, names=names, caption=caption)


def _caption(snapshot: Snapshot, year: str) -> Callable[[Writer], str]:
    key = "caption.incomplete_year" if snapshot.is_incomplete(year) else "caption.year"
    return lambda writer: writer.words(key, year=year)


FIGURES = (
    Figure("dose_by_part", TABLE, by_part),
    Figure("dose_by_hospital", TABLE, by_hospital),
    Figure("dose_others", TABLE, others),
    Figure("dose_in_repeats", REPEATS, in_repeats),
    Figure("drl_levels", REFERENCE, levels),
)
