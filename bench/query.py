"""Query: look-back duplicate exams of a million exams, by the SQL of `sql/stats/duplicate_exam_v1` and by pandas.

All begin with the same Parquet files. A plain scan of the same columns says what reading alone costs; the answers of
the two others must be equal in every row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from bench.measure import Done, Place, Prepare, compare, in_fresh_process, print_table, same_answer

__all__ = ["main"]

# Three exams a person, days to months apart, some of them elsewhere; persons, dates, parts and sides go missing.
_DRAW = "CREATE MACRO draw(what, salt, below) AS (hash(what, salt) % below)::BIGINT"
_EXAMS = """
    SELECT
        'h' || lpad(draw(if(draw(n, 1, 5) = 0, n, person), 2, 40)::VARCHAR, 2, '0') AS hospital_id,
        draw(person, 3, 4000000000000000000) AS patient_key,
        if(
            draw(n, 4, 100) = 0,
            NULL,
            TIMESTAMP '2024-01-01' + to_days((draw(person, 5, 600) + n % 3 * draw(n, 6, 60))::INTEGER)
            + to_seconds(draw(n, 7, 86400))
        ) AS study_at,
        (['CT', 'DX', 'MR', 'US'])[1 + draw(if(draw(n, 8, 4) = 0, n, person), 9, 4)] AS modality_group,
        (['CHEST', 'HEAD', 'ABDOMEN', 'KNEE', 'HAND', 'UNKNOWN'])[1 + draw(person, 10, 6)] AS body_part_code,
        (['L', 'R', 'B', 'U', 'NONE'])[1 + draw(n, 11, 5)] AS laterality_code,
        draw(person, 12, 50) <> 0 AS is_patient_known
    FROM (SELECT range AS n, range // 3 AS person FROM range({n_exams}))
    ORDER BY patient_key, modality_group, body_part_code, study_at
"""
_OFFSETS = """
    SELECT patient_key, draw(patient_key, 13, 60) - 86400 * (1 + draw(patient_key, 14, 365)) AS date_offset_seconds,
        patient_key AS person_key
    FROM core.exam GROUP BY patient_key
"""
_SCAN = """
    SELECT
        (
            SELECT sum(hash(
                hospital_id, patient_key, study_at, modality_group, body_part_code, laterality_code, is_patient_known
            )) FROM core.exam
        )::VARCHAR AS exams,
        (SELECT sum(hash(patient_key, date_offset_seconds)) FROM restricted.date_offset)::VARCHAR AS offsets
"""
Frame = Any  # pandas.DataFrame, whose annotations know less than it does
_DIMENSIONS = ("exam_month", "hospital_id", "modality_group")
_SCOPES = ("any", "within_hospital", "across_hospitals")


def main(place: Place, *, scale: float) -> None:
    """1,000,000 exams at scale 1."""
    n_exams = max(1, round(1_000_000 * scale))
    lake = place.folder / "lake"
    in_fresh_process(partial(_write_exams, lake, n_exams=n_exams))
    contestants: dict[str, Prepare] = {
        "plain scan": partial(_scan, lake, n_exams),
        "radlake SQL": partial(_radlake_sql, lake, n_exams),
        "pandas": partial(_pandas, lake, n_exams),
    }
    measured = compare(contestants, place=place)
    answer = same_answer({name: measured[name] for name in ("radlake SQL", "pandas")})
    print_table(
        measured,
        title=f"Duplicates of {n_exams:,} exams from Parquet; SQL and pandas agree on all {len(answer):,} rows",
        unit="exam",
        peers=["plain scan", "pandas"],
    )


def _write_exams(lake: Path, *, n_exams: int) -> None:
    import duckdb

    lake.mkdir()
    with duckdb.connect() as connection:
        connection.execute(_DRAW)
        connection.execute("CREATE SCHEMA core")
        connection.execute(f"CREATE TABLE core.exam AS {_EXAMS.format(n_exams=n_exams)}")
        for name, rows in (("exam", "FROM core.exam"), ("date_offset", _OFFSETS)):
            connection.execute(f"COPY ({rows}) TO '{lake / name}.parquet' (COMPRESSION zstd)")


def _scan(lake: Path, n_exams: int, _: Path) -> Callable[[], Done]:
    return _run_sql(lake, n_exams, _SCAN)


def _radlake_sql(lake: Path, n_exams: int, _: Path) -> Callable[[], Done]:
    from radlake.sqlrun.queries import load_queries

    return _run_sql(lake, n_exams, next(query.sql for query in load_queries() if query.name == "stats.duplicate_exam"))


def _run_sql(lake: Path, n_exams: int, sql: str) -> Callable[[], Done]:
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    for view, file in (("core.exam", "exam"), ("restricted.date_offset", "date_offset")):
        connection.execute(f"CREATE SCHEMA {view.partition('.')[0]}")
        connection.execute(f"CREATE VIEW {view} AS FROM read_parquet('{lake / file}.parquet')")

    def run() -> Done:
        answer = connection.execute(sql).fetchall()
        return Done(n_exams, look=lambda: frozenset(answer))

    return run


def _pandas(lake: Path, n_exams: int, _: Path) -> Callable[[], Done]:
    import pandas as pd
    import pyarrow.parquet  # noqa: F401  # what reads the files

    def run() -> Done:
        words = ["hospital_id", "modality_group", "body_part_code", "laterality_code"]
        exams = pd.read_parquet(lake / "exam.parquet", read_dictionary=words)
        offsets = pd.read_parquet(lake / "date_offset.parquet")
        answer = _duplicates(_looked_back(exams, offsets))
        return Done(n_exams, look=lambda: frozenset(answer.itertuples(index=False, name=None)))

    return run


def _looked_back(exams: Frame, offsets: Frame) -> Frame:
    """Each dated exam with the latest one of the same person, modality, part and a compatible side on a day before."""
    import numpy as np
    import pandas as pd

    exams = exams.dropna(subset="study_at").merge(offsets, on="patient_key")
    exams["exam_at"] = exams.study_at - pd.to_timedelta(exams.date_offset_seconds, unit="s")
    exams["day"] = exams.exam_at.dt.normalize()
    exams["exam_month"] = exams.day.dt.year * 100 + exams.day.dt.month
    ranks = exams.groupby("hospital_id", observed=True).day.rank(method="first")
    sizes = exams.groupby("hospital_id", observed=True).day.transform("size")
    is_first = ranks == np.ceil(sizes * 0.05)  # the day by which one exam in twenty was done
    first_day = exams[is_first].set_index("hospital_id").day
    exams["observed_days"] = (exams.day - exams.hospital_id.map(first_day).astype(exams.day.dtype)).dt.days
    exams["is_matchable"] = exams.is_patient_known & (exams.body_part_code != "UNKNOWN")
    exams["kind"] = exams.groupby(["patient_key", "modality_group", "body_part_code"], observed=True).ngroup()
    exams = exams.sort_values(["exam_at", "hospital_id"])
    found = [exams[~exams.is_matchable]]
    for side, other_side in (("L", "R"), ("R", "L"), (None, None)):
        is_side = exams.laterality_code == side if side else ~exams.laterality_code.isin(["L", "R"])
        earlier = exams.loc[exams.laterality_code != other_side, ["kind", "exam_at", "hospital_id"]]
        earlier = earlier.rename(columns={"exam_at": "earlier_at", "hospital_id": "earlier_hospital_id"})
        found.append(
            pd.merge_asof(
                exams[exams.is_matchable & is_side],
                earlier,
                left_on="day",
                right_on="earlier_at",
                by="kind",
                allow_exact_matches=False,
            )
        )
    return pd.concat(found)


def _duplicates(exams: Frame) -> Frame:
    """The table `stats.duplicate_exam`."""
    import pandas as pd

    days = (exams.day - exams.earlier_at.dt.normalize()).dt.days
    is_within = exams.earlier_hospital_id == exams.hospital_id
    tables = []
    for window in (30, 90):
        is_any = days <= window
        counted = exams[list(_DIMENSIONS)].assign(
            n_exams=1,
            n_unmatchable=~exams.is_matchable,
            any=is_any,
            within_hospital=is_any & is_within,
            across_hospitals=is_any & ~is_within,
        )
        cells = counted[exams.observed_days >= window].groupby(list(_DIMENSIONS), observed=True).sum().reset_index()
        cells["exam_month"] = (
            (cells.exam_month // 100).astype(str) + "-" + (cells.exam_month % 100).map("{:02d}".format)
        )
        for total in (total for n in range(4) for total in combinations(_DIMENSIONS, n)):
            summed = cells.assign(**dict.fromkeys(total, "all")).groupby(list(_DIMENSIONS), observed=True).sum()
            for scope in _SCOPES:
                rows = (
                    summed.reset_index().assign(window_days=window, scope=scope).rename(columns={scope: "n_duplicates"})
                )
                tables.append(rows.assign(duplicate_share=rows.n_duplicates / rows.n_exams, is_masked=False))
    columns = ["window_days", "scope", *_DIMENSIONS, "n_exams", "n_unmatchable", "n_duplicates", "duplicate_share"]
    return pd.concat(tables)[[*columns, "is_masked"]]
