"""Backfill: an archive of years, planned by windows of study dates and worked off beside the live harvest.

`plan` asks and compares, `run` works, `status` tells; `backfill_hospital` does all of it for one range of dates, which
is what an orchestrator calls. A live harvest of the same hospital always goes first.
"""

from __future__ import annotations

from concurrent.futures import Executor
from contextlib import closing

from radlake.backfill.known import count_offline
from radlake.backfill.plan import HospitalPlan, keep_plan, plan_hospital
from radlake.backfill.plan_rows import PlanRows
from radlake.backfill.rate import harvest_rates
from radlake.backfill.run import BackfillBusy, BackfillResult, Ending, run_backfill
from radlake.backfill.sizes import measured_sizes
from radlake.backfill.status import HospitalStatus, Problem, status_of
from radlake.config import Settings
from radlake.errors import TransientError
from radlake.lake import Lake
from radlake.machine import utc_now
from radlake.net import Window, load_hospitals
from radlake.vault.lake_key import open_ledger

__all__ = [
    "BackfillBusy",
    "BackfillPaused",
    "BackfillResult",
    "BackfillUnfinished",
    "Ending",
    "HospitalPlan",
    "HospitalStatus",
    "PlanRows",
    "Problem",
    "backfill_hospital",
    "count_offline",
    "harvest_rates",
    "keep_plan",
    "measured_sizes",
    "plan_hospital",
    "run_backfill",
    "status_of",
]


class BackfillPaused(TransientError):
    sentence = "The backfill of {hospital} is paused. `radlake backfill resume {hospital}` lets it go on."


class BackfillUnfinished(TransientError):
    sentence = "The backfill of {hospital} is not finished: {reason}\nSee `radlake backfill status {hospital}`."


def backfill_hospital(
    settings: Settings, hospital_id: str, window: Window, *, executor: Executor | None = None
) -> dict[str, str | int | None]:
    """Plan a range of study dates at one hospital and fetch what is missing; the counts of what was done.

    It may be called again after any end, and goes on at the study. Studies that the node has to bring from tape first
    (`n_offline`) are no error: call again when they may be there.

    Raises
    ------
    BackfillPaused, BackfillUnfinished, BackfillBusy
        Transient: call again later.
    NodeAtRest, TransientError
        If the node cannot be asked, or not now.
    ConfigInvalid
        If it is a folder, or the hospital only pushes.
    """
    hospital = load_hospitals(settings.hospitals)[hospital_id]
    lake, now = Lake.from_settings(settings), utc_now()
    sizes, harvests = measured_sizes(lake), harvest_rates(lake)
    with closing(open_ledger(settings)) as ledger:
        plan = plan_hospital(settings, hospital, window=window, ledger=ledger, sizes=sizes, harvests=harvests, now=now)
        keep_plan(plan, ledger=ledger, now=now)
    result = run_backfill(settings, hospital, within=window, executor=executor)
    if result.ending is Ending.PAUSED:
        raise BackfillPaused(hospital=hospital_id)
    if result.cause is not None:
        raise result.cause
    n_offline = count_offline(settings, hospital_id, window)
    if (result.n_open or 0) > n_offline:
        raise BackfillUnfinished(hospital=hospital_id, reason=f"{result.n_open} studies are open")
    return result.to_json() | {"n_offline": n_offline}
