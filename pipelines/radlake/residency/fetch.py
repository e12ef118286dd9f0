"""Fetch on demand: retrieve a series from its hospital again, de-identify and pack it again, prove it, keep it cached.

De-identification is deterministic and an object is named by its content, so the proof is complete: name, members and
digests must be those of the rows. What differs is dropped and told; nothing of it is served.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from radlake import log
from radlake.commit_points import reached
from radlake.config import Settings
from radlake.errors import QuarantineError, SourceMissing
from radlake.harvest import list_folder
from radlake.ingest.job import IngestJob, SourceFile, StudyOutcome
from radlake.ingest.study import ingest_study
from radlake.lake import Lake
from radlake.lake.digests import digest_of_file, quarantine_id_of
from radlake.lake.evidence import SetAside, Settlement, StudyEntry
from radlake.lake.ledger import Ledger
from radlake.lake.quarantine import Quarantine
from radlake.lake.reading import has_object
from radlake.lake.reviews import Reviews
from radlake.lake.vault import VaultRows
from radlake.machine import utc_now
from radlake.net import Hospital, NodeClient
from radlake.residency.asking import Asking
from radlake.residency.catalogue import SeriesObject, objects_of
from radlake.review import decision_from_review
from radlake.vault.lake_key import lake_keys, open_ledger

__all__ = ["Fetched", "Outcome", "fetch_study"]

_CHANGED, _GONE = "source_changed", "source_gone"


class Outcome(StrEnum):
    """What became of a wish.

    HERE: it was in the store or in the cache. FETCHED: it came, and is proven. INCOMPLETE: the node did not send all of
    it; ask again. CHANGED: the hospital sends other bytes than those that were catalogued. GONE: the hospital does not
    have all of it any more. DIFFERS: the hospital sends the very bytes, but today's profile or software makes something
    else of them than what was catalogued.
    """

    HERE = "here"
    FETCHED = "fetched"
    INCOMPLETE = "incomplete"
    CHANGED = "changed"
    GONE = "gone"
    DIFFERS = "differs"


@dataclass(frozen=True)
class Fetched:
    """A series object, and what became of the wish for it."""

    object: SeriesObject
    outcome: Outcome
    reason: str = ""

    @property
    def is_here(self) -> bool:
        return self.outcome in (Outcome.HERE, Outcome.FETCHED)


def fetch_study(
    settings: Settings,
    hospital: Hospital,
    wanted: Sequence[SeriesObject],
    *,
    timeout: float = 600,
    client: NodeClient | None = None,
    is_awaited: bool = True,
) -> list[Fetched]:
    """Bring series objects of one study into the cache, where they are not there yet.

    Several processes that want the same study at once bring it once. The node is asked as its courtesy allows, one
    study at a time.

    Parameters
    ----------
    wanted : sequence of SeriesObject
        Of one study of the hospital.
    timeout : float
        Seconds to wait for another process that brings the study, or another study of the hospital, and for a node that
        rests.
    client : NodeClient, optional
        A conversation with the node that the caller has already.
    is_awaited : bool
        Somebody waits for it: the node's `fetch_any_hour` counts.

    Returns
    -------
    list of Fetched
        In the order of `wanted`.

    Raises
    ------
    NodeAtRest
        If the node is left in peace for longer than `timeout`, by its calendar or for its failures.
    NodeUnavailable, AssociationRejected, SlowDown, PortBusy, StoreFull, LedgerBusy, FetchBusy
    """
    lake = Lake.from_settings(settings)
    place = f"{hospital.hospital_id}/{wanted[0].study_uid}"
    with lake.cache.lock(place, timeout=timeout):
        done = {item.path: Fetched(item, Outcome.HERE) for item in wanted if has_object(lake, item.path)}
        for path in done:
            lake.cache.use(path)
        due = [item for item in wanted if item.path not in done]
        if due or any(item.residency == "index" for item in wanted):
            settings.prepare_restricted()
            with closing(open_ledger(settings)) as ledger:
                ask = partial(
                    Asking, settings, hospital, ledger=ledger, client=client, patience=timeout, is_awaited=is_awaited
                )
                fetched = _Fetch(settings, lake, ledger, hospital, ask).run(due, here=list(done.values()))
            done |= {one.object.path: one for one in fetched}
            lake.cache.trim(spared=[item.path for item in wanted])
    return [done[item.path] for item in wanted]


class _Fetch:
    def __init__(
        self, settings: Settings, lake: Lake, ledger: Ledger, hospital: Hospital, ask: Callable[[], Asking]
    ) -> None:
        self._settings = settings
        self._lake = lake
        self._ledger = ledger
        self._hospital = hospital
        self._ask = ask
        self._asking: Asking | None = None
        self._keys = lake_keys(settings)
        self._folder = lake.scratch / f"fetch-{uuid.uuid4().hex}"
        self._trouble = ""

    def run(self, due: Sequence[SeriesObject], *, here: Sequence[Fetched]) -> list[Fetched]:
        """Bring what is due; what is here already may have come before a kill, and its study be open still."""
        lake_study_uid = (due or [one.object for one in here])[0].study_uid
        study_uid = self._ledger.study_of(self._hospital.hospital_id, lake_study_uid)
        entry = self._ledger.entry(self._hospital.hospital_id, study_uid) if study_uid else None
        if entry is None:
            raise SourceMissing(path=f"The ledger's entry of study {lake_study_uid} of {self._hospital.hospital_id}")
        self._originals = {self._keys.uid(uid): uid for uid in entry.stored}
        if not due:
            self._enter(entry, here)
            return []
        self._folder.mkdir(parents=True)
        try:
            self._bring(entry, self._uids(due))
            proven = self._prove(entry, due)
            done = [
                Fetched(item, Outcome.FETCHED) if item.path in proven else self._failed(entry, item) for item in due
            ]
            self._enter(entry, [*here, *done])
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        log.get_logger().info(
            "pixels_fetched", hospital=self._hospital.hospital_id, n_found=len(proven), n_expected=len(due)
        )
        return done

    def _uids(self, objects: Sequence[SeriesObject]) -> frozenset[str]:
        """Original SOP Instance UIDs."""
        return frozenset(self._originals[uid] for item in objects for uid, _ in item.instances)

    def _file(self, uid: str) -> Path:
        return self._folder / f"{uid}.dcm"

    def _bring(self, entry: StudyEntry, uids: frozenset[str]) -> None:
        """Bring what of the study is not in the folder yet."""
        wanted = frozenset(uid for uid in uids if not self._file(uid).exists())
        if not wanted:
            return
        node = self._hospital.node
        if node.kind == "folder":
            self._copy(entry, node.path, wanted)
            return
        self._asking = self._asking or self._ask()
        self._trouble = self._asking.retrieve(entry.study_uid, into=self._folder, wanted=wanted)

    def _copy(self, entry: StudyEntry, path: Path, wanted: frozenset[str]) -> None:
        """From a folder; of twins the one that was ingested then."""
        with list_folder(path, scratch=self._lake.scratch) as listing:
            for study in listing.studies:
                for file in study.files if study.study_uid == entry.study_uid else ():
                    target = self._file(file.sop_uid)
                    if file.sop_uid in wanted and (
                        not target.exists() or digest_of_file(file.path) == entry.stored[file.sop_uid].source_digest
                    ):
                        shutil.copyfile(file.path, target)

    def _prove(self, entry: StudyEntry, due: Sequence[SeriesObject]) -> set[str]:
        """Paths of the objects that were made equal, which are in the cache then.

        What the headers of one ingest tell of the person decides which words are removed from all of them, so an object
        is tried in the company of those that are wanted with it, then alone, then with the whole study.
        """
        proven: set[str] = set()
        for group in (due, *([item] for item in due)):
            left = [item for item in group if item.path not in proven and self._is_complete(item)]
            if left and len({item.series_uid for item in left}) == len(left):
                proven |= self._made(entry, left, left)
        left = [item for item in due if item.path not in proven and not self._changed(entry, item)]
        left = [item for item in left if self._is_complete(item)]
        if left:
            self._bring(entry, frozenset(entry.stored))
            study = objects_of(self._lake, uids=[due[0].study_uid], hospital_id=self._hospital.hospital_id)
            for item in left:
                others = [one for one in study if one.series_uid != item.series_uid and self._is_complete(one)]
                proven |= self._made(entry, [item, *others], [item])
        return proven

    def _made(self, entry: StudyEntry, group: Sequence[SeriesObject], wanted: Sequence[SeriesObject]) -> set[str]:
        files = tuple(self._source_files(entry, sorted(self._uids(group))))
        job = IngestJob(
            self._settings,
            self._hospital.hospital_id,
            entry.study_uid,
            files,
            patient_key=entry.patient_key,
            vault_version=VaultRows(self._ledger).version,
            key_check=self._keys.check_value(),
            residency="index",
        )
        outcome = ingest_study(job)
        proven = {item.path for item in wanted if _is_equal(item, outcome)}
        for path in {row["object_path"] for row in outcome.series}:
            if path in proven:
                self._lake.cache.admit(path, is_asked_for=True)
                reached("residency.cached")
            else:
                self._lake.cache.discard(path)
        return proven

    def _source_files(self, entry: StudyEntry, uids: Sequence[str]) -> Iterator[SourceFile]:
        """With what reviewers decided about the same bytes, when that was taken up then."""
        names = {uid: quarantine_id_of(self._hospital.hospital_id, entry.stored[uid].source_digest) for uid in uids}
        reviews = Reviews(self._ledger).in_force(list(names.values()))
        for uid in uids:
            review = reviews.get(names[uid])
            decision = decision_from_review(review) if review and review.replayed_at else None
            yield SourceFile(self._file(uid), self._hospital.node.name, sop_uid=uid, decision=decision)

    def _is_complete(self, item: SeriesObject) -> bool:
        return all(self._file(uid).exists() for uid in self._uids([item]))

    def _changed(self, entry: StudyEntry, item: SeriesObject) -> list[str]:
        """Instances that came with other bytes than those that were ingested."""
        return [
            uid
            for uid in sorted(self._uids([item]))
            if self._file(uid).exists() and digest_of_file(self._file(uid)) != entry.stored[uid].source_digest
        ]

    def _failed(self, entry: StudyEntry, item: SeriesObject) -> Fetched:
        missing = frozenset(uid for uid in self._uids([item]) if not self._file(uid).exists())
        if gone := missing & self._no_longer_listed(entry, missing):
            return Fetched(item, Outcome.GONE, f"the hospital no longer lists {len(gone)} of {len(item.instances)}")
        if missing:
            reason = self._trouble or "no reason was given"
            return Fetched(item, Outcome.INCOMPLETE, f"{len(missing)} of {len(item.instances)} did not come: {reason}")
        if changed := self._changed(entry, item):
            return Fetched(item, Outcome.CHANGED, f"{len(changed)} of {len(item.instances)} have other bytes")
        return Fetched(item, Outcome.DIFFERS, "another profile or version of radlake catalogued it")

    def _no_longer_listed(self, entry: StudyEntry, missing: frozenset[str]) -> frozenset[str]:
        if not missing:
            return missing
        if self._asking is None:
            return missing  # a folder that could be listed
        listed = self._asking.find_instances(entry.study_uid)
        return frozenset() if listed is None else missing - listed

    def _enter(self, entry: StudyEntry, done: Sequence[Fetched]) -> None:
        """Re-open the study for what the hospital changed or lost; close what has come back."""
        aside: dict[str, SetAside] = {}
        quarantine = Quarantine(self._ledger, self._lake.quarantine)
        back = self._uids([one.object for one in done if one.is_here])
        for one in done:
            if one.outcome is Outcome.CHANGED:
                for uid in self._changed(entry, one.object):
                    held = quarantine.hold(
                        self._file(uid),
                        hospital_id=entry.hospital_id,
                        error=QuarantineError(reason=_CHANGED, detail="fetched on demand"),
                        now=utc_now(),
                        study_uid=entry.study_uid,
                        sop_uid=uid,
                        origin=self._hospital.node.name,
                    )
                    aside[held.quarantine_id] = held
            elif one.outcome is Outcome.GONE:
                for uid in (uid for uid in self._uids([one.object]) if not self._file(uid).exists()):
                    name = f"gone-{quarantine_id_of(entry.hospital_id, uid)}"
                    aside[name] = SetAside(name, uid, _GONE)
        resolved = [
            item.quarantine_id for item in entry.set_aside if item.reason in (_CHANGED, _GONE) and item.sop_uid in back
        ]
        if not aside and not resolved:
            return
        quarantine.release(resolved, now=utc_now())  # first: who is killed in between finds the study open, and repeats
        settlement = Settlement(
            hospital_id=entry.hospital_id,
            study_uid=entry.study_uid,
            stored={},
            set_aside=tuple(aside.values()),
            resolved=tuple(resolved),
        )
        self._ledger.settle([settlement], now=utc_now())
        reached("residency.reopened")


def _is_equal(item: SeriesObject, outcome: StudyOutcome) -> bool:
    made: Collection[Mapping[str, object]] = [row for row in outcome.instances if row["object_path"] == item.path]
    return {(row["sop_instance_uid"], row["digest"]) for row in made} == item.instances
