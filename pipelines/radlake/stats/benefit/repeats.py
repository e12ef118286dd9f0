"""What repeats cost, and what a roll-out changed: potential and causal kept apart.

Potential is every repeat that nothing on record excuses, at the price of its exam: an upper limit, for nobody knows
which of them a reminder would have stopped. Causal is what hospitals changed after they began, against those that had
not begun yet (`effect`). The two are never added.
"""

from __future__ import annotations

from dataclasses import dataclass

from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.lake import Lake, duck
from radlake.stats.benefit.effect import Adoption, Panel, RollOutEffect, roll_out_effect

__all__ = ["CausalRepeats", "PotentialCost", "causal_repeats", "potential_cost"]


@dataclass(frozen=True)
class PotentialCost:
    """Repeats of one rule pack, window and modality, and what they cost.

    Attributes
    ----------
    n_unpriced : int
        Potential repeats of months for which ref.price has no `exam` of the modality; they are in no cost.
    """

    rule_pack: str
    window_days: int
    modality_group: str
    n_potential: int
    n_unpriced: int
    cost_fen: int


@dataclass(frozen=True)
class CausalRepeats:
    """Effect of a roll-out on potential repeats of 100 exams.

    Attributes
    ----------
    left_out : tuple of str
        Hospitals without exams in every month: they are in no comparison.
    """

    effect: RollOutEffect
    n_hospitals: int
    first_month: int
    last_month: int
    left_out: tuple[str, ...]


def potential_cost(lake: Lake, *, rule_pack: str, window_days: int) -> list[PotentialCost]:
    """Cost of potential repeats by modality, from the exact counts of the restricted zone.

    Raises
    ------
    ContractBroken
        If the repeats were not counted.
    """
    _check(lake)
    with duck.connect(lake, zone="restricted", tables={"stats.repeat_rate", "ref.price"}) as connection:
        found = connection.execute(_COST, [rule_pack, window_days]).fetchall()
    return [PotentialCost(rule_pack, window_days, *row) for row in found]


def causal_repeats(lake: Lake, *, intervention: str, rule_pack: str, window_days: int) -> CausalRepeats | None:
    """Effect of an intervention of ref.roll_out; None when no hospital began or nothing was counted.

    Raises
    ------
    ContractBroken
        If the repeats were not counted.
    """
    _check(lake)
    with duck.connect(lake, zone="restricted", tables={"stats.repeat_rate", "ref.roll_out"}) as connection:
        rows = connection.execute(_RATES, [rule_pack, window_days]).fetchall()
        began = dict(
            connection.execute(
                "SELECT hospital_id, began_month FROM ref.roll_out WHERE intervention_code = ?", [intervention]
            ).fetchall()
        )
    if not rows or not began:
        return None
    months = sorted({month for _, month, _ in rows})
    of: dict[str, dict[int, float]] = {}
    for hospital, month, rate in rows:
        of.setdefault(hospital, {})[month] = rate
    whole = sorted(hospital for hospital, rates in of.items() if len(rates) == len(months))
    hospitals = [
        Adoption(hospital, _place(began.get(hospital), months), [of[hospital][month] for month in months])
        for hospital in whole
    ]
    effect = roll_out_effect(Panel([str(month) for month in months], hospitals))
    return CausalRepeats(effect, len(whole), months[0], months[-1], tuple(sorted(of.keys() - set(whole))))


def _place(began: int | None, months: list[int]) -> int | None:
    """Place of the first month that is not before the beginning; None when it lies after all of them."""
    return next((i for i, month in enumerate(months) if began is not None and month >= began), None)


def _check(lake: Lake) -> None:
    table = load_table("stats.repeat_rate")
    if not lake.restricted_tables.exists(table):
        raise ContractBroken(table="stats.repeat_rate", problems=["there is none; run `radlake duplicates build`"])


_RATES = """
    SELECT hospital_id, exam_month, 100.0 * sum(n_potential) / sum(n_exams)
    FROM stats.repeat_rate WHERE rule_pack = ? AND window_days = ?
    GROUP BY ALL HAVING sum(n_exams) > 0 ORDER BY ALL
"""
_COST = """
    SELECT
        rate.modality_group,
        sum(rate.n_potential)::BIGINT,
        coalesce(sum(rate.n_potential) FILTER (WHERE price.price_fen IS NULL), 0)::BIGINT,
        coalesce(sum(rate.n_potential * price.price_fen), 0)::BIGINT
    FROM stats.repeat_rate AS rate
    LEFT JOIN ref.price AS price
        ON price.item = 'exam' AND price.modality_group = rate.modality_group
        AND try_strptime(rate.exam_month::VARCHAR, '%Y%m')::DATE
            BETWEEN price.valid_from AND coalesce(price.valid_to, DATE '9999-12-31')
    WHERE rate.rule_pack = ? AND rate.window_days = ?
    GROUP BY ALL HAVING sum(rate.n_potential) > 0 ORDER BY ALL
"""
