"""What a card needs beside the exam: names of hospitals, prices, typical doses, and which hospital has begun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from radlake.lake import Lake, duck
from radlake.reminder.persons import Links
from radlake.stats.prices import ExamPrices, load_exam_prices

__all__ = ["INTERVENTION", "TABLES", "References", "load_references"]

INTERVENTION = "order_reminder"  # of ref.roll_out
TABLES = ("ref.hospital", "ref.price", "ref.dose_factor", "ref.roll_out", "core.person_link")


@dataclass(frozen=True)
class References:
    """Small tables as values.

    Attributes
    ----------
    hospitals : mapping
        Hospital -> (Chinese name, English name).
    doses : mapping
        (Modality group, body part) -> typical effective dose of an adult in mSv.
    began : mapping
        Hospital -> first month (yyyymm) in which its order entry is reminded.
    """

    hospitals: Mapping[str, tuple[str, str]]
    prices: ExamPrices
    doses: Mapping[tuple[str, str], float]
    began: Mapping[str, int]
    links: Links

    def price_fen(self, modality_group: str, body_part_code: str, day: date) -> int | None:
        """Price of an exam, as ref.price has it of the first day of the month."""
        price = self.prices.of_exam(modality_group, body_part_code, day=day)
        return price.price_fen if price else None

    def typical_msv(self, modality_group: str, body_part_code: str) -> float | None:
        return self.doses.get((modality_group, body_part_code)) or self.doses.get((modality_group, "all"))

    def has_begun(self, hospital_id: str, day: date) -> bool:
        """Whether the hospital's switch is on: it stays off until somebody dates it."""
        began = self.began.get(hospital_id)
        return began is not None and day.year * 100 + day.month >= began


def load_references(lake: Lake) -> References:
    """Read them at their latest version; a table that was never written is empty."""
    with duck.connect(lake, tables=TABLES) as connection:

        def rows(sql: str) -> list[tuple]:
            return connection.execute(sql).fetchall()

        links = connection.sql("SELECT patient_key, person_key FROM core.person_link").to_arrow_table()
        return References(
            hospitals={
                code: (zh, en) for code, zh, en in rows("SELECT hospital_id, name_zh, name_en FROM ref.hospital")
            },
            prices=load_exam_prices(lake),
            doses={
                (group, part): factor
                for group, part, factor in rows(
                    "SELECT modality_group, body_part_code, arg_max(factor, valid_from) FROM ref.dose_factor"
                    " WHERE method = 'typical' GROUP BY ALL"
                )
            },
            began=dict(
                rows(f"SELECT hospital_id, began_month FROM ref.roll_out WHERE intervention_code = '{INTERVENTION}'")
            ),
            links=Links(links["patient_key"].to_numpy(), links["person_key"].to_numpy()),
        )
