"""Numbers in the place of names: of hospitals, modalities, body parts, places, months by order, of grounds as bits.

The same lake gives the same numbers. The prefecture and the level of a hospital can be told from its number; a place is
one prefecture and level.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.stats.duplicates.packs import load_grounds

__all__ = ["code_rows", "ground_bits", "ground_rows"]


def code_rows(connection: duckdb.DuckDBPyConnection, *, exams: str, hospitals: str) -> pa.Table:
    """Rows of core.sequence_code; `exams` and `hospitals` are SQL of core.exam and ref.hospital."""
    rows = connection.sql(_CODES.format(exam=exams, hospital=hospitals)).to_arrow_table()
    return rows.cast(load_table("core.sequence_code").arrow_schema())


def ground_rows(connection: duckdb.DuckDBPyConnection, *, orders: str) -> pa.Table:
    """Bits of every text of `ground_codes` that occurs; `orders` is SQL of ref.exam_order."""
    texts = [text for (text,) in connection.execute(f"SELECT DISTINCT ground_codes FROM {orders}").fetchall()]
    return pa.table({"ground_codes": pa.array(texts, pa.string()), "bits": pa.array(ground_bits(texts), pa.int32())})


def ground_bits(texts: Sequence[str]) -> list[int]:
    """Bits of each text of `ground_codes`.

    >>> ground_bits(["", "emergency", "emergency+oncology"])
    [0, 8, 264]

    Raises
    ------
    ContractBroken
        With every ground that grounds.yaml does not have.
    """
    grounds = load_grounds()
    codes = [text.split("+") if text else [] for text in texts]
    if unknown := sorted({code for found in codes for code in found} - grounds.keys()):
        problems = [
            f"ground_codes: there is no ground {code}; see schemas/rules/duplicates/grounds.yaml" for code in unknown
        ]
        raise ContractBroken(table="ref.exam_order", problems=problems)
    return [sum(1 << grounds[code].bit for code in set(found)) for found in codes]


_CODES = """
WITH told AS (
    SELECT modality_group, body_part_code, hospital_id, study_month
    FROM {exam}
    GROUP BY GROUPING SETS (modality_group, body_part_code, hospital_id, study_month)
),
modalities AS (SELECT modality_group AS label FROM told WHERE modality_group IS NOT NULL),
body_parts AS (SELECT body_part_code AS label FROM told WHERE body_part_code IS NOT NULL),
hospitals AS (
    SELECT
        exams.hospital_id AS label,
        CASE WHEN known.region_code IS NULL OR known.region_code = 'UNKNOWN' THEN 'UNKNOWN'
            ELSE left(known.region_code, 4) || '00' END AS region_code,
        coalesce(known.hospital_level, 'UNKNOWN') AS hospital_level
    FROM (SELECT hospital_id FROM told WHERE hospital_id IS NOT NULL) AS exams
    LEFT JOIN {hospital} AS known ON exams.hospital_id = known.hospital_id
),
numbered AS (
    SELECT
        *,
        dense_rank() OVER (ORDER BY region_code) - 1 AS region_number,
        dense_rank() OVER (ORDER BY hospital_level) - 1 AS level_number,
        row_number() OVER (PARTITION BY region_code, hospital_level ORDER BY label) - 1 AS number
    FROM hospitals
),
places AS (SELECT DISTINCT region_code, hospital_level FROM hospitals),
-- The months of the lake are moved: the true day of an exam lies up to 365 days after the moved one.
months AS (
    SELECT DISTINCT study_month // 100 * 12 + study_month % 100 - 1 + unnest(range(13)) AS number
    FROM told WHERE study_month IS NOT NULL
)
SELECT 'modality' AS code_kind, (row_number() OVER (ORDER BY label) - 1)::INTEGER AS code, label,
    NULL::VARCHAR AS region_code, NULL::VARCHAR AS hospital_level FROM modalities
UNION ALL
SELECT 'body_part', (row_number() OVER (ORDER BY label) - 1)::INTEGER, label, NULL, NULL FROM body_parts
UNION ALL
SELECT 'site',
    CASE WHEN level_number < 16 AND number < 4096 THEN (region_number * 65536 + level_number * 4096 + number)::INTEGER
        ELSE error('more levels or hospitals of one level and prefecture than a number has room for') END,
    label, region_code, hospital_level
FROM numbered
UNION ALL
SELECT 'place', (row_number() OVER (ORDER BY region_code, hospital_level) - 1)::INTEGER,
    region_code || ' ' || hospital_level, region_code, hospital_level
FROM places
UNION ALL
SELECT 'month', (row_number() OVER (ORDER BY number) - 1)::INTEGER,
    (number // 12 * 100 + number % 12 + 1)::INTEGER::VARCHAR, NULL, NULL
FROM months
ORDER BY code_kind, code
"""
