"""The disclosure gate: measures released one after the other, beside a plain GROUP BY of the same exams in DuckDB.

The exams are a province of `radlake synth province`, the residents one in a hundred. Each line releases one measure
more, together with all before it. CPU time of fresh processes: a busy machine matters less.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace

from bench.measure import Place, in_fresh_process, peak_bytes, print_rows

_EXAMS = 200_000
_PERIOD = date(2024, 1, 1), date(2026, 12, 31)
_EVERYBODY = {
    "measure": "everybody",
    "version": 1,
    "title": {"zh": "受检人率", "en": "Persons examined"},
    "formula": {"zh": "受检人数 ÷ 常住人口 × 1000", "en": "persons examined / residents x 1000"},
    "numerator": {"count": "persons"},
    "years": "2024-2026",
    "group_by": ["year", "region"],
    "rate": {"kind": "crude", "per": 1000},
}
_MEASURES = ("ct_persons", "chest_ct_exams", "mr_ratio", "mammography_women", "everybody")


@dataclass(frozen=True)
class _Ran:
    cells: int
    groups: int
    withheld: int
    gate_cpu: float
    all_cpu: float
    peak: float


def main(place: Place, *, scale: float) -> None:
    folder, n_exams = place.folder / "lake", round(_EXAMS * scale)
    in_fresh_process(partial(_make, folder, n_exams=n_exams))
    peer = median(in_fresh_process(partial(_group_by, folder)) for _ in range(place.repetitions))
    print(f"{n_exams:,} exams; a plain GROUP BY CUBE of year and prefecture: {peer:.2f} s CPU")
    rows = []
    for n, name in enumerate(_MEASURES, 1):
        ran = in_fresh_process(partial(_release, folder, name))
        rows.append(
            (f"{n}: {name}", f"{ran.cells:,}", f"{ran.groups:,}", f"{ran.gate_cpu:.2f}", f"{ran.gate_cpu / peer:.1f} x",
             f"{ran.all_cpu:.1f}", f"{ran.withheld / ran.cells:.1%}", f"{ran.peak / 2**30:.2f}")
        )  # fmt: skip
    header = ("linked measures", "cells", "groups", "gate s CPU", "to peer", "all s CPU", "withheld", "peak GiB")
    print_rows([header, *rows], title="released one after the other")


def _make(folder: Path, *, n_exams: int) -> None:
    from radlake.cli.init import ensure_key
    from radlake.config import Settings
    from radlake.ingest.offsets import date_offsets
    from radlake.lake import Lake
    from radlake.sqlrun.reference import load_reference
    from radlake.synth.ledgers import population_table
    from radlake.synth.rows.write import Plan, write_chunk, write_province

    settings = Settings(lake=str(folder))
    ensure_key(settings)
    lake, plan = Lake.from_settings(settings), Plan(n_exams=n_exams, seed=1, start=_PERIOD[0], end=_PERIOD[1])
    with date_offsets(settings) as offsets:
        chunks = (write_chunk(lake, plan, chunk, date_offsets=offsets) for chunk in range(plan.n_chunks))
        write_province(lake, plan, chunks=chunks)
    province = SimpleNamespace(start=_PERIOD[0], end=_PERIOD[1])
    population = population_table(province, one_in=100)  # pyright: ignore[reportArgumentType]
    load_reference(lake, "ref.population", population, batch_id="population")


def _group_by(folder: Path) -> float:
    from radlake.config import Settings
    from radlake.ingest.offsets import date_offsets
    from radlake.lake import Lake, duck
    from radlake.sqlrun.date_offsets import register_date_offsets

    settings = Settings(lake=str(folder))
    query = """
        SELECT year(study_at - to_seconds(date_offset_seconds)) AS exam_year, region_code, count(*),
            count(DISTINCT patient_key)
        FROM core.exam INNER JOIN restricted.date_offset USING (patient_key)
        GROUP BY CUBE (exam_year, region_code)
    """
    with duck.connect(Lake.from_settings(settings)) as connection, date_offsets(settings) as offsets:
        register_date_offsets(connection, offsets)
        begun = time.process_time()
        connection.execute(query).fetchall()
        return time.process_time() - begun


def _release(folder: Path, name: str) -> _Ran:
    from radlake.config import Settings
    from radlake.epidemiology import release
    from radlake.epidemiology.definition import load_measure, measure_from_yaml
    from radlake.ingest.offsets import date_offsets
    from radlake.lake import Lake
    from radlake.stats import gate
    from radlake.stats.policy import Policy

    spent: list[tuple[int, int, int, float]] = []

    def timed(sizes, cells, rows, *, policy):
        begun = time.process_time()
        withheld = gate.withheld_rows(sizes, cells, rows, policy=policy)
        spent.append((len(rows), len(sizes), len(withheld), time.process_time() - begun))
        return withheld

    release.withheld_rows = timed
    settings = Settings(lake=str(folder))
    measure = measure_from_yaml(json.dumps(_EVERYBODY)) if name == "everybody" else load_measure(Path(name))
    begun = time.process_time()
    release.release_measures(
        Lake.from_settings(settings),
        [measure],
        date_offsets=date_offsets(settings),
        policy=Policy(),
        now=datetime(2026, 11, 22),
    )
    [(cells, groups, withheld, gate_cpu)] = spent
    return _Ran(cells, groups, withheld, gate_cpu, time.process_time() - begun, peak_bytes())
