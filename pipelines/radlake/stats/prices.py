"""Which row of ref.price is the price of an exam: that of its body part, else that of its modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from radlake.lake import Lake, duck

__all__ = ["ANY_PART", "ExamPrice", "ExamPrices", "load_exam_prices"]

ANY_PART = "all"


@dataclass(frozen=True, kw_only=True, order=True)
class ExamPrice:
    """A row `exam` of ref.price; `valid_to` is None when it still holds, `body_part_code` is `all` for a modality."""

    modality_group: str
    body_part_code: str
    valid_from: date
    valid_to: date | None
    price_fen: int
    source: str

    def __str__(self) -> str:
        yuan, part = f"{self.price_fen / 100:,.2f} yuan", self.body_part_code
        return f"{yuan} ({self.modality_group} {part}, from {self.valid_from}: {self.source})"


@dataclass(frozen=True)
class ExamPrices:
    """Rows by modality and body part."""

    rows: Mapping[tuple[str, str], tuple[ExamPrice, ...]]

    @classmethod
    def of(cls, rows: Iterable[ExamPrice]) -> ExamPrices:
        found: dict[tuple[str, str], tuple[ExamPrice, ...]] = {}
        for row in sorted(rows):
            key = row.modality_group, row.body_part_code
            found[key] = (*found.get(key, ()), row)
        return cls(found)

    def of_exam(self, modality_group: str, body_part_code: str, *, day: date) -> ExamPrice | None:
        """The row that prices an exam of this true day; a month has the prices of its first day.

        The body part must be the one of the row, to the last: of `ABDOMEN+CHEST` it is not that of `CHEST`.
        """
        first = day.replace(day=1)
        for part in (body_part_code, ANY_PART):
            for row in self.rows.get((modality_group, part), ()):
                if row.valid_from <= first <= (row.valid_to or date.max):
                    return row
        return None


def load_exam_prices(lake: Lake) -> ExamPrices:
    """The newest prices of a lake; none when it has no ref.price."""
    with duck.connect(lake, tables=["ref.price"]) as connection:
        found = connection.execute(
            "SELECT modality_group, body_part_code, valid_from, valid_to, price_fen, source"
            " FROM ref.price WHERE item = 'exam'"
        ).fetchall()
    names = ("modality_group", "body_part_code", "valid_from", "valid_to", "price_fen", "source")
    return ExamPrices.of(ExamPrice(**dict(zip(names, row, strict=True))) for row in found)
