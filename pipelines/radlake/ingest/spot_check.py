"""The referee in the line: of every batch it re-reads a sample from the object store before anything is committed.

An objection stops the line: the original goes to quarantine, the object is taken away, nothing of the batch is
published. The sample is the same whenever the same batch is made again. A later harvest leaves out what is held, until
it is replayed, and looks at every series of that hospital.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any

from radlake import log
from radlake.contracts import load_table
from radlake.errors import IdentifierLeak, QuarantineError
from radlake.ingest.job import SourceFile, StudyOutcome
from radlake.lake import Lake, duck
from radlake.lake.digests import digest_of_file
from radlake.lake.quarantine import Quarantine
from radlake.lake.reading import read_object
from radlake.referee import Finding, Policy, check_written, row_findings

__all__ = ["check_sample", "held_objections", "kept_out", "met_objections", "sample_of", "stop_at_leaks"]

_REASON = "referee_objection"
_WHOLE = 64 << 20  # of a larger instance the part before the pixels is read
_PIXEL_HEADER = 12  # bytes of tag, VR and length before the value of Pixel Data


@dataclass(frozen=True)
class Pick:
    """An instance of the sample: its row, and the file that it was made from."""

    outcome: StudyOutcome
    row: dict[str, Any]
    file: SourceFile
    sop_uid: str


def sample_of(outcomes: Iterable[StudyOutcome], n: int, *, watched: Collection[str] = ()) -> list[Pick]:
    """At most `n` instances, one of a series, those with the smallest digests; of watched hospitals all series."""
    picks: dict[tuple[str, str], Pick] = {}
    for outcome in outcomes:
        rows = {row["digest"]: row for row in outcome.instances}
        refused = {id(item.file) for item in outcome.refused} | {id(file) for file in outcome.resends}
        files = {file.sop_uid: file for file in outcome.files if id(file) not in refused}
        for sop_uid, stored in outcome.stored.items():
            row, file = rows.get(stored.digest), files.get(sop_uid)
            if row is None or file is None:
                continue
            key = (row["study_instance_uid"], row["series_instance_uid"])
            if key not in picks or row["digest"] < picks[key].row["digest"]:
                picks[key] = Pick(outcome, row, file, sop_uid)
    ranked = sorted(picks.values(), key=lambda pick: pick.row["digest"])
    return [pick for rank, pick in enumerate(ranked) if rank < n or pick.outcome.hospital_id in watched]


def check_sample(
    outcomes: Sequence[StudyOutcome],
    *,
    n: int,
    policy: Policy | None,
    lake: Lake,
    quarantine: Quarantine,
    now: datetime,
) -> None:
    """Let the referee judge a sample of a batch.

    Raises
    ------
    IdentifierLeak
        After the original was set aside with reason `referee_objection`.
    """
    start, n_bytes = monotonic(), 0
    picks = sample_of(outcomes, n, watched={item["hospital_id"] for item in quarantine.held(reason=_REASON)})
    objections: list[tuple[Pick, Finding]] = []
    for pick in picks:
        written = _written(lake, pick.row)
        n_bytes += len(written)
        if finding := next(_findings(pick, written, policy), None):
            _set_aside(pick, finding, lake=lake, quarantine=quarantine, now=now)
            objections.append((pick, finding))
    if objections:
        pick, finding = objections[0]
        where = f"objects/{pick.row['object_path']} {finding.path}"
        raise IdentifierLeak(where=where, rule=finding.rule, hospital=pick.outcome.hospital_id)
    if picks:
        seconds = round(monotonic() - start, 3)
        log.get_logger().info("batch_verified", n_instances=len(picks), bytes=n_bytes, seconds=seconds)


def stop_at_leaks(outcomes: Iterable[StudyOutcome], *, quarantine: Quarantine, now: datetime) -> None:
    """Set aside what the workers' last look objected to.

    Raises
    ------
    IdentifierLeak
        If there was any.
    """
    leaks = [(outcome, item) for outcome in outcomes for item in outcome.refused if _is_new(item.error)]
    for outcome, item in leaks:
        quarantine.hold(
            item.file.path,
            hospital_id=outcome.hospital_id,
            error=item.error,
            now=now,
            study_uid=outcome.study_uid,
            sop_uid=item.sop_uid,
            origin=item.file.origin,
        )
    if leaks:
        outcome, item = leaks[0]
        raise IdentifierLeak(where="the header of an instance", rule=item.error.detail, hospital=outcome.hospital_id)


def held_objections(quarantine: Quarantine, *, hospital_id: str) -> list[dict[str, Any]]:
    """Records of what the referee objected to before and is held since."""
    return quarantine.held(hospital_id=hospital_id, reason=_REASON)


def kept_out(record: Mapping[str, Any]) -> QuarantineError:
    """Why something that is held stays out, which stops nothing: somebody was told already."""
    return QuarantineError(reason=_REASON, detail=record["detail"], is_held=True)


def _is_new(error: QuarantineError) -> bool:
    return error.reason == _REASON and not error.facts.get("is_held")


def met_objections(outcome: StudyOutcome, kept: Mapping[str, Any], *, held: Sequence[dict[str, Any]]) -> set[str]:
    """Quarantine ids of objections to instances that are stored now: a rule was corrected in between."""
    mine = (item for item in held if item["study_uid"] == outcome.study_uid)
    return {item["quarantine_id"] for item in mine if item["sop_uid"] in kept}


def _written(lake: Lake, row: dict[str, Any]) -> bytes:
    length = row["instance_bytes"]
    if length > _WHOLE and row["pixel_offset"]:
        length = row["pixel_offset"] - _PIXEL_HEADER
    return read_object(lake, row["object_path"], row["object_offset"], length)


def _findings(pick: Pick, written: bytes, policy: Policy | None) -> Iterator[Finding]:
    try:
        # A file that changed since, or one of two with the same UID, is not what this was made from.
        is_original = digest_of_file(pick.file.path) == pick.outcome.stored[pick.sop_uid].source_digest
        original = pick.file.path if is_original else b""
    except OSError:
        original = b""
    series = [row for row in pick.outcome.series if row["object_path"] == pick.row["object_path"]]
    tables = [("dicom.instance", [pick.row]), ("dicom.series", series), ("dicom.study", [pick.outcome.study or {}])]
    rows = [_without_closed(row, table=name) for name, of_table in tables for row in of_table]
    where = pick.row["object_path"]
    if len(written) == pick.row["instance_bytes"]:
        yield from row_findings(pick.row, written, where=where)
    yield from check_written(original, written, policy=policy, where=where, rows=rows)


def _without_closed(row: Mapping[str, Any], *, table: str) -> dict[str, Any]:
    """The row without words of a closed list, which tell nobody: somebody may be called Central as an archive is."""
    closed = {column.name: column.values for column in load_table(table).columns if column.values}
    return {name: value for name, value in row.items() if value not in closed.get(name, ())}


def _set_aside(pick: Pick, finding: Finding, *, lake: Lake, quarantine: Quarantine, now: datetime) -> None:
    detail = " ".join(part for part in (finding.rule, finding.path, finding.kind, finding.encoding) if part)
    quarantine.hold(
        pick.file.path,
        hospital_id=pick.outcome.hospital_id,
        error=QuarantineError(reason=_REASON, detail=detail),
        now=now,
        study_uid=pick.outcome.study_uid,
        sop_uid=pick.sop_uid,
        origin=pick.file.origin,
    )
    path = pick.row["object_path"]
    with duck.connect(lake, tables=["dicom.series"]) as connection:
        known = connection.execute("SELECT count(*) FROM dicom.series WHERE object_path = $path", {"path": path})
        is_published = known.fetchall()[0][0] > 0
    if not is_published:  # it lies in the lake's zone already, and no row knows it
        lake.objects.delete(path)
        lake.cache.drop(path)
    log.get_logger().error("referee_objected", hospital=pick.outcome.hospital_id, rule=finding.rule)
