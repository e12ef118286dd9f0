"""The overview page as a Streamlit app: the same cubes through DuckDB, the same filters, tiles, charts and tables.

A program for the interpreter of `bench/peers.lock`: it imports nothing of this repository. RADLAKE_BENCH_TABLES holds
the Parquet files of each table, as JSON.
"""

from __future__ import annotations

import json
import os
from typing import Any

import duckdb
import streamlit as st  # pyright: ignore[reportMissingImports]

_DRAWN = 15


@st.cache_resource
def _tables() -> duckdb.DuckDBPyConnection:
    """A copy in memory for all sessions, as the pages of radlake have it."""
    connection = duckdb.connect(":memory:")
    for name, files in json.loads(os.environ["RADLAKE_BENCH_TABLES"]).items():
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name.split('.')[0]}")
        connection.execute(f"CREATE TABLE {name} AS FROM read_parquet({files})")
    return connection


def _ask(sql: str, **given: Any) -> Any:
    return _tables().cursor().execute(sql, given or None).df()


def _values(sql: str) -> list[str]:
    return [value for (value,) in _tables().cursor().execute(sql).fetchall()]


def _choice(column: Any, label: str, name: str, options: list[str]) -> str:
    chosen = st.query_params.get(name, "")
    shown = ["", *options]
    return column.selectbox(label, shown, index=shown.index(chosen) if chosen in shown else 0)


def _where(*, hospital: str | None, first: str, last: str, modality: str | None, month: bool = False) -> str:
    """Of a cube: `None` for a dimension that is asked by."""
    conditions = []
    if first or last:
        conditions.append(f"exam_month BETWEEN '{first or '0'}' AND '{last or '9999'}'")
    else:
        conditions.append("exam_month != 'all'" if month else "exam_month = 'all'")
    for name, value in (("hospital_id", hospital), ("modality_group", modality)):
        conditions.append(f"{name} != 'all'" if value is None else f"{name} = '{value or 'all'}'")
    return " AND ".join(conditions)


def _show(title: str, data: Any, x: str, y: str | list[str], *, color: str | None = None, whole: bool = False) -> None:
    st.subheader(title)
    drawn = data if x == "exam_month" else data.head(_DRAWN)
    stack = "normalize" if whole else True if color else None
    st.bar_chart(drawn, x=x, y=y, color=color, horizontal=x != "exam_month", stack=stack)
    with st.expander("表格"):
        st.dataframe(data)


st.set_page_config(page_title="总览", layout="wide")
st.title("总览")
columns = st.columns(5)
hospital = _choice(columns[0], "医院", "hospital", _values("SELECT hospital_id FROM ref.hospital ORDER BY 1"))
months = _values("SELECT DISTINCT exam_month FROM stats.exam_volume WHERE exam_month < 'a' ORDER BY 1")
first, last = _choice(columns[1], "从", "from", months), _choice(columns[2], "到", "to", months)
kinds = _values("SELECT DISTINCT modality_group FROM stats.exam_volume WHERE modality_group != 'all' ORDER BY 1")
modality = _choice(columns[3], "设备类型", "modality", kinds)
window = _choice(columns[4], "窗口", "window", ["30", "90"])
windows = [window] if window else ["30", "90"]
everywhere = _where(hospital=hospital, modality=modality, first=first, last=last)

harvest = _ask(
    "SELECT count(*) AS n, sum(n_studies) AS studies, sum(n_complete) AS complete, sum(n_instances_stored) AS stored"
    " FROM ops.completeness WHERE $hospital IN ('', hospital_id)",
    hospital=hospital,
).iloc[0]
exams = _ask(f"SELECT sum(n_exams) AS n FROM stats.exam_volume WHERE {everywhere}").iloc[0]
saved = _ask(f"SELECT sum(net_saving_fen) / 100 AS yuan FROM stats.film_saving WHERE {everywhere}").iloc[0]
tiles = [("医院", harvest.n), ("检查", harvest.studies), ("完整", harvest.complete / max(1, harvest.studies)),
         ("影像", harvest.stored), ("检查人次", exams.n)]  # fmt: skip
for days in windows:
    found = _ask(
        "SELECT sum(n_duplicates) / sum(n_exams) AS share FROM stats.duplicate_exam"
        f" WHERE window_days = {days} AND scope = 'any' AND {everywhere}"
    )
    tiles.append((f"{days}天重复", found.share[0]))
tiles.append(("净节省", saved.yuan))
for column, (label, value) in zip(st.columns(len(tiles)), tiles, strict=True):
    column.metric(label, f"{value:.1%}" if 0 < value < 1 else f"{value:,.0f}")

by_month = _where(hospital=hospital, modality=None, first=first, last=last, month=True)
exams_by_month = _ask(
    f"SELECT exam_month, modality_group, n_exams FROM stats.exam_volume WHERE {by_month} ORDER BY ALL"
)
_show("每月检查", exams_by_month, "exam_month", "n_exams", color="modality_group")
by_hospital = _where(hospital=hospital or None, modality=modality, first=first, last=last)
shares = ", ".join(
    f"sum(n_duplicates) FILTER (window_days = {days}) / sum(n_exams) FILTER (window_days = {days}) AS d{days}"
    for days in windows
)
duplicates = _ask(
    f"SELECT hospital_id, {shares} FROM stats.duplicate_exam WHERE scope = 'any' AND {by_hospital}"
    " GROUP BY hospital_id ORDER BY 2 DESC NULLS LAST"
)
_show("重复检查", duplicates, "hospital_id", [f"d{days}" for days in windows])
film = _ask(
    "SELECT hospital_id, sum(net_saving_fen) / 100 AS net_saving_yuan, sum(n_exams) AS n_exams,"
    f" sum(film_cost_fen) / 100 AS film_cost_yuan FROM stats.film_saving WHERE {by_hospital} GROUP BY ALL"
    " ORDER BY 2 DESC NULLS LAST"
)
_show("胶片节省", film, "hospital_id", "net_saving_yuan")
states = ["n_complete", "n_partial", "n_retrieving", "n_discovered", "n_offline", "n_quarantined", "n_withdrawn"]
harvested = _ask(
    f"SELECT hospital_id, {', '.join(states)}, n_studies FROM ops.completeness WHERE $hospital IN ('', hospital_id)"
    " ORDER BY n_complete / n_studies",
    hospital=hospital,
)
_show("采集状态", harvested, "hospital_id", states, whole=True)
volume = _ask(
    "SELECT hospital_id, sum(n_exams) AS n_exams, sum(n_instances) AS n_instances, sum(exam_bytes) AS exam_bytes"
    f" FROM stats.exam_volume WHERE {by_hospital} GROUP BY ALL ORDER BY 2 DESC NULLS LAST"
)
_show("各医院检查", volume, "hospital_id", "n_exams")
