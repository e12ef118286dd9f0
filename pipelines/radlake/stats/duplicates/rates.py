"""Count repeats: every rule pack and window side by side, looking back and ahead.

The stream over core.exam_sequence gives cells (`pairs`); here they are added up into the rows of stats.repeat_rate, by
month, hospital and modality, and of stats.repeat_window, by year, modality and body part, or by prefecture or level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import duckdb
import pyarrow as pa

from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.lake import Lake, parquet
from radlake.stats.duplicates.packs import RulePack, Windows, load_packs, load_windows
from radlake.stats.duplicates.pairs import (
    BY_PART,
    BY_PLACE,
    FOLLOW_UP,
    JUSTIFIED,
    OUT_OF_ORDER,
    POTENTIAL,
    SAME_EPISODE,
    Direction,
    cells,
)
from radlake.stats.duplicates.sequence import CODES, TABLE
from radlake.stats.duplicates.streamed import in_order

__all__ = ["RATES", "WINDOWS", "count_cells", "repeat_rates", "repeat_windows"]

RATES, WINDOWS = "stats.repeat_rate", "stats.repeat_window"


def repeat_rates(lake: Lake, *, version: int | None = None, workers: int = 2) -> pa.Table:
    """Rows of stats.repeat_rate from core.exam_sequence at a version, the newest by default.

    Raises
    ------
    ContractBroken
        If there is no sequence.
    """
    return _counted(lake, RATES, _RATES, by=BY_PLACE, version=version, workers=workers)


def repeat_windows(lake: Lake, *, rates: pa.Table, version: int | None = None, workers: int = 2) -> pa.Table:
    """Exact rows of stats.repeat_window, with totals over year, modality and body part; `rates` gives those by place.

    Parameters
    ----------
    rates : pa.Table
        Rows of `repeat_rates` of the same version.

    Raises
    ------
    ContractBroken
        If there is no sequence.
    """
    return _counted(lake, WINDOWS, _WINDOWS, by=BY_PART, version=version, workers=workers, rates=rates)


def _counted(
    lake: Lake,
    name: str,
    query: str,
    *,
    by: Mapping[str, str],
    version: int | None,
    workers: int,
    rates: pa.Table | None = None,
) -> pa.Table:
    """Cells of both directions, and the query over them that gives the rows of a table."""
    packs, windows = load_packs(), load_windows()
    files = lake.restricted_tables.files(TABLE, version=version)
    if not files:
        raise ContractBroken(table=TABLE, problems=["there is none; run `radlake duplicates build`"])
    codes = lake.restricted_tables.files(CODES)
    table = load_table(name)
    counts = [column.name for column in table.columns if column.name.startswith("n_")]
    counted = " UNION ALL ".join(_of_pack(pack, windows, by=by) for pack in packs)
    with parquet.new_connection(threads=workers) as connection:
        for direction in ("back", "ahead"):
            found = count_cells(files, packs=packs, windows=windows, direction=direction, by=by, workers=workers)
            connection.register(f"cells_{direction}", found)
        if rates is not None:
            connection.register("rates", rates)
        connection.execute(f"CREATE TABLE code AS FROM {parquet.scan(load_table(CODES), codes)}")
        summed = ", ".join(f"sum({count})::BIGINT AS {count}" for count in counts)
        text = query.format(counted=counted, counts=", ".join(counts), summed=summed)
        columns = [column.name for column in table.columns]
        return (
            connection.sql(text).select(*columns).order(", ".join(columns)).to_arrow_table().cast(table.arrow_schema())
        )


def count_cells(
    files: Sequence[str],
    *,
    packs: Mapping[str, RulePack],
    windows: Windows,
    direction: Direction,
    by: Mapping[str, str] = BY_PLACE,
    workers: int = 2,
) -> pa.Table:
    """Cells of all files, several files at once; a file whose rows did not come in order is counted again, sorted."""

    def count(file: str) -> pa.Table:
        relation = f"read_parquet({parquet.text(file)})"  # a file is of one version: no column is missing
        with parquet.new_connection(threads=1) as connection:
            return in_order(
                connection, partial(cells, relation, packs=packs, windows=windows, direction=direction, by=by)
            )

    with ThreadPoolExecutor(workers) as pool, duckdb.connect() as adder:
        adder.execute("SET enable_progress_bar = false")
        total: pa.Table | None = None
        for found in pool.map(count, files):
            adder.register("found", found if total is None else pa.concat_tables([total, found]))
            keys = ", ".join(name for name in found.column_names if name not in ("n", OUT_OF_ORDER))
            total = adder.sql(
                f"SELECT {keys}, sum(n)::BIGINT AS n, sum({OUT_OF_ORDER})::BIGINT AS {OUT_OF_ORDER}"
                " FROM found GROUP BY ALL"
            ).to_arrow_table()
    assert total is not None, "there was a file"
    return total


_RATES = """
WITH counted AS ({counted})
SELECT
    counted.rule_pack,
    counted.window_days::SMALLINT AS window_days,
    counted.exam_month,
    site.region_code,
    site.hospital_level,
    site.label AS hospital_id,
    modality.label AS modality_group,
    {counts}
