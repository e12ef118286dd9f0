"""A batch of ingested studies: gated, staged, committed exactly once, entered in the ledger.

Order of the commit points (`batch.*`): staged folder (atomic rename) -> dicom.instance and dicom.series -> dicom.study
and ops.quality -> ledger -> quarantine -> spool -> staged folder removed. A crash between any two is healed by
`roll_forward`, which every run calls first: table commits skip a batch that is already in, settling twice changes
nothing.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from radlake import log, telemetry
from radlake.commit_points import reached
from radlake.errors import LedgerBusy, StoreFull
from radlake.harvest import spool_folder
from radlake.lake import Lake
from radlake.lake.evidence import SealedRecord, SetAside, Settlement, StoredInstance
from radlake.lake.ledger import Ledger
from radlake.lake.quarantine import Quarantine
from radlake.lake.store import sweep
from radlake.lake.tables import LONGEST_BATCH, TableRows
from radlake.machine import fsync

__all__ = [
    "CHILDREN_FIRST",
    "TABLES",
    "StagedBatch",
    "batch_id_of",
    "commit",
    "has_staged",
    "roll_all_forward",
    "roll_forward",
    "stage",
    "stage_rows",
]

CHILDREN_FIRST = ("dicom.instance", "dicom.series", "dicom.study")
TABLES = (*CHILDREN_FIRST, "ops.quality")
_STEPS = (TABLES[:2], TABLES[2:])  # nobody meets a study before all of it is there
_MANIFEST = "manifest.json"
_REMOVERS = 4
_PATIENCE, _POLL = 300.0, 0.2  # seconds that a hospital waits for another one to finish a batch of both
_TOGETHER = "_together"  # no hospital's id begins so


@dataclass(frozen=True)
class StagedBatch:
    """A gated batch of one hospital on disk in `restricted/staged/<hospital>/<batch_id>/`."""

    batch_id: str
    folder: Path

    @property
    def settlements(self) -> list[Settlement]:
        manifest = json.loads((self.folder / _MANIFEST).read_text(encoding="utf-8"))
        return [_settlement(item) for item in manifest["settlements"]]

    def rows(self, name: str) -> TableRows:
        """Of one table, with the keys of those that they replace."""
        replaced = self.folder / f"replace.{name}.parquet"
        data = pq.read_table(self.folder / f"{name}.parquet")
        return TableRows(name, data, pq.read_table(replaced) if replaced.exists() else None)


def batch_id_of(settlements: Sequence[Settlement]) -> str:
    """Digest of what the batch stores: the same content is the same batch, whenever it is made."""
    state = xxhash.xxh3_128()
    for item in sorted(settlements, key=lambda item: (item.hospital_id, item.study_uid)):
        state.update(f"{item.hospital_id}|{item.study_uid}|".encode())
        for uid, instance in sorted(item.stored.items()):
            state.update(f"{uid}={instance.digest};".encode())
        for aside in item.set_aside:
            state.update(f"{aside.quarantine_id}?{aside.reason};".encode())
    return state.hexdigest()


def stage(lake: Lake, *, tables: dict[str, pa.Table], settlements: Sequence[Settlement]) -> StagedBatch:
    """Write a batch that passed the gate to disk; from here on it will be committed whatever happens.

    That of several hospitals lies in a folder of its own, where a later run of each of them finds it.

    Parameters
    ----------
    tables : dict
        dicom.instance, dicom.series, dicom.study and ops.quality rows; `replace.<table>` keys of rows to replace.
    """
    hospitals = {item.hospital_id for item in settlements}
    return stage_rows(
        lake,
        hospital_id=hospitals.pop() if len(hospitals) == 1 else _TOGETHER,
        batch_id=batch_id_of(settlements),
        tables=tables,
        settlements=settlements,
    )


def stage_rows(
    lake: Lake,
    *,
    hospital_id: str,
    batch_id: str,
    tables: dict[str, pa.Table],
    settlements: Sequence[Settlement] = (),
) -> StagedBatch:
    """`stage` under a given id; without settlements the ledger stays as it is."""
    root = lake.staged / hospital_id
    folder, part = root / batch_id, root / f"{batch_id}.part"
    if folder.exists():
        return StagedBatch(batch_id, folder)
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, data in tables.items():
            pq.write_table(data, part / f"{name}.parquet")
        manifest = {"batch_id": batch_id, "settlements": [asdict(item) for item in settlements]}
        (part / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        for written in (*part.iterdir(), part):
            fsync(written)
        reached("batch.written")
        part.rename(folder)
        fsync(root)
    except OSError as exc:
        shutil.rmtree(part, ignore_errors=True)
        raise StoreFull(path=str(root), reason=exc.strerror) from exc
    reached("batch.staged")
    return StagedBatch(batch_id, folder)


def commit(lake: Lake, ledger: Ledger, batch: StagedBatch, *, now: datetime) -> None:
    """Publish a staged batch: children before parents, then the ledger. Safe to repeat.

    The staged folder goes last: while it is there, the next run does again what a crash left undone. Nobody else would
    ever look at received files that stayed in the spool.
    """
    rows = [[batch.rows(name) for name in names] for names in _STEPS]
    steps = [[part for part in step if part.data.num_rows] for step in rows]
    for name in lake.tables.commit_batches(*steps, batch_id=batch.batch_id):
        reached(f"batch.{name}")
    settlements = batch.settlements
    settled = ledger.settle(settlements, now=now)
    reached("batch.settled")
    Quarantine(ledger, lake.quarantine).release([name for item in settlements for name in item.resolved], now=now)
    _empty_spool(lake, settlements)
    shutil.rmtree(batch.folder)
    reached("batch.unstaged")
    for (hospital_id, state), n in Counter((entry.hospital_id, entry.state.value) for entry in settled).items():
        telemetry.add("radlake.studies", n, hospital=hospital_id, state=state)
    log.get_logger().info("batch_committed", batch_id=batch.batch_id, n_studies=len(settled))


def _empty_spool(lake: Lake, settlements: Sequence[Settlement]) -> None:
    """Remove the received files, a few folders at once: each of them mostly waits for the file system's journal."""

    def remove(item: Settlement) -> None:
        spooled = spool_folder(lake.spool, hospital_id=item.hospital_id, study_uid=item.study_uid)
        shutil.rmtree(spooled, ignore_errors=True)

    with ThreadPoolExecutor(_REMOVERS) as threads:
        for _ in threads.map(remove, settlements):
            reached("spool.emptied")


