"""Dark hospitals and certificates: what needs a person comes first, and nothing that was not said is shown as good."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from radlake.web.cells import is_alarming
from radlake.web.figures import watch
from radlake.web.snapshot import take_snapshot
from radlake.web.view import View
from support import weblake

AT = datetime(2026, 11, 20, 2)
EVERYTHING = View()


def lag(hospital: str, *, seen: int, expected: float | None, chance: float | None) -> dict:
    numbers = dict.fromkeys(("n_studies", "n_waiting", "n_late", "n_future"), 0)
    hours = dict.fromkeys(
        ("in_time_share", "oldest_waiting_hours", "p50_hours", "p95_hours", "p99_hours", "p100_hours")
    )
    return {
        **numbers, **hours, "hospital_id": hospital, "seen_studies": seen, "expected_studies": expected,
        "dark_probability": chance, "is_dark": chance is not None and chance < 0.001, "skew_minutes": 0.0,
        "updated_at": AT,
    }  # fmt: skip


def certificate(hospital: str, number: int, day: date, *, n_complete: int = 9, disagreeing: int = 0) -> dict:
    states = ("discovered", "retrieving", "partial", "quarantined", "offline")
    return {
        **{f"n_{state}": 0 for state in states}, "n_complete": n_complete, "n_withdrawn": 1, "n_studies": 10,
        "hospital_id": hospital, "certificate_number": number, "certificate_day": day, "issued_at": AT,
        "n_instances_expected": 90, "n_instances_stored": 90, "n_instances_set_aside": 0,
        "n_instances_catalogued": 90, "n_studies_disagreeing": disagreeing, "evidence_root": "0" * 64,
        "digest": f"{number:064x}",
    }  # fmt: skip


def registered(hospital: str) -> dict:
    return {
        "hospital_id": hospital, "name_zh": "医院", "name_en": "Hospital", "region_code": "UNKNOWN",
        "hospital_level": "3A", "storage_policy": "central",
    }  # fmt: skip


def run(hospital: str, finished_at: datetime) -> dict:
    counts = ("studies_found", "studies_complete", "studies_partial", "instances_stored", "instances_quarantined",
              "instances_duplicate")  # fmt: skip
    return {
        **{f"n_{name}": 0 for name in counts}, "run_id": f"r-{hospital}", "hospital_id": hospital,
        "retrieve_kind": "c-get", "started_at": finished_at, "finished_at": finished_at, "stored_bytes": 0,
        "deidentified_by": "{}", "error_class": None,
    }  # fmt: skip


def test_dark_hospitals_come_first_and_a_new_one_is_not_called_dark() -> None:
    rows = [
        lag("h1", seen=40, expected=41.0, chance=0.4),
        lag("h2", seen=0, expected=None, chance=None),
        lag("h3", seen=0, expected=12.0, chance=6e-6),
    ]
    snapshot = take_snapshot(weblake.copy_of(ops_lag=rows))
    assert [tuple(row[:5]) for row in watch.silence(snapshot, EVERYTHING).rows] == [
        ("h3", "dark", 0, 12.0, 6e-6),
        ("h1", "expected", 40, 41.0, 0.4),
        ("h2", "early", 0, None, None),
    ]
    assert watch.total(snapshot, EVERYTHING) == {"n_watched": 3, "n_dark": 1}
    assert watch.total(snapshot, View(hospital="h1")) == {"n_watched": 1, "n_dark": 0}


def test_before_anybody_looked_no_hospital_is_said_to_be_well() -> None:
    snapshot = take_snapshot(weblake.copy_of())
    assert watch.total(snapshot, EVERYTHING) == {"n_watched": None, "n_dark": None}
    assert watch.silence(snapshot, EVERYTHING).rows == []


def test_last_certificate_of_each_hospital_and_what_is_wrong_with_it() -> None:
    today = AT.date()
    names = ("h1", "h2", "h3", "h4", "h5", "h6")
    snapshot = take_snapshot(
        weblake.copy_of(
            ref_hospital=[registered(name) for name in names],
            ops_certificate=[
                certificate("h1", 1, today - timedelta(days=1), disagreeing=2),
                certificate("h1", 2, today),
                certificate("h2", 1, today, n_complete=8),
                certificate("h3", 1, today - timedelta(days=2)),
                certificate("h4", 1, today, disagreeing=1),
                certificate("h6", 1, today - timedelta(days=2)),
            ],
            # 17:00 UTC is the next day in China: two days after the certificate of h3, one after that of h6
            ops_harvest_run=[
                run("h3", datetime(2026, 11, 19, 17)),
                run("h6", datetime(2026, 11, 19, 15, 59)),
            ],
        )
    )
    found = watch.certificates(snapshot, EVERYTHING)
    states = {row[0]: row[1] for row in found.rows}
    assert states == {"h1": "whole", "h2": "incomplete", "h3": "old", "h4": "differs", "h5": "none", "h6": "whole"}
    assert [row[0] for row in found.rows] == ["h4", "h5", "h3", "h2", "h1", "h6"]
    assert next(tuple(row[2:]) for row in found.rows if row[0] == "h1") == (
        "2026-11-20", 9, 9, 90, 90, 90, 0, f"{2:064x}"[:16],
    )  # fmt: skip
    assert {state for state in states.values() if is_alarming(state, "certificate")} == {"old", "differs", "none"}
