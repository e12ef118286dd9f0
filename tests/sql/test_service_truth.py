"""Service measures in a drawn province: every cell is the truth, and what comes to mind first is not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date

import numpy as np
import pytest

from radlake.synth.rows.draw import draw_exams
from radlake.synth.rows.exams import Period
from radlake.synth.rows.places import Places
from radlake.synth.rows.service import Service, draw_service
from support.statistics import Tables, tables

PERIOD = Period(date(2026, 1, 1), date(2026, 6, 30))
VERDICTS = "n_in_time, n_late, n_waiting, n_never_uploaded, n_pending, n_clock_ahead"


@pytest.fixture(scope="module")
def service() -> Service:
    places = Places.make(40)
    exams = draw_exams(20_000, seed=5, chunk=0, places=places, period=PERIOD)
    return draw_service(np.random.default_rng(11), exams, places=places, period=PERIOD)


@pytest.fixture(scope="module")
def db(service: Service) -> Iterator[Tables]:
    with tables({"ops.upload": service.uploads, "ref.exam_service": service.services}) as built:
        built.build("stats.upload_compliance", "stats.report_turnaround")
        yield built


def test_every_month_of_every_hospital_has_its_true_verdicts(db: Tables, service: Service) -> None:
    found = db.rows(
        f"SELECT exam_month, hospital_id, {VERDICTS} FROM stats.upload_compliance"
        " WHERE exam_month <> 'all' AND hospital_id <> 'all'"
    )
    truth = {cell: tuple(counts.values()) for cell, counts in service.counts().items()}
    assert {(month, hospital): tuple(counts) for month, hospital, *counts in found} == truth
    assert all(sum(column) > 30 for column in zip(*truth.values(), strict=True))  # every verdict is put to the test
    assert [severity for severity, _, _ in db.problems("stats.upload_compliance")] == ["warn", "warn"]


def test_totals_are_sums_and_say_where_the_exams_are_from(db: Tables, service: Service) -> None:
    [(share, denominator, *counts)] = db.rows(
        f"SELECT in_time_share, denominator, {VERDICTS} FROM stats.upload_compliance"
        " WHERE exam_month = 'all' AND hospital_id = 'all'"
    )
    truth = [sum(column) for column in zip(*(cell.values() for cell in service.counts().values()), strict=True)]
    assert counts == truth
    assert share == truth[0] / sum(truth[:4])
    assert denominator == "mixed"
    kinds = db.rows("SELECT DISTINCT denominator FROM stats.upload_compliance WHERE hospital_id <> 'all'")
    assert {kind for (kind,) in kinds} == {"orders", "listed"}


@pytest.mark.parametrize(
    "naive",
    [
        # of what has come, how much came in time: what never came is no failure
        "count(*) FILTER (hours <= 12) / count(hours)",
        # of all, how much is there within 12 hours: exams of this morning fail
        "count(*) FILTER (hours <= 12) / count(*)",
        # an exam whose clock is ahead was quick
        "count(*) FILTER (hours <= 12) / count(*) FILTER (age > 12 OR hours < 0)",
    ],
    ids=["survivors", "pending fails", "clocks"],
)
def test_what_comes_to_mind_first_is_wrong(db: Tables, naive: str) -> None:
    [(share,)] = db.rows(
        "WITH u AS (SELECT date_diff('second', ended_at, completed_at) / 3600 AS hours,"
        " date_diff('second', ended_at, observed_at) / 3600 AS age FROM ops.upload WHERE ended_at >= connected_at)"
        f" SELECT {naive} FROM u"
    )
    [(truth,)] = db.rows(
        "SELECT in_time_share FROM stats.upload_compliance WHERE exam_month = 'all' AND hospital_id = 'all'"
    )
    assert abs(share - truth) > 0.005


def test_backfill_is_not_late(db: Tables) -> None:
    """Exams of before the hospital was connected came when it was connected, weeks after they were made."""
    [(n_late,)] = db.rows("SELECT n_late FROM stats.upload_compliance WHERE exam_month = 'all' AND hospital_id = 'all'")
    [(naive,)] = db.rows("SELECT count(*) FROM ops.upload WHERE completed_at - ended_at > INTERVAL 12 HOUR")
    assert naive > 2 * n_late > 0


def test_months_are_those_of_shanghai(db: Tables, service: Service) -> None:
    """An exam of three in the morning of the first is of the day before in UTC."""
    naive = dict(
        db.rows(
            "SELECT strftime(ended_at, '%Y-%m'), count(*) FROM ops.upload WHERE ended_at >= connected_at GROUP BY 1"
        )
    )
    local = dict(
        db.rows(
            "SELECT strftime(ended_at + INTERVAL 8 HOUR, '%Y-%m'), count(*) FROM ops.upload"
            " WHERE ended_at >= connected_at GROUP BY 1"
        )
    )
    assert naive != local


def reported(service: Service) -> dict[tuple[str, ...], list[float]]:
    """Hours of each cell of stats.report_turnaround without totals, open exams left out."""
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    columns = (
        service.month,
        service.hospital,
        service.reader,
        service.report_hours,
        service.is_listed,
        service.is_open,
    )
    for month, hospital, reader, hours, is_listed, is_open in zip(*columns, strict=True):
        if is_listed and not is_open:
            place = "unknown" if reader == "UNKNOWN" else "own" if reader == hospital else "remote"
            found[str(month), str(hospital), str(reader), place].append(float(hours))
    return found


def test_every_cell_of_the_turnaround_is_true(db: Tables, service: Service) -> None:
    rows = db.rows(
        "SELECT exam_month, hospital_id, reader_id, reading_place, n_exams - n_open, within_24_hours_share, p50_hours"
        " FROM stats.report_turnaround WHERE 'all' NOT IN (exam_month, hospital_id, reader_id, reading_place)"
        " AND n_exams > n_open"
    )
    truth = reported(service)
    assert len(rows) == len(truth) > 100
    assert {row[3] for row in rows} == {"own", "remote", "unknown"}
    for *cell, n, share, median in rows:
        hours = sorted(truth[tuple(cell)])
        assert n == len(hours)
        assert share == sum(h <= 24 for h in hours) / len(hours)
        middle = hours[(len(hours) - 1) // 2]
        assert median == pytest.approx(middle) if np.isfinite(middle) else median is None


def test_percentiles_are_those_of_the_inverted_distribution(db: Tables, service: Service) -> None:
    """Type 1 of Hyndman and Fan, Am Stat 1996;50:361, as numpy calculates it."""
    [found] = db.rows(
        "SELECT p50_hours, p90_hours FROM stats.report_turnaround WHERE exam_month = 'all'"
        " AND hospital_id = 'all' AND reader_id = 'all' AND reading_place = 'own'"
    )
    hours = [h for (_, _, _, place), cell in reported(service).items() if place == "own" for h in cell]
    assert found == pytest.approx(np.quantile(hours, [0.5, 0.9], method="inverted_cdf"))


def test_young_exams_are_not_judged_though_the_fast_of_them_have_a_report(db: Tables, service: Service) -> None:
    young = service.is_listed & service.is_open
    has_report = np.isfinite(service.report_hours)
    assert (young & has_report).sum() > 5
    [(n_open, n_reported, share)] = db.rows(
        "SELECT n_open, n_reported, within_24_hours_share FROM stats.report_turnaround WHERE exam_month = 'all'"
        " AND hospital_id = 'all' AND reader_id = 'all' AND reading_place = 'all'"
    )
    assert (n_open, n_reported) == (young.sum(), (service.is_listed & has_report).sum())
    judged = service.is_listed & ~service.is_open
    assert share == np.mean(service.report_hours[judged] <= 24)


def test_the_median_of_reports_that_exist_is_too_good(db: Tables, service: Service) -> None:
    [(p90, share)] = db.rows(
        "SELECT p90_hours, within_24_hours_share FROM stats.report_turnaround WHERE exam_month = 'all'"
        " AND hospital_id = 'all' AND reader_id = 'all' AND reading_place = 'all'"
    )
    hours = [h for cell in reported(service).values() for h in cell]
    naive = np.quantile([h for h in hours if np.isfinite(h)], 0.9, method="lower")
    assert p90 > naive + 1
    assert share < np.mean([h <= 24 for h in hours if np.isfinite(h)]) - 0.01
