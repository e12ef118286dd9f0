"""Harvest: what each hospital has, what came, what was set aside, and how the last runs went."""

from __future__ import annotations

from radlake.web.cells import Cell
from radlake.web.figures.cube import CHOSEN, chosen
from radlake.web.figures.figure import Figure
from radlake.web.grid import Chart, Column, Grid
from radlake.web.snapshot import Snapshot
from radlake.web.view import View

__all__ = ["FIGURES", "STATES", "total"]

STATES = ("complete", "partial", "retrieving", "discovered", "offline", "quarantined", "withdrawn")
RUNS_SHOWN = 200


def total(snapshot: Snapshot, view: View) -> dict[str, Cell]:
    """Hospitals, studies and instances of the ledger."""
    names = (
        "n_registered", "n_hospitals", "n_studies", "n_complete", "complete_share", "n_instances_expected",
        "n_instances_stored",
    )  # fmt: skip
    [row] = snapshot.rows(
        f"""
        SELECT
            (SELECT count(*) FROM ref.hospital WHERE {CHOSEN}) AS n_registered,
            count(*) AS n_hospitals,
            coalesce(sum(c.n_studies - c.n_withdrawn), 0)::BIGINT AS n_studies,
            coalesce(sum(c.n_complete), 0)::BIGINT AS n_complete,
            sum(c.n_complete) / nullif(sum(c.n_studies - c.n_withdrawn), 0) AS complete_share,
            coalesce(sum(c.n_instances_expected), 0)::BIGINT AS n_instances_expected,
            coalesce(sum(c.n_instances_stored), 0)::BIGINT AS n_instances_stored
        FROM ops.completeness AS c
        WHERE {CHOSEN}
        """,
        chosen(view),
    )
    return dict(zip(names, row, strict=True))


def board(snapshot: Snapshot, view: View) -> Grid:
    """A row a hospital, least complete first; a registered hospital that was never harvested is a row too."""
    rows = snapshot.rows(
        f"""
        WITH last_run AS (
            SELECT hospital_id, max(finished_at) AS finished_at, arg_max(coalesce(error_class, ''), started_at) AS error
            FROM ops.harvest_run
            GROUP BY hospital_id
        )
        SELECT
            hospital_id, hospital_level, storage_policy, n_studies, n_complete,
            n_complete / nullif(n_studies - n_withdrawn, 0) AS complete_share,
            n_instances_expected, n_instances_stored, n_instances_quarantined, finished_at,
            CASE WHEN finished_at IS NULL THEN 'never' WHEN error = '' THEN 'ok' ELSE error END AS outcome
        FROM ref.hospital FULL JOIN ops.completeness USING (hospital_id) LEFT JOIN last_run USING (hospital_id)
        WHERE {CHOSEN}
        ORDER BY complete_share ASC NULLS FIRST, hospital_id
        """,
        chosen(view),
    )
    columns = [
        Column("hospital", "hospital"),
        Column("level", "level"),
        Column("policy", "policy"),
        Column("n_studies", "count"),
        Column("n_complete", "count"),
        Column("complete_share", "share", bar=True),
        Column("n_instances_expected", "count"),
        Column("n_instances_stored", "count"),
        Column("n_instances_quarantined", "count"),
        Column("finished_at", "time"),
        Column("outcome", "outcome"),
    ]
    return Grid(columns, rows)


def states(snapshot: Snapshot, view: View) -> Grid:
    """Studies of every hospital by their state in the ledger; the states of a hospital add up to its studies."""
    columns = ", ".join(f"n_{state}" for state in STATES)
    rows = snapshot.rows(
        f"""
        SELECT hospital_id, {columns}, n_studies
        FROM ops.completeness
        WHERE {CHOSEN}
        ORDER BY n_complete / nullif(n_studies - n_withdrawn, 0) ASC NULLS FIRST, hospital_id
        """,
        chosen(view),
    )
    return Grid(
        [
            Column("hospital", "hospital"),
            *(Column(f"state_{s}", "count") for s in STATES),
            Column("n_studies", "count"),
        ],
        rows,
        chart=Chart(
            "stack",
            series=range(1, len(STATES) + 1),
            colors=[f"state-{state}" for state in STATES],
            horizontal=True,
            whole=True,
        ),
    )


def quarantine(snapshot: Snapshot, view: View) -> Grid:
    rows = snapshot.rows(
        f"""
        SELECT reason, sum(n_instances)::BIGINT AS n, count(DISTINCT hospital_id), reason, reason
        FROM ops.quarantine
        WHERE {CHOSEN}
        GROUP BY reason
        ORDER BY n DESC, reason
        """,
        chosen(view),
    )
    columns = [
        Column("meaning", "reason"),
        Column("n_instances", "count"),
        Column("n_hospitals", "count"),
        Column("reason", "text"),
        Column("remedy", "remedy"),
    ]
    return Grid(columns, rows, chart=Chart("bars", series=(1,), colors=("state-quarantined",), horizontal=True))


def runs(snapshot: Snapshot, view: View) -> Grid:
    """The last runs, newest first."""
    rows = snapshot.rows(
        f"""
        SELECT
            finished_at, hospital_id, retrieve_kind, n_studies_found, n_studies_complete, n_studies_partial,
            n_instances_stored, n_instances_quarantined, n_instances_duplicate, stored_bytes,
            coalesce(error_class, 'ok')
        FROM ops.harvest_run
        WHERE {CHOSEN}
        ORDER BY finished_at DESC, run_id
        LIMIT {RUNS_SHOWN}
        """,
        chosen(view),
    )
    columns = [
        Column("finished_at", "time"),
        Column("hospital", "hospital"),
        Column("retrieve_kind", "text"),
        Column("n_studies_found", "count"),
        Column("n_studies_complete", "count"),
        Column("n_studies_partial", "count"),
        Column("n_instances_stored", "count"),
        Column("n_instances_quarantined", "count"),
        Column("n_instances_duplicate", "count"),
        Column("stored_bytes", "bytes"),
        Column("outcome", "outcome"),
    ]
    return Grid(columns, rows)


FIGURES = (
    Figure("harvest_board", "ops.completeness", board),
    Figure("harvest_states", "ops.completeness", states),
    Figure("quarantine_by_reason", "ops.quarantine", quarantine),
    Figure("harvest_runs", "ops.harvest_run", runs),
)
