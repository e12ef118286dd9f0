"""Analytics: repeats of a whole province in one pass, beside a plain scan of the same columns, sorts, pandas and Dask.

The province comes from `radlake synth province`, or is a lake that is there (`--lake`). Everything that counts the same
must give the same answer, row by row. Figures are CPU seconds of all threads and processes, wall time and peak memory
of fresh processes; ratios are of CPU, to a plain scan (a sum of hashes of the same columns) in the same run.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import analytics_ours as ours
from bench import analytics_peers as peers
from bench.measure import Measured, Place, Prepare, compare, in_fresh_process, print_rows, same_answer

__all__ = ["main"]

# Most times a plain scan of the same columns, and MiB.
_GOALS: Mapping[str, tuple[float, int]] = {"one pass": (1.5, 512), "core.exam as it lies": (6.0, 1024)}
_GOAL_NEWEST = 0.05  # of a full run
_GOALS_MS: Mapping[str, tuple[int, float]] = {  # percentile and milliseconds
    "question to the cube": (95, 50),
    "recent exams, index": (99, 1),
    "recent exams, index cold": (99, 10),
    "recent exams, lake": (99, 25),
}


def main(place: Place, *, exams: int, lake: Path | None, seed: int, linked: float) -> None:
    """Print a table of each layout, the full build, and single questions; each with its goals."""
    folder, once = lake or place.folder / "lake", replace(place, repetitions=1)
    if lake is None:
        made = compare({"made": partial(ours.make, folder, n_exams=exams, seed=seed)}, place=once)["made"]
        pace = f"{made.n / made.seconds:,.0f} a second wall, {made.n / made.cpu:,.0f} a second of CPU"
        print(f"synth province: {made.n:,} exams, {pace}, peak {made.peak_bytes / 2**30:.1f} GiB")
    if linked:
        print(f"linked: {in_fresh_process(partial(ours.link, folder, share=linked)):,} pseudonyms")
    newest = None
    if lake is None and not linked:  # a lake that was given stays as it is
        compare({"laid out": partial(ours.lay_out_without_newest, folder)}, place=once)
        newest = compare({"newest": partial(ours.newest_month, folder)}, place=place)["newest"]
    built = compare({"built": partial(ours.build, folder)}, place=once)["built"]
    spent = f"{built.cpu:.1f} s CPU, of it {built.part_cpu:.1f} s offsets of persons, {built.seconds:.1f} s wall"
    print(f"core.exam_sequence of {built.n:,} exams: {spent}, peak {built.peak_bytes / 2**30:.1f} GiB")
    print(f"stats.repeat_rate: {built.more['rates_cpu']:.1f} s CPU")

    clustered = _table(
        f"{built.n:,} exams, clustered",
        {
            "plain scan, sequence": partial(peers.scan_sequence, folder),
            "one pass": partial(ours.one_pass, folder),
            "sorted window": partial(peers.sorted_window, folder),
            "Dask dataframe, 2 threads": partial(peers.dask_threads, folder),
            "Dask, 2 workers": partial(peers.dask_workers, folder),
            "one pass, all rules": partial(ours.all_rules, folder),
        },
        place=place,
    )
    full = clustered["one pass"]
    if newest is not None:
        same_answer({"one pass": full, "newest month added": newest})
        share = newest.cpu / (built.cpu + full.cpu)
        spent = (
            f"{newest.cpu:.2f} s CPU ({newest.part_cpu:.2f} s of it offsets), peak {newest.peak_bytes / 2**20:,.0f} MiB"
        )
        goal = f"goal {_GOAL_NEWEST:.0%}: {'met' if share <= _GOAL_NEWEST else 'MISSED'}"
        print(f"newest month added, {newest.n:,} exams: {spent}, {share:.1%} of laying out and one pass ({goal})")
        print(f"the same with the pass over what was there: {(newest.cpu + full.cpu) / (built.cpu + full.cpu):.1%}")
    print(f"all rules, windows and exclusions: {clustered['one pass, all rules'].cpu / full.cpu:.1f} times the pass")
    few = compare({"pandas": partial(peers.in_pandas, folder)}, place=once)["pandas"]
    ratio = few.cpu / (clustered["plain scan, sequence"].cpu * few.n / built.n)
    spent = f"{few.cpu:.2f} s CPU ({ratio:.1f}x the scan of as many), peak {few.peak_bytes / 2**30:.1f} GiB"
    print(f"pandas, whole in memory: {few.n:,} rows, {spent}")
    if not linked:  # links are followed by the sequence alone
        _table(
            f"{built.n:,} exams, core.exam by months, without encounters",
            {
                "plain scan, core.exam": partial(peers.scan_exams, folder),
                "core.exam as it lies": partial(ours.by_month, folder),
                "the sequence in one pass": partial(ours.one_pass_without_stays, folder),
            },
            place=place,
        )
    for asked in (ours.questions, ours.order_entry):
        _print_times(asked, folder)


def _table(title: str, contestants: Mapping[str, Prepare], *, place: Place) -> dict[str, Measured]:
    """Measure and print; the first one is the scan, and all that have an answer must have the same."""
    middle = compare(contestants, place=place)
    same_answer({name: run for name, run in middle.items() if run.answer is not None})
    scan = next(iter(middle.values()))
    rows = [
        ("repeats within 30 days by month, prefecture, level, modality", "CPU s", "x scan", "wall s", "peak MiB", "")
    ]
    for name, run in middle.items():
        notes = [f"{run.part_cpu:.1f} s of it offsets"] if run.part_cpu else []
        if name in _GOALS:
            most, peak = _GOALS[name]
            is_met = run.cpu <= most * scan.cpu and run.peak_bytes <= peak * 2**20
            notes.append(f"goal {most}x, {peak} MiB: {'met' if is_met else 'MISSED'}")
        shown = (f"{run.cpu:.2f}", f"{run.cpu / scan.cpu:.2f}", f"{run.seconds:.2f}", f"{run.peak_bytes / 2**20:,.0f}")
        rows.append((name, *shown, ", ".join(notes)))
    load, _, _ = os.getloadavg()
    print_rows(
        rows, title=f"{title}; median of {place.repetitions}, {ours.WORKERS} workers, load {load:.1f}; equal answers"
    )
    return middle


def _print_times(ask: Callable[[Path], dict[str, list[float]]], folder: Path) -> None:
    for name, times in in_fresh_process(partial(ask, folder)).items():
        cut = statistics.quantiles(times, n=100, method="inclusive")
        percentile, most = _GOALS_MS[name]
        goal = f"goal p{percentile} {most:g} ms: {'met' if cut[percentile - 1] <= most else 'MISSED'}"
        print(f"{name}: p50 {cut[49]:.2f}, p95 {cut[94]:.2f}, p99 {cut[98]:.2f} ms (n={len(times)}; {goal})")
