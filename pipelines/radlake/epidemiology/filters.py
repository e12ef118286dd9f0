"""Filters of exams: what a file under review may ask of an exam, and its SQL. Measures and cohorts share them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from radlake.contracts import load_table
from radlake.contracts.table import quoted
from radlake.epidemiology.fields import Fields, is_whole
from radlake.findings import load_rules
from radlake.vocab.load import vocabulary

__all__ = ["FILTERS", "body_parts", "clause_of", "filters_of"]

_COLUMNS = {"modality": "modality_group", "sex": "patient_sex", "side": "laterality_code",
            "body_part": "body_part_code", "hospital": "hospital_id", "region": "region_code"}  # fmt: skip
FILTERS = (*_COLUMNS, "age", "contrast", "finding")


def filters_of(reader: Fields, codes: Mapping[str, Collection[str]] | None = None) -> dict[str, Any]:
    """The filters among some fields: column of core.exam -> values; `age` -> (first, last); `finding` -> (code,
    certainties). What is wrong is told to the reader.

    Parameters
    ----------
    codes : mapping of str to collection of str
        Which values `hospital` and `region` have, where a lake tells it.
    """
    exam = load_table("core.exam")
    values = {"modality": exam.column("modality_group").values or (), "sex": ("F", "M", "UNKNOWN"),
              "side": exam.column("laterality_code").values or (), "body_part": body_parts(),
              **(codes or {})}  # fmt: skip
    filters: dict[str, Any] = {}
    for name, column in _COLUMNS.items():
        if name in reader.values:
            filters[column] = reader.several(name, values.get(name))  # type: ignore[arg-type]
            if name in ("hospital", "region") and not all(isinstance(v, str) for v in filters[column]):
                reader.tell(name, f"{reader.where}{name} must be text in quotes: a code may begin with 0")
    if "contrast" in reader.values:
        filters["has_contrast"] = reader.get("contrast", lambda v: isinstance(v, bool), "true or false")
    if (age := reader.inside("age")) is not None:
        age.only(["from", "to"])
        first = age.get("from", lambda v: is_whole(v, 0), "completed years", 0)
        last = age.get("to", lambda v: is_whole(v, 0), "completed years", 200)
        if first > last:
            age.tell("from", f"{age.where}from is above {age.where}to")
        filters["age"] = (first, last)
    if (finding := reader.inside("finding")) is not None:
        finding.only(["code", "certainty"], required=["code"])
        code = finding.one_of("code", load_rules().codes)
        certainties = finding.several("certainty", ("PRESENT", "POSSIBLE", "ABSENT")) or ("PRESENT",)
        filters["finding"] = (code, certainties)
    return filters


@cache
def body_parts() -> tuple[str, ...]:
    """Body parts of the vocabulary, and UNKNOWN."""
    return tuple(sorted({part for parts in vocabulary().part_of_term.values() for part in parts} | {"UNKNOWN"}))


def clause_of(name: str, value: Any) -> tuple[str, list[Any]]:
    """SQL of a filter over a relation `exams` with the columns of core.exam, and its parameters."""
    if name == "age":
        return "patient_age_years BETWEEN ? AND ?", list(value)
    if name == "finding":
        code, certainties = value
        return (
            "EXISTS (SELECT 1 FROM core.finding AS finding WHERE finding.hospital_id = exams.hospital_id "
            "AND finding.exam_pseudo_id = exams.exam_pseudo_id AND finding.is_current AND finding.is_of_patient "
            "AND finding.finding_code = ? AND list_contains(?::VARCHAR[], finding.certainty_code))",
            [code, list(certainties)],
        )
    if name == "has_contrast":
        return "has_contrast = ?", [value]
    if name == "region_code":
        return "list_has_any(?::VARCHAR[], [region_code, rpad(left(region_code, 4), 6, '0'), "\
               "rpad(left(region_code, 2), 6, '0')])", [list(value)]  # fmt: skip
    if name == "body_part_code":  # an exam of several parts counts for each of them
        return "list_has_any(?::VARCHAR[], string_split(body_part_code, '+'))", [list(value)]
    return f"list_contains(?::VARCHAR[], {quoted(name)})", [list(value)]
