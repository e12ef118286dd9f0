"""Load a hospital's order list: what was ordered, performed and reported, by pseudonym.

The list is a CSV file of the restricted zone and stays there. Times go to ref.exam_service of the restricted zone;
encounters and grounds of exams that the lake has go to ref.exam_order. A list with a problem loads nothing, and no
number of a patient or an exam is in any message: lines are.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from radlake.contracts import load_table
from radlake.contracts.rows import arrow_rows
from radlake.deidentify import KeyRing
from radlake.errors import ConfigInvalid, SourceMissing
from radlake.lake import Lake, duck
from radlake.machine import utc_of_shanghai
from radlake.stats.duplicates.packs import load_grounds
from radlake.vocab import modality_group

__all__ = ["COLUMNS", "LoadedOrders", "load_orders", "rows_from_orders"]

REQUIRED = ("accession_number", "order_status", "performed_at")
OPTIONAL = ("modality", "reader_id", "reported_at", "encounter_number", "ground_codes", "operation_days",
            "evidence_source")  # fmt: skip
COLUMNS = (*REQUIRED, *OPTIONAL)
_STATUS = ("performed", "scheduled", "cancelled")
_SOURCES = ("order", "report", "record", "quality", "several")
_AHEAD = timedelta(minutes=5)  # clocks are that far apart
_MOST = 20  # problems of one kind that are told


@dataclass(frozen=True)
class LoadedOrders:
    """What became of a list.

    Attributes
    ----------
    n_in_lake : int
        Of its exams those that the lake has; only these have a row in ref.exam_order.
    """

    n_orders: int
    n_performed: int
    n_in_lake: int
    is_new: bool


def load_orders(lake: Lake, path: Path, *, hospital_id: str, keys: KeyRing, now: datetime) -> LoadedOrders:
    """Load the list of a hospital; exams that an earlier list had are replaced. The same list again does nothing.

    Parameters
    ----------
    now : datetime
        UTC, without a zone.

    Raises
    ------
    SourceMissing
    ConfigInvalid
        With all problems, each with its line; also when the file lies in the part of the lake that everybody reads.
    """
    _refuse_public(lake, path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise SourceMissing(path=path) from exc
    except UnicodeDecodeError:  # not chained: its words quote the file
        raise ConfigInvalid(path=path.name, problems=["is not UTF-8; save it as “CSV UTF-8”"]) from None
    with duck.connect(lake, tables=["ref.hospital", "dicom.study"]) as connection:
        hospitals = {one for (one,) in connection.execute("SELECT hospital_id FROM ref.hospital").fetchall()}
        orders, problems = rows_from_orders(text, hospitals={*hospitals, hospital_id}, now=now)
        if problems:
            raise ConfigInvalid(path=path.name, problems=problems)
        for order in orders:
            order["hospital_id"] = hospital_id
            order["exam_pseudo_id"] = keys.exam_pseudo_id(
                hospital_id=hospital_id, accession_number=order.pop("accession_number"), study_uid=""
            )
        connection.register("listed", pa.table({"exam_pseudo_id": [order["exam_pseudo_id"] for order in orders]}))
        persons = connection.execute(
            "SELECT DISTINCT exam_pseudo_id, patient_key FROM dicom.study SEMI JOIN listed USING (exam_pseudo_id)"
            " WHERE hospital_id = ?",
            [hospital_id],
        ).fetchall()
    digest = hashlib.sha256(text.encode() + f"{hospital_id} {len(persons)}".encode()).hexdigest()[:32]
    batch_id = f"orders-{digest}"
    services = [order | {"listed_at": now} for order in orders]
    is_new = _commit(lake, "ref.exam_service", services, batch_id=batch_id)
    _commit(lake, "ref.exam_order", _grounds(orders, persons, keys=keys), batch_id=batch_id)
    n_performed = sum(order["order_status"] == "performed" for order in orders)
    return LoadedOrders(len(orders), n_performed, len({exam for exam, _ in persons}), is_new)


def rows_from_orders(text: str, *, hospitals: Collection[str], now: datetime) -> tuple[list[dict[str, Any]], list[str]]:
    """Orders of a CSV text with times in UTC, and every problem of it.

    A time without a zone is one of Asia/Shanghai.
    """
    lines = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [(lines.line_num, row) for row in lines]
    except csv.Error as exc:
        return [], [f"line {lines.line_num}: {exc}"]
    names = lines.fieldnames or []
    problems = [f"column {name} is missing" for name in REQUIRED if name not in names]
    problems += [
        f"column {name!r} is not known; there are {', '.join(COLUMNS)}" for name in names if name not in COLUMNS
    ]
    problems += [f"column {name} is given twice" for name, n in Counter(names).items() if n > 1]
    if problems or not rows:
        return [], problems or ["has no order in it"]
    reader = _Reader(hospitals, now)
    orders = [reader.order(number, row) for number, row in rows]
    return orders, reader.told()


class _Reader:
    """Reads orders one by one and keeps what is wrong with them."""

    def __init__(self, hospitals: Collection[str], now: datetime) -> None:
        self._hospitals, self._now = hospitals, now
        self._grounds = load_grounds()
        self._found: dict[str, list[int]] = {}
        self._lines: dict[str, int] = {}

    def told(self) -> list[str]:
        """One line for each kind of problem, with the lines of the file."""
        return [
            f"line {', '.join(map(str, lines[:_MOST]))}{' and more' if len(lines) > _MOST else ''}: {problem}"
            for problem, lines in self._found.items()
        ]

    def order(self, line: int, row: Mapping[str | None, Any]) -> dict[str, Any]:
        def wrong(problem: str) -> None:
            self._found.setdefault(problem, []).append(line)

        if None in row or None in row.values():
            wrong("has not as many cells as the header")
        cell = {name: str(row.get(name) or "").strip() for name in COLUMNS}
        accession = cell["accession_number"]
        if not accession:
            wrong("accession_number is empty")
        elif (first := self._lines.setdefault(accession, line)) != line:
            wrong(f"is of the same accession_number as line {first}")
        status = cell["order_status"].lower()
        if status not in _STATUS:
            wrong(f"order_status must be one of {', '.join(_STATUS)}")
        performed = self._time(cell["performed_at"], "performed_at", wrong)
        reported = self._time(cell["reported_at"], "reported_at", wrong)
        if status == "performed" and performed is None and not cell["performed_at"]:
            wrong("is performed and has no performed_at")
        if status != "performed" and (performed or reported):
            wrong("is not performed and has a time of it")
        if performed and reported and reported < performed:
            wrong("reported_at is before performed_at")
        reader = cell["reader_id"] or "UNKNOWN"
        if reader not in (*self._hospitals, "UNKNOWN"):
            wrong("reader_id is no hospital of ref.hospital")
        grounds = sorted({one.strip() for one in cell["ground_codes"].split("+") if one.strip()})
        if unknown := sorted(set(grounds) - self._grounds.keys()):
            wrong(f"{len(unknown)} ground_codes are not in schemas/rules/duplicates/grounds.yaml")
        source = cell["evidence_source"] or "order"
        if source not in _SOURCES:
            wrong(f"evidence_source must be one of {', '.join(_SOURCES)}")
        return {
            "accession_number": accession,
            "order_status": status,
            "modality_group": modality_group([cell["modality"]]) if cell["modality"] else "UNKNOWN",
            "performed_at": performed,
            "reader_id": reader,
            "reported_at": reported,
            "encounter_number": cell["encounter_number"],
            "ground_codes": "+".join(grounds),
            "operation_days": self._days(cell["operation_days"], wrong),
            "evidence_source": source,
        }

    def _time(self, text: str, name: str, wrong: Callable[[str], None]) -> datetime | None:
        if not text:
            return None
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            wrong(f"{name} is not a time like 2026-03-01 08:30:00")
            return None
        if len(text) <= len("2026-03-01"):
            wrong(f"{name} is a day without a time")
            return None
        at = at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else utc_of_shanghai(at)
        if at > self._now + _AHEAD:
            wrong(f"{name} is in the future")
        return at

    def _days(self, text: str, wrong: Callable[[str], None]) -> int | None:
        if not text:
            return None
        if not text.isascii() or not text.isdigit() or int(text) > 3650:
            wrong("operation_days must be a whole number of days from 0")
            return None
        return int(text)


def _grounds(
    orders: Collection[Mapping[str, Any]], persons: Collection[tuple[str, int]], *, keys: KeyRing
) -> list[dict[str, Any]]:
    """Rows of ref.exam_order: of exams that the lake has and of which the list tells more than times."""
    by_exam: dict[str, list[int]] = {}
    for exam, person in persons:
        by_exam.setdefault(exam, []).append(person)
    found = []
    for order in orders:
        encounter = order["encounter_number"]
        if not (encounter or order["ground_codes"] or order["operation_days"] is not None):
            continue
        visit = keys.pseudo_id("encounter", f"{order['hospital_id']}|{encounter}") if encounter else None
        found += [
            {**order, "patient_key": person, "encounter_pseudo_id": visit}
            for person in by_exam.get(order["exam_pseudo_id"], ())
        ]
    return found


def _commit(lake: Lake, name: str, rows: Sequence[dict[str, Any]], *, batch_id: str) -> bool:
    table = load_table(name)
    data = arrow_rows(table, rows)
    return lake.store_of(table).commit_batch(table, data, batch_id=batch_id, replace=data.select(table.key))


def _refuse_public(lake: Lake, path: Path) -> None:
    if "://" in lake.url:
        return
    place, root, restricted = path.resolve(), Path(lake.url).resolve(), lake.restricted.resolve()
    if place.is_relative_to(root) and not place.is_relative_to(restricted):
        problem = f"an order list names patients and may not lie in the lake; move the file below {restricted}"
        raise ConfigInvalid(path=path.name, problems=[problem])
