"""How fast studies come from a node, as measured: by its backfill, else by its harvests, else by all harvests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from radlake.backfill.calendar import ends_at
from radlake.backfill.plan_rows import PlanRows
from radlake.harvest.courtesy.week import Week
from radlake.lake import Lake

__all__ = ["Rate", "harvest_rates", "rate_of", "seconds_left"]

_LAST_HOURS = timedelta(hours=6)


@dataclass(frozen=True)
class Rate:
    """Bytes and studies of one second in which somebody harvested, and where the figure comes from, in words."""

    bytes_per_second: float
    studies_per_second: float
    source: str

    def seconds(self, *, n_bytes: int, n_studies: int) -> float:
        """Time that so much takes; by bytes where their rate is known, else by studies."""
        if self.bytes_per_second > 0 and n_bytes:
            return n_bytes / self.bytes_per_second
        return n_studies / self.studies_per_second if self.studies_per_second > 0 else 0.0


def rate_of(hospital_id: str, *, rows: PlanRows, harvests: Mapping[str, Rate], now: datetime) -> Rate | None:
    """The rate to expect of a hospital; None when nothing was ever fetched from anywhere."""
    for since, source in ((now - _LAST_HOURS, "its backfill of the last hours"), (datetime.min, "its backfill so far")):
        n_studies, n_bytes, seconds = rows.done_since(hospital_id, since)
        if seconds > 0 and n_studies:
            return Rate(n_bytes / seconds, n_studies / seconds, source)
    return harvests.get(hospital_id) or harvests.get("")


def harvest_rates(lake: Lake) -> dict[str, Rate]:
    """Measured by the harvests that brought something (ops.harvest_run); hospital "" is all of them."""
    from radlake.lake import duck

    query = """
        SELECT hospital_id, sum(stored_bytes), sum(n_studies_complete), sum(epoch(finished_at - started_at))
        FROM ops.harvest_run WHERE stored_bytes > 0 AND finished_at > started_at AND retrieve_kind <> 'folder'
        GROUP BY GROUPING SETS ((hospital_id), ())
    """
    with duck.connect(lake, tables=["ops.harvest_run"]) as connection:
        rows = connection.execute(query).fetchall()
    return {
        hospital or "": Rate(
            float(n_bytes) / seconds,
            float(n_studies) / seconds,
            "its harvests so far" if hospital else "harvests of other hospitals",
        )
        for hospital, n_bytes, n_studies, seconds in rows
        if seconds
    }


def seconds_left(rate: Rate | None, *, n_studies: int, n_bytes: int, week: Week, now: datetime) -> float | None:
    """Seconds from `now` (UTC) until so much is fetched in the hours that the node allows; None when nobody knows."""
    if not n_studies:
        return 0.0
    if rate is None:
        return None
    began = now.replace(tzinfo=UTC).timestamp()
    work = rate.seconds(n_bytes=n_bytes, n_studies=n_studies)
    end = ends_at(seconds=work, n_studies=n_studies, week=week, now=began)
    return None if end is None else end - began
