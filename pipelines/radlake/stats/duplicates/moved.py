"""Rows of pseudonyms that another pseudonym of the same person stands for (core.person_link), brought to that person.

Exams are laid out in ranges of persons, and the pseudonyms of one person lie anywhere. What must move is written once
to files of the restricted zone, in the order of persons, and is gone when the layout is done.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa

from radlake.lake import Lake, parquet

__all__ = ["Moved", "moved_rows"]


@dataclass(frozen=True)
class Moved:
    """Links, and files of moved rows by table; both empty when nobody is linked."""

    links: pa.Table
    files: Mapping[str, Path] = field(default_factory=dict)

    def relation(self, connection: duckdb.DuckDBPyConnection, name: str, stored: str, limits: tuple[int, int]) -> str:
        """SQL of the rows of a range of persons, with the column `person_key`.

        Parameters
        ----------
        stored : str
            SQL of the table's rows whose pseudonyms are in the range.
        """
        low, high = limits
        own = f"SELECT *, patient_key AS person_key FROM {stored} WHERE patient_key >= {low} AND patient_key < {high}"
        if name not in self.files:
            return f"({own})"
        connection.register("person_link", self.links)
        stays = "patient_key NOT IN (SELECT patient_key FROM person_link)"
        moved = f"SELECT * FROM read_parquet({parquet.text(str(self.files[name]))})"
        return f"({own} AND {stays} UNION ALL BY NAME {moved} WHERE person_key >= {low} AND person_key < {high})"


@contextmanager
def moved_rows(lake: Lake, connection: duckdb.DuckDBPyConnection, *, links: str, tables: Mapping[str, str]) -> Iterator[Moved]:  # fmt: skip  # noqa: E501
    """Bring the rows of these tables (name to SQL) to their persons.

    Parameters
    ----------
    links : str
        SQL of core.person_link.
    """
    table = connection.sql(f"SELECT patient_key, person_key FROM {links}").to_arrow_table()
    if not table.num_rows:
        yield Moved(table)
        return
    folder = lake.scratch / f"moved-{uuid.uuid4().hex}"
    folder.mkdir(parents=True, mode=0o700)
    try:
        connection.register("person_link", table)
        files = {name: folder / f"{name}.parquet" for name in tables}
        for name, relation in tables.items():
            connection.execute(
                f"COPY (SELECT rows.*, person_link.person_key FROM {relation} AS rows"
                " INNER JOIN person_link USING (patient_key) ORDER BY person_link.person_key)"
                f" TO {parquet.text(str(files[name]))} (FORMAT parquet, COMPRESSION zstd)"
            )
        connection.unregister("person_link")
        yield Moved(table, files)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
