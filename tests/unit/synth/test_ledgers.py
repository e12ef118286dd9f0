from __future__ import annotations

from datetime import date

import pyarrow.compute as pc
import pytest

from radlake.contracts import load_table
from radlake.synth.ledgers import film_demand_table, film_ledger_table, population_table
from radlake.synth.province import Province, make_province


@pytest.fixture(scope="module")
def province() -> Province:
    return make_province(seed=2, n_exams=2000, start=date(2025, 11, 1), end=date(2026, 2, 28))


def test_the_film_ledger_keeps_its_contract_and_has_a_row_for_months_without_film(province: Province) -> None:
    ledger = film_ledger_table(province)
    assert load_table("ref.film_ledger").problems(ledger) == []
    assert ledger.num_rows == 3 * 4 * 3
    assert pc.unique(ledger["film_month"]).to_pylist() == [202511, 202512, 202601, 202602]
    assert all(
        unclaimed <= printed
        for printed, unclaimed in zip(
            ledger["n_sheets_printed"].to_pylist(), ledger["n_sheets_unclaimed"].to_pylist(), strict=True
        )
    )


def test_film_is_asked_for_as_rarely_as_measured(province: Province) -> None:
    """About 2.6 % of these exams ask for about 3 sheets each."""
    sheets = pc.sum(film_ledger_table(province)["n_sheets_printed"]).as_py()
    assert 0.04 < sheets / len(province.exams) < 0.12


def test_reasons_are_of_the_sheets_of_the_ledger(province: Province) -> None:
    demand, ledger = film_demand_table(province), film_ledger_table(province)
    assert load_table("ref.film_demand").problems(demand) == []
    assert pc.sum(demand["n_sheets"]) == pc.sum(ledger["n_sheets_printed"])
    assert set(demand["reason_code"].to_pylist()) >= {"outside_visit", "insurance_claim", "disability_assessment"}


def test_the_ledger_is_the_same_each_time(province: Province) -> None:
    assert film_ledger_table(province).equals(film_ledger_table(province))


def test_population_keeps_its_contract_and_adds_up_to_the_province(province: Province) -> None:
    population = population_table(province)
    assert load_table("ref.population").problems(population) == []
    assert population.num_rows == 2 * 13 * 2 * 18
    assert pc.sum(population["n_residents"]).as_py() == pytest.approx(2 * 84_760_000, rel=1e-4)
    assert pc.unique(population["source"]).to_pylist() == ["synthetic (radlake demo)"]
    bands = pc.unique(population["age_band"]).to_pylist()
    assert (bands[0], bands[1], bands[-1]) == ("00-04", "05-09", "85+")


def test_a_sample_of_the_population_says_so(province: Province) -> None:
    population = population_table(province, one_in=1000)
    assert pc.sum(population["n_residents"]).as_py() == pytest.approx(2 * 84_760, rel=0.01)
    assert pc.unique(population["source"]).to_pylist() == ["synthetic (radlake demo), one resident in 1000"]
