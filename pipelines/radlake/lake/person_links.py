"""Which pseudonyms are of one person: decisions about pairs, append only, in the ledger's database; and their map.

What joins now is the last decision about each pair. A revision is what was decided at once; the map of a revision is
published as core.person_link (pseudonyms only), once, however often it is asked for: whoever decides or builds next
publishes what a kill left unpublished. Who decides, and by what, is `radlake.linkage`'s.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlalchemy as sa

from radlake.commit_points import reached
from radlake.contracts import load_table
from radlake.lake.ledger_tables import FACT, PERSON_LINK, PERSON_LINK_REVISION
from radlake.lake.statements import put_row
from radlake.lake.zones import Lake

if TYPE_CHECKING:
    from radlake.lake.ledger import Ledger

__all__ = ["MAP", "QUALITY", "RELINKED", "Decision", "Linked", "PersonLinks", "Revision", "person_of", "publish_links",
           "root_of"]  # fmt: skip

MAP, QUALITY = "core.person_link", "ops.linkage"
RELINKED = "linked_through_withdrawn"  # reason of a pair that were one person by a pseudonym that is gone
_SCORE = "linkage_score/"


@dataclass(frozen=True)
class Decision:
    """About one pair of pseudonyms, the smaller one first.

    Attributes
    ----------
    action : str
        `merged` or `unmerged`.
    decided_by : str
        `rule`, `model` or `person`.
    reason : str
        A rule, a version of the model, a guard; of a person `decision`: who and why is in the revision.
    """

    patient_key: int
    other_key: int
    action: str
    decided_by: str
    reason: str
    probability: float

    @property
    def keys(self) -> tuple[int, int]:
        return self.patient_key, self.other_key


@dataclass(frozen=True)
class Linked:
    """What holds at a revision; 0 is before the first."""

    revision: int
    live: Mapping[tuple[int, int], Decision]
    apart: Collection[tuple[int, int]]  # a person said that they are two


@dataclass(frozen=True)
class Revision:
    """What was decided at once: by a run over all records, or by a person.

    Attributes
    ----------
    kind : str
        `run`, `merge`, `unmerge` or `withdraw`.
    by, why : str
        Who, in their own words; never an identifier.
    measures : mapping
        Counts and shares by population (`lake`, `synthetic_low`, ...): columns of ops.linkage.
    """

    revision: int
    made_at: datetime
    kind: str
    policy: str
    by: str
    why: str
    measures: Mapping[str, Mapping[str, Any]]


class PersonLinks:
    """The history in the ledger's database; nothing in it is ever changed but by a withdrawal."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def linked(self, revision: int | None = None) -> Linked:
        """What holds now, or held at an older revision."""
        with self._ledger.snapshot() as connection:
            newest = _newest(connection)
            return _linked(connection, newest if revision is None else min(revision, newest))

    def append(self, decisions: Iterable[Decision], *, revision: Revision) -> bool:
        """Enter a revision, all or nothing; False when somebody else entered one of this number first."""
        with self._ledger.writing() as connection:
            _one_after_the_other(connection)
            if _newest(connection) != revision.revision - 1:
                return False
            _enter(connection, decisions, revision)
        reached("linkage.decided")
        return True

    def forget(self, patient_keys: Collection[int], *, by: str, why: str, now: datetime) -> None:
        """Take every decision about these pseudonyms out of the history. Others who are one person through them stay
        one, by decisions of a new revision.
        """
        gone = frozenset(patient_keys)
        before = self.revisions()[-1:]
        with self._ledger.writing() as connection:
            _one_after_the_other(connection)
            newest = _newest(connection)
            live = _linked(connection, newest).live
            for key in gone:
                either = (PERSON_LINK.c.patient_key == key) | (PERSON_LINK.c.other_key == key)
                connection.execute(PERSON_LINK.delete().where(either))
            persons = _left_of(live, gone)
            if any(len(keys) > 1 for keys in persons):
                decisions = [one for keys in persons for one in _relinked(live, gone, keys)]
                policy, measures = (before[0].policy, before[0].measures) if before else ("", {})
                _enter(connection, decisions, Revision(newest + 1, now, "withdraw", policy, by, why, measures))

    def history(self, patient_keys: Collection[int]) -> list[tuple[Revision, Decision]]:
        """Every decision about these pseudonyms, the oldest first."""
        revisions = {one.revision: one for one in self.revisions()}
        about = PERSON_LINK.c.patient_key.in_(patient_keys) | PERSON_LINK.c.other_key.in_(patient_keys)
        query = sa.select(PERSON_LINK.c.revision, *_DECISION).where(about).order_by(PERSON_LINK.c.seq)
        with self._ledger.reading() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [(revisions[row.pop("revision")], Decision(**row)) for row in rows]

    def revisions(self) -> list[Revision]:
        """All of them, the oldest first."""
        query = sa.select(PERSON_LINK_REVISION).order_by(PERSON_LINK_REVISION.c.revision)
        with self._ledger.reading() as connection:
            return [
                Revision(**(dict(row) | {"measures": json.loads(row["measures"])}))
                for row in connection.execute(query).mappings()
            ]

    def score(self, policy: str) -> Mapping[str, Mapping[str, Any]]:
        """What a policy was measured to find on synthetic records, by population; empty when nobody measured."""
        with self._ledger.reading() as connection:
            found = connection.execute(sa.select(FACT.c.value).where(FACT.c.name == _SCORE + policy)).scalar()
        return json.loads(found) if found else {}

    def keep_score(self, policy: str, score: Mapping[str, Mapping[str, Any]]) -> None:
        with self._ledger.writing() as connection:
            put_row(connection, FACT, {"name": _SCORE + policy}, {"value": json.dumps(score, sort_keys=True)})


