"""Controls: persons who are no case, matched to index exams by strata, each to one case at most.

Individual matching without replacement within strata of equal values (Rothman, Modern Epidemiology, 3rd ed., ch. 11).
Where a stratum has too few, every case gets a first control before any gets a second. Who is drawn follows from the
seed and the pseudonyms alone, which no order of rows and no version of DuckDB changes.
"""

from __future__ import annotations

from collections.abc import Mapping

from radlake.cohort.definition import Controls

__all__ = ["PAIRS_OF_NOBODY", "one_exam_of_each", "pairs"]

_KEY = "hospital_id, exam_pseudo_id, patient_key"
_STRATA: Mapping[str, str] = {
    "sex": "patient_sex",
    "age": "patient_age_years // {age_band}",
    "year": "year(true_at)",
    "region": "region_code",
    "hospital": "hospital_id",
    "modality": "modality_group",
    "body_part": "body_part_code",
}
_PAIRED = """
    WITH asked AS (
        SELECT *, row_number() OVER (PARTITION BY {strata} ORDER BY {drawn}) - 1 AS place,
            count(*) OVER (PARTITION BY {strata}) AS n_cases
        FROM (SELECT *, {named} FROM {cases}) WHERE {known}
    ),
    offered AS (
        SELECT *, row_number() OVER (PARTITION BY {strata} ORDER BY {drawn}) - 1 AS place
        FROM (SELECT *, {named} FROM {candidates}) WHERE {known}
    )
    SELECT asked.hospital_id AS index_hospital_id, asked.exam_pseudo_id AS index_exam_pseudo_id,
        asked.patient_key AS index_patient_key, asked.person_key AS index_person_key,
        offered.hospital_id, offered.exam_pseudo_id, offered.patient_key, offered.person_key
    FROM asked INNER JOIN offered USING ({strata})
    WHERE offered.place % asked.n_cases = asked.place AND offered.place // asked.n_cases < {per_case}
"""
PAIRS_OF_NOBODY = """
    SELECT hospital_id AS index_hospital_id, exam_pseudo_id AS index_exam_pseudo_id, patient_key AS index_patient_key,
        person_key AS index_person_key, hospital_id, exam_pseudo_id, patient_key, person_key
    FROM every_exam LIMIT 0
"""


def one_exam_of_each(asked: Controls, candidates: str) -> str:
    """Query of one exam of each person, drawn among those that may be a control's."""
    drawn = f"row_number() OVER (PARTITION BY person_key ORDER BY {_drawn(asked)}) = 1"
    return f"SELECT * FROM {candidates} QUALIFY {drawn}"


def pairs(asked: Controls, *, cases: str, candidates: str) -> str:
    """Query of cases with their controls. Exams of which a matched value is not known are in no pair.

    Parameters
    ----------
    cases, candidates : str
        Relations with the columns of `every_exam`; a person is in one of them only, and once among the candidates.
    """
    strata = {f"stratum_{name}": _STRATA[name].format(age_band=asked.age_band) for name in asked.match}
    return _PAIRED.format(
        strata=", ".join(strata),
        named=", ".join(f"{sql} AS {name}" for name, sql in strata.items()),
        known=" AND ".join(f"{name} IS NOT NULL" for name in strata),
        drawn=_drawn(asked),
        cases=cases,
        candidates=candidates,
        per_case=asked.per_case,
    )


def _drawn(asked: Controls) -> str:
    return f"sha256(concat_ws('|', {asked.seed}, {_KEY})), {_KEY}"
