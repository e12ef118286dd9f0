"""Potential repeats by month, modality and body part: what a price needs to know. Exact, of the restricted zone."""

from __future__ import annotations

from typing import NamedTuple

from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.lake import Lake, parquet
from radlake.stats.duplicates.packs import load_packs, load_windows
from radlake.stats.duplicates.pairs import BY_PART, POTENTIAL
from radlake.stats.duplicates.rates import count_cells
from radlake.stats.duplicates.sequence import CODES, TABLE

__all__ = ["PartRepeats", "potential_by_part"]


class PartRepeats(NamedTuple):
    """Potential repeats of a true month (yyyymm)."""

    exam_month: int
    modality_group: str
    body_part_code: str
    n_potential: int


def potential_by_part(lake: Lake, *, rule_pack: str, window_days: int, workers: int = 2) -> list[PartRepeats]:
    """Repeats that nothing excuses by a rule pack and window, as stats.repeat_rate counts them.

    A rule pack or window that there is not has none.

    Raises
    ------
    ContractBroken
        If there is no sequence.
    """
    packs, windows = load_packs(), load_windows()
    files = lake.restricted_tables.files(TABLE)
    if not files:
        raise ContractBroken(table=TABLE, problems=["there is none; run `radlake duplicates build`"])
    if rule_pack not in packs or window_days not in windows.days:
        return []
    by = {name: told for name, told in BY_PART.items() if name != "exam_year"} | {"exam_month": "exam_month"}
    pack = {rule_pack: packs[rule_pack]}
    found = count_cells(files, packs=pack, windows=windows, direction="back", by=by, workers=workers)
    query = _COUNTED.format(
        codes=parquet.scan(load_table(CODES), lake.restricted_tables.files(CODES)),
        place=windows.days.index(window_days) + 1,
        is_potential=f"class_{rule_pack} = {POTENTIAL}",
    )
    with parquet.new_connection(threads=1) as connection:
        connection.register("cells", found)
        return [PartRepeats(*row) for row in connection.execute(query).fetchall()]


_COUNTED = """
WITH code AS (FROM {codes})
SELECT cells.exam_month, modality.label, part.label, sum(cells.n)::BIGINT AS n_potential
FROM cells
INNER JOIN code AS modality ON modality.code_kind = 'modality' AND modality.code = cells.modality_code
INNER JOIN code AS part ON part.code_kind = 'body_part' AND part.code = cells.body_part
WHERE cells.n_windows >= {place} AND cells.reach <= {place} AND cells.{is_potential}
GROUP BY ALL HAVING n_potential > 0 ORDER BY ALL
"""