FROM counted
INNER JOIN code AS site ON site.code_kind = 'site' AND site.code = counted.site_code
INNER JOIN code AS modality ON modality.code_kind = 'modality' AND modality.code = counted.modality_code
"""

_WINDOWS = """
WITH counted AS ({counted}),
named AS (
    SELECT
        counted.* EXCLUDE (exam_year),
        counted.exam_year::VARCHAR AS exam_year,
        modality.label AS modality_group,
        part.label AS body_part_code
    FROM counted
    INNER JOIN code AS modality ON modality.code_kind = 'modality' AND modality.code = counted.modality_code
    INNER JOIN code AS part ON part.code_kind = 'body_part' AND part.code = counted.body_part
),
added AS (
    SELECT
        rule_pack, window_days, exam_year, modality_group, body_part_code,
        'all' AS region_code, 'all' AS hospital_level, {summed}
    FROM named
    GROUP BY rule_pack, window_days, cube (exam_year, modality_group, body_part_code)
    UNION ALL BY NAME
    SELECT
        rule_pack, window_days, 'all' AS exam_year, 'all' AS modality_group, 'all' AS body_part_code,
        region_code, hospital_level, {summed}
    FROM rates
    GROUP BY rule_pack, window_days, GROUPING SETS ((region_code), (hospital_level))
)
SELECT
    * EXCLUDE (rule_pack, window_days, exam_year, modality_group, body_part_code, region_code, hospital_level),
    rule_pack,
    window_days::SMALLINT AS window_days,
    coalesce(exam_year, 'all') AS exam_year,
    coalesce(modality_group, 'all') AS modality_group,
    coalesce(body_part_code, 'all') AS body_part_code,
    coalesce(region_code, 'all') AS region_code,
    coalesce(hospital_level, 'all') AS hospital_level,
    n_repeats / nullif(n_exams, 0) AS repeat_share,
    n_potential / nullif(n_exams, 0) AS potential_share,
    n_potential_across_hospitals / nullif(n_exams, 0) AS potential_across_share,
    n_indexed_repeated / nullif(n_indexed, 0) AS indexed_share,
    FALSE AS is_masked
FROM added
"""


def _of_pack(name: str, windows: Windows, *, by: Mapping[str, str]) -> str:
    """Counts of one pack; `place` is the number of the window, from 1."""
    listed = ", ".join(f"({place}, {days})" for place, days in enumerate(windows.days, 1))
    class_ = f"class_{name}"
    is_repeat = f"reach <= place AND {class_} <> {SAME_EPISODE}"
    is_potential = f"reach <= place AND {class_} = {POTENTIAL}"
    measures = {
        "n_exams": "TRUE",
        "n_unmatchable": "is_unmatchable",
        "n_same_episode": f"reach <= place AND {class_} = {SAME_EPISODE}",
        "n_repeats": is_repeat,
        "n_follow_up": f"reach <= place AND {class_} BETWEEN {FOLLOW_UP} AND {JUSTIFIED - 1}",
        "n_justified": f"reach <= place AND {class_} >= {JUSTIFIED}",
        "n_potential": is_potential,
        "n_repeats_across_hospitals": f"{is_repeat} AND (apart & 1) = 1",
        "n_potential_across_hospitals": f"{is_potential} AND (apart & 1) = 1",
        "n_potential_across_cities": f"{is_potential} AND (apart & 2) = 2",
        "n_potential_across_levels": f"{is_potential} AND (apart & 4) = 4",
        "n_side_unknown": f"{is_repeat} AND (apart & 8) = 8",
        "n_supplementary": "supplementary <= place AND reach > place",
    }
    ahead = {
        "n_indexed": "TRUE",
        "n_indexed_repeated": is_repeat,
        "n_indexed_potential": is_potential,
    }
    keys = ", ".join([*by, "place", "window_days"])

    def summed(measures: Mapping[str, str], source: str) -> str:
        columns = ", ".join(
            f"coalesce(sum(n) FILTER ({test}), 0)::BIGINT AS {measure}" for measure, test in measures.items()
        )
        return (
            f"SELECT {keys}, {columns} FROM {source} INNER JOIN (VALUES {listed}) AS windows (place, window_days)"
            f" ON n_windows >= place GROUP BY ALL HAVING sum(n) > 0"
        )

    zeros = ", ".join(f"coalesce({measure}, 0) AS {measure}" for measure in (*measures, *ahead))
    return (
        f"SELECT '{name}' AS rule_pack, {keys}, {zeros} FROM ({summed(measures, 'cells_back')})"
        f" FULL JOIN ({summed(ahead, 'cells_ahead')}) USING ({keys})"
    )
