"""Report texts as a hospital delivers them: a CSV or Parquet file in the restricted zone, read row by row.

radlake keeps no report text: the file stays where the hospital's export put it, inside the restricted zone, and can be
coded again by newer rules. No text and no number of a report is in any message.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from radlake.errors import ConfigInvalid, SourceMissing

__all__ = ["COLUMNS", "Report", "read_delivery"]

COLUMNS = ("accession_number", "study_instance_uid", "report_text", "findings_text", "impression_text")
_TEXTS = COLUMNS[2:]


@dataclass(frozen=True)
class Report:
    """One report; its numbers and text have no place in a log or an error, so its repr is empty."""

    accession_number: str = field(repr=False)
    study_instance_uid: str = field(repr=False)
    text: str = field(repr=False)


def read_delivery(path: Path) -> Iterator[Report]:
    """Reports of a UTF-8 CSV file or a Parquet file.

    Columns are accession_number or study_instance_uid (or both), and report_text, or findings_text and
    impression_text. Other columns are not read. A row that names no exam, or has no text, is left out.

    Raises
    ------
    SourceMissing
    ConfigInvalid
        If columns are missing, or the file cannot be decoded.
    """
    try:
        rows = _parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path)
        for row in rows:
            text = "\n".join(filter(None, (str(row.get(name) or "").strip() for name in _TEXTS)))
            accession, study = (str(row.get(name) or "").strip() for name in COLUMNS[:2])
            if text and (accession or study):
                yield Report(accession, study, text)
    except OSError as exc:
        raise SourceMissing(path=path) from exc
    except (UnicodeDecodeError, csv.Error, pa.ArrowException):  # not chained: their words may quote a report
        raise ConfigInvalid(path=path, problems=["is not a UTF-8 CSV or Parquet file"]) from None


def _csv_rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        _require(path, reader.fieldnames or [])
        yield from reader


def _parquet_rows(path: Path) -> Iterator[dict[str, str]]:
    file = pq.ParquetFile(path)
    _require(path, file.schema_arrow.names)
    wanted = [name for name in COLUMNS if name in file.schema_arrow.names]
    for batch in file.iter_batches(columns=wanted):
        yield from batch.to_pylist()


def _require(path: Path, names: Collection[str]) -> None:
    found = set(names)
    problems = []
    if not found & set(COLUMNS[:2]):
        problems.append(f"needs a column {' or '.join(COLUMNS[:2])}")
    if not found & set(_TEXTS):
        problems.append(f"needs a column {', '.join(_TEXTS)}")
    if problems:
        raise ConfigInvalid(path=path, problems=problems)
