"""Printed figures of a publication, checked against the formulas that it gives for them.

A file of schemas/benefit has the numbers that a text prints, what each figure was rounded from, the formula of the
text, and other readings of it. Arithmetic is exact; nothing is fitted.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import yaml

from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root

__all__ = ["Claims", "Figure", "Verdict", "load_claims", "value_of"]

Verdict = Literal["follows", "follows otherwise", "ambiguous", "contradicts", "incomplete"]
_OPERATORS: Mapping[type, Callable[[Fraction, Fraction], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_FIELDS = {"name", "printed", "unit", "from", "below", "formula"}
_OPTIONAL = {"readings", "note", "is_partial"}


@dataclass(frozen=True)
class Reading:
    """A formula, what it gives, and whether the printed figure can be that, rounded."""

    formula: str
    value: Fraction
    fits: bool


@dataclass(frozen=True)
class Figure:
    """A printed figure and its readings; the first one is the formula of the text.

    Attributes
    ----------
    low, below : Fraction
        What the printed figure stands for: from `low` to less than `below`.
    is_partial : bool
        The text does not print all that the formula needs.
    """

    name: str
    printed: str
    unit: str
    low: Fraction
    below: Fraction
    readings: Sequence[Reading]
    is_partial: bool
    note: Mapping[str, str]

    @property
    def verdict(self) -> Verdict:
        """follows: the formula of the text gives the figure; follows otherwise: one other reading does; ambiguous:
        several others do; contradicts: none does; incomplete: the text does not print all of it."""
        of_text, *others = self.readings
        n_others = sum(reading.fits for reading in others)
        if of_text.fits:
            return "follows"
        if self.is_partial:
            return "incomplete"
        return "contradicts" if n_others == 0 else "follows otherwise" if n_others == 1 else "ambiguous"


@dataclass(frozen=True)
class Claims:
    """Figures of one publication."""

    id: str
    title: Mapping[str, str]
    source: str
    figures: Sequence[Figure]


def load_claims(root: Path | None = None) -> dict[str, Claims]:
    """Every publication of schemas/benefit, by id.

    Raises
    ------
    ConfigInvalid
        With all problems of a file: unknown fields, formulas that are not arithmetic of its inputs.
    """
    folder = root or schemas_root() / "benefit"
    return {path.stem: _read(path) for path in sorted(folder.glob("*.yaml"))}


def value_of(formula: str, inputs: Mapping[str, Fraction]) -> Fraction:
    """Exact value of a formula of names, numbers, + - * / ** and brackets.

    >>> value_of("(exams + 1) * 18 / 4", {"exams": Fraction(3)})
    Fraction(18, 1)

    Raises
    ------
    ValueError
        If it is anything else, or a name is not among the inputs.
    """

    def value(node: ast.expr) -> Fraction:
        match node:
            case ast.BinOp(left, op, right) if type(op) in _OPERATORS:
                return Fraction(_OPERATORS[type(op)](value(left), value(right)))
            case ast.Name(name) if name in inputs:
                return inputs[name]
            case ast.Constant(int() | float() as number):
                return Fraction(str(number))
        raise ValueError(f"cannot be calculated: {ast.unparse(node)}")

    try:
        return value(ast.parse(formula, mode="eval").body)
    except (SyntaxError, ZeroDivisionError) as exc:
        raise ValueError(f"cannot be calculated: {formula}") from exc


def _read(path: Path) -> Claims:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    inputs = {name: Fraction(str(number)) for name, number in data["inputs"].items()}
    figures, problems = [], []
    for item in data["figures"]:
        if wrong := (_FIELDS - set(item)) | (set(item) - _FIELDS - _OPTIONAL):
            problems.append(f"{item.get('name')}: missing or unknown: {', '.join(sorted(wrong))}")
            continue
        low, below = Fraction(str(item["from"])), Fraction(str(item["below"]))
        try:
            formulas = [item["formula"], *item.get("readings", [])]
            values = [(formula, value_of(formula, inputs)) for formula in formulas]
        except ValueError as exc:
            problems.append(f"{item['name']}: {exc}")
            continue
        readings = tuple(Reading(formula, value, low <= value < below) for formula, value in values)
        figures.append(
            Figure(
                item["name"],
                item["printed"],
                item["unit"],
                low,
                below,
                readings,
                is_partial=item.get("is_partial", False),
                note=item.get("note", {}),
            )
        )
    if problems:
        raise ConfigInvalid(path=path, problems=problems)
    return Claims(data["id"], data["title"], data["source"], tuple(figures))
