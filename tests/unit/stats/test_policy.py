"""Disclosure policies: what the files say, what they refuse, how counts, rates and means are shown by them."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake.errors import ConfigInvalid
from radlake.stats import release
from radlake.stats.policy import Policy, load_policy
from support.rows import rows


def test_the_policies_that_are_there() -> None:
    assert load_policy("internal") == Policy()
    assert load_policy("public").threshold == 10
    nhs = load_policy("nhs")
    assert (nhs.threshold, nhs.rounding, nhs.complementary) == (8, 5, False)


def test_all_problems_of_a_policy_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("scope: everybody\nthreshold: 3\nrouding: 5\nrounding: yes\ncomplementary: true\ntitle: {}\n")
    with pytest.raises(ConfigInvalid) as told:
        load_policy(str(file))
    assert told.value.facts["problems"] == [
        "unknown field rouding; there are scope, threshold, rounding, complementary, left_open, rate_digits, title,"
        " source",
        "left_open is missing",
        "rate_digits is missing",
        "source is missing",
        "rounding must be a int",
    ]
    with pytest.raises(ConfigInvalid, match="internal, nhs, public"):
        load_policy("privat")


def test_a_public_policy_cannot_be_weaker_than_public(tmp_path: Path) -> None:
    file = tmp_path / "weak.yaml"
    file.write_text(
        "{scope: public, threshold: 4, rounding: 1, complementary: false, left_open: one,"
        " rate_digits: 3, title: {}, source: x}"
    )
    with pytest.raises(ConfigInvalid) as told:
        load_policy(str(file))
    assert len(told.value.facts["problems"]) == 3


def test_means_of_few_are_not_shown() -> None:
    nhs = load_policy("nhs")
    assert [nhs.shown_mean(12.3456, count=n) for n in (0, 1, 7, 8)] == [None, None, None, 12.3]


@pytest.mark.parametrize(("value", "shown"), [(0.0, 0.0), (1043.0248, 1040.0), (0.00123456, 0.00123), (None, None)])
def test_rates_have_so_many_digits(value: float | None, shown: float | None) -> None:
    policy = Policy(rate_digits=3)
    assert policy.shown_rate(value) == shown
    if value:
        assert abs(value - shown) <= policy.rate_tolerance(value)


def test_the_rule_of_the_nhs_on_a_statistic() -> None:
    """1 to 7 withheld, others rounded to 5, zeros shown, what rests on exact counts left out, the total untouched."""
    exact = rows(
        "stats.film_saving",
        *(
            {"exam_month": month, "hospital_id": "h1", "modality_group": modality, "n_exams": n,
             "film_cost_fen": n * 100, "is_masked": False}
            for month, modality, n in (
                ("2026-01", "CT", 7), ("2026-01", "DX", 8), ("2026-01", "MR", 1003), ("2026-01", "US", 0))
        ),
        {"exam_month": "all", "hospital_id": "all", "modality_group": "all", "n_exams": 1018,
         "film_cost_fen": 101800, "is_masked": False},
    )  # fmt: skip
    masked = release.mask({"stats.film_saving": exact}, policy=load_policy("nhs"))["stats.film_saving"].to_pylist()
    shown = {row["modality_group"]: (row["n_exams"], row["film_cost_fen"], row["is_masked"]) for row in masked}
    assert shown == {
        "CT": (None, None, True),
        "DX": (10, None, False),
        "MR": (1005, None, False),
        "US": (0, None, False),
        "all": (1018, 101800, False),
    }
