"""A backfill: its plan, and the work on it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from support.kills.harvests import pacs_hospital, see_harvest, window
from support.kills.scenario import Scenario, settings_in

__all__ = ["BACKFILLS"]


def _plan(folder: Path, given: Mapping[str, Any]) -> None:
    """What `radlake backfill plan` does, month by month: a window each."""
    from radlake.backfill import keep_plan, plan_hospital
    from radlake.backfill.coverage import publish_coverage
    from radlake.backfill.sizes import Sizes
    from radlake.backfill.windows import months
    from radlake.lake import Lake
    from radlake.machine import utc_now
    from radlake.vault.lake_key import open_ledger

    settings = settings_in(folder)
    with closing(open_ledger(settings)) as ledger:
        for month in months(window()):
            plan = plan_hospital(
                settings,
                pacs_hospital(given),
                window=month,
                ledger=ledger,
                sizes=Sizes({}),
                harvests={},
                now=utc_now(),
            )
            keep_plan(plan, ledger=ledger, now=utc_now())
        publish_coverage(Lake.from_settings(settings), ledger, "h1", now=utc_now())


def _backfill(folder: Path, given: Mapping[str, Any]) -> None:
    from radlake.backfill import run_backfill

    run_backfill(settings_in(folder), pacs_hospital(given))


def _see_plan(folder: Path) -> dict[str, Any]:
    """Windows, listed days and the published coverage; how often a window was begun may differ."""
    from radlake.backfill import PlanRows
    from radlake.backfill.known import known_by_day
    from radlake.lake import Lake, duck
    from radlake.lake.ledger import Ledger

    settings = settings_in(folder)
    with closing(Ledger(settings.ledger)) as ledger, ledger.reading() as connection:
        rows = PlanRows(ledger)
        windows = [(kept.plan, kept.done_at is not None, kept.trouble) for kept in rows.windows("h1")]
        days = rows.listed_days("h1"), known_by_day(connection, "h1")
    with duck.connect(Lake.from_settings(settings), zone="restricted", tables=("ops",)) as connection:
        coverage = connection.execute("SELECT * EXCLUDE (updated_at) FROM ops.coverage ORDER BY ALL").fetchall()
    return {"windows": windows, "days": days, "coverage": coverage}


def _see_backfilled(folder: Path) -> dict[str, Any]:
    return see_harvest(folder) | _see_plan(folder)


BACKFILLS: Mapping[str, Scenario] = {
    "plan": Scenario(_plan, _see_plan),
    "backfill": Scenario(_backfill, _see_backfilled, _plan),
}
