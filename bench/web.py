"""Web: the dashboard and the reminder over a synthetic province, as processes of their own, beside Streamlit.

The peer shows the overview page: the same cubes through DuckDB, the same filters, tiles, charts and tables. Both are
opened in the same Chromium, both have as many sessions at once, in one run. Goals are told and whether they are met.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bench import web_browser as browser
from bench import web_lake as lakes
from bench import web_load as loads
from bench import web_peers as peers
from bench import web_servers as servers
from bench.analytics_ours import make
from bench.measure import Place, compare, in_fresh_process, print_rows
from bench.receive import free_ports

__all__ = ["main"]

_SESSIONS, _THINK, _SECONDS = 20, 2.0, 60.0
_ORDERS_A_SECOND = 50.0
_MOST_KB, _MOST_REQUESTS, _MOST_HTML_MS, _MOST_MB = 400, 6, 100, 250
_MOST_ORDER_MS = {95: 50, 99: 100}


def main(place: Place, *, exams: int, lake: Path | None, seed: int, seconds: float = _SECONDS) -> None:
    """Print what pages and reminders cost, each with its goals, and the ratios to the peer."""
    folder, once = lake or place.folder / "lake", replace(place, repetitions=1)
    if lake is None:
        made = compare({"made": partial(make, folder, n_exams=exams, seed=seed)}, place=once)["made"]
        print(f"synth province: {made.n:,} exams in {made.seconds:.0f} s")
    built = compare({"built": partial(lakes.furnish, folder)}, place=once)["built"]
    print(f"statistics of {built.n:,} exams: {built.seconds:.0f} s")
    goals = [*_pages(place, folder, seconds), *_reminder(place, folder, seconds)]
    print_rows([("", "goal", "seen", ""), *goals], title=f"Goals; load {os.getloadavg()[0]:.1f}")


def _pages(place: Place, folder: Path, seconds: float) -> list[tuple[str, str, str, str]]:
    pages = in_fresh_process(lakes.asked_pages, folder)
    python = peers.interpreter()
    [port, other] = free_ports(2)
    with servers.dashboard(folder, port=port) as server:
        ours = in_fresh_process(partial(browser.cold_page, until=browser.OURS, repetitions=place.repetitions),
                                f"{server.url}/")  # fmt: skip
        cpu = server.cpu
        load = in_fresh_process(
            partial(loads.read, sessions=_SESSIONS, seconds=seconds, think=_THINK), server.url, pages
        )
        mb, peak, cpu = server.resident_mb, server.peak_mb, server.cpu - cpu
    _told(load.errors)
    rate = len(load.all_times) / load.seconds
    rows = [("page", "n", "p50 ms", "p95 ms", "p99 ms")]
    rows += [_row(page, times) for page, times in sorted(load.times.items())]
    rows.append(_row("all", load.all_times))
    spent = f"{1000 * cpu / len(load.all_times):.0f} ms CPU a page, {mb:.0f} MB, {peak:.0f} MB at most"
    title = f"HTML of every page, without filters and with them; {_SESSIONS} sessions, {rate:.1f} pages a second"
    print_rows(rows, title=f"{title}, {spent}")
    if python:
        _beside(place, folder, python, other, pages["/"], ours=ours, load=load, mb=mb, seconds=seconds)
    p95 = _percentile(load.all_times, 95)
    goals = [
        _goal(f"p95 of HTML, {_SESSIONS} sessions, ms", p95, _MOST_HTML_MS),
        _goal(f"server with {_SESSIONS} sessions, MB", mb, _MOST_MB),
    ]
    if ours:
        cold = [_goal("cold overview, kB", ours.n_bytes / 1e3, _MOST_KB),
                _goal("cold overview, requests", ours.n_requests, _MOST_REQUESTS)]  # fmt: skip
        goals = [*cold, *goals]
    else:
        print("skipped: the cold page, Chromium is not installed (`make services`)")
    return goals


def _beside(
    place: Place,
    folder: Path,
    python: Path,
    port: int,
    overviews: Sequence[str],
    *,
    ours: browser.Cold | None,
    load: loads.Load,
    mb: float,
    seconds: float,
) -> None:
    tables = in_fresh_process(lakes.parquet_files, folder, list(peers.TABLES))
    with servers.streamlit(python, port=port, tables=tables) as server:
        theirs = in_fresh_process(partial(browser.cold_page, until=browser.PEER, repetitions=place.repetitions),
                                  f"{server.url}/")  # fmt: skip
        cpu = server.cpu
        times = peers.sessions(python, server.url, overviews, sessions=_SESSIONS, seconds=seconds, think=_THINK)
        their_mb, cpu = server.resident_mb, server.cpu - cpu
    rows = [("the overview page", "radlake", "Streamlit", "x radlake")]

    def compared(name: str, own: float, other: float, digits: int = 0) -> None:
        rows.append((name, f"{own:,.{digits}f}", f"{other:,.{digits}f}", f"{other / own:.1f}"))

    if ours and theirs:
        compared("cold, kB", ours.n_bytes / 1e3, theirs.n_bytes / 1e3)
        compared("cold, requests", ours.n_requests, theirs.n_requests)
        compared("cold, seconds until numbers and charts are there", ours.seconds, theirs.seconds, 2)
        for name, cold in (("radlake", ours), ("Streamlit", theirs)):
            print(f"{name} asks other hosts: {', '.join(cold.foreign) or 'none'}")
    compared("p50 ms of a view", _percentile(load.times["/"], 50), _percentile(times, 50))
    compared("p95 ms of a view", _percentile(load.times["/"], 95), _percentile(times, 95))
    print(f"Streamlit: {1000 * cpu / len(times):.0f} ms CPU a view")
    compared(f"server with {_SESSIONS} sessions, MB", mb, their_mb)
    print_rows(
        rows,
        title=f"Beside Streamlit; views {len(load.times['/']):,} of {len(load.all_times):,} pages and {len(times):,}",
    )


def _reminder(place: Place, folder: Path, seconds: float) -> list[tuple[str, str, str, str]]:
    keys = place.folder / "keys"
    keys.mkdir()
    callers, today = in_fresh_process(lakes.callers, folder, keys)
    [port] = free_ports(1)
    with servers.reminder(folder, port=port, today=today.isoformat()) as server:
        for warm_up in (2.0, seconds):
            cpu = server.cpu
            load = in_fresh_process(partial(loads.order, rate=_ORDERS_A_SECOND, seconds=warm_up), server.url, callers)
            cpu = server.cpu - cpu
        mb = server.resident_mb
    _told(load.errors)
    n = len(load.all_times)
    rows = [("asked", "n", "p50 ms", "p95 ms", "p99 ms"), *(_row(name, times) for name, times in load.times.items())]
    known = sum(len(caller.asks) for caller in callers)
    title = f"Reminder, {_ORDERS_A_SECOND:g} orders a second from {len(callers)} hospitals about {known:,} exams"
    print_rows(rows, title=f"{title}; {load.n_cards / n:.0%} had a card, {1000 * cpu / n:.0f} ms CPU each, {mb:.0f} MB")
    return [
        *(_goal(f"order-sign p{share}, ms", _percentile(load.all_times, share), most)
          for share, most in _MOST_ORDER_MS.items()),
        _goal("order-sign errors", len(load.errors), 0),
    ]  # fmt: skip


def _told(errors: Sequence[str]) -> None:
    for error in sorted(set(errors)):
        print(f"error: {errors.count(error)} times {error}")


def _row(name: str, times: Sequence[float]) -> tuple[str, ...]:
    return (name, f"{len(times):,}", *(f"{_percentile(times, share):.1f}" for share in (50, 95, 99)))


def _percentile(times: Sequence[float], share: int) -> float:
    return float(np.percentile(times, share))


def _goal(name: str, seen: float, most: float) -> tuple[str, str, str, str]:
    return name, f"<= {most:g}", f"{seen:,.0f}", "met" if seen <= most else "MISSED"
