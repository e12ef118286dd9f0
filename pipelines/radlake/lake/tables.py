"""Tables: the one writer. Rows become sorted Parquet files, and one commit makes them visible.

A commit carries the id of its batch and happens exactly once, however often it is tried and by how many at once.
Commits of several tables are prepared side by side and made in steps: in S3 the first of a table is mostly waiting.
Existing rows are replaced by copying the files that hold them without those rows (copy-on-write). How a commit is
recorded is `deltalog`'s business, where bytes lie is `store`'s; the one reader is `duck`.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from radlake.commit_points import reached
from radlake.contracts import Table, load_table
from radlake.errors import CommitRefused, ContractBroken, RadlakeError, StoreFull
from radlake.lake import deltalog, parquet
from radlake.lake.deltalog import Conflict, DataFile, Snapshot
from radlake.lake.store import LocalStore, S3Options, S3Store, Store, make_folder, open_store, storage_errors, sweep
from radlake.log import get_logger

__all__ = ["LONGEST_BATCH", "TableRows", "TableStore"]

# A file that is not in the log and younger than this may belong to a writer who has not committed yet.
LONGEST_BATCH = timedelta(days=7)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_COMMIT = re.compile(r"/_delta_log/(\d{20})\.json$")
_ATTEMPTS = 60
_COMPACT = "compact"
_PINS = ".pins"

_T = TypeVar("_T")
_R = TypeVar("_R")

log = get_logger()


@dataclass(frozen=True)
class TableRows:
    """Rows for a table by its name, and which existing ones they replace: what `commit_batch` takes."""

    name: str
    data: pa.Table
    replace: pa.Table | None = None


class _Overtaken(Exception):
    """Rows of a month were replaced while it was laid out anew."""


@dataclass(frozen=True)
class _Plan:
    """Files to take out of a snapshot, and files whose rows are written again."""

    removed: list[str]
    sources: list[str]


@dataclass
class _Commit:
    """A commit on its way: what it wants, and how far it is.

    Attributes
    ----------
    snapshot : Snapshot, optional
        What `planned` and `written` were made for; None until they are, and when somebody else took its next version.
    version : int, optional
        At which the snapshot has the batch already.
    """

    table: Table
    batch_id: str | None
    plan: Callable[[Snapshot], _Plan]
    write: Callable[[Path, list[str]], Sequence[DataFile]]
    snapshot: Snapshot | None = None
    version: int | None = None
    planned: _Plan = field(default_factory=lambda: _Plan([], []))
    written: list[DataFile] = field(default_factory=list)
    sources: list[str] | None = None  # of what is written


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
        ((_, is_new),) = self._publish([self._commit_of(_contract(table), data, replace, batch_id)])
        return is_new

    def commit_batches(self, *steps: Sequence[TableRows], batch_id: str) -> Iterator[str]:
        """`commit_batch` for several tables, those of a step side by side; yields the name of each when its step is in.

        Nothing is visible while they are prepared. When one of them fails, the steps before its own are in, and maybe
        others of its own.
        """
        names = [part.name for parts in steps for part in parts]
        commits = [
            [self._commit_of(load_table(part.name), part.data, part.replace, batch_id) for part in parts]
            for parts in steps
        ]
        for name, _ in zip(names, self._publish(*commits), strict=True):
            yield name

    @contextmanager
    def making(self, names: Collection[str]) -> Iterator[None]:
        """Make those of these tables that are not there while the block runs: in S3 that is a second of waiting."""
        with ThreadPoolExecutor(1, thread_name_prefix="make") as thread:
            thread.submit(self._make, names)  # nobody asks what went wrong: who commits meets it again
            yield

    def _make(self, names: Collection[str]) -> None:
        self._require_conditional_put()
        begin = f"_delta_log/{0:020d}.json"  # a log is kept as a whole
        tables = [load_table(name) for name in names]
        _at_once(self._open_or_create, [one for one in tables if self.store.size(f"{_folder(one)}/{begin}") is None])

    def _commit_of(self, table: Table, data: pa.Table, replace: pa.Table | None, batch_id: str) -> _Commit:
        rows = _conform(table, data)
        keys = None if replace is None else _conform_keys(table, replace)

        def plan(snapshot: Snapshot) -> _Plan:
            if keys is None:
                return _Plan([], [])
            candidates = snapshot.files(where=parquet.pruning_predicate(table, keys))
            hit = parquet.files_with(table, candidates, keys=keys, filesystem=self.filesystem)
            return _Plan(hit, hit)

        def write(folder: Path, sources: list[str]) -> list[DataFile]:
            return parquet.write_rows(
                table,
                rows,
                folder=folder,
                name=f"b-{batch_id}",
                survivors_of=sources,
                without=keys,
                filesystem=self.filesystem,
            )

        return _Commit(table, batch_id, plan, write)

    def overwrite(self, table: Table | str, data: pa.Table, *, batch_id: str) -> int:
        """Replace the whole content, exactly once for a batch id; `data` may have no rows.

        Returns
        -------
        int
            Version of the table that holds this content.
        """
        table = _contract(table)
        rows = _conform(table, data)

        def write(folder: Path, _: list[str]) -> list[DataFile]:
            return parquet.write_rows(table, rows, folder=folder, name=f"b-{batch_id}")

        whole = _Commit(table, batch_id, lambda snapshot: _Plan(snapshot.files(), []), write)
        ((version, _),) = self._publish([whole])
        return version

    def overwrite_files(
        self, table: Table | str, write: Callable[[Path], Sequence[DataFile]], *, batch_id: str
    ) -> tuple[int, bool]:
        """Replace the whole content by files that `write` makes below a folder, for tables that no memory holds.

        Nobody checks the rows against the contract: `write` answers for them.

        Returns
        -------
        tuple of int and bool
            Version of the table that holds this content, and whether this call made it; nothing is written for a
            batch that was committed before.
        """
        table = _contract(table)
        whole = _Commit(table, batch_id, lambda snapshot: _Plan(snapshot.files(), []), lambda folder, _: write(folder))
        (done,) = self._publish([whole])
        return done

    def files(self, table: Table | str, *, version: int | None = None, where: str | None = None) -> list[str]:
        """Paths or URIs of the files that hold a table, at its latest or an older version.

        `where` is an SQL predicate (`patient_key = 5 AND study_at < '2026-03-01 00:00:00'`) that leaves out files
        which cannot hold a matching row, by the statistics in the log. It does not filter rows: repeat it in the query.
        """
        snapshot = self.snapshot(table, version=version)
        return snapshot.files(where=where) if snapshot else []

    def exists(self, table: Table | str) -> bool:
        """Whether there is such a table: one look at its log, of which the first entry is kept."""
        return self.store.size(f"{_folder(_contract(table))}/_delta_log/{0:020d}.json") is not None

    def version(self, table: Table | str) -> int | None:
        """Latest version of a table, None when it does not exist."""
        snapshot = self.snapshot(table)
        return snapshot.version if snapshot else None

    def log_version(self, table: Table | str, *, known: int | None = None) -> int | None:
        """Latest version by the names in the commit log: nothing is read, and nothing checked against the contract.

        `known` is a version that the table had: then only names of later ones are looked for.
        """
        log = f"{_folder(_contract(table))}/_delta_log"

        def has(version: int) -> bool:
            return self.store.size(f"{log}/{version:020d}.json") is not None

        if known is None or not has(known):
            found = (_COMMIT.search(name) for name in self.store.list(f"{log}/"))
            return max((int(match[1]) for match in found if match), default=None)
        while has(known + 1):
            known += 1
        return known

    def snapshot(self, table: Table | str, *, version: int | None = None) -> Snapshot | None:
        """A table at its latest or an older version, None when it does not exist."""
        table = _contract(table)
        uri = self.store.uri(_folder(table))
        return deltalog.open_log(uri, table, options=self._delta_options(), version=version)

    def compact(self, table: Table | str) -> int:
        """Lay each month that came in many files out anew, in few files of consecutive persons.

        Writers may go on: what they add meanwhile stays as it is, and a month in which they replace rows is left for
        the next time.

        Returns
        -------
        int
            Number of months that were laid out anew.
        """
        table = _contract(table)
        snapshot = self.snapshot(table)
        months: dict[str, list[str]] = {}
        for file in snapshot.files() if snapshot else []:
            months.setdefault(file.rpartition("/")[0], []).append(file)
        crowded = [files for files in months.values() if len(files) > 1 and not all(map(_is_compact, files))]
        return sum(self._compact(table, files) for files in crowded)

    def _compact(self, table: Table, files: list[str]) -> bool:
        month = set(files)

        def plan(snapshot: Snapshot) -> _Plan:
            if not month <= set(snapshot.files()):
                raise _Overtaken
            return _Plan(files, files)

        def write(folder: Path, sources: list[str]) -> list[DataFile]:
            empty = table.arrow_schema().empty_table()
            return parquet.write_rows(
                table, empty, folder=folder, name=_COMPACT, survivors_of=sources, filesystem=self.filesystem
            )

        try:
            list(self._publish([_Commit(table, None, plan, write)]))
        except _Overtaken:
            log.info("compaction_overtaken", table=table.full_name)
            return False
        return True

    def pin(self, name: str, versions: Mapping[str, int]) -> None:
        """Keep versions of tables readable under a name, for a cohort release: `{"dicom.study_v1": 12}`.

        A pin is never changed: release anew under a new name.
        """
        if not _NAME.fullmatch(name):
            raise CommitRefused(table="pins", reason="a pin is named by 1 to 128 letters, digits, '.', '_' or '-'")
        pinned = {}
        for table, version in versions.items():
            if self.snapshot(table, version=version) is None:
                raise CommitRefused(table=table, reason=f"there is no version {version} to pin")
            pinned[load_table(table).full_name] = version
        if self.pins().get(name, pinned) != pinned:
            raise CommitRefused(table="pins", reason=f"{name} exists with other versions")
        with self.staging() as folder:
            file = folder / "pin.json"
            file.write_text(json.dumps(pinned, sort_keys=True), encoding="utf-8")
            self.store.put({f"{_PINS}/{name}.json": file})
        reached("table.pinned")

    def unpin(self, name: str) -> None:
        """Let go of a pin; `vacuum` then deletes what only it kept."""
        self.store.delete(f"{_PINS}/{name}.json")
        reached("table.unpinned")

    def pins(self) -> dict[str, dict[str, int]]:
        """Pinned versions of tables, by name of the pin."""
        found = {}
        for path in self.store.list(f"{_PINS}/"):
            content = self.store.read(path, offset=0, length=self.store.size(path) or 0)
            found[path.removeprefix(f"{_PINS}/").removesuffix(".json")] = json.loads(content)
        return found

    def unneeded(self, table: Table | str, *, retention: timedelta = LONGEST_BATCH) -> list[str]:
        """Files, by their names below the table's folder, that were removed longer ago than `retention` and that no
        pin keeps.

        Files that are not in the log are among them only when they are older than the longest batch may take: a younger
        one may belong to a writer who has not committed yet.
        """
        table = _contract(table)
        snapshot = self.snapshot(table)
        if snapshot is None:
            return []
        kept = sorted({pinned[table.full_name] for pinned in self.pins().values() if table.full_name in pinned})
        found = snapshot.unneeded(retention=retention, keep_versions=kept, orphans=False)
        found |= snapshot.unneeded(retention=max(retention, LONGEST_BATCH), keep_versions=kept, orphans=True)
        return sorted(
            found & {name.removeprefix(f"{_folder(table)}/") for name in self.store.list(f"{_folder(table)}/")}
        )

    def vacuum(self, table: Table | str, *, retention: timedelta = LONGEST_BATCH, spared: Collection[str] = ()) -> int:
        """Delete the files that are `unneeded`, but for `spared` ones; returns how many.

        To take a person out of every version there is `purge`.
        """
        table = _contract(table)
        there = set(self.unneeded(table, retention=retention)) - set(spared)
        for path in there:
            self.store.delete(f"{_folder(table)}/{path}")
            reached("table.vacuumed")
        sweep(self._staging_root, older_than=LONGEST_BATCH, pattern="tables-*")
        return len(there)

    @cached_property
    def store(self) -> Store:
        return open_store(self.root, options=self.storage_options)

    @property
    def filesystem(self) -> object | None:
        """Through which DuckDB reads the files; None when they lie in a local folder."""
        return self.store.fs if isinstance(self.store, S3Store) else None

    def _delta_options(self) -> dict[str, str] | None:
        return self.store.options.for_delta() if isinstance(self.store, S3Store) else None

    def _open_or_create(self, table: Table) -> Snapshot:
        uri = self.store.uri(_folder(table))
        if snapshot := self.snapshot(table):
            if not snapshot.lacks_columns:
                return snapshot
            deltalog.add_columns(uri, table, options=self._delta_options())
            return self._open_or_create(table)
        if isinstance(self.store, LocalStore):
            with storage_errors(uri):
                make_folder(Path(uri))
        created = deltalog.create_log(uri, table, options=self._delta_options())
        if created is None:
            return self._open_or_create(table)
        reached("table.created")
        return created

    def _require_conditional_put(self) -> None:
        if isinstance(self.store, S3Store):
            self.store.require_conditional_put()

    def _publish(self, *steps: Sequence[_Commit]) -> Iterator[tuple[int, bool]]:
        """Prepare all side by side, commit step by step: the version of each, and whether it was made now."""
        commits = [commit for step in steps for commit in step]
        for commit in commits:
            if commit.batch_id is not None and not _NAME.fullmatch(commit.batch_id):
                reason = "a batch id is 1 to 128 letters, digits, '.', '_' or '-'"
                raise CommitRefused(table=commit.table.full_name, reason=reason)
        self._require_conditional_put()
        n_made = 0
        try:
            if len(commits) > 1:
                _at_once(self._prepare, commits)
            for step in steps:
                made = _at_once(self._made, step)
                n_made += len(made)
                yield from made
        except (CommitRefused, ContractBroken, StoreFull, _Overtaken):
            for commit in commits[n_made:]:
                self._discard(commit.table, commit.written)
            raise

    def _prepare(self, commit: _Commit) -> None:
        """Plan on the latest snapshot, and write; what was written is used again unless it came from other files."""
        try:
            snapshot = self._open_or_create(commit.table)
        except Conflict:  # a twin adds the same columns: open it again
            return
        commit.version = None if commit.batch_id is None else snapshot.committed(commit.batch_id)
        if commit.version is None:
            with storage_errors(self.store.uri(_folder(commit.table))):
                planned = commit.plan(snapshot)
                if planned.sources != commit.sources:
                    self._discard(commit.table, commit.written)
                    commit.written, commit.sources = [], None
                    commit.written = self._write(commit.table, commit.write, planned.sources)
                    commit.sources = planned.sources
            commit.planned = planned
        commit.snapshot = snapshot

    def _made(self, commit: _Commit) -> tuple[int, bool]:
        """Commit at the next version; when somebody else took it, prepare again."""
        table, batch_id, reason = commit.table, commit.batch_id, "its columns changed"
        for attempt in range(_ATTEMPTS):
            if commit.snapshot is None:
                self._prepare(commit)
            if commit.snapshot is None:
                continue
            if commit.version is not None:
                return commit.version, self._discard(table, commit.written) < len(commit.written)
            at = datetime.now(UTC)
            try:
                version = commit.snapshot.commit(
                    add=commit.written, remove=commit.planned.removed, at=at, batch_id=batch_id
                )
            except Conflict as conflict:
                commit.snapshot, reason = None, str(conflict)
                time.sleep(random.uniform(0, min(0.01 * 2**attempt, 0.5)))
            else:
                reached("table.committed")
                return version, True
        raise CommitRefused(table=table.full_name, reason=f"{_ATTEMPTS} other commits came first; {reason}")

    def _write(
        self, table: Table, write: Callable[[Path, list[str]], Sequence[DataFile]], sources: list[str]
    ) -> list[DataFile]:
        with self.staging() as folder:
            files = list(write(folder, sources))
            try:
                self.store.put({f"{_folder(table)}/{file.path}": folder / file.path for file in files})
            except BaseException:
                self._discard(table, files)
                raise
        reached("table.written")
        return files

    @property
    def _staging_root(self) -> Path:
        if isinstance(self.store, LocalStore):
            return self.store.root / ".staging"
        return self.scratch or Path(tempfile.gettempdir())

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A private folder for files that are being written; on the same file system as a local table."""
        folder = self._staging_root / f"tables-{uuid.uuid4().hex}"
        with storage_errors(str(self._staging_root)):
            folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _discard(self, table: Table, files: Sequence[DataFile]) -> int:
        """Delete files that were written for nothing; returns how many.

        Live ones stay: a store may have made a commit of ours and told us of a conflict (its answer was lost, and the
        repeated request met its own result).
        """
        if not files:
            return 0
        live = set(self.files(table))
        dead = [name for file in files if self.store.uri(name := f"{_folder(table)}/{file.path}") not in live]
        for name in dead:
            with suppress(RadlakeError, OSError):
                self.store.delete(name)
        return len(dead)


