"""Count repeats: every rule pack and window side by side, looking back and ahead, by month, hospital and modality.

The stream over core.exam_sequence gives cells (`pairs`); here they are added up into the rows of stats.repeat_rate.
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
from radlake.stats.duplicates.pairs import FOLLOW_UP, JUSTIFIED, OUT_OF_ORDER, POTENTIAL, SAME_EPISODE, Direction, cells
from radlake.stats.duplicates.sequence import CODES, TABLE
from radlake.stats.duplicates.streamed import in_order

__all__ = ["RATES", "count_cells", "repeat_rates"]

RATES = "stats.repeat_rate"


def repeat_rates(lake: Lake, *, version: int | None = None, workers: int = 2) -> pa.Table:
    """Rows of stats.repeat_rate from core.exam_sequence at a version, the newest by default.

    Raises
    ------
    ContractBroken
        If there is no sequence.
    """
    packs, windows = load_packs(), load_windows()
    files = lake.restricted_tables.files(TABLE, version=version)
    if not files:
        raise ContractBroken(table=TABLE, problems=["there is none; run `radlake duplicates build`"])
    codes = lake.restricted_tables.files(CODES)
    table = load_table(RATES)
    with parquet.new_connection(threads=workers) as connection:
        for direction in ("back", "ahead"):
            found = count_cells(files, packs=packs, windows=windows, direction=direction, workers=workers)
            connection.register(f"cells_{direction}", found)
        connection.execute(f"CREATE TABLE code AS FROM {parquet.scan(load_table(CODES), codes)}")
        query = _rates_sql(packs, windows)
        return connection.sql(query).to_arrow_table().cast(table.arrow_schema())


def count_cells(
    files: Sequence[str],
    *,
    packs: Mapping[str, RulePack],
    windows: Windows,
    direction: Direction,
    workers: int = 2,
) -> pa.Table:
    """Cells of all files, several files at once; a file whose rows did not come in order is counted again, sorted."""

    def count(file: str) -> pa.Table:
        relation = f"read_parquet({parquet.text(file)})"  # a file is of one version: no column is missing
        with parquet.new_connection(threads=1) as connection:
            return in_order(connection, partial(cells, relation, packs=packs, windows=windows, direction=direction))

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


def _rates_sql(packs: Mapping[str, RulePack], windows: Windows) -> str:
    parts = [_of_pack(name, windows) for name in packs]
    counted = " UNION ALL ".join(parts)
    names = ", ".join(column.name for column in load_table(RATES).columns if column.name.startswith("n_"))
    return f"""
WITH counted AS ({counted})
SELECT
    counted.rule_pack,
    counted.window_days::SMALLINT AS window_days,
    counted.exam_month,
    site.region_code,
    site.hospital_level,
    site.label AS hospital_id,
    modality.label AS modality_group,
    {names}
FROM counted
INNER JOIN code AS site ON site.code_kind = 'site' AND site.code = counted.site_code
INNER JOIN code AS modality ON modality.code_kind = 'modality' AND modality.code = counted.modality_code
ORDER BY ALL
"""


def _of_pack(name: str, windows: Windows) -> str:
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
    keys = "exam_month, site_code, modality_code, place, window_days"

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