_DECISION = [PERSON_LINK.c[name] for name in Decision.__dataclass_fields__]


def _one_after_the_other(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("LOCK TABLE person_link_revision IN EXCLUSIVE MODE"))


def _linked(connection: sa.Connection, revision: int) -> Linked:
    last = (
        sa.select(sa.func.max(PERSON_LINK.c.seq))
        .where(PERSON_LINK.c.revision <= revision)
        .group_by(PERSON_LINK.c.patient_key, PERSON_LINK.c.other_key)
    )
    rows = connection.execute(sa.select(*_DECISION).where(PERSON_LINK.c.seq.in_(last)))
    decisions = [Decision(**row) for row in rows.mappings()]
    live = {one.keys: one for one in decisions if one.action == "merged"}
    apart = frozenset(one.keys for one in decisions if one.action == "unmerged" and one.decided_by == "person")
    return Linked(revision, live, apart)


def _enter(connection: sa.Connection, decisions: Iterable[Decision], revision: Revision) -> None:
    seq = connection.execute(sa.select(sa.func.max(PERSON_LINK.c.seq))).scalar() or 0
    rows = [
        {"seq": seq + n, "revision": revision.revision, "decided_at": revision.made_at} | vars(one)
        for n, one in enumerate(decisions, 1)
    ]
    if rows:
        connection.execute(PERSON_LINK.insert(), rows)
    values = vars(revision) | {"measures": json.dumps(revision.measures, sort_keys=True)}
    connection.execute(PERSON_LINK_REVISION.insert().values(**values))


def _left_of(live: Iterable[tuple[int, int]], gone: frozenset[int]) -> list[list[int]]:
    """The other pseudonyms of each person who has one of those that go."""
    persons: dict[int, list[int]] = {}
    for key, person in sorted(person_of(live).items()):
        persons.setdefault(person, []).append(key)
    return [[key for key in keys if key not in gone] for keys in persons.values() if not gone.isdisjoint(keys)]


def _relinked(live: Mapping[tuple[int, int], Decision], gone: frozenset[int], keys: list[int]) -> list[Decision]:
    """What joins these pseudonyms of one person without those that go; as sure as the least sure pair of before."""
    without = person_of(pair for pair in live if gone.isdisjoint(pair))
    first, *others = sorted({without.get(key, key) for key in keys})
    of_person = [(pair, one) for pair, one in live.items() if {*keys, *gone}.issuperset(pair)]
    probability = min(one.probability for pair, one in of_person if not gone.isdisjoint(pair))
    return [Decision(first, other, "merged", "rule", RELINKED, probability) for other in others]


def person_of(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Person of each pseudonym in a pair: the smallest pseudonym that it is connected with."""
    parent: dict[int, int] = {}
    for pair in pairs:
        low, high = sorted(root_of(parent, key) for key in pair)
        parent[low] = parent[high] = low
    return {key: root_of(parent, key) for key in list(parent)}


def root_of(parent: dict[int, int], key: int) -> int:
    """Of a forest of keys; one that is not in it is its own root. The way to it is shortened."""
    root = key
    while (above := parent.get(root, root)) != root:
        root = above
    while key != root:
        parent[key], key = root, parent[key]
    return root


def publish_links(lake: Lake, ledger: Ledger) -> int:
    """Publish the map and the quality of the newest revision, unless they are published; returns its number."""
    links = PersonLinks(ledger)
    with ledger.reading() as connection:
        newest = _newest(connection)
    if not newest:
        return 0
    batch_id = f"person-link-{newest}"
    found = lake.tables.snapshot(MAP)
    if found is None or found.committed(batch_id) is None:
        linked = links.linked(newest)
        lake.tables.overwrite(MAP, _map_rows(person_of(linked.live)), batch_id=batch_id)
        reached("linkage.published")
    found = lake.tables.snapshot(QUALITY)
    if found is None or found.committed(batch_id) is None:
        lake.tables.overwrite(QUALITY, _quality_rows(links.revisions()), batch_id=batch_id)
    return newest


def _map_rows(persons: Mapping[int, int]) -> pa.Table:
    moved = sorted((key, person) for key, person in persons.items() if key != person)
    schema = load_table(MAP).arrow_schema()
    columns = [[row[0] for row in moved], [row[1] for row in moved]]
    return pa.table([pa.array(column, pa.int64()) for column in columns], schema=schema)


def _quality_rows(revisions: Sequence[Revision]) -> pa.Table:
    rows = [
        {"revision": one.revision, "made_at": one.made_at, "policy": one.policy, "population": population, **measured}
        for one in revisions
        for population, measured in one.measures.items()
    ]
    return pa.Table.from_pylist(rows, schema=load_table(QUALITY).arrow_schema())


def _newest(connection: sa.Connection) -> int:
    return connection.execute(sa.select(sa.func.max(PERSON_LINK_REVISION.c.revision))).scalar() or 0
