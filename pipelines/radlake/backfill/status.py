"""How far the plan of a hospital is: from the ledger and the plan, so that it is right after any crash."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from radlake.backfill.coverage import Coverage, coverage_of
from radlake.backfill.known import NOTHING, known_by_day, known_in, reasons_of
from radlake.backfill.plan_rows import KeptWindow, PlanRows
from radlake.backfill.rate import Rate, rate_of, seconds_left
from radlake.backfill.windows import runs_of
from radlake.contracts.reasons import reasons
from radlake.harvest.courtesy.week import Week
from radlake.lake.evidence import StudyState
from radlake.lake.ledger import Claim, Ledger

__all__ = ["HospitalStatus", "Problem", "status_of"]

_SET_ASIDE = re.compile(r"(\w+) x(\d+)")


@dataclass(frozen=True)
class Problem:
    """Something that keeps studies from being complete, how many, and what a person does next."""

    reason: str
    n: int
    next_step: str


@dataclass(frozen=True, kw_only=True)
class HospitalStatus:
    """One hospital's backfill.

    Attributes
    ----------
    n_studies : int
        That the node lists, in all planned windows.
    n_complete, n_open : int
        Complete in the lake; something still to be fetched. The others are settled in another way.
    stored_bytes : int
        What backfills brought so far.
    open_bytes : int
        An estimate of what is still to come.
    """

    hospital_id: str
    is_paused: bool
    is_running: bool
    n_windows: int
    n_windows_done: int
    n_studies: int
    n_complete: int
    n_open: int
    stored_bytes: int
    open_bytes: int
    rate: Rate | None
    eta: datetime | None
    problems: tuple[Problem, ...]
    coverage: Mapping[date, Coverage]

    def to_json(self) -> dict[str, Any]:
        """The figures, with the coverage of all planned days together; see `days_to_json` for each."""
        plain = {name: value for name, value in self.__dict__.items() if name not in ("rate", "problems", "coverage")}
        return plain | {
            "eta": self.eta.isoformat(timespec="seconds") + "Z" if self.eta else None,
            "bytes_per_second": self.rate.bytes_per_second if self.rate else None,
            "studies_per_hour": self.rate.studies_per_second * 3600 if self.rate else None,
            "rate_source": self.rate.source if self.rate else None,
            "problems": [problem.__dict__ for problem in self.problems],
            "planned": [{"from": str(part.start), "to": str(part.end)} for part in runs_of(self.coverage)],
            "coverage": _plain(sum(self.coverage.values(), Coverage())),
        }

    def days_to_json(self) -> list[dict[str, Any]]:
        """Coverage of each day that has studies: the node lists none of any other planned day, and none is known."""
        nothing = Coverage()
        return [{"study_date": str(day)} | _plain(one) for day, one in sorted(self.coverage.items()) if one != nothing]


def status_of(
    hospital_id: str, *, ledger: Ledger, harvests: Mapping[str, Rate], week: Week, now: datetime
) -> HospitalStatus:
    """Read how far a hospital is; `now` in UTC."""
    rows = PlanRows(ledger)
    windows, row = rows.windows(hospital_id), rows.hospital(hospital_id)
    with ledger.reading() as connection:
        known = known_by_day(connection, hospital_id)
        why = reasons_of(connection, hospital_id)
    opened = [known_in(known, kept.plan.window).n_open for kept in windows]
    n_open, open_bytes = sum(opened), sum(map(_open_bytes, windows, opened))
    rate = rate_of(hospital_id, rows=rows, harvests=harvests, now=now)
    coverage = coverage_of(windows, listed=rows.listed_days(hospital_id), known=known)
    n_complete = sum(one.n_complete for one in coverage.values())
    left = seconds_left(rate, n_studies=n_open, n_bytes=open_bytes, week=week, now=now)
    with ledger.claim(hospital_id, Claim.RUNNER) as is_idle:
        is_running = not is_idle
    return HospitalStatus(
        hospital_id=hospital_id,
        is_paused=row.get("paused_at") is not None,
        is_running=is_running,
        n_windows=len(windows),
        n_windows_done=sum(kept.done_at is not None for kept in windows),
        n_studies=sum(kept.plan.n_studies for kept in windows),
        n_complete=n_complete + known.get(None, NOTHING).states.get(StudyState.COMPLETE, 0),
        n_open=n_open,
        stored_bytes=rows.done_since(hospital_id, datetime.min)[1],
        open_bytes=open_bytes,
        rate=rate,
        eta=now + timedelta(seconds=left) if left else None,
        problems=tuple(_problems(hospital_id, row, windows=windows, why=why)),
        coverage=coverage,
    )


def _plain(coverage: Coverage) -> dict[str, Any]:
    return coverage.__dict__ | {"share": coverage.share}


def _open_bytes(kept: KeptWindow, n_open: int) -> int:
    """The estimate of the plan, for the studies that are still open."""
    return kept.plan.open_bytes * n_open // kept.plan.n_open if kept.plan.n_open else 0


def _problems(
    hospital_id: str, row: Mapping[str, Any], *, windows: Sequence[KeptWindow], why: Iterable[tuple[str, str, int]]
) -> list[Problem]:
    studies: Counter[str] = Counter()
    for state, reason, n in why:
        for name in _names(state, reason):
            studies[name] += n
    problems = [Problem(name, n, _next_step(name, hospital_id)) for name, n in sorted(studies.items())]
    troubles = Counter(kept.trouble for kept in windows if kept.trouble and ":" in kept.trouble)
    step = f"radlake node echo {hospital_id}; then radlake backfill run {hospital_id}"
    problems += [Problem(f"window not finished: {trouble}", n, step) for trouble, n in sorted(troubles.items())]
    if n := sum(kept.plan.is_doubtful for kept in windows):
        at = f"at {row['list_limit']} " if row.get("list_limit") else ""
        step = f"the node cuts its lists {at}even within a minute: ask its administrator for a higher limit, plan again"
        problems.append(Problem("windows that may have more studies than the node lists", n, step))
    if row.get("undated_trouble"):
        step = f"{row['undated_trouble']}: ask its administrator for a list of studies without a study date"
        problems.append(Problem("studies without a date: there may be more", row.get("n_undated") or 0, step))
    return problems


def _names(state: str, reason: str) -> list[str]:
    """The kinds of reasons in the ledger's text of a study's reason."""
    parts = [part for part in reason.split("; ") if part.startswith("set aside")]
    names = [f"set aside: {code}" for part in parts for code, _ in _SET_ASIDE.findall(part)]
    if "unverifiable" in reason:
        names.append("unverifiable")
    if "missing" in reason:
        names.append("missing")
    return names or [state]


def _next_step(name: str, hospital_id: str) -> str:
    code = name.removeprefix("set aside: ")
    if known := reasons().get(code):
        if known.is_replayable:
            return f"radlake quarantine list --reason {code}; docs/reference/quarantine-reasons.md says what helps"
        return f"the hospital must send it anew; then radlake harvest node {hospital_id} --ask-again"
    if name == "missing":
        return f"the node did not send all of it: radlake backfill run {hospital_id} asks again"
    if name == "unverifiable":
        return "the node tells neither a list nor a count: ask its administrator to enable IMAGE level queries"
    return f"radlake backfill run {hospital_id} asks again"
