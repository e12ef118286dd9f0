"""Reference tables of a synthetic province: film printers' ledger, why film is asked for, and resident population."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

from radlake.contracts import load_table
from radlake.synth.province import PREFECTURES, Province

__all__ = ["film_demand_table", "film_ledger_table", "population_table"]

# Share of exams for which film is still asked: the measured demand of a hospital with cloud film.
# 中国医疗设备 2021-8, a hospital in Chongqing: DR 1.55 %, CT 2.81 %, MR 4.375 %.
_FILM_DEMAND = {"CT": 0.0281, "DX": 0.0155, "MR": 0.04375}
_SHEETS = {"CT": (2, 5), "DX": (1, 3), "MR": (2, 5)}
# Why, per cent: the first three are the hospital's, it gives no figures for the others.
_REASONS = {"outside_visit": 39.76, "insurance_claim": 16.24, "disability_assessment": 13.51,
            "doctor_request": 12.0, "operation": 9.0, "own_wish": 9.49}  # fmt: skip

_Key = tuple[str, int, str]  # hospital, yyyymm, modality

# Per mille of residents by 5-year band of age, 00-04 to 85+, and the share of women in each.
_AGE_PER_MILLE = (44, 58, 50, 44, 50, 62, 86, 73, 66, 77, 92, 79, 56, 60, 43, 28, 19, 13)
_WOMEN = (0.47, 0.46, 0.46, 0.47, 0.48, 0.49, 0.49, 0.49, 0.49, 0.5, 0.5, 0.5, 0.5, 0.51, 0.51, 0.53, 0.56, 0.61)


def film_ledger_table(province: Province) -> pa.Table:
    """ref.film_ledger: sheets that each hospital printed on demand, per month and modality, months without any too."""
    printed: Counter[_Key] = Counter()
    unclaimed: Counter[_Key] = Counter()
    for key, sheets, is_unclaimed in _printed(province):
        printed[key] += sheets
        unclaimed[key] += sheets * is_unclaimed
    first, last = (day.year * 12 + day.month - 1 for day in (province.start, province.end))
    months = [_month(number // 12, number % 12 + 1) for number in range(first, last + 1)]
    hospitals = sorted(hospital.hospital_id for hospital in province.hospitals)
    rows = [
        {
            "hospital_id": key[0],
            "film_month": key[1],
            "modality_group": key[2],
            "n_sheets_printed": printed[key],
            "n_sheets_unclaimed": unclaimed[key],
        }
        for key in itertools.product(hospitals, months, sorted(_FILM_DEMAND))
    ]
    return pa.Table.from_pylist(rows, schema=load_table("ref.film_ledger").arrow_schema())


def film_demand_table(province: Province) -> pa.Table:
    """ref.film_demand: why the sheets of `film_ledger_table` were asked for."""
    rng = random.Random(f"radlake/{province.seed}/film reasons")
    exams: Counter[tuple[_Key, str]] = Counter()
    sheets: Counter[tuple[_Key, str]] = Counter()
    for key, n_sheets, _ in _printed(province):
        (reason,) = rng.choices(list(_REASONS), weights=list(_REASONS.values()))
        exams[key, reason] += 1
        sheets[key, reason] += n_sheets
    rows = [
        {
            "hospital_id": key[0],
            "film_month": key[1],
            "modality_group": key[2],
            "reason_code": reason,
            "n_exams": exams[key, reason],
            "n_sheets": sheets[key, reason],
        }
        for key, reason in sorted(exams)
    ]
    return pa.Table.from_pylist(rows, schema=load_table("ref.film_demand").arrow_schema())


def _printed(province: Province) -> Iterator[tuple[_Key, int, bool]]:
    """Sheets of every exam for which film was asked, and whether nobody fetched them."""
    rng = random.Random(f"radlake/{province.seed}/film")
    for exam in province.exams:
        modality = exam.protocol.modality
        if rng.random() < _FILM_DEMAND.get(modality, 0.0):
            key = exam.hospital_id, _month(exam.day.year, exam.day.month), modality
            yield key, rng.randint(*_SHEETS[modality]), rng.random() < 0.02


def population_table(province: Province, *, one_in: int = 1) -> pa.Table:
    """ref.population of all prefectures, for the years of the province.

    Parameters
    ----------
    one_in : int
        Take one resident in so many, for a demo whose few hospitals examine only a sample of the province.
    """
    source = "synthetic (radlake demo)" if one_in == 1 else f"synthetic (radlake demo), one resident in {one_in}"
    rows = []
    for year in range(province.start.year, province.end.year + 1):
        for region_code, (_, _, ten_thousands) in PREFECTURES.items():
            for sex, (band, per_mille) in itertools.product("FM", enumerate(_AGE_PER_MILLE)):
                share = per_mille / 1000 * (_WOMEN[band] if sex == "F" else 1 - _WOMEN[band])
                rows.append(
                    {
                        "region_code": region_code,
                        "year": year,
                        "sex": sex,
                        "age_band": f"{band * 5:02d}-{band * 5 + 4:02d}" if band < 17 else "85+",
                        "n_residents": round(ten_thousands * 10_000 * share / one_in),
                        "source": source,
                    }
                )
    return pa.Table.from_pylist(rows, schema=load_table("ref.population").arrow_schema())


def _month(year: int, month: int) -> int:
    return year * 100 + month
