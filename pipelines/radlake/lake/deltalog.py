"""The commit log of one table: which Parquet files are live, at which version, by which batch.

The only module that knows Delta Lake (docs/adr/0001-delta-log-and-duckdb.md). A commit is published at exactly the
version after the snapshot it was planned on, or refused: what a plan read cannot have changed under it. Which rows
are in the files is decided in `tables`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from deltalake import CommitProperties, DeltaTable, Field, PostCommitHookProperties, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from radlake.contracts import Table
from radlake.errors import ConfigInvalid, ContractBroken, QueryInvalid, SourceMissing
from radlake.lake.store import storage_errors
from radlake.machine import fsync

__all__ = ["Conflict", "DataFile", "Snapshot", "add_columns", "create_log", "open_log"]

_FEATURES = frozenset({"timestampNtz", "appendOnly", "invariants", "checkConstraints"})
_UNSUPPORTED = re.compile(r"Feature '(\w+)' is not supported")


class Conflict(Exception):
    """Another commit took the version: plan again on a fresh snapshot."""


@dataclass(frozen=True)
class DataFile:
    """A Parquet file to publish: path below the table's root, partition value, and statistics that prune files."""

    path: str
    n_bytes: int
    partition: dict[str, str]
    stats: dict[str, Any]


class Snapshot:
    """One version of a table. Plan and commit through the same one: a file list never outlives its snapshot."""

    def __init__(self, table: Table, handle: DeltaTable, *, uri: str) -> None:
        self._table = table
        self._handle = handle
        self._uri = uri

    @property
    def version(self) -> int:
        return self._handle.version()

    @property
    def lacks_columns(self) -> bool:
        """The contract has columns that this table is older than."""
        return len(self._handle.schema().fields) < len(self._table.columns)

    def files(self, *, where: str | None = None) -> list[str]:
        """Paths or URIs of the live files, sorted; `where` leaves out files that cannot hold a matching row."""
        with _delta_errors(self._uri):
            try:
                found = self._handle.file_uris(file_pruning_predicate=where)
                return sorted(f"{self._uri}/{self._relative(path)}" for path in found)
            except DeltaError as exc:
                if where is None:
                    raise
                raise QueryInvalid(reason=f"the log cannot tell files by {where}") from exc

    def committed(self, batch_id: str) -> int | None:
        """Version at which a batch was committed, None when it was not."""
        with _delta_errors(self._uri):  # it reads the log once more
            return self._handle.transaction_version(batch_id)

    def commit(self, *, add: Iterable[DataFile], remove: Iterable[str], at: datetime, batch_id: str | None) -> int:
        """Publish files in one step.

        Parameters
        ----------
        remove : iterable of str
            As `files` of this snapshot gave them.
        batch_id : str or None
            None when the same rows are only laid out anew.

        Raises
        ------
        Conflict
            If the table moved on since this snapshot was taken.
        """
        now = int(at.timestamp() * 1000)
        actions: list[AddAction | RemoveAction] = [
            RemoveAction(path.removeprefix(f"{self._uri}/"), batch_id is not None, now) for path in remove
        ]
        actions += [
            AddAction(file.path, file.n_bytes, file.partition, now, batch_id is not None, json.dumps(file.stats))
            for file in add
        ]
        version = self.version + 1
        transactions = [Transaction(batch_id, version, now)] if batch_id else None
        with _delta_errors(self._uri):
            try:
                self._handle.create_write_transaction(
                    actions,
                    mode="append",
                    schema=self._handle.schema(),
                    partition_by=_partition(self._table),
                    commit_properties=CommitProperties(max_commit_retries=0, app_transactions=transactions),
                    post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
                )
            except CommitFailedError as exc:
                raise Conflict(str(exc)) from exc
        _make_durable(self._uri, version=version)
        return version

    def checkpoint(self) -> None:
        """Write down what the log comes to at this version, so that it is opened faster."""
        with _delta_errors(self._uri):
            self._handle.create_checkpoint()

    def unneeded(self, *, retention: timedelta, keep_versions: list[int], orphans: bool) -> set[str]:
        """Paths below the table's root that were removed longer ago than `retention` and that no kept version needs.

        With `orphans` also files as old that are not in the log: of a writer that died, or of one that still writes.
        Some of them may have been deleted before.
        """
        with _delta_errors(self._uri):
            found = self._handle.vacuum(
                retention_hours=int(retention.total_seconds() // 3600),
                dry_run=True,
                enforce_retention_duration=False,
                full=orphans,
                keep_versions=keep_versions,
            )
        return {self._relative(path) for path in found}

    def _relative(self, path: str) -> str:
        """A path below the table's root. delta-rs gives most with the root, in which it escaped what is not ASCII."""
        return path.removeprefix(self._handle.table_uri.rstrip("/").removeprefix("file://") + "/")


def open_log(uri: str, table: Table, *, options: dict[str, str] | None, version: int | None = None) -> Snapshot | None:
    """The table at a version (the latest by default), or None when there is no such table.

    Raises
    ------
    ContractBroken
        If its files cannot be read as they are: another engine wrote deletion vectors or column mapping, or its
        columns are not those of the contract.
    """
    with _delta_errors(uri):
        try:
            handle = DeltaTable(uri, version=version, storage_options=options)
        except TableNotFoundError:
            return None
        except DeltaError as exc:
            if match := _UNSUPPORTED.search(str(exc)):
                raise _foreign(table, [match[1]]) from exc
            if version is not None and DeltaTable.is_deltatable(uri, storage_options=options):
                raise SourceMissing(path=f"{uri}, version {version}") from exc
            raise
        protocol = handle.protocol()
    features = {*(protocol.reader_features or ()), *(protocol.writer_features or ())}
    if foreign := sorted(features - _FEATURES):
        raise _foreign(table, foreign)
    _check_columns(table, handle)
    return Snapshot(table, handle, uri=uri)


def create_log(uri: str, table: Table, *, options: dict[str, str] | None) -> Snapshot | None:
    """Start an empty table; None, and harmless, when somebody else was quicker."""
    if "%" in uri:
        raise ConfigInvalid(path=uri, problems=["delta-rs cannot open a path with a percent sign: rename the folder"])
    # The log is kept: pins are versions of it.
    with _delta_errors(uri):
        try:
            handle = DeltaTable.create(
                uri,
                schema=Schema.from_arrow(table.arrow_schema()),
                mode="error",
                partition_by=_partition(table),
                name=table.full_name,
                description=table.description,
                configuration={"delta.enableExpiredLogCleanup": "false"},
                storage_options=options,
                commit_properties=CommitProperties(max_commit_retries=0),  # else it is version 1 of theirs
            )
        except (CommitFailedError, DeltaError):
            if open_log(uri, table, options=options) is None:
                raise
            return None
    _make_durable(uri, version=0)
    return Snapshot(table, handle, uri=uri)


def add_columns(uri: str, table: Table, *, options: dict[str, str] | None) -> None:
    """Enter columns that the contract got after the table was created; harmless when somebody else is quicker."""
    with _delta_errors(uri):
        handle = DeltaTable(uri, storage_options=options)
        there = {field.name for field in handle.schema().fields}
        fields = [
            Field(field.name, field.type, nullable=True)  # in the files that are there it is NULL
            for field in Schema.from_arrow(table.arrow_schema()).fields
            if field.name not in there
        ]
        if not fields:
            return
        try:
            handle.alter.add_columns(
                fields,
                commit_properties=CommitProperties(max_commit_retries=0),
                post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
            )
        except CommitFailedError as exc:
            raise Conflict(str(exc)) from exc
    _make_durable(uri, version=handle.version())


def _partition(table: Table) -> list[str]:
    return [table.partition] if table.partition else []


def _foreign(table: Table, features: list[str]) -> ContractBroken:
    used = f"another engine used {', '.join(features)}; its files may not be read or written without that"
    return ContractBroken(table=table.full_name, problems=[used])


def _check_columns(table: Table, handle: DeltaTable) -> None:
    actual = {field.name: field.type.to_json() for field in handle.schema().fields}
    wanted = {field.name: field.type.to_json() for field in Schema.from_arrow(table.arrow_schema()).fields}
    added = {column.name for column in table.columns if column.default is not None} - actual.keys()
    wanted = {name: kind for name, kind in wanted.items() if name not in added}
    if actual == wanted:
        return
    problems = [f"column {name} is {actual.get(name)} in the lake and {wanted.get(name)} in the contract"
                for name in sorted({*actual, *wanted}) if actual.get(name) != wanted.get(name)]  # fmt: skip
    raise ContractBroken(
        table=table.full_name, problems=[*problems, "a changed table is a new version, beside this one"]
    )


def _make_durable(root: str, *, version: int) -> None:
    """A local commit and its checkpoint survive a loss of power; delta-rs leaves that to chance."""
    if "://" not in root:
        log = Path(root) / "_delta_log"
        for entry in (*log.glob(f"{version:020d}.*"), *log.glob("_last_checkpoint"), log, log.parent):
            fsync(entry)


def _delta_errors(uri: str) -> AbstractContextManager[None]:
    return storage_errors(uri, let_through=(Conflict,))
