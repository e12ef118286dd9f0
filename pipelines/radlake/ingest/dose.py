"""Read the dose reports of a lake: dose.report and dose.irradiation_event, derived from stored objects.

Nothing of this happens at ingest: a dose report is stored like any document, and read here, from its de-identified
bytes, once. What a report tells is replaced when its bytes change; the order of commits lets a kill be repeated.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

from pydicom import Dataset, dcmread

from radlake.contracts import load_table
from radlake.contracts.rows import arrow_rows
from radlake.dicom.dose_report import DOSE_REPORT_CLASSES, DoseReport, IrradiationEvent, dose_report
from radlake.errors import SourceMissing
from radlake.ingest.rows import moment_of
from radlake.lake import Lake, duck
from radlake.vocab.load import UNKNOWN, sct_code, vocabulary

__all__ = ["ReadReports", "event_identities", "read_dose_reports"]

_AT_ONCE = 2000
_UNREAD = f"""
    SELECT hospital_id, study_instance_uid, sop_instance_uid, patient_key, study_month, digest,
        object_path, object_offset, instance_bytes
    FROM dicom.instance
    ANTI JOIN dose.report AS report USING (hospital_id, sop_instance_uid, digest)
    WHERE sop_class_uid IN ({", ".join(f"'{uid}'" for uid in DOSE_REPORT_CLASSES)})
    ORDER BY hospital_id, object_path, object_offset
"""
_PLACE = ("hospital_id", "study_instance_uid", "sop_instance_uid", "patient_key", "study_month")
_EVENT = ("is_localizer", "ctdi_vol_mgy", "dlp_mgy_cm", "scan_length_mm", "dap_gy_m2", "dose_rp_mgy", "agd_mgy", "kvp")

Read = Callable[[str, int, int], bytes]


@dataclass(frozen=True)
class ReadReports:
    """Reports that were read, events in them, and reports that could not be reached or hold a problem."""

    n_reports: int
    n_events: int
    n_problems: int
    n_unreachable: int


def read_dose_reports(lake: Lake, *, read: Read) -> ReadReports:
    """Read every dose report that was not read yet; the same again reads nothing.

    Parameters
    ----------
    read : callable
        Path, offset and length of a range of a series object -> its bytes: `lake.reading.read_object` of the lake, or
        `residency.SeriesReader.read`, which also asks hospitals that keep their pixels.
    """
    with duck.connect(lake, tables={"dicom.instance", "dose.report"}) as connection:
        unread = connection.sql(_UNREAD).to_arrow_table().to_pylist()
    n_unreachable = n_events = n_problems = n_reports = 0
    for rows in _parts(unread):
        reports: list[dict[str, Any]] = []
        events: list[dict[str, Any]] = []
        for row in rows:
            try:
                data = read(row["object_path"], row["object_offset"], row["instance_bytes"])
            except SourceMissing:
                n_unreachable += 1  # its hospital keeps it: read when somebody brings it
                continue
            report, of_report = report_rows(row, data)
            reports.append(report)
            events += of_report
        _commit(lake, reports, events)
        n_reports, n_events = n_reports + len(reports), n_events + len(events)
        n_problems += sum(bool(report["problem"]) for report in reports)
    return ReadReports(n_reports, n_events, n_problems, n_unreachable)


def report_rows(row: Mapping[str, Any], data: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row of dose.report and the rows of dose.irradiation_event of one stored report."""
    place = {name: row[name] for name in _PLACE}
    try:
        report = dose_report(dcmread(BytesIO(data), force=True))
    except Exception:  # one bad document never stops the others; it is told as unreadable
        report = dose_report(Dataset())
        problem = "unreadable"
    else:
        problem = _problem(report)
    facts = {name: getattr(report, name) for name in ("n_events_stated", "dlp_total_mgy_cm", "dap_total_gy_m2")}
    told = {"digest": row["digest"], "n_events": len(report.events), "problem": problem}
    told["report_kind"] = report.kind if report.events else "NONE"
    identities = event_identities(report.events, study_uid=row["study_instance_uid"])
    events = zip(report.events, identities, strict=True)
    return place | facts | told, [place | _event_row(event, identity) for event, identity in events]


def event_identities(events: Iterable[IrradiationEvent], *, study_uid: str) -> list[str]:
    """What tells each event of a report from all others: its Irradiation Event UID, else the digest of its study,
    device, start and everything that was measured, with its ordinal among the equal events of the report.

    A report that is sent again, and one that repeats the events of others (cumulative), gives the same identities.
    Two events without a UID and without a start that are equal in all else are one when they come in two reports.
    """
    n_equal = Counter[str]()

    def derived(event: IrradiationEvent) -> str:
        told = sorted((name, value) for name, value in asdict(event).items() if name not in ("number", "uid"))
        digest = hashlib.sha256(repr((study_uid, told)).encode()).hexdigest()[:32]
        n_equal[digest] += 1
        return f"#{digest}#{n_equal[digest]}"

    return [event.uid or derived(event) for event in events]


def _problem(report: DoseReport) -> str:
    if not report.events:
        return "no_event"
    if report.unknown_units:
        return "unknown_unit"
    return "events_missing" if len(report.events) < (report.n_events_stated or 0) else ""


def _event_row(event: IrradiationEvent, identity: str) -> dict[str, Any]:
    target = vocabulary().part_of_code.get(sct_code(*event.target)) if event.target else None
    facts = asdict(event)
    return {name: facts[name] for name in _EVENT} | {
        "event_number": event.number,
        "irradiation_event_uid": identity,
        "event_kind": event.kind,
        "event_at": moment_of(event.started, None, None) if event.started else None,
        "target_part_code": "+".join(sorted(target)) if target else UNKNOWN,
        "laterality_code": event.laterality or "NONE",
        "ctdi_phantom_cm": event.phantom_cm,
    }


def _commit(lake: Lake, reports: Sequence[dict[str, Any]], events: Sequence[dict[str, Any]]) -> None:
    """Events first: the row of a report says that its events are there. After a kill both are replaced."""
    if not reports:
        return
    of_reports = arrow_rows(load_table("dose.report"), reports)
    keys = of_reports.select(["hospital_id", "sop_instance_uid", "study_month"])
    batch_id = f"dose-{_digest(reports)}-{lake.tables.version('dose.report')}"
    of_events = arrow_rows(load_table("dose.irradiation_event"), events)
    lake.tables.commit_batch("dose.irradiation_event", of_events, batch_id=batch_id, replace=keys)
    lake.tables.commit_batch("dose.report", of_reports, batch_id=batch_id, replace=keys)


def _digest(reports: Sequence[Mapping[str, Any]]) -> str:
    named = [(report["hospital_id"], report["sop_instance_uid"], report["digest"]) for report in reports]
    return hashlib.sha256(repr(named).encode()).hexdigest()[:32]


def _parts(rows: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    yield from (rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE))
