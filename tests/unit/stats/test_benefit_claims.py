"""Printed figures against their own formulas."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from radlake.errors import ConfigInvalid
from radlake.stats.benefit.claims import load_claims, value_of


def test_the_article_about_cloud_film_to_the_yuan() -> None:
    figures = {figure.name: figure for figure in load_claims()["bishan_2021"].figures}
    assert {name: figure.verdict for name, figure in figures.items()} == {
        "film_cost_before": "follows",
        "unclaimed_cost_before": "follows",
        "volume_growth": "follows",
        "cost_after": "ambiguous",
        "film_demand": "follows otherwise",
        "storage_saved": "contradicts",
        "yearly_saving": "contradicts",
        "reasons_of_demand": "incomplete",
    }
    values = {name: [reading.value for reading in figure.readings] for name, figure in figures.items()}
    assert values["film_cost_before"] == [9_969_048]
    assert values["unclaimed_cost_before"] == [159_534]
    assert values["cost_after"] == [3_942_240, 4_025_490, 4_034_740]
    assert values["yearly_saving"] == [5_943_558, 6_618_558]
    assert [round(float(value), 2) for value in values["storage_saved"][:3]] == [59.13, 53.78, 56.39]
    assert [round(float(value), 4) for value in values["film_demand"]] == [2.3464, 2.2926]
    assert values["reasons_of_demand"] == [Fraction("69.51")]


def test_the_report_about_the_province() -> None:
    saving, connected = load_claims()["jiangsu_2021"].figures
    assert (saving.readings[0].value, saving.verdict, connected.verdict) == (3_456_000, "follows", "follows")


def test_every_figure_that_does_not_follow_says_why_in_two_languages() -> None:
    for claims in load_claims().values():
        for figure in claims.figures:
            assert figure.verdict == "follows" or all(figure.note[language] for language in ("zh", "en"))


@pytest.mark.parametrize("formula", ["__import__('os')", "exams.real", "exams / 0", "1 if exams else 2", "days"])
def test_only_arithmetic_of_the_inputs_is_calculated(formula: str) -> None:
    with pytest.raises(ValueError, match="cannot be calculated"):
        value_of(formula, {"exams": Fraction(1)})


def test_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(
        "id: one\ntitle: {zh: 一, en: One}\nsource: test\ninputs: {a: 1}\nfigures:\n"
        "  - {name: f, printed: '1', unit: x, from: 1, below: 2, formula: a * b}\n"
        "  - {name: g, printed: '1', unit: x, from: 1, formula: a}\n"
    )
    with pytest.raises(ConfigInvalid, match=r"f: cannot be calculated: b[\s\S]*g: missing or unknown: below"):
        load_claims(tmp_path)
