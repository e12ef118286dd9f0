"""`exams.sql` beside a query: the exams of every cell add up to its number, by another formulation."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta

import pytest

from radlake.contracts.table import quoted
from radlake.sqlrun.queries import load_queries
from support.rows import rows
from support.statistics import exams, number_of, tables

COUNTING = [query for query in load_queries() if query.exams]


def some_exams(n: int = 400) -> str:
    rng = random.Random(7)
    lines = ["patient | hospital | region | modality | body_part | side | date"]
    for _ in range(n):
        day = datetime(2025, 11, 1, 8) + timedelta(days=rng.randrange(200), minutes=rng.randrange(600))
        hospital = rng.randrange(3)
        cells = (
            f"{'?' if rng.random() < 0.05 else ''}p{rng.randrange(40)}",
            f"h{hospital}",
            ("320500", "320100", "UNKNOWN")[hospital],
            rng.choice(["CT", "DX", "MR"]),
            rng.choice(["CHEST", "HEAD", "UNKNOWN"]),
            rng.choice(["L", "R", "U", "NONE"]),
            "-" if rng.random() < 0.03 else f"{day:%Y-%m-%d %H:%M:%S}",
        )
        lines.append(" | ".join(cells))
    return "\n".join(lines)


def reference() -> dict:
    prices = [
        {"item": item, "modality_group": modality, "price_fen": fen, "valid_from": date(2026, 1, 1), "valid_to": None}
        for item, modality, fen in (
            ("sheets_per_exam", "CT", 3),
            ("sheets_per_exam", "DX", 2),
            ("film_sheet", "all", 1800),
            ("cloud_film", "all", 2000),
        )
    ]
    residents = {"region_code": "320500", "year": 2026, "sex": "F", "age_band": "00-04", "n_residents": 1000}
    return {"ref.price": rows("ref.price", *prices), "ref.population": rows("ref.population", residents)}


@pytest.mark.parametrize("query", COUNTING, ids=lambda query: query.name)
def test_the_exams_of_every_cell_add_up_to_its_numbers(query) -> None:
    table = query.table
    assert table.disclosure
    given = exams(some_exams())
    doses = rows(
        "core.exam_dose",
        *(
            {name: row[name] for name in ("hospital_id", "exam_pseudo_id", "patient_key", "modality_group")}
            | {"body_part_code": row["body_part_code"], "dose_source": "rdsr", "is_adult": True, "n_events": 2}
            for row in given.to_pylist()[::2]
        ),
    )
    offsets = {number_of(f"p{n}"): -n * 3 for n in range(40)}
    with tables({"core.exam": given, "core.exam_dose": doses, **reference()}, offsets=offsets) as db:
        db.build(query.name)
        names = [row[0] for row in db.rows(f"DESCRIBE {query.exams}")]
        numbers = [name for name in names if name in (*table.disclosure.counts, *table.disclosure.dependent)]
        assert numbers
        dimensions = table.disclosure.dimensions
        cells = f"({query.exams})"
        for name in dimensions:  # one after the other: unnest in one SELECT goes in step
            others = ", ".join(quoted(other) for other in (*dimensions, *numbers) if other != name)
            cells = f"(SELECT {others}, unnest({quoted(name)}) AS {quoted(name)} FROM {cells})"
        keys = ", ".join(map(quoted, dimensions))
        sums = ", ".join(f"sum({quoted(name)})::BIGINT" for name in numbers)
        traced = db.rows(f"SELECT {keys}, {sums} FROM {cells} GROUP BY {keys} ORDER BY ALL")
        columns = ", ".join(f"{quoted(name)}::VARCHAR" for name in dimensions)
        shown = ", ".join(f"{quoted(name)}::BIGINT" for name in numbers)
        assert traced == db.rows(f"SELECT {columns}, {shown} FROM {query.name} ORDER BY ALL")
        assert len(traced) > 10
