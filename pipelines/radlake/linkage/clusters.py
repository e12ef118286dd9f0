"""From pairs to persons: pairs are taken up one after the other, the surest first, and never against a guard.

Pure. A person is what is connected by the pairs that were taken up (a forest: each of them joined two parts). Two
parts are not joined when a person said that they are different, when both have a national identity number and it is
not the same, when sex or date of birth contradict each other, or when too many pseudonyms would come together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from radlake.lake.person_links import root_of
from radlake.linkage.records import Record, births_agree

__all__ = ["Pair", "conflict", "join"]


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Two pseudonyms that are of one person, why, and how sure that is.

    Attributes
    ----------
    patient_key, other_key : int
        The smaller one first.
    decided_by : str
        `rule`, `model` or `person`.
    reason : str
        Which rule, or which version of the model.
    probability : float
        That of the model; 1 otherwise.
    """

    patient_key: int
    other_key: int
    decided_by: str
    reason: str
    probability: float = 1.0

    @classmethod
    def of(cls, one: int, other: int, *, decided_by: str, reason: str, probability: float = 1.0) -> Pair:
        return cls(min(one, other), max(one, other), decided_by, reason, probability)

    @property
    def keys(self) -> tuple[int, int]:
        return self.patient_key, self.other_key


_ORDER = {"person": 0, "rule": 1, "model": 2}


def join(
    pairs: Iterable[Pair],
    *,
    records: Mapping[int, Record],
    apart: Collection[tuple[int, int]] = (),
    live: Collection[tuple[int, int]] = (),
    most_keys: int = 50,
) -> tuple[list[Pair], dict[str, int]]:
    """The pairs that join persons, and how many were refused by each guard.

    Parameters
    ----------
    records : mapping
        What is known of the keys; a key without a record contradicts nobody.
    apart : collection of pairs of keys
        Which a person said are different, the smaller key first.
    live : collection of pairs of keys
        Which join persons now: taken up before new ones, so that a later decision changes no more than it must.
    most_keys : int
        Of one person: more is a mistake.

    Returns
    -------
    list of Pair, dict of str to int
        The same arguments in any order give the same.
    """
    ordered = sorted(pairs, key=lambda pair: (_ORDER[pair.decided_by], pair.keys not in live, -pair.probability, pair))
    forest = _Forest(records, apart, most_keys)
    taken, refused = [], defaultdict(int)
    for pair in ordered:
        why = forest.unite(*pair.keys, may_contradict=pair.decided_by == "person")
        if why is None:
            taken.append(pair)
        elif why:
            refused[why] += 1
    return taken, dict(refused)


def conflict(one: Collection[Record], other: Collection[Record]) -> str:
    """Why two groups of records cannot be of one person: `national_id`, `birth_date`, `sex`; empty when they can."""
    if len({record.national_id for record in (*one, *other)} - {None}) > 1:
        return "national_id"
    births = [{record.birth_date for record in part if record.birth_date} for part in (one, other)]
    if any(not births_agree(a, b) for a in births[0] for b in births[1]):
        return "birth_date"
    sexes = [{record.sex for record in part if record.sex} for part in (one, other)]
    return "sex" if sexes[0] and sexes[1] and sexes[0] != sexes[1] else ""


class _Forest:
    def __init__(self, records: Mapping[int, Record], apart: Iterable[tuple[int, int]], most_keys: int) -> None:
        self._parent: dict[int, int] = {}
        self._members: dict[int, list[int]] = {}
        self._records = records
        self._most = most_keys
        self._apart: dict[int, set[int]] = defaultdict(set)
        for one, other in apart:
            self._apart[one].add(other)
            self._apart[other].add(one)

    def unite(self, one: int, other: int, *, may_contradict: bool) -> str | None:
        """None when it joined two parts, an empty text when they were one already, else the guard that forbids it."""
        one, other = root_of(self._parent, one), root_of(self._parent, other)
        if one == other:
            return ""
        parts = [self._members.get(root, [root]) for root in (one, other)]
        if len(parts[0]) + len(parts[1]) > self._most:
            return "most_keys"
        few, many = sorted(parts, key=len)
        if any(not self._apart[key].isdisjoint(many) for key in few if key in self._apart):
            return "apart"
        found = [list(self._known(part)) for part in parts]
        why = conflict(*found)
        if why == "national_id" or (why and not may_contradict):
            return why
        low, high = sorted((one, other))
        self._parent[high] = low
        self._parent.setdefault(low, low)
        self._members[low] = parts[0] + parts[1]
        self._members.pop(high, None)
        return None

    def _known(self, keys: Iterable[int]) -> Iterator[Record]:
        return (self._records[key] for key in keys if key in self._records)
