"""Tables: the one writer. Rows become sorted Parquet files, and one commit makes them visible.

A commit carries the id of its batch and happens exactly once, however often it is tried and by how many at once.
Existing rows are replaced by copying the files that hold them without those rows (copy-on-write). How a commit is
recorded is `deltalog`'s business, where bytes lie is `store`'s; the one reader is `duck`.
"""

from __future__ import annotations

import random
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from radlake.contracts import Table, load_table
from radlake.errors import CommitRefused, ContractBroken, RadlakeError
from radlake.lake import deltalog, parquet
from radlake.lake.deltalog import Conflict, DataFile, Snapshot
from radlake.lake.store import LocalStore, S3Options, S3Store, Store, open_store

__all__ = ["TableStore"]

_BATCH_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ATTEMPTS = 60


@dataclass(frozen=True)
class TableStore:
    """The tables below one root: `<root>/<layer>/<table>_v1/`.

    Parameters
    ----------
    root : str
        Local folder or `s3://bucket/prefix`.
    storage_options : S3Options, optional
        For a root on S3.
    scratch : Path, optional
        Local folder where files for S3 are written before they are sent; default the system's.
    """

    root: str
    storage_options: S3Options | None = None
    scratch: Path | None = None

    def commit_batch(
        self, table: Table | str, data: pa.Table, *, batch_id: str, replace: pa.Table | None = None
    ) -> bool:
        """Add rows, exactly once for a batch id.

        Parameters
        ----------
        data : pa.Table
            Rows that keep the contract.
        replace : pa.Table, optional
            Values of some columns (a key; with the partition column fewer files are read): existing rows that match
            one of its rows are removed in the same commit.

        Returns
        -------
        bool
            False when this batch was committed before, and nothing happened now.

        Raises
        ------
        ContractBroken, CommitRefused, StoreFull, StoreUnavailable
            Nothing is visible then; the same call may be made again.
        """
        table = _contract(table)
        rows = _conform(table, data)
        keys = None if replace is None else _conform_keys(table, replace)
        _, is_new = self._publish(
            table,
            batch_id,
            choose=lambda snapshot: [] if keys is None else self._files_with(table, snapshot, keys),
            write=lambda folder, removed: parquet.write_rows(
                table, rows, folder=folder, batch_id=batch_id, survivors_of=removed, without=keys, filesystem=self._fs
            ),
        )
        return is_new

    def overwrite(self, table: Table | str, data: pa.Table, *, batch_id: str) -> int:
        """Replace the whole content, exactly once for a batch id; `data` may have no rows.

        Returns
        -------
        int
            Version of the table that holds this content.
        """
        table = _contract(table)
        rows = _conform(table, data)
        version, _ = self._publish(
            table,
            batch_id,
            choose=lambda snapshot: snapshot.files(),
            write=lambda folder, _: parquet.write_rows(table, rows, folder=folder, batch_id=batch_id),
        )
        return version

    def files(self, table: Table | str, *, version: int | None = None, where: str | None = None) -> list[str]:
        """Paths or URIs of the files that hold a table, at its latest or an older version.

        `where` is an SQL predicate that leaves out files which cannot hold a matching row, by the statistics in the
        log. It does not filter rows: repeat it in the query.
        """
        snapshot = self._open(_contract(table), version=version)
        return snapshot.files(where=where) if snapshot else []

    def version(self, table: Table | str) -> int | None:
        """Latest version of a table, None when it does not exist."""
        snapshot = self._open(_contract(table))
        return snapshot.version if snapshot else None

    @cached_property
    def store(self) -> Store:
        return open_store(self.root, options=self.storage_options)

    @property
    def _fs(self) -> object | None:
        return self.store.fs if isinstance(self.store, S3Store) else None

    def _folder(self, table: Table) -> str:
        return f"{table.layer}/{table.name}_v{table.version}"

    def _delta_options(self) -> dict[str, str] | None:
        return self.store.options.for_delta() if isinstance(self.store, S3Store) else None

    def _open(self, table: Table, *, version: int | None = None) -> Snapshot | None:
        uri = self.store.uri(self._folder(table))
        return deltalog.open_log(uri, table, options=self._delta_options(), version=version)

    def _open_or_create(self, table: Table) -> Snapshot:
        if snapshot := self._open(table):
            return snapshot
        if isinstance(self.store, LocalStore):
            (self.store.root / self._folder(table)).mkdir(parents=True, exist_ok=True)
        deltalog.create_log(self.store.uri(self._folder(table)), table, options=self._delta_options())
        created = self._open(table)
        assert created is not None
        return created

    def _files_with(self, table: Table, snapshot: Snapshot, keys: pa.Table) -> list[str]:
        candidates = snapshot.files(where=parquet.pruning_predicate(table, keys))
        return parquet.files_with(table, candidates, keys=keys, filesystem=self._fs)

    def _publish(
        self,
        table: Table,
        batch_id: str,
        *,
        choose: Callable[[Snapshot], list[str]],
        write: Callable[[Path, list[str]], Sequence[DataFile]],
        has_new_rows: bool = True,
    ) -> tuple[int, bool]:
        """Plan on a snapshot, write, commit at the next version; when somebody else took it, plan again.

        The files written are kept for the next attempt when it removes the same files.
        """
        if not _BATCH_ID.fullmatch(batch_id):
            raise CommitRefused(table=table.full_name, reason="a batch id is 1 to 128 letters, digits, '.', '_' or '-'")
        written: list[DataFile] = []
        planned: list[str] | None = None
        reason = ""
        for attempt in range(_ATTEMPTS):
            snapshot = self._open_or_create(table)
            if (version := snapshot.committed(batch_id)) is not None:
                self._discard(table, written)
                return version, False
            removed = choose(snapshot)
            if removed != planned:
                self._discard(table, written)
                written, planned = self._write(table, lambda folder, files=removed: write(folder, files)), removed
            try:
                at = datetime.now(UTC)
                return snapshot.commit(batch_id, add=written, remove=removed, at=at, has_new_rows=has_new_rows), True
            except Conflict as conflict:
                reason = str(conflict)
                time.sleep(random.uniform(0, min(0.01 * 2**attempt, 0.5)))
        self._discard(table, written)
        raise CommitRefused(table=table.full_name, reason=f"{_ATTEMPTS} other commits came first: {reason}")

    def _write(self, table: Table, write: Callable[[Path], Sequence[DataFile]]) -> list[DataFile]:
        with self._staging() as folder:
            files = list(write(folder))
            try:
                self.store.put({f"{self._folder(table)}/{file.path}": folder / file.path for file in files})
            except BaseException:
                self._discard(table, files)
                raise
        return files

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        """A private folder for files that are being written; on the same file system as a local table."""
        if isinstance(self.store, LocalStore):
            parent = self.store.root / ".staging"
        else:
            parent = self.scratch or Path(tempfile.gettempdir())
        folder = parent / f"tables-{uuid.uuid4().hex}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _discard(self, table: Table, files: Sequence[DataFile]) -> None:
        for file in files:
            with suppress(RadlakeError, OSError):
                self.store.delete(f"{self._folder(table)}/{file.path}")


def _contract(table: Table | str) -> Table:
    return load_table(table) if isinstance(table, str) else table


def _conform(table: Table, data: pa.Table) -> pa.Table:
    if problems := table.problems(data):
        raise ContractBroken(table=table.full_name, problems=problems)
    return data.select(table.column_names).cast(table.arrow_schema())


def _conform_keys(table: Table, keys: pa.Table) -> pa.Table:
    if foreign := [name for name in keys.column_names if name not in table.column_names] or not keys.column_names:
        raise ContractBroken(table=table.full_name, problems=[f"replace: no columns, or not of this table: {foreign}"])
    return keys.cast(pa.schema([table.column(name).arrow_field for name in keys.column_names]))
