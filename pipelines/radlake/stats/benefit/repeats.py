"""What repeats cost, and what a roll-out changed: potential and causal kept apart.

Potential is every repeat that nothing on record excuses, at the price of its exam: an upper limit, for nobody knows
which of them a reminder would have stopped. Causal is what hospitals changed after they began, against those that had
not begun yet (`effect`). The two are never added.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date

from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.lake import Lake, duck
from radlake.stats.benefit.effect import Adoption, Panel, RollOutEffect, roll_out_effect
from radlake.stats.duplicates.parts import potential_by_part
from radlake.stats.prices import ExamPrice, load_exam_prices

__all__ = ["CausalRepeats", "PotentialCost", "causal_repeats", "potential_cost"]


@dataclass(frozen=True)
class PotentialCost:
    """Repeats of one rule pack, window and modality, and what they cost.

    Attributes
    ----------
    n_unpriced : int
        Potential repeats of months for which ref.price has no `exam` of their body part or modality; in no cost.
    priced : tuple of (ExamPrice, int)
        Each row of ref.price that was used, and how many repeats it prices: they add up to the cost.
    """

    rule_pack: str
    window_days: int
    modality_group: str
    n_potential: int
    n_unpriced: int
    cost_fen: int
    priced: tuple[tuple[ExamPrice, int], ...]


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


def potential_cost(lake: Lake, *, rule_pack: str, window_days: int, workers: int = 2) -> list[PotentialCost]:
    """Cost of potential repeats by modality, each at the price of its body part, else of its modality; exact.

    Raises
    ------
    ContractBroken
        If the repeats were not counted.
    """
    prices = load_exam_prices(lake)
    counted: dict[str, Counter[ExamPrice | None]] = {}
    for month, modality, part, n in potential_by_part(
        lake, rule_pack=rule_pack, window_days=window_days, workers=workers
    ):
        price = prices.of_exam(modality, part, day=date(month // 100, month % 100, 1))
        counted.setdefault(modality, Counter())[price] += n
    return [_cost(rule_pack, window_days, modality, counts) for modality, counts in sorted(counted.items())]


def _cost(rule_pack: str, window_days: int, modality_group: str, counts: Counter[ExamPrice | None]) -> PotentialCost:
    priced = sorted((price, n) for price, n in counts.items() if price is not None)
    return PotentialCost(
        rule_pack=rule_pack,
        window_days=window_days,
        modality_group=modality_group,
        n_potential=counts.total(),
        n_unpriced=counts[None],
        cost_fen=sum(price.price_fen * n for price, n in priced),
        priced=tuple(priced),
    )


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
