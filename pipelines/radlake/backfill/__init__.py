"""Backfill: an archive of years, planned by windows of study dates and worked off beside the live harvest.

`plan` asks and compares, `run` works, `status` tells; `backfill_hospital` does all of it for one range of dates, which
is what an orchestrator calls. A live harvest of the same hospital always goes first.
"""

from __future__ import annotations

from contextlib import closing

from radlake.backfill.plan import HospitalPlan, keep_plan, plan_hospital
from radlake.backfill.plan_rows import PlanRows
from radlake.backfill.rate import harvest_rates, rate_of
from radlake.backfill.run import BackfillBusy, BackfillResult, Ending, run_backfill
from radlake.backfill.sizes import measured_sizes
from radlake.backfill.status import HospitalStatus, Problem, status_of
from radlake.config import Settings
from radlake.errors import ConfigInvalid, TransientError
from radlake.harvest.courtesy.week import week_of
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.machine import utc_now
from radlake.net import DimseNode, WebNode, Window, connect, load_hospitals
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
    "harvest_rates",
    "keep_plan",
    "measured_sizes",
    "plan_hospital",
    "rate_of",
    "run_backfill",
    "status_of",
]


class BackfillPaused(TransientError):
    sentence = "The backfill of {hospital} is paused. `radlake backfill resume {hospital}` lets it go on."


class BackfillUnfinished(TransientError):
    sentence = "The backfill of {hospital} is not finished: {reason}\nSee `radlake backfill status {hospital}`."


def backfill_hospital(settings: Settings, hospital_id: str, window: Window) -> dict[str, str | int]:
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
        If it is a folder, or pushes.
    """
    hospital = load_hospitals(settings.hospitals)[hospital_id]
    node = hospital.node
    if not isinstance(node, (DimseNode, WebNode)):
        problem = f"{hospital_id}: a node of kind {node.kind} cannot be asked by date, so there is nothing to backfill"
        raise ConfigInvalid(path=str(settings.hospitals), problems=[problem])
    with closing(open_ledger(settings)) as ledger:
        rows, lake, now = PlanRows(ledger), Lake.from_settings(settings), utc_now()
        plan = plan_hospital(
            hospital_id,
            connect(node, ae_title=settings.ae_title, scp_port=None),
            window=window,
            rows=rows,
            sizes=measured_sizes(lake),
            rate=rate_of(hospital_id, rows=rows, harvests=harvest_rates(lake), now=now),
            week=week_of(node),
            now=now,
        )
        keep_plan(plan, ledger=ledger, now=now)
    result = run_backfill(settings, hospital, within=window)
    if result.ending is Ending.PAUSED:
        raise BackfillPaused(hospital=hospital_id)
    if result.cause is not None:
        raise result.cause
    with closing(Ledger(settings.ledger)) as ledger:
        n_offline = PlanRows(ledger).n_offline(hospital_id, window)
    if result.n_open > n_offline:
        raise BackfillUnfinished(hospital=hospital_id, reason=f"{result.n_open} studies are open")
    return result.to_json() | {"n_offline": n_offline}
