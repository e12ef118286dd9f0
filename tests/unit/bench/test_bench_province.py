from __future__ import annotations

from pathlib import Path

import pytest
from bench.province import prove_and_alter, run_province

from radlake.config import Settings
from radlake.synth.quirks import CATALOGUE
from radlake.synth.virtual import make_virtual_province


def test_the_same_seed_gives_the_same_province() -> None:
    one, other = (make_virtual_province(seed=5, hospitals=30, studies=200) for _ in range(2))
    assert one == other
    assert {name for place in one for name in place.names} == {entry.name for entry in CATALOGUE}
    assert sum(place.n_studies for place in one) == 200
    for place, again in zip(one[:5], other, strict=False):
        first, second = place.make(), again.make()
        held = list(first.holdings.by_uid.items())
        assert held
        assert all(second.holdings.by_uid[uid].content() == instance.content() for uid, instance in held)


def test_another_seed_gives_another() -> None:
    one, other = (make_virtual_province(seed=seed, hospitals=3, studies=9)[0].make() for seed in (1, 2))
    assert any(
        instance.content() != other.holdings.by_uid[uid].content()
        for uid, instance in one.holdings.by_uid.items()
        if uid in other.holdings.by_uid
    )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # PACS that hang up
def test_nothing_of_a_province_is_lost(tmp_path: Path) -> None:
    settings = Settings(lake=str(tmp_path / "lake"), workers=0)
    outcome = run_province(settings, hospitals=30, studies=90, seed=1)
    assert (outcome.n_without_state, outcome.n_false_complete, outcome.n_lost) == (0, 0, 0)
    assert outcome.n_rows == outcome.n_stored
    assert outcome.n_studies == 90
    assert outcome.naive_false > 0
    assert outcome.naive_lost > 0
    n_certificates, n_before, after = prove_and_alter(settings)
    assert (n_certificates, n_before) == (30, 0)
    assert after
