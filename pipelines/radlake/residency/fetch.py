"""Fetch on demand: retrieve a series from its hospital again, de-identify and pack it again, prove it, keep it cached.

De-identification is deterministic and an object is named by its content, so the proof is complete: name, members and
digests must be those of the rows. What differs is dropped and told; nothing of it is served.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from radlake import log
from radlake.commit_points import reached
from radlake.config import Settings
from radlake.errors import QuarantineError, SourceMissing
from radlake.ingest.job import IngestJob, SourceFile, StudyOutcome
from radlake.ingest.study import ingest_study
from radlake.lake import Lake
from radlake.lake.digests import quarantine_id_of
from radlake.lake.evidence import SetAside, Settlement, StudyEntry
from radlake.lake.ledger import Ledger
from radlake.lake.quarantine import Quarantine
from radlake.lake.reading import has_object
from radlake.lake.retrievals import Retrieval, enter_retrieval
from radlake.lake.reviews import Reviews
from radlake.lake.vault import VaultRows
from radlake.machine import utc_now
from radlake.net import Hospital, NodeClient
from radlake.residency.asking import Asking
from radlake.residency.catalogue import SeriesObject, objects_of
from radlake.residency.originals import Originals
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
    asked_at, begun = utc_now(), time.monotonic()
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
                outcome = "failed"
                try:
                    entry = _entry(ledger, hospital.hospital_id, wanted[0].study_uid)
                    fetched = _Fetch(settings, lake, ledger, hospital, entry, ask).run(due, here=list(done.values()))
                    outcome = _worst(fetched)
                finally:
                    if is_awaited:
                        told = Retrieval(
                            hospital_id=hospital.hospital_id,
                            asked_at=asked_at,
                            seconds=time.monotonic() - begun,
                            n_objects=len(wanted),
                            n_bytes=sum(item.n_bytes for item in wanted),
                            outcome=outcome,
                        )
                        enter_retrieval(ledger, told)
            done |= {one.object.path: one for one in fetched}
            lake.cache.trim(spared=[item.path for item in wanted])
    return [done[item.path] for item in wanted]


def _worst(fetched: Sequence[Fetched]) -> str:
    """What a person who waits sees: one series that did not come is more than all that did."""
    order = list(Outcome)
    return max((one.outcome for one in fetched), key=order.index, default=Outcome.HERE).value


def _entry(ledger: Ledger, hospital_id: str, lake_study_uid: str) -> StudyEntry:
    study_uid = ledger.study_of(hospital_id, lake_study_uid)
    entry = ledger.entry(hospital_id, study_uid) if study_uid else None
    if entry is None or entry.withdrawn:
        raise SourceMissing(path=f"The ledger's entry of study {lake_study_uid} of {hospital_id}")
    return entry


class _Fetch:
    def __init__(
        self,
        settings: Settings,
        lake: Lake,
        ledger: Ledger,
        hospital: Hospital,
        entry: StudyEntry,
        ask: Callable[[], Asking],
    ) -> None:
        self._settings, self._lake, self._ledger = settings, lake, ledger
        self._hospital, self._entry = hospital, entry
        self._keys = lake_keys(settings)
        self._originals = Originals(hospital, entry, uid_of=self._keys.uid, scratch=lake.scratch, ask=ask)

    def run(self, due: Sequence[SeriesObject], *, here: Sequence[Fetched]) -> list[Fetched]:
        """Bring what is due; what is here already may have come before a kill, and its study be open still."""
        if not due:
            self._enter(here)
            return []
        with self._originals.kept():
            self._originals.bring(self._originals.uids(due))
            proven = self._prove(due)
            done = [Fetched(item, Outcome.FETCHED) if item.path in proven else self._failed(item) for item in due]
            self._enter([*here, *done])
        log.get_logger().info(
            "pixels_fetched", hospital=self._hospital.hospital_id, n_found=len(proven), n_expected=len(due)
        )
        return done

    def _prove(self, due: Sequence[SeriesObject]) -> set[str]:
        """Paths of the objects that were made equal, which are in the cache then.

        What the headers of one ingest tell of the person decides which words are removed from all of them, so an object
        is tried in the company of those that are wanted with it, then alone, then with the whole study.
        """
        proven: set[str] = set()
        for group in (due, *([item] for item in due)):
            left = [item for item in group if item.path not in proven and not self._originals.missing(item)]
            if left and len({item.series_uid for item in left}) == len(left):
                proven |= self._made(left, left)
        left = [item for item in due if item.path not in proven and not self._originals.changed(item)]
        left = [item for item in left if not self._originals.missing(item)]
        if left:
            self._originals.bring(frozenset(self._entry.stored))
            study = objects_of(self._lake, uids=[due[0].study_uid], hospital_id=self._hospital.hospital_id)
            for item in left:
                others = [one for one in study if one.series_uid != item.series_uid]
                company = [one for one in others if not self._originals.missing(one)]
                proven |= self._made([item, *company], [item])
        return proven

    def _made(self, group: Sequence[SeriesObject], wanted: Sequence[SeriesObject]) -> set[str]:
        files = tuple(self._source_files(sorted(self._originals.uids(group))))
        job = IngestJob(
            self._settings,
            self._hospital.hospital_id,
            self._entry.study_uid,
            files,
            patient_key=self._entry.patient_key,
            vault_version=VaultRows(self._ledger).version,
            key_check=self._keys.check_value(),
            residency="index",
        )
        outcome = ingest_study(job)
        proven = {item.path for item in wanted if _is_equal(item, outcome)}
        made = {row["object_path"] for row in outcome.series}
        try:  # a withdrawal first changes the ledger, then waits for the lock that we hold, and empties the cache
            _entry(self._ledger, self._hospital.hospital_id, wanted[0].study_uid)
        except SourceMissing:
            for path in made:
                self._lake.cache.discard(path)
            raise
        for path in made:
            if path in proven:
                self._lake.cache.admit(path, is_asked_for=True)
                reached("residency.cached")
            else:
                self._lake.cache.discard(path)
        return proven

    def _source_files(self, uids: Sequence[str]) -> Iterator[SourceFile]:
        """With what reviewers decided about the same bytes, when that was taken up then."""
        stored, hospital_id = self._entry.stored, self._hospital.hospital_id
        names = {uid: quarantine_id_of(hospital_id, stored[uid].source_digest) for uid in uids}
        reviews = Reviews(self._ledger).in_force(list(names.values()))
        for uid in uids:
            review = reviews.get(names[uid])
            decision = decision_from_review(review) if review and review.replayed_at else None
            yield SourceFile(self._originals.file(uid), self._hospital.node.name, sop_uid=uid, decision=decision)

    def _failed(self, item: SeriesObject) -> Fetched:
        missing = self._originals.missing(item)
        if gone := self._originals.no_longer_listed(missing):
            return Fetched(item, Outcome.GONE, f"the hospital no longer lists {len(gone)} of {len(item.instances)}")
        if missing:
            reason = self._originals.trouble or "no reason was given"
            return Fetched(item, Outcome.INCOMPLETE, f"{len(missing)} of {len(item.instances)} did not come: {reason}")
        if changed := self._originals.changed(item):
            return Fetched(item, Outcome.CHANGED, f"{len(changed)} of {len(item.instances)} have other bytes")
        return Fetched(item, Outcome.DIFFERS, "another profile or version of radlake catalogued it")

    def _enter(self, done: Sequence[Fetched]) -> None:
        """Re-open the study for what the hospital changed or lost; close what has come back."""
        entry, originals = self._entry, self._originals
        aside: dict[str, SetAside] = {}
        quarantine = Quarantine(self._ledger, self._lake.quarantine)
        back = originals.uids([one.object for one in done if one.is_here])
        for one in done:
            if one.outcome is Outcome.CHANGED:
                for uid in originals.changed(one.object):
                    held = quarantine.hold(
                        originals.file(uid),
                        hospital_id=entry.hospital_id,
                        error=QuarantineError(reason=_CHANGED, detail="fetched on demand"),
                        now=utc_now(),
                        study_uid=entry.study_uid,
                        sop_uid=uid,
                        origin=self._hospital.node.name,
                    )
                    aside[held.quarantine_id] = held
            elif one.outcome is Outcome.GONE:
                for uid in originals.missing(one.object):
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
