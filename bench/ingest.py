"""De-identification: a folder of files into clean series objects and rows, against copying and against other tools.

Every contestant is pinned to one core and takes turns with the others; each figure is the least of its runs. `cp` says
what the machine needs for the bytes alone, pydicom what reading and writing costs that changes nothing. Slow tools get
a sample, every so manyth file of each folder, with a `cp` of its own: what is compared is CPU time as a multiple of
that of `cp` on the same files. A peer that leaves names in its output does less than it seems: `leaks` counts those.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.corpus import Corpus, make_corpus, sampled, write_large
from bench.ingest_ours import harvest, pool, worker, write_warm
from bench.ingest_peers import Contestant, copy, peers
from bench.measure import Measured, Place, Prepare, compare, in_fresh_process, print_rows

__all__ = ["main"]

_EVERY, _EVERY_CT = 5, 10  # th file of each folder is in the sample
_ENOUGH_CPU = 30.0  # seconds of a contestant: it is not run again after three runs
_LARGE_BYTES = 600_000_000
_CP, _CP_SAMPLE = "cp -r", "cp -r, sample"
_RADLAKE, _HARVEST, _FULL = "radlake", "radlake harvest folder", "radlake, in full"
_WITH_ALL = frozenset([_CP, _RADLAKE, _HARVEST])  # not only the sample
_MOST_CP, _MOST_PEAK, _LEAST_WORKERS = 1.5, 200, 1.8
_LEAST = {"dicom-anonymizer": 20, "deid": 40, "Orthanc": 18, "pydicom": 5}  # times the CPU time of radlake
_CT, _ALL = "CT series", "whole corpus"


@dataclass(frozen=True)
class _Comparison:
    """Contestants on the same files, or on a sample of them."""

    corpus: Corpus
    sample: Corpus
    measured: Mapping[str, Measured]

    def n_bytes(self, name: str) -> int:
        return (self.corpus if name in _WITH_ALL else self.sample).n_bytes

    def ratio(self, name: str, *, without_part: bool = False) -> float:
        """CPU time as a multiple of that of `cp` on the same files."""
        run, copied = self.measured[name], self.measured[_CP if name in _WITH_ALL else _CP_SAMPLE]
        return (run.cpu - (run.part_cpu if without_part else 0.0)) / copied.cpu

    def print(self, title: str) -> None:
        head = ["", "instances", "us CPU/instance", "instances/s/core", "MB/s/core", "x cp", "x radlake", "peak MB"]
        rows = [[*head, "leaks"]]
        for name, run in self.measured.items():
            ratio = self.ratio(name)
            rate = f"{self.n_bytes(name) / run.cpu / 1e6:,.0f}"
            ratios = [f"{ratio:.2f}", f"{ratio / self.ratio(_RADLAKE):.2f}"]
            rows.append([name, *_pace(run), rate, *ratios, f"{run.peak_bytes / 1e6:,.0f}", str(run.answer or "")])
            if run.part_n:
                part = replace(run, n=run.part_n, cpu=run.part_cpu)
                rows.append(["  of which looking at pixels", *_pace(part), *[""] * 5])
                rows.append(["  without that", *[""] * 4, f"{self.ratio(name, without_part=True):.2f}", "", "", ""])
        print_rows(rows, title=f"{title}; load {_load()}")


def main(place: Place, *, scale: float) -> None:
    """2,405 instances, 2.3 GB at scale 1."""
    begin = time.monotonic()
    corpus, is_shared = make_corpus(place.folder / "corpus", scale=scale)
    if not is_shared:
        print("no make_corpus.py where RADLAKE_BENCH tells (or ../shared/bench): CT studies of our own archive instead")
    parts = {_CT: (corpus.part("ct"), sampled(corpus.part("ct"), place.folder / "sample-ct", every=_EVERY_CT))}
    if is_shared:
        parts[_ALL] = corpus, sampled(corpus, place.folder / "sample", every=_EVERY)
    warm = place.folder / "warm"
    in_fresh_process(write_warm, warm)
    others = peers()
    seen: dict[str, _Comparison] = {}
    for letter, (what, (files, sample)) in zip("ab", parts.items(), strict=False):
        is_whole = what == list(parts)[-1]
        seen[what] = _compared(files, sample, others, place=place, warm=warm, is_whole=is_whole)
        seen[what].print(f"({letter}) {what}: {files}; sample: {sample}")
    one, two = _compare_workers(corpus, place=place, warm=warm)
    peaks = {"corpus": one.peak_bytes, **_measure_peaks(corpus, place=place, warm=warm)}
    _print_goals(seen, one=one, two=two, peaks=peaks)
    print(f"\n{time.monotonic() - begin:,.0f} s in all; load {_load()}")


def _compared(
    corpus: Corpus, sample: Corpus, others: Mapping[str, Contestant], *, place: Place, warm: Path, is_whole: bool
) -> _Comparison:
    contestants: dict[str, Prepare] = {
        _CP: partial(copy, corpus),
        _RADLAKE: partial(worker, corpus, warm=warm),
        **({_HARVEST: partial(harvest, corpus, warm=warm)} if is_whole else {}),
        _CP_SAMPLE: partial(copy, sample),
        _FULL: partial(worker, sample, warm=warm, use_templates=False),
        **{name: partial(contestant, sample) for name, contestant in others.items()},
    }
    measured = compare(
        contestants,
        place=place,
        pick=min,
        is_same_work=False,
        is_pinned=True,
        may_fail=others,
        enough_cpu=_ENOUGH_CPU,
    )
    return _Comparison(corpus, sample, measured)


def _compare_workers(corpus: Corpus, *, place: Place, warm: Path) -> tuple[Measured, Measured]:
    """One worker and two."""
    names = {1: "one worker", 2: "two workers"}
    contestants: dict[str, Prepare] = {names[n]: partial(pool, corpus, n, warm=warm) for n in names}
    measured = compare(contestants, place=replace(place, repetitions=3), pick=min)
    one, two = (measured[name] for name in names.values())
    rows = [["", "instances", "seconds", "instances/s", "us CPU/instance", "cores got", "peak MB"]]
    for name, run in measured.items():
        pace = [f"{run.n:,}", f"{run.seconds:.2f}", f"{run.n / run.seconds:,.0f}", _pace(run)[1]]
        rows.append([name, *pace, f"{run.cpu / run.seconds:.2f}", f"{run.peak_bytes / 1e6:,.0f}"])
    print_rows(rows, title=f"(c) Workers of a pool on the whole corpus, not pinned, by the wall clock; load {_load()}")
    allowed = 2 * one.cpu / two.cpu
    print(
        "Where two workers get fewer than 1.9 cores, others had them: wall time says little then. By the CPU\n"
        f"time that they take, two workers on two idle cores would be up to {allowed:.2f} times as fast as one."
    )
    return one, two


def _measure_peaks(corpus: Corpus, *, place: Place, warm: Path) -> dict[str, float]:
    """Peak resident bytes of a worker by what it stores."""
    largest = max(corpus.files, key=lambda path: path.stat().st_size)
    folders = {name: place.folder / name for name in ("largest", "generated")}
    for folder in folders.values():
        folder.mkdir()
    os.link(largest, folders["largest"] / largest.name)
    source = next(warm.rglob("*.dcm"))
    in_fresh_process(partial(write_large, source, folders["generated"] / "large.dcm", n_bytes=_LARGE_BYTES))
    objects = {name: Corpus(folder, corpus.needles) for name, folder in folders.items()}
    sizes = {name: f"{name} object of {one.n_bytes / 1e6:,.0f} MB" for name, one in objects.items()}
    contestants: dict[str, Prepare] = {sizes[name]: partial(pool, one, 1, warm=warm) for name, one in objects.items()}
    measured = compare(contestants, place=replace(place, repetitions=1))
    rows = [["", "instances stored", "peak MB", "MB/s/core"]]
    for name, size in sizes.items():
        run = measured[size]
        rows.append([size, str(run.n), f"{run.peak_bytes / 1e6:,.0f}", f"{objects[name].n_bytes / run.cpu / 1e6:,.0f}"])
    print_rows(rows, title="(d) Memory of a worker on one large object, interpreter and libraries included")
    return {size: measured[size].peak_bytes for size in sizes.values()}


def _print_goals(seen: Mapping[str, _Comparison], *, one: Measured, two: Measured, peaks: Mapping[str, float]) -> None:
    rows = [["", "goal", "seen", "", "without looking at pixels"]]
    for what, comparison in seen.items():
        ratios = (comparison.ratio(_RADLAKE, without_part=part) for part in (False, True))
        rows.append(_goal(f"CPU x cp, {what}", "<=", _MOST_CP, *ratios))
    for peer, least in _LEAST.items():
        for what, comparison in seen.items():
            name = f"times the CPU of radlake: {peer}, {what}"
            if peer in comparison.measured:
                ours = (comparison.ratio(_RADLAKE, without_part=part) for part in (False, True))
                rows.append(_goal(name, ">=", least, *(comparison.ratio(peer) / ratio for ratio in ours)))
            else:
                rows.append([name, f">= {least}", "", "not measured", ""])
    for what, peak in peaks.items():
        rows.append(_goal(f"peak MB of a worker, {what}", "<=", _MOST_PEAK, peak / 1e6))
    name = f"two workers, times as fast as one ({two.cpu / two.seconds:.2f} cores were free)"
    rows.append(_goal(name, ">=", _LEAST_WORKERS, one.seconds / two.seconds))
    print_rows(rows, title=f"Goal and seen; load {_load()}")


def _goal(name: str, sign: str, goal: float, seen: float, without: float | None = None) -> list[str]:
    """What was seen, and where pixels were looked at also what remains without that."""
    verdicts = [
        "reached" if (one <= goal if sign == "<=" else one >= goal) else "missed" for one in (seen, without or 0)
    ]
    rest = "" if without in (None, seen) else f"{without:.2f} {verdicts[1]}"
    return [name, f"{sign} {goal:g}", f"{seen:.2f}", verdicts[0], rest]


def _pace(run: Measured) -> list[str]:
    """Instances, CPU time of one, and how many a core does in a second."""
    return [f"{run.n:,}", f"{run.cpu / run.n * 1e6:,.0f}", f"{run.n / run.cpu:,.0f}"]


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"
