"""Watch: which hospitals have fallen silent, and what the ledger certified of each on its last day."""

from __future__ import annotations

from radlake.web.cells import Cell
from radlake.web.figures.cube import CHOSEN, chosen
from radlake.web.figures.figure import Figure
from radlake.web.grid import Column, Grid
from radlake.web.snapshot import Snapshot, day_of
from radlake.web.view import View

__all__ = ["FIGURES", "total"]

LAG, CERTIFICATE = "ops.lag", "ops.certificate"


def total(snapshot: Snapshot, view: View) -> dict[str, Cell]:
    """Dark hospitals, and those that were looked at; neither before the lag was published."""
    [row] = snapshot.rows(
        f"""
        SELECT nullif(count(*), 0), CASE WHEN count(*) > 0 THEN count(*) FILTER (is_dark) END
        FROM {LAG}
        WHERE {CHOSEN}
        """,
        chosen(view),
    )
    return dict(zip(("n_watched", "n_dark"), row, strict=True))


def silence(snapshot: Snapshot, view: View) -> Grid:
    """A row a hospital: studies of the last whole day beside those expected of it; the least probable first."""
    rows = snapshot.rows(
        f"""
        SELECT
            hospital_id,
            CASE WHEN is_dark THEN 'dark' WHEN expected_studies IS NULL THEN 'early' ELSE 'expected' END,
            seen_studies, expected_studies, dark_probability, oldest_waiting_hours, p95_hours, updated_at
        FROM {LAG}
        WHERE {CHOSEN}
        ORDER BY is_dark DESC, dark_probability ASC NULLS LAST, hospital_id
        """,
        chosen(view),
    )
    columns = [
        Column("hospital", "hospital"),
        Column("volume", "volume"),
        Column("seen_studies", "count"),
        Column("expected_studies", "decimal"),
        Column("dark_probability", "decimal"),
        Column("oldest_waiting_hours", "decimal"),
        Column("lag_p95_hours", "decimal"),
        Column("watched_at", "time"),
    ]
    return Grid(columns, rows)


def certificates(snapshot: Snapshot, view: View) -> Grid:
    """A row a hospital, what needs a person first. A certificate is old when a run ended two days after it or later."""
    rows = snapshot.rows(
        f"""
        WITH last_one AS (
            FROM {CERTIFICATE}
            QUALIFY row_number() OVER (PARTITION BY hospital_id ORDER BY certificate_number DESC) = 1
        ),
        ran AS (
            SELECT hospital_id, max({day_of("finished_at")})::DATE AS ran_on FROM ops.harvest_run GROUP BY hospital_id
        ),
        judged AS (
            SELECT
                *,
                CASE
                    WHEN digest IS NULL THEN 'none'
                    WHEN n_studies_disagreeing > 0 THEN 'differs'
                    WHEN certificate_day + 1 < ran_on THEN 'old'
                    WHEN n_complete < n_studies - n_withdrawn THEN 'incomplete'
                    ELSE 'whole'
                END AS state
            FROM ref.hospital FULL JOIN last_one USING (hospital_id) LEFT JOIN ran USING (hospital_id)
        )
        SELECT
            hospital_id, state, strftime(certificate_day, '%Y-%m-%d'), n_studies - n_withdrawn, n_complete,
            n_instances_expected, n_instances_stored, n_instances_catalogued, n_studies_disagreeing, left(digest, 16)
        FROM judged
        WHERE {CHOSEN}
        ORDER BY list_position(['differs', 'none', 'old', 'incomplete', 'whole'], state), hospital_id
        """,
        chosen(view),
    )
    columns = [
        Column("hospital", "hospital"),
        Column("certificate", "certificate"),
        Column("certificate_day", "day"),
        Column("n_studies", "count"),
        Column("n_complete", "count"),
        Column("n_instances_expected", "count"),
        Column("n_instances_stored", "count"),
        Column("n_instances_catalogued", "count"),
        Column("n_studies_disagreeing", "count"),
        Column("digest", "text"),
    ]
    return Grid(columns, rows)


FIGURES = (
    Figure("silent_hospitals", LAG, silence),
    Figure("certificates", CERTIFICATE, certificates),
)
