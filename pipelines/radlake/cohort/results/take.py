"""Take a folder of results into the lake: each object is checked, stored under its content, then entered in the table.

Objects come before rows, so a row never leads nowhere; what a kill leaves is an object without a row, and taking the
folder again enters it. Rows are entered under a claim, so that two who take the same results enter them once.
"""

from __future__ import annotations

import json
import mmap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from radlake.cohort.approval import decisions
from radlake.cohort.pull import open_release
from radlake.cohort.results.check import ResultRefused, checked_content, checked_provenance
from radlake.cohort.results.persons import Persons, persons_of
from radlake.cohort.results.provenance import provenance_text
from radlake.cohort.results.referred import Referred
from radlake.cohort.results.taken import TABLE, results_store, taken_results
from radlake.config import Settings
from radlake.contracts import load_table
from radlake.errors import ConfigInvalid, SourceMissing, TransientError
from radlake.lake import Lake, ObjectStore
from radlake.lake.ledger import Claim, Ledger
from radlake.lake.withdrawals import sharing_lake

__all__ = ["Outcome", "ResultsBusy", "take_results"]

_BATCH = 100  # objects that are entered at once
_PIECE = 8 << 20
_RESULTS = "_results"  # what is claimed while rows are entered, instead of a hospital
_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.1
_OTHER = "it came home before with other content or provenance: write it anew, under a UID of its own"


