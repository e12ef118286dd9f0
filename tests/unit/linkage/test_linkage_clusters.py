"""From pairs to persons: guards, order, stability."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radlake.lake.person_links import person_of
from radlake.linkage.clusters import Pair, join
from radlake.linkage.records import Record


def _model(one: int, other: int, probability: float = 0.99) -> Pair:
    return Pair.of(one, other, decided_by="model", reason="model v1", probability=probability)


def _person(one: int, other: int) -> Pair:
    return Pair.of(one, other, decided_by="person", reason="merged")


def test_persons_are_what_pairs_connect() -> None:
    pairs, refused = join([_model(2, 1), _model(3, 2), _model(8, 9), _model(1, 3)], records={})
    assert (person_of(pair.keys for pair in pairs), refused) == ({1: 1, 2: 1, 3: 1, 8: 8, 9: 8}, {})


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (Record(1, national_id="A"), Record(3, national_id="B"), "national_id"),
        (Record(1, sex="F"), Record(3, sex="M"), "sex"),
        (Record(1, birth_date="19640224"), Record(3, birth_date="19710605"), "birth_date"),
    ],
    ids=["two national ids", "sex", "birth date"],
)
def test_a_chain_never_joins_what_contradicts(one: Record, other: Record, why: str) -> None:
    records = {1: one, 2: Record(2), 3: other}
    pairs, refused = join([_model(1, 2, 0.999), _model(2, 3, 0.99)], records=records)
    assert [pair.keys for pair in pairs] == [(1, 2)]
    assert refused == {why: 1}


def test_a_person_may_overrule_sex_but_never_two_national_ids() -> None:
    assert len(join([_person(1, 2)], records={1: Record(1, sex="F"), 2: Record(2, sex="M")})[0]) == 1
    records = {1: Record(1, national_id="A"), 2: Record(2, national_id="B")}
    assert join([_person(1, 2)], records=records) == ([], {"national_id": 1})


def test_who_was_taken_apart_stays_apart_over_any_way() -> None:
    pairs, refused = join([_model(1, 2, 0.999), _model(2, 3, 0.99)], records={}, apart={(1, 3)})
    assert [pair.keys for pair in pairs] == [(1, 2)]
    assert refused == {"apart": 1}


def test_too_many_pseudonyms_are_no_person() -> None:
    pairs, refused = join([_model(0, n) for n in range(1, 10)], records={}, most_keys=4)
    assert (len(pairs), refused) == (3, {"most_keys": 6})


def test_what_joins_now_comes_before_what_is_new() -> None:
    records = {1: Record(1, sex="F"), 3: Record(3, sex="M")}
    pairs, _ = join([_model(1, 2, 0.98), _model(2, 3, 0.999)], records=records, live={(1, 2)})
    assert [pair.keys for pair in pairs] == [(1, 2)]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.floats(0.9, 1)), max_size=20), st.randoms())
def test_the_order_of_pairs_does_not_count(drawn: list[tuple[int, int, float]], rng) -> None:
    pairs = [_model(one, other, sure) for one, other, sure in drawn if one != other]
    records = {key: Record(key, sex="FM"[key % 3 == 0]) for key in range(9)}
    shuffled = list(pairs)
    rng.shuffle(shuffled)
    assert join(pairs, records=records) == join(shuffled, records=records)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)).filter(lambda pair: pair[0] != pair[1]), max_size=30))
def test_components_are_closed_and_named_by_their_smallest_key(pairs: list[tuple[int, int]]) -> None:
    found = person_of(pairs)
    assert all(found[one] == found[other] for one, other in pairs)
    assert all(root == min(key for key, of in found.items() if of == root) for root in found.values())
