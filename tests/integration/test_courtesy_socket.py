"""Courtesy over a socket: a real simulated PACS that becomes slow, refuses, falls silent; several studies at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import cycle
from pathlib import Path

import pytest

from radlake.errors import NodeAtRest, RetrieveFailed
from radlake.harvest.courtesy import NodeGate, load_states
from radlake.ingest import harvest_hospital
from radlake.lake.ledger import Ledger
from radlake.net import DimseNode, Hospital, Window, connect
from radlake.synth.behaviour import Behaviour
from radlake.synth.dimse_pacs import DimsePacs
from radlake.synth.holdings import Held, Holdings
from radlake.synth.quirks import Quirks
from support.courtesy import do_not_disturb, hospital_archive
from support.lakes import settings_of, states
from support.odd_origin import Answer, odd_origin

START, END = datetime(2025, 10, 1).date(), datetime(2025, 12, 31).date()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hospital_archive(tmp_path_factory.mktemp("archive"), n_exams=12, start=START, end=END)


@pytest.fixture
def behaviour(archive: Path) -> Behaviour:
    return Behaviour(Holdings(archive), quirks=Quirks())


@pytest.fixture
def pacs(behaviour: Behaviour) -> Iterator[DimsePacs]:
    running = DimsePacs(behaviour, ae_title="HIS", host="127.0.0.1", port=0, destinations={})
    yield running
    running.stop()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield ledger
    ledger.close()


def node_of(pacs: DimsePacs, **settings: object) -> DimseNode:
    known = {"name": "h1", "ae_title": "HIS", "host": "127.0.0.1", "port": pacs.port, "max_associations": 4}
    return DimseNode.model_validate({**known, **settings})


def hospital_of(node: DimseNode) -> Hospital:
    return Hospital(hospital_id="h1", name_zh="样例", name_en="Sample", region_code="320100", node=node)


def test_a_node_under_load_is_asked_half_as_much_and_gets_it_back(
    pacs: DimsePacs, behaviour: Behaviour, ledger: Ledger, tmp_path: Path
) -> None:
    node = node_of(pacs)
    gate, client = NodeGate("h1", node, ledger=ledger), connect(node, ae_title="RADLAKE")
    client.watch = gate.watch
    studies = cycle(client.find_studies(Window(START, END)))

    def ask_for(seconds: float, *, until: float) -> float:
        """Retrieve one study after the other until the load is this, and how long it took."""
        begin = time.monotonic()
        while time.monotonic() - begin < seconds and (gate.allowed().load - until) * direction > 0:
            study = next(studies)
            client.find_instances(study.study_uid)
            client.retrieve(study.study_uid, into=tmp_path / "spool" / f"{time.monotonic_ns()}")
        return time.monotonic() - begin

    direction = 1
    for _ in range(8):
        client.find_instances(next(studies).study_uid)
    assert gate.allowed().load == 4.0
    behaviour.quirks = replace(behaviour.quirks, delay_ms=700)
    assert ask_for(30, until=2.0) < 30
    assert gate.allowed().load <= 2.0
    behaviour.quirks = replace(behaviour.quirks, delay_ms=0)
    low, direction = gate.allowed().load, -1
    ask_for(60, until=low + 0.1)
    assert gate.allowed().load > low


def test_as_many_studies_at_once_as_the_courtesy_allows(pacs: DimsePacs, behaviour: Behaviour, tmp_path: Path) -> None:
    now_there, most, lock = 0, 0, threading.Lock()
    sends = behaviour.sends

    def counted(query: dict[str, str]) -> list[Held]:
        nonlocal now_there, most
        with lock:
            now_there += 1
            most = max(most, now_there)
        time.sleep(0.3)
        with lock:
            now_there -= 1
        return sends(query)

    behaviour.sends = counted  # pyright: ignore[reportAttributeAccessIssue]
    settings = settings_of(tmp_path / "lake")
    summary = harvest_hospital(settings, hospital_of(node_of(pacs, max_associations=3)), window=Window(START, END))
    assert summary.studies_found == summary.studies_complete > 3
    assert most == 3
    assert {state for state, _ in states(settings).values()} == {"complete"}


def test_a_node_that_only_fails_is_left_in_peace_by_the_next_run(
    pacs: DimsePacs, behaviour: Behaviour, tmp_path: Path
) -> None:
    behaviour.quirks = replace(behaviour.quirks, fail_one_in=1)
    settings, hospital = settings_of(tmp_path / "lake"), hospital_of(node_of(pacs, max_associations=1))
    with pytest.raises(RetrieveFailed):
        harvest_hospital(settings, hospital, window=Window(START, END))
    ledger = Ledger(settings.ledger)
    gate = NodeGate("h1", hospital.node, ledger=ledger)  # pyright: ignore[reportArgumentType]
    assert (gate.allowed().places, gate.state.breaker.n_opened) == (0, 1)
    later = NodeGate("h1", hospital.node, ledger=ledger, clock=lambda: gate.state.breaker.until + 1)  # pyright: ignore[reportArgumentType]
    assert later.allowed().places == 1
    ledger.close()


def test_do_not_disturb(pacs: DimsePacs, tmp_path: Path) -> None:
    node, settings = node_of(pacs, courtesy={"calendar": do_not_disturb()}), settings_of(tmp_path / "lake")
    with pytest.raises(NodeAtRest, match=r"left in peace until 20.*UTC \(its calendar says: do not disturb\)"):
        harvest_hospital(settings, hospital_of(node), window=Window(START, END))
    assert states(settings) == {}


@pytest.mark.parametrize(("header", "seconds"), [({"Retry-After": "120"}, 120.0), ({}, 10.0)], ids=["told", "not told"])
def test_a_web_node_that_asks_us_to_slow_down(header: dict[str, str], seconds: float, ledger: Ledger) -> None:
    with odd_origin(lambda _: Answer(status=503, headers=header)) as origin:
        node = origin.node()
        gate, client = NodeGate("h1", node, ledger=ledger, clock=lambda: 1e9), connect(node, ae_title="RADLAKE")
        client.watch = gate.watch
        with pytest.raises(Exception, match="slow down"):
            client.find_studies(Window(START, END))
    assert (gate.state.throttle.share, gate.allowed().from_ - 1e9) == (0.5, seconds)
    gate.save()
    assert load_states(ledger)["h1"] == gate.state
