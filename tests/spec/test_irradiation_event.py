"""Which irradiation events of dose reports count, as tables that anybody can read (docs/reference/definitions).

Every table is the dose reports of one CT exam. `counts` says whether the event adds to the dose of the exam; `-` in the
columns `uid` and `start` is what the machine did not tell.
"""

from __future__ import annotations

from radlake.ingest.dose import report_rows
from support.dicom import dicom_bytes
from support.dose import ct_report
from support.rows import rows
from support.statistics import Tables, parsed, tables


def spec(table: str) -> list[str]:
    """The exam has the events, and the DLP of the events, that count; returns what the checks of the table warn of."""
    lines = parsed(table)
    reports: dict[str, list[dict[str, str]]] = {}
    for line in lines:
        reports.setdefault(line["report"], []).append(line)
    events = [event for name, told in reports.items() for event in _events(name, told)]
    exam = {"hospital_id": "h1", "exam_pseudo_id": "2.1", "patient_key": 7}
    given = {
        "core.exam": rows("core.exam", exam | {"modality_group": "CT"}),
        "dicom.study": rows("dicom.study", exam | {"study_instance_uid": "1.5"}),
        "dose.irradiation_event": rows("dose.irradiation_event", *events),
    }
    counted = [float(line["dlp"]) for line in lines if line["counts"] == "yes"]
    with tables(given) as db:
        db.build("core.exam_dose")
        assert db.rows("SELECT n_events, dlp_mgy_cm FROM core.exam_dose") == [(len(counted), sum(counted))]
        return _warned(db)


def _events(name: str, lines: list[dict[str, str]]) -> list[dict[str, object]]:
    told = [
        {key: "" if line[key] == "-" else line[key] for key in ("uid", "start")} | {"dlp": float(line["dlp"])}
        for line in lines
    ]
    for event in told:
        event["start"] = event["start"] and f"20260301{event['start'].replace(':', '')}00"
    device = {"A": "1.7.1", "B": "1.7.2"}[lines[0].get("device", "A")]
    place = {"hospital_id": "h1", "study_instance_uid": "1.5", "sop_instance_uid": f"1.1.{name.removeprefix('r')}"}
    row = place | {"patient_key": 7, "study_month": 202603, "digest": "a" * 32}
    return report_rows(row, dicom_bytes(ct_report(told, device=device)))[1]


def _warned(db: Tables) -> list[str]:
    return [reason.split(";")[0] for _, reason, _ in db.problems("core.exam_dose") if "neither UID" in reason]


def test_an_event_counts_once_by_its_uid() -> None:
    spec("""
        report | uid   | start | dlp | counts
        r1     | 1.9.1 | 08:00 | 20  | yes
        r1     | 1.9.2 | 08:01 | 300 | yes
        r2     | 1.9.1 | 08:00 | 20  | no       # the report was sent again
        r2     | 1.9.2 | 08:01 | 300 | no
    """)


def test_an_event_without_uid_counts_once_by_device_start_and_what_was_measured() -> None:
    warned = spec("""
        report | device | uid | start | dlp | counts
        r1     | A      | -   | 08:00 | 20  | yes
        r1     | A      | -   | 08:01 | 300 | yes
        r2     | A      | -   | 08:00 | 20  | no       # sent again
        r2     | A      | -   | 08:01 | 300 | no
        r3     | A      | -   | 08:09 | 300 | yes      # another start
        r4     | B      | -   | 08:00 | 20  | yes      # another device
    """)
    assert warned == []


def test_a_report_of_all_events_repeats_those_of_each_event() -> None:
    spec("""
        report | uid | start | dlp | counts
        r1     | -   | 08:00 | 20  | yes
        r2     | -   | 08:01 | 300 | yes
        r3     | -   | 08:00 | 20  | no       # cumulative: both again,
        r3     | -   | 08:01 | 300 | no
        r3     | -   | 08:02 | 310 | yes      # and one that no other report tells
    """)


def test_equal_events_of_one_report_are_as_many_as_it_tells() -> None:
    warned = spec("""
        report | uid | start | dlp | counts
        r1     | -   | -     | 20  | yes
        r1     | -   | -     | 20  | yes      # told twice in one report: two events
        r2     | -   | -     | 20  | no       # equal, in another report: taken for one sent again
    """)
    assert warned == ["irradiation events have neither UID nor start"]
