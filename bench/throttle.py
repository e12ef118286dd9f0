"""Throttle: a real simulated PACS over a socket becomes slow; how soon do we ask less, and when as much as before.

A fixed number of associations, as every other harvester has it, is the peer: it asks on as if nothing had happened.
What is printed as rate is what was begun, by the clock on the wall.
"""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from bench.measure import Place

__all__ = ["main"]

_PLACES = 4
_SLOW_MS = 600
_SHOWN = 30  # seconds from one line to the next


@dataclass
class _Line:
    """What happened: the begin of each retrieve, the share at each instant."""

    begun: list[float] = field(default_factory=list)
    shares: list[tuple[float, float]] = field(default_factory=list)

    def rate(self, begin: float, end: float) -> float:
        return sum(begin <= at < end for at in self.begun) / (end - begin)


def main(place: Place, *, scale: float) -> None:
    """30 s of calm, 60 s of load and up to 300 s until all is as before at scale 1."""
    from radlake.harvest.courtesy import NodeGate
    from radlake.lake.ledger import Ledger
    from radlake.synth.behaviour import Behaviour
    from radlake.synth.datasets import write_archive
    from radlake.synth.dimse_pacs import DimsePacs
    from radlake.synth.holdings import Holdings
    from radlake.synth.province import make_province
    from radlake.synth.quirks import Quirks

    start, end = date(2025, 10, 1), date(2025, 12, 31)
    province = make_province(seed=5, hospitals=1, n_exams=20, start=start, end=end)
    archive = place.folder / "archive"
    write_archive(province, province.hospitals[0].hospital_id, archive)
    calm, loaded, after = 30 * scale, 60 * scale, 300 * scale
    print(f"PACS of {_PLACES} associations; each answer takes {_SLOW_MS} ms longer for {loaded:.0f} s")
    for name in ("radlake", "fixed number of associations"):
        behaviour = Behaviour(Holdings(archive), quirks=Quirks())
        pacs = DimsePacs(behaviour, ae_title="HIS", host="127.0.0.1", port=0, destinations={})
        ledger = Ledger(f"sqlite:///{place.folder / name.split()[0]}.db")
        from radlake.net import DimseNode

        node = DimseNode(name="h1", ae_title="HIS", host="127.0.0.1", port=pacs.port, max_associations=_PLACES)
        gate = NodeGate("h1", node, ledger=ledger)
        line, begin = _Line(), time.monotonic()

        def slow(begin: float = begin, behaviour: Behaviour = behaviour) -> None:
            is_slow = calm <= time.monotonic() - begin < calm + loaded
            behaviour.quirks = replace(behaviour.quirks, delay_ms=_SLOW_MS if is_slow else 0)

        is_ours = name == "radlake"
        seconds = calm + loaded + (after if is_ours else calm)
        _ask(node, gate, line, begin=begin, seconds=seconds, until_calm=calm + loaded, is_ours=is_ours, tick=slow,
             spool=place.folder / "spool", window=(start, end))  # fmt: skip
        pacs.stop()
        ledger.close()
        _tell(name, line, calm=calm, loaded=loaded, is_ours=is_ours)


def _ask(
    node: Any,
    gate: Any,
    line: _Line,
    *,
    begin: float,
    seconds: float,
    until_calm: float,
    is_ours: bool,
    tick: Callable[[], None],
    spool: Path,
    window: tuple[date, date],
) -> None:
    """Retrieve study after study in as many threads as there are places, until the time is over or all is as before."""
    from radlake.net import Window, connect

    client = connect(node, ae_title="RADLAKE")
    if is_ours:
        client.watch = gate.watch
    studies: Iterator[Any] = itertools.cycle(client.find_studies(Window(*window)))
    is_over, lock = threading.Event(), threading.Lock()

    def work() -> None:
        while not is_over.is_set():
            if is_ours and not gate.take_place(is_over=is_over.is_set):
                continue
            at = time.monotonic()
            with lock:
                study = next(studies)
                line.begun.append(at - begin)
            into = spool / f"{time.monotonic_ns()}-{threading.get_ident()}"
            client.find_instances(study.study_uid)
            client.retrieve(study.study_uid, into=into)
            shutil.rmtree(into, ignore_errors=True)
            if is_ours:
                gate.give_back(seconds=time.monotonic() - at, is_failure=False)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(_PLACES)]
    for thread in threads:
        thread.start()
    whole = 0.0
    while (now := time.monotonic() - begin) < seconds:
        tick()
        line.shares.append((now, gate.state.throttle.share))
        if is_ours and now > until_calm and gate.state.throttle.share >= 1.0:
            whole = whole or now
            if now > whole + _SHOWN:
                break
        time.sleep(0.1)
    is_over.set()
    for thread in threads:
        thread.join(30)


def _tell(name: str, line: _Line, *, calm: float, loaded: float, is_ours: bool) -> None:
    last = line.shares[-1][0]
    before = line.rate(calm / 3, calm)
    print(f"\n{name}\n  seconds      studies/s   of before   allowed load")
    marks = [0.0, calm, calm + 10, calm + 20, calm + 30, calm + loaded, *_range(calm + loaded + _SHOWN, last)]
    for begin, end in itertools.pairwise(mark for mark in marks if mark <= last):
        share = [s for at, s in line.shares if begin <= at < end][-1]
        told = f"{share * _PLACES:.2f} of {_PLACES}" if is_ours else f"{_PLACES} always"
        rate = line.rate(begin, end)
        print(f"  {begin:5.0f}-{end:5.0f}  {rate:9.2f}  {rate / before:10.2f}   {told}")
    if is_ours:
        half = next((at for at, share in line.shares if share <= 0.5), None)
        whole = next((at for at, share in line.shares if share >= 1.0 and at > calm + loaded), None)
        print(f"  allowed load halved {half - calm:.1f} s after the load began" if half else "  it never halved")
        print(f"  all of it again {whole - calm - loaded:.0f} s after the load ended" if whole else "  not all again")


def _range(begin: float, end: float) -> list[float]:
    return [begin + n * _SHOWN for n in range(int(max(0.0, end - begin) // _SHOWN) + 1)]
