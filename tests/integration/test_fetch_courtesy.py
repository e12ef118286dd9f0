"""A fetch is as courteous to its node as a harvest: calendar, breaker, one study beside the run of the moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from radlake.config import Settings
from radlake.errors import LedgerBusy, NodeAtRest, NodeUnavailable
from radlake.harvest.courtesy import NodeGate, load_states
from radlake.ingest import harvest_hospital
from radlake.lake.ledger import Ledger
from radlake.machine import free_port
from radlake.net import DimseNode, Hospital, Window
from radlake.net.signals import Signal, SignalKind
from radlake.residency import bring_in, fetch_study
from support.counting_pacs import CountingPacs, counting_pacs
from support.courtesy import do_not_disturb, hospital_archive
from support.lakes import settings_of
from support.residency import kept_objects

START, END = datetime(2025, 10, 1).date(), datetime(2025, 10, 8).date()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hospital_archive(tmp_path_factory.mktemp("archive"), n_exams=3, start=START, end=END)


@pytest.fixture
def pacs(archive: Path) -> Iterator[CountingPacs]:
    with counting_pacs(archive) as running:
        yield running


@pytest.fixture
def settings(pacs: CountingPacs, tmp_path: Path) -> Settings:
    """A lake of what the hospital keeps, of which nothing is cached."""
    settings = settings_of(tmp_path / "lake", cache_bytes=0)
    harvest_hospital(settings, hospital_of(pacs), window=Window(START, END))
    pacs.retrieved.clear()
    return settings


def hospital_of(pacs: CountingPacs, *, port: int = 0, **courtesy: object) -> Hospital:
    node = {"kind": "dimse", "ae_title": "HIS", "host": "127.0.0.1", "port": port or pacs.port, "courtesy": courtesy}
    names = {"hospital_id": "h1", "name_zh": "样例", "name_en": "Sample"}
    return Hospital.model_validate({**names, "storage_policy": "index", "node": node})


def test_do_not_disturb(pacs: CountingPacs, settings: Settings) -> None:
    hospital, wanted = hospital_of(pacs, calendar=do_not_disturb()), kept_objects(settings)
    with pytest.raises(NodeAtRest, match="its calendar says: do not disturb"):
        fetch_study(settings, hospital, wanted[:1])
    assert pacs.retrieved == []


def test_a_hospital_may_allow_what_somebody_waits_for(pacs: CountingPacs, settings: Settings) -> None:
    hospital = hospital_of(pacs, calendar=do_not_disturb(), fetch_any_hour=True)
    (fetched,) = fetch_study(settings, hospital, kept_objects(settings)[:1])
    assert (fetched.outcome, len(pacs.retrieved)) == ("fetched", 1)
    with pytest.raises(NodeAtRest):  # nobody waits for all of the archive
        bring_in(settings, hospital)
    assert len(pacs.retrieved) == 1


def test_a_node_that_fails_is_left_in_peace(pacs: CountingPacs, settings: Settings) -> None:
    hospital, wanted = hospital_of(pacs, port=free_port(), fetch_any_hour=True), kept_objects(settings)
    for _ in range(3):
        with pytest.raises(NodeUnavailable):
            fetch_study(settings, hospital, wanted[:1])
    with pytest.raises(NodeAtRest, match="it failed several times in a row"):
        fetch_study(settings, hospital, wanted[:1], timeout=1)
    with pytest.raises(NodeAtRest, match="it failed several times in a row"):  # and a run is told so
        harvest_hospital(settings, hospital, window=Window(START, END), should_yield=lambda: True)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        yield ledger


def gate_of(ledger: Ledger, *, most: int = 2) -> NodeGate:
    return NodeGate("h1", DimseNode(ae_title="HIS", host="127.0.0.1", max_associations=most), ledger=ledger)


def test_a_harvest_leaves_a_place_to_who_waits(ledger: Ledger) -> None:
    harvest, visitor, other = (gate_of(ledger) for _ in range(3))
    with visitor.visit(patience=1):
        assert harvest.take_place(is_over=lambda: False)
        end = time.monotonic() + 0.2
        assert not harvest.take_place(is_over=lambda: time.monotonic() > end)
        with pytest.raises(LedgerBusy), other.visit(patience=0.1):
            pass
    assert harvest.take_place(is_over=lambda: False)
    with other.visit(patience=0.1):
        pass


def test_what_two_processes_meet_is_remembered_of_both(ledger: Ledger) -> None:
    harvest, visitor = gate_of(ledger), gate_of(ledger)
    for _ in range(2):
        visitor.failed()
    harvest.watch(Signal(SignalKind.REFUSED, 300))
    harvest.failed()
    assert harvest.state == load_states(ledger)["h1"]
    assert (harvest.state.breaker.n_opened, harvest.state.throttle.share) == (1, 0.5)


def test_a_slow_node_has_a_pause_between_two_fetches(ledger: Ledger) -> None:
    gate = gate_of(ledger, most=1)
    for share in (1.0, 0.5):
        with gate.visit(patience=0):
            time.sleep(0.5)
        assert (gate.state.visit_at - time.time() > 0.1) is (share < 1)
        gate.watch(Signal(SignalKind.REFUSED, 1e-9))
    with pytest.raises(NodeAtRest), gate_of(ledger, most=1).visit(patience=0):
        pass


def test_a_visitor_that_waits_takes_no_place_from_the_harvest(ledger: Ledger) -> None:
    visitor, harvest = gate_of(ledger, most=1), gate_of(ledger, most=1)
    visitor.watch(Signal(SignalKind.REFUSED, 3))
    visitor.save()
    came: list[float] = []

    def visit() -> None:
        with visitor.visit(patience=30):
            came.append(time.monotonic())

    thread = threading.Thread(target=visit)
    thread.start()
    time.sleep(0.5)
    assert not came
    assert harvest.take_place(is_over=lambda: bool(came))
    thread.join()
