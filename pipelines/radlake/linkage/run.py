"""Link the persons of a lake: read the vault, find pairs, decide under guards, enter the revision, publish the map.

The history comes first and is entered whole; the map follows from it. A kill between the two leaves a revision that is
not published: the next linkage or build publishes it before it does anything else.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from radlake.config import Settings
from radlake.errors import PermanentError
from radlake.lake import Lake
from radlake.lake.person_links import RELINKED, Decision, Linked, PersonLinks, Revision, person_of, publish_links
from radlake.linkage.clusters import Pair, join
from radlake.linkage.match import find_pairs
from radlake.linkage.policy import Policy
from radlake.linkage.quality import measured
from radlake.linkage.records import Record, record_from_identities, records_table
from radlake.linkage.score import score_policy
from radlake.vault.lookup import LookupRefused, Vault, problem_of
from radlake.vault.record import open_identity
from radlake.vault.trail import Reason

__all__ = ["MergeRefused", "Outcome", "changes", "link_all", "merge", "pseudonyms_of", "unmerge"]

_PAGE = 2_000
_TOLD = ("patient_id", "issuer_of_patient_id", "patient_name", "patient_birth_date", "patient_sex",
         "other_patient_ids", "patient_telephone_numbers")  # fmt: skip
Keys = tuple[int, int]


class MergeRefused(PermanentError):
    sentence = (
        "Nothing was changed: {reason}.\n"
        "`radlake vault find --patient` shows what hospitals wrote of each pseudonym. Two valid national identity "
        "numbers are two persons, always."
    )


@dataclass(frozen=True)
class Outcome:
    """What became of a linkage: its revision, decisions of it, pairs that a guard refused, and the linkage rate."""

    revision: int
    n_merged: int
    n_unmerged: int
    refused: Mapping[str, int]
    measures: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class _Proposal:
    """What should hold: pairs in any order, what is known of their pseudonyms, and who must stay apart."""

    pairs: Sequence[Pair]
    records: Mapping[int, Record]
    apart: Collection[Keys]
    must_join: Keys | None = None


def link_all(
    vault: Vault, settings: Settings, *, policy: Policy, reason: Reason, now: datetime, n_scored: int = 20_000
) -> Outcome:
    """Compare the records of all pseudonyms and enter what follows as a revision; published when this returns.

    What a person decided stays decided, and that two are one person by a pseudonym that was withdrawn. The same records
    and policy decide the same again.

    Parameters
    ----------
    n_scored : int
        Synthetic persons that the policy is measured on, if it was not measured before.

    Raises
    ------
    LinkageFailed, LookupRefused, VaultRecordDamaged
    """
    lake, links = Lake.from_settings(settings), PersonLinks(vault.ledger)
    lake.scratch.mkdir(parents=True, exist_ok=True)
    today = now.date()

    def work() -> Outcome:
        if not links.score(policy.name):
            score = score_policy(policy, today=today, n_persons=n_scored, scratch=lake.scratch)
            links.keep_score(policy.name, score)
        records = {record.patient_key: record for record in _records(vault.rows.pages(_PAGE), vault, today=today)}
        threads = max(1, settings.workers or 2)
        found = find_pairs(records_table(records.values()), policy=policy, scratch=lake.scratch, threads=threads)

        def plan(known: Linked) -> _Proposal:
            decided = [pair for pair in _live(known) if pair.decided_by == "person" or pair.reason == RELINKED]
            return _Proposal([*decided, *found.pairs], records, known.apart)

        def measure(persons: Mapping[int, int]) -> dict[str, Any]:
            return {"lake": measured(records.values(), persons), **links.score(policy.name)}

        return _revise(links, plan, measure, kind="run", policy=policy, reason=reason, now=now)

    return _audited(vault, lake, work, kind="run", pseudonym="", reason=reason)


def merge(vault: Vault, settings: Settings, keys: Keys, *, policy: Policy, reason: Reason, now: datetime) -> Outcome:
    """Enter a person's decision that two pseudonyms are of one person, whatever sex and birth date say.

    Raises
    ------
    MergeRefused
        If the vault knows one of them not, they are one person already, or their national identity numbers differ.
    """
    one, other = min(keys), max(keys)

    def plan(known: Linked) -> _Proposal:
        persons = person_of(known.live)
        if persons.get(one, one) == persons.get(other, other):
            raise MergeRefused(reason="they are of one person already")
        if missing := [f"{key:016x}" for key in keys if not vault.n_studies(key)]:
            raise MergeRefused(reason=f"the vault has no record of {', '.join(missing)}")
        around = {key for key, person in persons.items() if person in (persons.get(one), persons.get(other))}
        rows = vault.rows.find(patient_keys=[*around, one, other])
        records = {record.patient_key: record for record in _records([rows], vault, today=now.date())}
        pair = Pair.of(one, other, decided_by="person", reason="decision")
        return _Proposal([*_live(known), pair], records, set(known.apart) - {pair.keys}, must_join=pair.keys)

    return _by_person(vault, settings, keys, plan, kind="merge", policy=policy, reason=reason, now=now)


def unmerge(
    vault: Vault, settings: Settings, keys: Sequence[int], *, policy: Policy, reason: Reason, now: datetime
) -> Outcome:
    """Enter a person's decision that a pseudonym is of nobody else (one key), or that two are of two persons.

    It holds against every later run, until a person merges them again.

    Raises
    ------
    MergeRefused
        If they are not of one person now.
    """

    def plan(known: Linked) -> _Proposal:
        persons = person_of(known.live)
        mine = {key for key, person in persons.items() if person == persons.get(keys[0])} - {keys[0]}
        others = mine if len(keys) == 1 else mine & {keys[1]}
        if not others:
            raise MergeRefused(reason="they are not of one person now")
        parted = {(min(keys[0], key), max(keys[0], key)) for key in others}
        return _Proposal(_live(known), {}, {*known.apart, *parted})

    return _by_person(vault, settings, keys, plan, kind="unmerge", policy=policy, reason=reason, now=now)


def pseudonyms_of(links: PersonLinks, patient_key: int) -> list[int]:
    """All pseudonyms of the person who has this one."""
    persons = person_of(links.linked().live)
    person = persons.get(patient_key)
    return sorted({patient_key, *(key for key, of in persons.items() if of == person)})


def changes(known: Linked, taken: Sequence[Pair], *, apart: Collection[Keys]) -> list[Decision]:
    """What must be decided so that the pairs hold that were taken up: nothing about what holds already."""
    persons = person_of(pair.keys for pair in taken)
    merged = [
        Decision(*pair.keys, "merged", pair.decided_by, pair.reason, pair.probability)
        for pair in taken
        if pair.keys not in known.live
    ]
    parted = sorted(set(apart) - set(known.apart))
    decided = [Decision(*keys, "unmerged", "person", "decision", 1.0) for keys in parted]
    # A pair that is not needed any more holds on while others connect its pseudonyms.
    loose = [keys for keys in sorted(known.live) if persons.get(keys[0], keys[0]) != persons.get(keys[1], keys[1])]
    left = [Decision(*keys, "unmerged", "rule", "not_supported", 1.0) for keys in loose if keys not in set(parted)]
    return [*merged, *decided, *left]


def _by_person(
    vault: Vault,
    settings: Settings,
    keys: Sequence[int],
    plan: Callable[[Linked], _Proposal],
    *,
    kind: str,
    policy: Policy,
    reason: Reason,
    now: datetime,
) -> Outcome:
    lake, links = Lake.from_settings(settings), PersonLinks(vault.ledger)

    def measure(_: Mapping[int, int]) -> Mapping[str, Mapping[str, Any]]:
        before = links.revisions()
        return before[-1].measures if before else {}

    def work() -> Outcome:
        return _revise(links, plan, measure, kind=kind, policy=policy, reason=reason, now=now)

    pseudonyms = " ".join(f"{key:016x}" for key in keys)
    return _audited(vault, lake, work, kind=kind, pseudonym=pseudonyms, reason=reason)


def _audited(
    vault: Vault, lake: Lake, work: Callable[[], Outcome], *, kind: str, pseudonym: str, reason: Reason
) -> Outcome:
    """The question is in the audit trail before a record is opened, and the answer before it is told."""
    if problem := problem_of(reason):
        vault.record("link", reason=Reason("(not told)", "(not told)"), kind=kind, outcome="refused")
        raise LookupRefused(reason=problem)
    publish_links(lake, vault.ledger)
    asked = vault.record("link", reason=reason, kind=kind, pseudonym=pseudonym)
    try:
        outcome = work()
        publish_links(lake, vault.ledger)
    except Exception as exc:
        told = f"to {asked}: failed, {type(exc).__name__}"
        vault.record("linked", reason=reason, kind=kind, pseudonym=pseudonym, outcome=told)
        raise
    told = f"to {asked}: revision {outcome.revision}, {outcome.n_merged} merged, {outcome.n_unmerged} unmerged"
    vault.record("linked", reason=reason, kind=kind, pseudonym=pseudonym, outcome=told)
    return outcome


def _revise(
    links: PersonLinks,
    plan: Callable[[Linked], _Proposal],
    measure: Callable[[Mapping[int, int]], Mapping[str, Mapping[str, Any]]],
    *,
    kind: str,
    policy: Policy,
    reason: Reason,
    now: datetime,
) -> Outcome:
    """Decide on what holds now; when somebody else decided meanwhile, once more."""
    while True:
        known = links.linked()
        asked = plan(known)
        taken, refused = join(
            asked.pairs, records=asked.records, apart=asked.apart, live=known.live, most_keys=policy.most_keys
        )
        if asked.must_join and asked.must_join not in {pair.keys for pair in taken}:
            raise MergeRefused(reason=f"a guard forbids it: {', '.join(sorted(refused))}")
        decisions = changes(known, taken, apart=asked.apart)
        measures = measure(person_of(pair.keys for pair in taken))
        before = links.revisions()[-1:]
        if not decisions and [(one.policy, one.measures) for one in before] == [(policy.name, measures)]:
            return Outcome(known.revision, 0, 0, refused, measures)
        number = known.revision + 1
        revision = Revision(number, now, kind, policy.name, reason.by, reason.why, measures)
        if links.append(decisions, revision=revision):
            n_merged = sum(one.action == "merged" for one in decisions)
            return Outcome(number, n_merged, len(decisions) - n_merged, refused, measures)


def _live(known: Linked) -> list[Pair]:
    return [Pair(*one.keys, one.decided_by, one.reason, one.probability) for one in known.live.values()]


def _records(pages: Iterable[Sequence[Mapping[str, Any]]], vault: Vault, *, today: date) -> Iterator[Record]:
    """Records of all pseudonyms of rows of the vault."""
    told: dict[int, Counter[str]] = defaultdict(Counter)
    for page in pages:
        for row in page:
            identity = open_identity(vault.keys, row)
            text = json.dumps({name: identity[name] for name in _TOLD if name in identity}, ensure_ascii=False)
            told[row["patient_key"]][text] += 1
    for patient_key in sorted(told):
        identities = [json.loads(text) for text in told[patient_key].elements()]
        yield record_from_identities(patient_key, identities, today=today)
