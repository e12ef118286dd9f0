"""core.exam_dose and stats.dose: events counted once, estimates with method and range, reference levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from radlake.resources import schemas_root
from radlake.sqlrun.reference import read_csv
from support.rows import rows
from support.statistics import Tables, parsed, tables

DEFAULTS = schemas_root() / "ref" / "defaults"
Build = Callable[..., Tables]


@contextmanager
def lake(
    exams: str, events: Sequence[dict[str, Any]] = (), instances: Sequence[dict[str, Any]] = ()
) -> Iterator[Tables]:
    """Tables of exams `exam | hospital | modality | body_part | age`, each of one study of the same name."""
    lines = [
        {"hospital": "h1", "modality": "CT", "body_part": "CHEST", "age": "40"} | line for line in parsed(exams)
    ]  # fmt: skip
    keys = [{"hospital_id": x["hospital"], "exam_pseudo_id": x["exam"], "patient_key": 7} for x in lines]
    facts = [
        key | {"modality_group": x["modality"], "body_part_code": x["body_part"],
               "patient_age_years": int(x["age"]) if x["age"] != "-" else None}
        for key, x in zip(keys, lines, strict=True)
    ]  # fmt: skip
    studies = [key | {"study_instance_uid": key["exam_pseudo_id"]} for key in keys]
    given = {
        "core.exam": rows("core.exam", *facts),
        "dicom.study": rows("dicom.study", *studies),
        "dose.irradiation_event": rows(
            "dose.irradiation_event",
            *({"hospital_id": "h1", "event_number": i, "sop_instance_uid": "1.1"} | e for i, e in enumerate(events, 1)),
        ),
        "dicom.instance": rows("dicom.instance", *({"hospital_id": "h1"} | one for one in instances)),
        "ref.dose_factor": read_csv(DEFAULTS / "dose_factor.csv", name="ref.dose_factor"),
        "ref.drl": read_csv(DEFAULTS / "drl.csv", name="ref.drl"),
    }
    with tables(given) as db:
        db.connection.execute("UPDATE core.exam_v1 SET study_at = TIMESTAMP '2026-03-01 08:00:00'")
        db.build("core.exam_dose", "stats.dose")
        yield db


@pytest.fixture
def built() -> Iterator[Build]:
    with ExitStack() as stack:
        yield lambda *given, **more: stack.enter_context(lake(*given, **more))


def ct(study: str, uid: str, dlp: float, **more: Any) -> dict[str, Any]:
    event = {"study_instance_uid": study, "irradiation_event_uid": uid, "event_kind": "CT", "dlp_mgy_cm": dlp}
    return (
        event | {"target_part_code": "CHEST", "ctdi_phantom_cm": 32, "ctdi_vol_mgy": 10.0, "is_localizer": False} | more
    )


def dose(db: Tables, columns: str, exam: str = "2.1") -> tuple[Any, ...]:
    (row,) = db.rows(f"SELECT {columns} FROM core.exam_dose WHERE exam_pseudo_id = '{exam}' AND hospital_id = 'h1'")
    return row


RANGE = "effective_dose_msv, effective_dose_low_msv, effective_dose_high_msv, effective_dose_method, problem"


def test_an_event_that_two_reports_tell_counts_once(built: Build) -> None:
    again = [ct("2.1", "1.9", 300.0), ct("2.1", "1.8", 100.0), ct("2.1", "1.9", 300.0, sop_instance_uid="1.2")]
    assert dose(built("exam \n 2.1", again), "n_events, dlp_mgy_cm, dose_source") == (2, 400.0, "rdsr")


def test_an_event_that_came_to_another_hospital_on_a_cd_counts_once(built: Build) -> None:
    events = [ct("2.1", "1.9", 300.0), ct("2.1", "1.9", 300.0, hospital_id="h2")]
    db = built("exam | hospital \n 2.1 | h1 \n 2.1 | h2", events)
    assert db.rows("SELECT hospital_id, n_events FROM core.exam_dose ORDER BY 1") == [("h1", 1), ("h2", 0)]


def test_dlp_gives_an_estimate_with_its_range_by_the_target_of_each_event(built: Build) -> None:
    head = ct("2.1", "1.8", 1000.0, target_part_code="HEAD", ctdi_phantom_cm=16, ctdi_vol_mgy=50.0)
    found = dose(built("exam \n 2.1", [ct("2.1", "1.9", 400.0), head]), RANGE)
    assert found[:3] == pytest.approx((400 * 0.014 + 2.1, 400 * 0.0094 + 1.3, 400 * 0.021 + 2.6))
    assert found[3:] == ("dlp", "")


def test_a_scout_counts_for_dlp_and_not_for_ctdi(built: Build) -> None:
    events = [ct("2.1", "1.1", 7.0, is_localizer=True, ctdi_vol_mgy=99.0), ct("2.1", "1.2", 300.0)]
    assert dose(built("exam \n 2.1", events), "ctdi_vol_mgy, dlp_mgy_cm") == (10.0, 307.0)


def test_a_factor_of_another_phantom_is_not_used(built: Build) -> None:
    found = dose(built("exam \n 2.1", [ct("2.1", "1.9", 400.0, ctdi_phantom_cm=16)]), RANGE)
    assert found == (7.5, 0.3, 26.0, "typical", "phantom")


@pytest.mark.parametrize("age", ["17", "-"])
def test_a_child_or_somebody_of_unknown_age_has_no_estimate(built: Build, age: str) -> None:
    db = built(f"exam | age \n 2.1 | {age}", [ct("2.1", "1.9", 400.0)])
    assert dose(db, RANGE) == (None, None, None, "none", "no_adult")
    assert dose(db, "dlp_mgy_cm") == (400.0,)
    assert db.rows("SELECT count(*) FROM stats.dose") == [(0,)]


def test_glandular_dose_is_weighted_over_both_breasts(built: Build) -> None:
    events = [
        {"study_instance_uid": "2.1", "irradiation_event_uid": uid, "event_kind": "MG", "agd_mgy": agd}
        for uid, agd in (("1.1", 1.3), ("1.2", 1.28))
    ]
    found = dose(built("exam | modality | body_part \n 2.1 | MG | BREAST", events), RANGE)
    assert found[:3] == pytest.approx((0.06 * 2.58, 0.025 * 2.58, 0.06 * 2.58))
    assert found[3:] == ("agd", "")


def test_without_a_report_the_header_is_told_apart_and_no_dlp_is_made_up(built: Build) -> None:
    header = {"study_instance_uid": "2.1", "sop_instance_uid": "1.5", "modality": "CT", "ctdi_vol_mgy": 12.5}
    db = built("exam \n 2.1", instances=[header])
    assert dose(db, "dose_source, ctdi_vol_mgy, dlp_mgy_cm, effective_dose_method") == (
        "image_header", 12.5, None, "typical"
    )  # fmt: skip
    assert db.rows("SELECT count(*) FROM stats.dose") == [(0,)]


def test_what_no_factor_is_known_for_has_no_estimate(built: Build) -> None:
    assert dose(built("exam | modality \n 2.1 | XA"), RANGE) == (None, None, None, "none", "no_factor")


def test_medians_stand_beside_the_reference_level_which_is_not_verified(built: Build) -> None:
    exams = "exam \n" + "\n".join(f"2.{i}" for i in range(1, 6))
    events = [ct(f"2.{i}", f"1.{i}", dlp) for i, dlp in enumerate((300.0, 400.0, 500.0, 600.0, 700.0), 1)]
    db = built(exams, events)
    columns = "n_reported, n_events, dlp_median_mgy_cm, dlp_p75_mgy_cm, dlp_drl_mgy_cm, ctdi_vol_drl_mgy"
    assert db.rows(f"SELECT {columns}, is_above_drl, is_drl_verified FROM stats.dose WHERE hospital_id = 'all'") == [
        (5, 5, 500.0, 600.0, 470.0, 15.0, True, False)
    ]


def test_ultrasound_and_mr_have_no_row(built: Build) -> None:
    db = built("exam | modality \n 2.1 | US \n 2.2 | MR")
    assert db.rows("SELECT count(*) FROM core.exam_dose") == [(0,)]
    assert db.problems("core.exam_dose") == []
