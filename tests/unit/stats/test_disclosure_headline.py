"""A small lake as the demo's: three hospitals, half a year, few exams of some modalities, and some by a wrong clock."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

import pyarrow as pa
import pytest

from radlake.resources import schemas_root
from radlake.sqlrun.reference import read_csv
from radlake.stats import release
from radlake.stats.policy import Policy
from support.rows import rows
from support.statistics import tables

TABLES = ("stats.exam_volume", "stats.duplicate_exam", "stats.film_saving", "stats.exam_rate")
REGIONS = {"provincial": "320100", "municipal": "320500", "county": "320300"}
SHARES = {"CT": 45, "DX": 35, "MR": 14, "US": 4, "MG": 2}
ALL = {"exam_month": "all", "hospital_id": "all", "modality_group": "all"}


def exact(seed: int) -> dict[str, pa.Table]:
    random = Random(seed)

    def exam(number: int, hospital: str, study_at: datetime | None, modality: str) -> dict:
        return {"hospital_id": hospital, "exam_pseudo_id": f"e{number}", "patient_key": random.randrange(600),
                "region_code": REGIONS[hospital], "study_at": study_at, "modality_group": modality,
                "body_part_code": random.choice(["CHEST", "HEAD", "ABDOMEN"]), "laterality_code": "U"}  # fmt: skip

    def one_of(number: int) -> dict:
        [hospital] = random.choices(list(REGIONS), weights=(9, 7, 4))
        [modality] = random.choices(list(SHARES), weights=list(SHARES.values()))
        return exam(number, hospital, datetime(2025, 7, 1, 8) + timedelta(days=random.randrange(184)), modality)

    made = [one_of(number) for number in range(1200)]
    wrong = [(datetime(year, 4, 1), "US") for year in (1997, 2004, 2011, 2016)] + [(datetime(2017, 1, 1), "OT")]
    unknown = [(None, modality) for modality in ("OT", "OT", "UNKNOWN", "UNKNOWN")]
    made += [exam(1200 + i, "county", at, modality) for i, (at, modality) in enumerate([*wrong, *unknown])]
    population = rows(
        "ref.population",
        *({"region_code": region, "year": 2025, "sex": sex, "age_band": "00-04", "n_residents": 5000, "source": "x"}
          for region in REGIONS.values() for sex in "FM"),
    )  # fmt: skip
    prices = read_csv(schemas_root() / "ref" / "defaults" / "price.csv", name="ref.price")
    given = {"core.exam": rows("core.exam", *made), "ref.price": prices, "ref.population": population}
    with tables(given) as db:
        db.build(*TABLES)
        return {name: db.connection.sql(f"FROM {name}").to_arrow_table() for name in TABLES}


@pytest.mark.parametrize("seed", [1, 2])
def test_headlines_are_shown_under_the_default_policy(seed: int) -> None:
    statistics = exact(seed)
    masked = release.mask(statistics, policy=Policy())

    def shown(name: str, column: str, **labels: object) -> list:
        found = [row for row in masked[name].to_pylist() if all(row[key] == one for key, one in labels.items())]
        return [row[column] for row in found]

    [saving] = [r["net_saving_fen"] for r in statistics["stats.film_saving"].to_pylist() if ALL.items() <= r.items()]
    assert shown("stats.film_saving", "net_saving_fen", **ALL) == [saving]
    assert shown("stats.exam_volume", "n_exams", **ALL) == [1209]
    assert None not in shown("stats.duplicate_exam", "n_duplicates", **ALL)
    every_hospital = {"exam_month": "all", "modality_group": "all"}
    assert None not in shown("stats.exam_volume", "n_exams", **every_hospital)
    assert shown("stats.duplicate_exam", "n_duplicates", **every_hospital, scope="any").count(None) <= 2
    assert shown("stats.film_saving", "net_saving_fen", **every_hospital).count(None) <= 1