def has_staged(lake: Lake, hospital_id: str) -> bool:
    """Whether a batch that this hospital has a part in waits to be committed."""
    own = any((lake.staged / hospital_id).glob("*"))
    return own or any(hospital_id in _parts(folder) for folder in (lake.staged / _TOGETHER).glob("*"))


def roll_forward(lake: Lake, ledger: Ledger, *, hospital_id: str, now: datetime) -> None:
    """Finish the hospital's batches that a crash left staged; throw away what was not staged completely."""
    root = lake.staged / hospital_id
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if (folder / _MANIFEST).is_file() and not folder.name.endswith(".part"):
            commit(lake, ledger, StagedBatch(folder.name, folder), now=now)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    _roll_forward_together(lake, ledger, hospital_id=hospital_id, now=now)


def roll_all_forward(lake: Lake, ledger: Ledger, *, now: datetime) -> None:
    """Finish the batches of several hospitals that a crash left staged, before many of them begin at once."""
    for folder in sorted((lake.staged / _TOGETHER).glob("*")):
        for hospital_id in sorted(_parts(folder))[:1]:
            with ledger.claim(hospital_id) as is_gone:  # who staged it holds each of them
                if is_gone:
                    _roll_forward_together(lake, ledger, hospital_id=hospital_id, now=now)


def _roll_forward_together(lake: Lake, ledger: Ledger, *, hospital_id: str, now: datetime) -> None:
    """Finish batches of several hospitals that this one has a part in; waits for another hospital that does it.

    Who staged them held the harvest of each of their hospitals: we hold one of them, so it is gone.
    """
    root = lake.staged / _TOGETHER
    sweep(root, older_than=LONGEST_BATCH, pattern="*.part")
    deadline = monotonic() + _PATIENCE
    for folder in sorted(root.glob("*")):
        while hospital_id in _parts(folder):
            with ledger.claim(_TOGETHER) as is_mine:
                if is_mine and folder.exists():
                    commit(lake, ledger, StagedBatch(folder.name, folder), now=now)
            if not is_mine:
                if monotonic() > deadline:
                    raise LedgerBusy(hospital=hospital_id)
                sleep(_POLL)


def _parts(folder: Path) -> set[str]:
    """The hospitals that have a part in a staged batch."""
    if folder.name.endswith(".part"):  # it is being written
        return set()
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:  # just committed
        return set()
    return {item["hospital_id"] for item in manifest["settlements"]}


def _settlement(item: dict[str, Any]) -> Settlement:
    stored = {uid: StoredInstance(**value) for uid, value in item.pop("stored").items()}
    set_aside = tuple(SetAside(**aside) for aside in item.pop("set_aside"))
    resolved = tuple(item.pop("resolved"))
    sealed = item.pop("sealed", None)
    if sealed:
        sealed = SealedRecord(**sealed | {"aliases": tuple(sealed["aliases"])})
    return Settlement(stored=stored, set_aside=set_aside, resolved=resolved, sealed=sealed, **item)
