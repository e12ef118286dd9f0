"""The plan of one hospital: what its node lists, compared with the ledger; decided here, kept in `plan_rows`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any

from radlake.backfill.known import KnownStudy, is_open, known_studies
from radlake.backfill.plan_rows import PlanRows
from radlake.backfill.rate import Rate, rate_of, seconds_left
from radlake.backfill.sizes import Sizes
from radlake.backfill.survey import Survey, survey
from radlake.backfill.windows import UNDATED, PlannedDay, PlannedWindow, plan_windows
from radlake.commit_points import reached
from radlake.config import Settings
from radlake.errors import ConfigInvalid
from radlake.harvest import enter_found
from radlake.harvest.courtesy.week import Week, week_of
from radlake.lake.ledger import Ledger
from radlake.net import DimseNode, Hospital, StudyFound, WebNode, Window, connect

__all__ = ["HospitalPlan", "keep_plan", "plan_hospital", "plan_of_survey"]


@dataclass(frozen=True, kw_only=True)
class HospitalPlan:
    """What a backfill of a range of study dates would do at one hospital.

    Attributes
    ----------
    days : tuple of PlannedDay
        The dates that have studies.
    undated : PlannedWindow
        The studies without a date, whatever the range.
    states : mapping of str to int
        Studies by their state in the ledger; `unknown` are new to it.
    seconds : float or None
        How long it will take from now by `rate` and the node's calendar; None when no rate was measured yet.
    size_source : str
        Where the estimate of bytes comes from.
    """

    hospital_id: str
    window: Window
    survey: Survey
    days: tuple[PlannedDay, ...]
    undated: PlannedWindow
    states: Mapping[str, int]
    seconds: float | None
    rate: Rate | None
    size_source: str

    @cached_property
    def windows(self) -> list[PlannedWindow]:
        dated = plan_windows(self.days, window=self.window)
        return [*dated, self.undated] if self.undated.n_studies else dated

    def total(self, name: str) -> int:
        """Sum of a count over all windows: n_studies, n_instances, n_open, open_bytes."""
        return sum(getattr(window, name) for window in self.windows)

    @property
    def n_without_count(self) -> int:
        """Studies whose number of instances the node does not tell."""
        return sum(study.n_instances is None for study in (*self.survey.studies, *self.survey.undated))

    def to_json(self) -> dict[str, Any]:
        doubtful = [[str(window.start), str(window.end)] for window in self.survey.doubtful]
        return {
            "hospital_id": self.hospital_id,
            "from": str(self.window.start),
            "to": str(self.window.end),
            "n_studies": self.total("n_studies"),
            "n_instances": self.total("n_instances"),
            "n_studies_without_count": self.n_without_count,
            "n_to_fetch": self.total("n_open"),
            "bytes_to_fetch": self.total("open_bytes"),
            "bytes_source": self.size_source,
            "seconds": self.seconds,
            "rate_source": self.rate.source if self.rate else None,
            "states": dict(sorted(self.states.items())),
            "n_undated": self.undated.n_studies,
            "undated_trouble": self.survey.undated_trouble,
            "list_limit": self.survey.list_limit,
            "doubtful": doubtful,
            "windows": [
                {
                    "name": window.name,
                    "n_studies": window.n_studies,
                    "n_instances": window.n_instances,
                    "n_to_fetch": window.n_open,
                    "bytes_to_fetch": window.open_bytes,
                    "is_doubtful": window.is_doubtful,
                }
                for window in self.windows
            ],
        }


def plan_hospital(
    settings: Settings,
    hospital: Hospital,
    *,
    window: Window,
    ledger: Ledger,
    sizes: Sizes,
    harvests: Mapping[str, Rate],
    now: datetime,
) -> HospitalPlan:
    """Ask a hospital's node and compare its answer with the ledger; nothing is fetched and nothing written.

    Raises
    ------
    NodeUnavailable, AssociationRejected, QueryFailed, SlowDown
        The node was not asked, or not to the end: that is no plan of zero studies.
    ConfigInvalid
        If it is a folder, or the hospital only pushes.
    """
    node, hospital_id = hospital.node, hospital.hospital_id
    if not isinstance(node, (DimseNode, WebNode)):
        problem = f"{hospital_id}: a node of kind {node.kind} cannot be asked by date, so there is nothing to backfill"
        raise ConfigInvalid(path=str(settings.hospitals), problems=[problem])
    found = survey(connect(node, ae_title=settings.ae_title, scp_port=None), window)
    with ledger.reading() as connection:
        known = known_studies(connection, hospital_id, [one.study_uid for one in (*found.studies, *found.undated)])
    return plan_of_survey(
        hospital_id,
        found,
        window=window,
        known=known,
        sizes=sizes,
        rate=rate_of(hospital_id, rows=PlanRows(ledger), harvests=harvests, now=now),
        week=week_of(node),
        now=now,
    )


def plan_of_survey(
    hospital_id: str,
    found: Survey,
    *,
    window: Window,
    known: Mapping[str, KnownStudy],
    sizes: Sizes,
    rate: Rate | None,
    week: Week,
    now: datetime,
) -> HospitalPlan:
    """Decide the plan from what the node lists and what the ledger knows."""
    by_day: dict[date, list[StudyFound]] = {}
    for study in found.studies:
        assert study.study_date is not None
        by_day.setdefault(study.study_date, []).append(study)

    def counts(studies: Sequence[StudyFound]) -> dict[str, Any]:
        opened = [one for one in studies if is_open(known.get(one.study_uid), n_listed=one.n_instances)]
        return {
            "n_studies": len(studies),
            "n_instances": sum(one.n_instances or 0 for one in studies),
            "n_open": len(opened),
            "open_bytes": sum(sizes.n_bytes(hospital_id, one) for one in opened),
        }

    def is_doubtful(day: date) -> bool:
        return any(day in window for window in found.doubtful)

    days = [PlannedDay(day=day, is_doubtful=is_doubtful(day), **counts(by_day[day])) for day in sorted(by_day)]
    everything = (*found.studies, *found.undated)
    states = Counter(str(known[one.study_uid].state) if one.study_uid in known else "unknown" for one in everything)
    undated = PlannedWindow(name=UNDATED, window=None, **counts(found.undated))
    n_open = sum(day.n_open for day in days) + undated.n_open
    open_bytes = sum(day.open_bytes for day in days) + undated.open_bytes
    return HospitalPlan(
        hospital_id=hospital_id,
        window=window,
        survey=found,
        days=tuple(days),
        undated=undated,
        states=states,
        seconds=seconds_left(rate, n_studies=n_open, n_bytes=open_bytes, week=week, now=now),
        rate=rate,
        size_source=sizes.source(hospital_id, everything),
    )


def keep_plan(plan: HospitalPlan, *, ledger: Ledger, now: datetime) -> None:
    """Enter every listed study in the ledger, then the plan: from here on no listed study can be forgotten.

    Killed in between, the ledger knows the studies and the plan is made again.
    """
    studies = (*plan.survey.studies, *plan.survey.undated)
    enter_found(studies, hospital_id=plan.hospital_id, ledger=ledger, now=now)
    PlanRows(ledger).keep(
        plan.hospital_id,
        plan.days,
        window=plan.window,
        undated=plan.undated,
        undated_trouble=plan.survey.undated_trouble,
        list_limit=plan.survey.list_limit,
        now=now,
    )
    reached("backfill.planned")