def _at_once(function: Callable[[_T], _R], items: Collection[_T]) -> list[_R]:
    """Call it with each in a thread of its own; all have ended when one of them fails."""
    if len(items) <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(len(items)) as threads:
        return list(threads.map(function, items))


def _contract(table: Table | str) -> Table:
    return load_table(table) if isinstance(table, str) else table


def _folder(table: Table) -> str:
    return table.full_name.replace(".", "/")


def _is_compact(file: str) -> bool:
    return file.rpartition("/")[2].startswith(f"{_COMPACT}-")


def _conform(table: Table, data: pa.Table) -> pa.Table:
    for column in table.columns:  # a batch may have been staged before the column was added
        if column.default is not None and column.name not in data.column_names:
            values = pa.repeat(pa.scalar(column.default, column.arrow_field.type), data.num_rows)
            data = data.append_column(column.arrow_field, values)
    if problems := table.problems(data):
        raise ContractBroken(table=table.full_name, problems=problems)
    return data.select(table.column_names).cast(table.arrow_schema())


def _conform_keys(table: Table, keys: pa.Table) -> pa.Table:
    foreign = [name for name in keys.column_names if name not in table.column_names]
    if foreign or not keys.column_names:
        raise ContractBroken(table=table.full_name, problems=[f"replace needs columns of this table, not {foreign}"])
    return keys.cast(pa.schema([table.column(name).arrow_field for name in keys.column_names]))
