"""Compare the repeats of two cities, levels, hospitals, modalities or years.

Limits of a share alone (`shares`) take exams as independent. Exams of one person, and of one hospital, are not: a
difference is judged by how much persons and hospitals of the same group differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.lake import Lake, parquet
from radlake.stats.duplicates.packs import RulePack, load_packs, load_windows
from radlake.stats.duplicates.pairs import OUT_OF_ORDER, POTENTIAL, cells
from radlake.stats.duplicates.sequence import CODES, TABLE
from radlake.stats.duplicates.shares import Share
from radlake.stats.duplicates.streamed import in_order
from radlake.stats.intervals import Comparison, compare_shares

__all__ = ["GROUPS", "Compared", "compare_repeats"]

# What exams can be told apart by, and how a row of the sequence and its codes tell it.
GROUPS: Mapping[str, str] = {
    "region_code": "site.region_code",
    "hospital_level": "site.hospital_level",
    "hospital_id": "site.label",
    "modality_group": "modality.label",
    "exam_year": "(exam_month // 100)::VARCHAR",
}
_BY = {
    "patient_key": "patient_key",
    "site_code": "site_code",
    "modality_code": "exam_code >> 16",
    "exam_month": "exam_month",
}


@dataclass(frozen=True)
class Compared:
    """Potential repeats of two groups, looking back.

    Attributes
    ----------
    shares : tuple of Share
        Of the first and the second group, each with limits that take exams as independent.
    difference : Comparison or None
        Second less first, with limits by persons, and by hospitals where `n_hospitals` of both groups are two or more.
    """

    shares: tuple[Share, Share]
    n_hospitals: tuple[int, int]
    difference: Comparison | None


@dataclass(frozen=True)
class _Asked:
    """The question, as literals of SQL."""

    by: str
    first: str
    second: str
    modality: str


def compare_repeats(
    lake: Lake,
    groups: tuple[str, str],
    *,
    by: str,
    rule_pack: str,
    window_days: int,
    modality_group: str | None = None,
    workers: int = 2,
) -> Compared:
    """Compare two values of a dimension of `GROUPS`, from core.exam_sequence; exact, of the restricted zone.

    Raises
    ------
    ContractBroken
        If there is no sequence, or no exam of a group.
    """
    files = lake.restricted_tables.files(TABLE)
    if not files:
        raise ContractBroken(table=TABLE, problems=["there is none; run `radlake duplicates build`"])
    codes = parquet.scan(load_table(CODES), lake.restricted_tables.files(CODES))
    pack = load_packs()[rule_pack]
    place = load_windows().days.index(window_days) + 1

    def count(file: str) -> pa.Table:
        relation = f"read_parquet({parquet.text(file)})"
        with parquet.new_connection(threads=1) as connection:
            connection.execute(f"CREATE TABLE code AS FROM {codes}")
            first, second, modality = map(parquet.text, (*groups, modality_group or ""))
            asked = _Asked(by, first, second, modality)
            return in_order(connection, partial(_rows, relation, pack, rule_pack, place, asked))

    with ThreadPoolExecutor(workers) as pool:
        rows = pa.concat_tables(pool.map(count, files))
    of = {name: rows[name].to_numpy() for name in ("is_second", "patient_key", "site_code", "n_exams", "n_potential")}
    second = of["is_second"]
    if missing := [name for name, of_group in zip(groups, (~second, second), strict=True) if not of_group.any()]:
        problems = [f"no exam that counts has {by} {name}" for name in missing]
        raise ContractBroken(table=TABLE, problems=problems)
    n_hospitals = tuple(len(np.unique(of["site_code"][of_group])) for of_group in (~second, second))
    clusters = [of["patient_key"], *([of["site_code"]] if min(n_hospitals) > 1 else [])]
    first_share, second_share = (
        Share.of_counts(int(of["n_potential"][of_group].sum()), int(of["n_exams"][of_group].sum()))
        for of_group in (~second, second)
    )
    found = compare_shares(of["n_potential"], second, *clusters, n_exams=of["n_exams"])
    return Compared((first_share, second_share), (n_hospitals[0], n_hospitals[1]), found)


def _rows(
    relation: str,
    pack: RulePack,
    name: str,
    place: int,
    asked: _Asked,
    *,
    is_streamed: bool,
) -> str:
    """A row for each person, hospital and group: exams whose window was observed, and potential repeats among them."""
    query = cells(
        relation, packs={name: pack}, windows=load_windows(), direction="back", by=_BY, is_streamed=is_streamed
    )
    group = GROUPS[asked.by]
    counted = f"n_windows >= {place}"
    return f"""
        WITH cell AS MATERIALIZED ({query})
        SELECT
            patient_key,
            site_code,
            {group} = {asked.second} AS is_second,
            coalesce(sum(n) FILTER ({counted}), 0)::BIGINT AS n_exams,
            coalesce(sum(n) FILTER ({counted} AND reach <= {place} AND class_{name} = {POTENTIAL}), 0)::BIGINT
                AS n_potential,
            any_value((SELECT sum({OUT_OF_ORDER}) FROM cell))::BIGINT AS {OUT_OF_ORDER}
        FROM cell
        INNER JOIN code AS site ON site.code_kind = 'site' AND site.code = cell.site_code
        INNER JOIN code AS modality ON modality.code_kind = 'modality' AND modality.code = cell.modality_code
        WHERE {group} IN ({asked.first}, {asked.second}) AND {asked.modality} IN ('', modality.label)
        GROUP BY ALL
        HAVING n_exams > 0
    """
