"""The page of the audit: filters, newest first, older pages, and links that lead to the same events again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from radlake.web.access import AuditLog
from radlake.web.audited import ROWS, AuditView, Seen, Sight
from radlake.web.view import ViewInvalid


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    """Three people, from before midnight in China until after it."""
    times = (datetime(2026, 3, 1, 15, 30, tzinfo=UTC) + timedelta(minutes=20 * n) for n in range(10_000))
    log = AuditLog(tmp_path, clock=lambda: next(times))
    for agent, what, outcome in (
        ("lin", "/film?from=2026-01", "0"), ("lin", "/trace/stats.dose/x", "0"), ("wang", "/film", "4"),
        ("lin", "/", "0"), ("", "/sign-in", "4"),
    ):  # fmt: skip
        log.enter(
            kind="rest", action="R", agent=agent, role="viewer", address="127.0.0.1", outcome=outcome, what=what,
            told="the role may not" if outcome == "4" else "",
        )  # fmt: skip
    return log


def seen(log: AuditLog, view: AuditView) -> Seen:
    sight = Sight(view)
    assert log.problems(tell=sight.add) == []
    return sight.seen()


def shown(log: AuditLog, **filters: str) -> list[tuple]:
    return [tuple(row[1:2]) + tuple(row[4:6]) for row in seen(log, AuditView(**filters)).grid.rows]


def test_events_are_narrowed_by_person_route_and_day_of_china(log: AuditLog) -> None:
    assert shown(log) == [
        (None, "/sign-in", "4"), ("lin", "/", "0"), ("wang", "/film", "4"), ("lin", "/trace/stats.dose/x", "0"),
        ("lin", "/film?from=2026-01", "0"),
    ]  # fmt: skip
    assert shown(log, who="wang") == [("wang", "/film", "4")]
    assert shown(log, route="/film", who="lin") == [("lin", "/film?from=2026-01", "0")]
    assert shown(log, route="/") == [("lin", "/", "0")]
    assert len(shown(log, on="2026-03-01")) == 2  # 23:30 and 23:50; the third was after midnight
    assert shown(log, who="nobody") == []
    found = seen(log, AuditView())
    assert (found.people, found.routes) == (("lin", "wang"), ("/", "/film", "/sign-in", "/trace"))
    assert found.days == ("2026-03-02", "2026-03-01")
    assert (found.n_events, found.n_found, found.older) == (5, 5, "")


def test_older_events_are_pages_without_a_gap(log: AuditLog) -> None:
    for n in range(ROWS + 50):
        log.enter(kind="rest", action="R", agent="lin", role="viewer", address="", outcome="0", what=f"/dose?n={n}")
    first = seen(log, AuditView(route="/dose"))
    second = seen(log, AuditView(route="/dose", before=first.older))
    told = [row[4] for page in (first, second) for row in page.grid.rows]
    assert told == [f"/dose?n={n}" for n in reversed(range(ROWS + 50))]
    assert (first.n_found, second.n_found, second.older) == (ROWS + 50, ROWS + 50, "")


def test_view_comes_back_from_its_link() -> None:
    view = AuditView(who="lin", route="/film", on="2026-03-01", before="17")
    assert AuditView.from_query(dict(parse_qsl(view.query(lang="en")))) == view
    for wrong in ({"on": "yesterday"}, {"before": "0"}, {"before": "-1"}, {"before": "9" * 13}):
        with pytest.raises(ViewInvalid):
            AuditView.from_query(wrong)
