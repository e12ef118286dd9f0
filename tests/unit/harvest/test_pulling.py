"""Studies go on coming while who takes them is busy: as many as may wait, by number and by bytes, and no more."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from radlake.errors import StoreFull
from radlake.harvest import PulledStudy, pulling
from radlake.harvest.courtesy import NodeGate
from radlake.lake.evidence import StudyEntry, StudyState
from radlake.lake.ledger import Ledger
from radlake.net import DimseNode, StudyFound, connect

MODULE = sys.modules["radlake.harvest.pulling"]  # by attribute it is the function
NODE = DimseNode(ae_title="HIS", host="127.0.0.1", max_associations=2)
FOUND = [StudyFound(f"1.{n}") for n in range(40)]
BYTES = 1000


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[NodeGate]:
    with closing(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        yield NodeGate("h1", NODE, ledger=ledger)


class Spool:
    """Brings studies of one file each, and counts them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self.n_came = 0

    def pull(self, study: StudyFound) -> PulledStudy:
        file = self._folder / f"{study.study_uid}.dcm"
        file.write_bytes(bytes(BYTES))
        with self._lock:
            self.n_came += 1
        return PulledStudy(StudyEntry("h1", study.study_uid, StudyState.RETRIEVING), (file,), "")

    def settled(self) -> int:
        """How many came, once no more come."""
        before = -1
        while before != self.n_came:
            before = self.n_came
            time.sleep(0.3)
        return before


def take_all(spool: Spool, gate: NodeGate, first: Callable[[], None]) -> list[str]:
    """Take every study; `first` is called when the first one is here."""
    client = connect(NODE, ae_title="RADLAKE")
    taken: list[str] = []
    with pulling(
        FOUND, is_due=lambda _: True, pull=spool.pull, gate=gate, client=client, should_yield=lambda: False
    ) as arrivals:
        for study, _ in arrivals:
            if not taken:
                first()
            taken.append(study.study_uid)
    return taken


@pytest.mark.parametrize(
    ("most_studies", "most_bytes", "n_waiting"),
    [
        pytest.param(250, 1 << 30, len(FOUND) - 1, id="all that there are"),
        pytest.param(10, 1 << 30, 10, id="studies"),
        pytest.param(250, 12 * BYTES, 12, id="bytes"),
        pytest.param(250, 1, 2, id="as many as there are associations, however large they are"),
    ],
)
def test_so_much_comes_while_a_batch_is_published(
    most_studies: int, most_bytes: int, n_waiting: int, gate: NodeGate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "_MOST_STUDIES", most_studies)
    monkeypatch.setattr(MODULE, "_MOST_BYTES", most_bytes)
    spool, came = Spool(tmp_path), []
    taken = take_all(spool, gate, lambda: came.append(spool.settled()))
    n_in_hands = 2 if n_waiting < len(FOUND) - 1 else 0  # each thread has one that it cannot put down
    assert came == [1 + n_waiting + n_in_hands]
    assert sorted(taken) == sorted(study.study_uid for study in FOUND)


def test_threads_that_wait_for_room_end_when_nobody_listens_any_more(
    gate: NodeGate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "_MOST_STUDIES", 3)
    spool = Spool(tmp_path)

    def fail() -> None:
        spool.settled()
        raise StoreFull(path="spool", reason="full")

    with pytest.raises(StoreFull):
        take_all(spool, gate, fail)
    assert not [thread for thread in threading.enumerate() if thread.name == "pull"]
    assert spool.n_came < len(FOUND)
