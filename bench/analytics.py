"""Analytics: repeats of a whole province in one pass, beside a plain scan of the same columns, sorts, pandas and Dask.

The province comes from `radlake synth province`, or is a lake that is there (`--lake`). Everything that counts the same
must give the same answer. Figures are CPU seconds of all threads and processes, wall time and peak memory of fresh
processes; ratios are of CPU, to a plain scan (a sum of hashes of the same columns) in the same run.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import analytics_ours as ours
from bench import analytics_peers as peers
from bench.measure import Place, Prepare, compare, in_fresh_process, print_rows, same_answer

__all__ = ["main"]


def main(place: Place, *, exams: int, lake: Path | None, seed: int) -> None:
    """Print one table of whole statistics, and one of single questions."""
    folder, once = lake or place.folder / "lake", replace(place, repetitions=1)
    if lake is None:
        made = compare({"made": partial(ours.make, folder, n_exams=exams, seed=seed)}, place=once)["made"]
        pace = f"{made.n / made.seconds:,.0f} a second wall, {made.n / made.cpu:,.0f} a second of CPU"
        print(f"synth province: {made.n:,} exams, {pace}, peak {made.peak_bytes / 2**30:.1f} GiB")
    built = compare({"built": partial(ours.build, folder)}, place=once)["built"]
    n_exams = built.n
    spent = f"{built.cpu:.1f} s CPU, of it {built.part_cpu:.1f} s offsets from the key, {built.seconds:.1f} s wall"
    print(f"core.exam_sequence of {n_exams:,} exams: {spent}, peak {built.peak_bytes / 2**30:.1f} GiB")

    contestants: dict[str, Prepare] = {
        "plain scan, sequence": partial(peers.scan_sequence, folder),
        "GROUP BY alone": partial(peers.group_only, folder),
        "one pass": partial(ours.one_pass, folder),
        "sorted window": partial(ours.one_pass, folder, window=ours.SORTED),
        "newest month alone": partial(ours.newest_month, folder),
        "one pass, all rules": partial(ours.all_rules, folder),
        "plain scan, core.exam": partial(peers.scan_exams, folder),
        "core.exam by month": partial(peers.by_month, folder),
        "Dask, 2 workers": partial(peers.dask, folder),
    }
    middle = compare(contestants, place=place)
    same_answer({name: run for name, run in middle.items() if run.answer is not None})
    scan = middle["plain scan, sequence"]
    rows = [
        ("repeats within 30 days by month, prefecture, level, modality", "CPU s", "x scan", "wall s", "peak MiB", "")
    ]
    for name, run in middle.items():
        note = f"{run.part_cpu:.1f} s of it offsets" if run.part_cpu else ""
        shown = (f"{run.cpu:.2f}", f"{run.cpu / scan.cpu:.2f}", f"{run.seconds:.2f}", f"{run.peak_bytes / 2**20:,.0f}")
        rows.append((name, *shown, note))
    print_rows(rows, title=f"{n_exams:,} exams, median of {place.repetitions}, {ours.WORKERS} workers; equal answers")

    few = compare({"few": partial(peers.in_pandas, folder)}, place=once)["few"]
    ratio = f"{few.cpu / (scan.cpu * few.n / n_exams):.1f}x the scan of as many"
    peak = f"{few.peak_bytes / 2**30:.1f} GiB"
    print(f"\npandas, whole in memory: {few.n:,} rows, {few.cpu:.2f} s CPU ({ratio}), peak {peak}")
    for name, times in in_fresh_process(partial(ours.questions, folder)).items():
        cut = statistics.quantiles(times, n=100, method="inclusive")
        print(f"{name}: p50 {cut[49]:.2f} ms, p95 {cut[94]:.2f} ms, p99 {cut[98]:.2f} ms (n={len(times)})")