class ResultsBusy(TransientError):
    sentence = "Somebody else is entering results in this lake. Take the folder again in a few minutes."


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes
    ----------
    place : str
        Below the folder.
    refused : str
        Why it stays where it lies; empty when it is in the lake.
    is_new : bool
        Whether it came into the lake now.
    """

    place: str
    sop_instance_uid: str = ""
    refused: str = ""
    is_new: bool = False


@dataclass(frozen=True)
class _Candidate:
    """A file with provenance of this release."""

    path: Path
    place: str
    told: Mapping[str, Any]

    @property
    def uid(self) -> str:
        return self.told["sop_instance_uid"]


def take_results(settings: Settings, release_id: str, folder: Path, *, by: str, now: datetime) -> Iterator[Outcome]:
    """Take every `*.dcm` below a folder, with the provenance beside it, into the lake; files stay where they lie.

    Parameters
    ----------
    by : str
        Who takes them in.
    now : datetime
        In UTC, without a zone.

    Raises
    ------
    ReleaseClosed
        If the release waits for approval, was revoked or has expired.
    SourceMissing, ConfigInvalid
    LakeBusy
        If somebody's data are being withdrawn.
    ResultsBusy, StoreFull, StoreUnavailable
        What was told until then is in the lake; the same call goes on.
    """
    if not folder.is_dir():
        raise SourceMissing(path=folder)
    if not by.strip():
        raise ConfigInvalid(path="Taking results", problems=["--by is empty: say who takes them in"])
    with sharing_lake(settings):
        release = open_release(settings, release_id, today=now.date())
        digests = {release.document["approval"]["digest"], *_approved_before(settings, release_id)}
        candidates: list[_Candidate] = []
        for path in sorted(folder.rglob("*.dcm")):
            place = path.relative_to(folder).as_posix()
            try:
                both = (path, path.with_suffix(".json"))
                if any(one.is_symlink() or (one.exists() and not one.is_file()) for one in both):
                    raise ResultRefused(
                        "it, or what lies beside it, is a link, a pipe or a folder: no file of this one"
                    )
                candidates.append(
                    _Candidate(path, place, checked_provenance(path, release_id=release_id, digests=digests))
                )
            except ResultRefused as exc:
                yield Outcome(place, refused=str(exc))
        candidates.sort(key=lambda one: (one.told["source_series_instance_uid"], one.place))
        sources = {one.told["source_series_instance_uid"] for one in candidates}
        referred = Referred(release, series=sources, new={one.uid for one in candidates})
        persons = persons_of(settings, release_id, by=by, now=now)
        taker = _Taker(settings, release_id, referred, persons, by=by, now=now)
        for start in range(0, len(candidates), _BATCH):
            yield from taker.take(candidates[start : start + _BATCH])


class _Taker:
    def __init__(
        self, settings: Settings, release_id: str, referred: Referred, persons: Persons, *, by: str, now: datetime
    ) -> None:
        self._settings, self._release_id, self._referred, self._persons = settings, release_id, referred, persons
        self._lake = Lake.from_settings(settings)
        self._by, self._now = by, now

    def take(self, batch: Sequence[_Candidate]) -> Iterator[Outcome]:
        """Store what may come home, enter what was stored."""
        store = results_store(self._lake)
        known = self._known()
        rows: dict[str, tuple[_Candidate, dict[str, Any]]] = {}
        for one in batch:
            try:
                if one.uid in rows:
                    raise ResultRefused(f"its UID is that of {rows[one.uid][0].place} too")
                with closing(_mapped(one.path)) as data:
                    checked_content(data, one.told, self._referred, self._persons)
                    if not (is_known := _is_known(one, known)):
                        rows[one.uid] = one, self._stored(store, one, data)
                if is_known:
                    yield Outcome(one.place, one.uid)
            except ResultRefused as exc:
                yield Outcome(one.place, one.uid, refused=str(exc))
        if rows:
            yield from self._entered(store, rows)

    def _known(self) -> dict[str, dict[str, Any]]:
        """Rows of what came home of this release, by SOP Instance UID."""
        return {row["sop_instance_uid"]: row for row in taken_results(self._lake, self._release_id)}

    def _stored(self, store: ObjectStore, one: _Candidate, data: mmap.mmap) -> dict[str, Any]:
        told = one.told
        prefix = f"{self._release_id}/{told['person_pseudo_id']}/{told['study_instance_uid']}/{one.uid}"
        members = [(f"{one.uid}.dcm", _pieces(data)), (f"{one.uid}.json", provenance_text(told).encode())]
        packed = store.pack_series(prefix, members)
        content, provenance = packed.members
        if content.digest != told["digest"]:
            store.delete(packed.path)
            raise ResultRefused("it was changed while it was read")
        return _row_of(told) | {
            "object_path": packed.path,
            "object_offset": content.offset,
            "instance_bytes": content.length,
            "provenance_offset": provenance.offset,
            "provenance_bytes": provenance.length,
            "taken_at": self._now,
            "taken_by": self._by,
        }

    def _entered(self, store: ObjectStore, rows: Mapping[str, tuple[_Candidate, dict[str, Any]]]) -> Iterator[Outcome]:
        """Enter rows; what another process entered meanwhile is not entered twice."""
        outcomes, new = [], []
        with _alone(self._settings):
            known = self._known()
            for one, row in rows.values():
                try:
                    if is_new := not _is_known(one, known):
                        new.append(row)
                    outcomes.append(Outcome(one.place, one.uid, is_new=is_new))
                except ResultRefused as exc:
                    store.delete(row["object_path"])
                    outcomes.append(Outcome(one.place, one.uid, refused=str(exc)))
            if new:
                names = xxhash.xxh3_128_hexdigest("\n".join(row["object_path"] for row in new).encode())
                table = load_table(TABLE)
                data = pa.Table.from_pylist(new, schema=table.arrow_schema())
                batch_id = f"results-{self._lake.version(TABLE)}-{names}"
                self._lake.store_of(table).commit_batch(table, data, batch_id=batch_id)
        yield from outcomes


def _approved_before(settings: Settings, release_id: str) -> set[str]:
    """Digests that were approved: results of a release out of which somebody was withdrawn since stay results of it."""
    with closing(Ledger(settings.ledger)) as ledger:
        return {one.digest for one in decisions(ledger, release_id) if one.decision == "approved"}


def _row_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """What a row tells of the provenance."""
    made = datetime.fromisoformat(told["created_at"]).astimezone(UTC).replace(tzinfo=None)
    algorithm = told["algorithm"]
    return {name: told[name] for name in load_table(TABLE).column_names if name in told} | {
        "result_kind": told["kind"],
        "n_source_instances": len(told["source_sop_instance_uids"]),
        "algorithm_name": algorithm["name"],
        "algorithm_version": algorithm["version"],
        "algorithm_parameters": json.dumps(algorithm["parameters"], ensure_ascii=False, sort_keys=True),
        "created_at": made,
    }


def _is_known(one: _Candidate, known: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether it is in the lake with this content.

    Raises
    ------
    ResultRefused
        If it is there with another, or with another provenance.
    """
    row = known.get(one.uid)
    if row is not None and not _row_of(one.told).items() <= row.items():
        raise ResultRefused(_OTHER)
    return row is not None


def _mapped(path: Path) -> mmap.mmap:
    """The bytes of a file without reading them into memory."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as exc:  # an empty file has no map
        raise ResultRefused("it is empty or cannot be read") from exc


def _pieces(data: mmap.mmap) -> Iterator[bytes]:
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE]


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Nobody else enters results meanwhile.

    Raises
    ------
    ResultsBusy
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with closing(Ledger(settings.ledger)) as ledger:
        while True:
            with ledger.claim(_RESULTS, Claim.BUILD) as is_held:
                if is_held:
                    yield
                    return
            if time.monotonic() > deadline:
                raise ResultsBusy
            time.sleep(_POLL_SECONDS)
