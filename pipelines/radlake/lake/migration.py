"""A ledger's database of any age becomes one of today when it is opened.

Tables, columns and indexes that are missing are created. Studies that were entered before there was a history get the
first event of theirs, as soon as somebody opens the ledger with its key.
"""

from __future__ import annotations

import hashlib
import re

import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn, CreateTable

from radlake.lake.chain import Head
from radlake.lake.events import EventLog, Mac, head_of, lock_chains
from radlake.lake.evidence import StudyState
from radlake.lake.ledger_tables import FACT, METADATA, STUDY
from radlake.lake.pushed import unverified_of
from radlake.lake.study_rows import decided

__all__ = ["adopt_old_rows", "create_missing"]

_SCHEMA, _HISTORY = "schema", "history"
_AT_ONCE = 1000
_OLD_TROUBLE = re.compile(r"(?:missing \d+ of \d+|unverifiable: [\w ]+): (.*?)(?:; set aside: .*)?")


def create_missing(connection: sa.Connection) -> None:
    """Create the tables, columns and indexes that this database has not; nothing when it was opened by us before."""
    wanted = _fingerprint()
    if sa.inspect(connection).has_table(FACT.name) and _fact(connection, _SCHEMA) == wanted:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(7255, 0)"))
    found = sa.inspect(connection)
    for table in METADATA.sorted_tables:
        if not found.has_table(table.name):
            continue
        has = {column["name"] for column in found.get_columns(table.name)}
        for column in table.columns:
            if column.name not in has:
                words = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f'ALTER TABLE "{table.name}" ADD COLUMN {words}')
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    METADATA.create_all(connection)
    connection.execute(FACT.delete().where(FACT.c.name == _SCHEMA))
    connection.execute(FACT.insert().values(name=_SCHEMA, value=wanted))


def adopt_old_rows(connection: sa.Connection, *, mac: Mac) -> dict[str, Head]:
    """Give every study of a ledger that is older than its history a first event, once; the ends of the new histories.

    A hospital that has a history is left alone: a row that appears beside it was not entered by us.
    """
    heads: dict[str, Head] = {}
    if _fact(connection, _HISTORY):
        return heads
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(7255, 0)"))
    hospitals = connection.execute(sa.select(STUDY.c.hospital_id).distinct().order_by(STUDY.c.hospital_id)).scalars()
    for hospital_id in [name for name in hospitals if head_of(connection, name) is None]:
        lock_chains(connection, [hospital_id])
        events = EventLog(connection, mac=mac)
        uids = connection.execute(sa.select(STUDY.c.study_uid).where(STUDY.c.hospital_id == hospital_id)).scalars()
        for study_uid in sorted(uids):
            where = STUDY.c.hospital_id == hospital_id, STUDY.c.study_uid == study_uid
            row = dict(connection.execute(sa.select(STUDY).where(*where)).mappings().one())
            trouble = _OLD_TROUBLE.fullmatch(row["reason"])
            row |= {
                "is_open": row["state"] == StudyState.RETRIEVING,
                "n_told": row["n_expected"],
                "trouble": trouble[1] if trouble else "",
                "unverified": unverified_of(connection, hospital_id, study_uid),
            }
            row = decided(row, now=row["updated_at"])
            connection.execute(STUDY.update().where(*where).values(**row))
            events.append(row, what="adopt", at=row["updated_at"])
            if events.n_waiting >= _AT_ONCE:
                events.flush()
        events.flush()
        heads |= events.heads
    connection.execute(FACT.insert().values(name=_HISTORY, value="1"))
    return heads


def _fact(connection: sa.Connection, name: str) -> str | None:
    return connection.execute(sa.select(FACT.c.value).where(FACT.c.name == name)).scalar()


def _fingerprint() -> str:
    """Of the tables as they are declared."""
    words = [str(CreateTable(table)) for table in METADATA.sorted_tables]
    words += sorted(
        f"{index.name}{index.columns.keys()}" for table in METADATA.tables.values() for index in table.indexes
    )
    return hashlib.sha256("\n".join(words).encode()).hexdigest()
