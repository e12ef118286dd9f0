"""From ingested studies to a committed batch: set aside, gate, stage, commit.

A batch is of one hospital, or of several small harvests together: what a batch costs, it costs once.

A study that the lake knows already (a late series, a replay) has its row replaced by the sum of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from radlake.contracts import load_table
from radlake.contracts.rows import arrow_rows
from radlake.errors import QuarantineError
from radlake.ingest.batch import CHILDREN_FIRST, batch_id_of, commit, stage
from radlake.ingest.job import SourceFile, StudyOutcome
from radlake.ingest.spot_check import check_sample, held_objections, met_objections, stop_at_leaks
from radlake.lake import Lake, duck
from radlake.lake.evidence import SetAside, Settlement, StudyEntry
from radlake.lake.ledger import Ledger
from radlake.lake.quarantine import Quarantine
from radlake.lake.unread import enter_unread
from radlake.quality import GateResult, check_batch
from radlake.referee import Policy

__all__ = ["Part", "Publication", "publish", "publish_together"]


@dataclass(frozen=True)
class Part:
    """Outcomes of one hospital's studies, and by Study UID why its node did not send everything."""

    outcomes: Sequence[StudyOutcome]
    troubles: Mapping[str, str]


@dataclass(frozen=True)
class Publication:
    """What the outcomes of one hospital came to."""

    n_stored: int
    stored_bytes: int
    reasons: list[str]  # one per file that was set aside


def publish(
    outcomes: Sequence[StudyOutcome],
    *,
    troubles: Mapping[str, str],
    lake: Lake,
    ledger: Ledger,
    quarantine: Quarantine,
    now: datetime,
    policy: Policy | None = None,
    sample: int = 32,
) -> Publication:
    """Let the referee see a sample, gate and commit the outcomes of one hospital's studies.

    Parameters
    ----------
    policy : Policy or None
        What the profile allows; without it the referee judges by what the objects claim.
    sample : int
        Instances that the referee sees.
    troubles : mapping
        Study UID -> why the node did not send everything.

    Raises
    ------
    IdentifierLeak
        If a worker's last look or the referee objects: nothing of the batch is published.
    """
    (published,) = publish_together(
        [Part(outcomes, troubles)],
        lake=lake,
        ledger=ledger,
        quarantine=quarantine,
        now=now,
        policy=policy,
        sample=sample,
    )
    return published


def publish_together(
    parts: Sequence[Part],
    *,
    lake: Lake,
    ledger: Ledger,
    quarantine: Quarantine,
    now: datetime,
    policy: Policy | None = None,
    sample: int = 32,
) -> list[Publication]:
    """`publish` for several hospitals in one batch; the caller holds the harvest of each of them.

    Where the gate holds something back, every hospital is gated for itself: no one waits for the fault of another.
    """
    outcomes = [outcome for part in parts for outcome in part.outcomes]
    stop_at_leaks(outcomes, quarantine=quarantine, now=now)
    check_sample(outcomes, n=sample, policy=policy, lake=lake, quarantine=quarantine, now=now)
    gates = [_gate(outcomes, now=now)]
    if gates[0].blocked and len(parts) > 1:
        gates = [_gate(part.outcomes, now=now) for part in parts]
    else:
        gates *= len(parts)
    made = [
        _made(part, gate, lake=lake, ledger=ledger, quarantine=quarantine, now=now)
        for part, gate in zip(parts, gates, strict=True)
    ]
    tables = _joined([one.tables for one in made])
    tables["ops.quality"] = pa.concat_tables([gate.results for gate in dict.fromkeys(gates)])
    settlements = [settlement for one in made for settlement in one.settlements]
    unread = [(o.study["patient_key"], piece) for o in outcomes if o.study for piece in o.unread]
    enter_unread(ledger, unread)  # counted by person: a batch that is done again changes nothing
    commit(lake, ledger, stage(lake, tables=tables, settlements=settlements), now=now)
    return [one.publication for one in made]


@dataclass(frozen=True)
class _Made:
    """What a part adds to a batch."""

    tables: dict[str, pa.Table]
    settlements: list[Settlement]
    publication: Publication


def _joined(parts: Sequence[dict[str, pa.Table]]) -> dict[str, pa.Table]:
    names = dict.fromkeys(name for tables in parts for name in tables)
    return {name: pa.concat_tables([tables[name] for tables in parts if name in tables]) for name in names}


def _made(part: Part, gated: GateResult, *, lake: Lake, ledger: Ledger, quarantine: Quarantine, now: datetime) -> _Made:
    """Set aside what was refused or blocked, and the rows and settlements of the rest."""
    outcomes = part.outcomes
    reasons: list[str] = []
    settlements: list[Settlement] = []
    published: list[StudyOutcome] = []
    entries = {entry.study_uid: entry for entry in _entries(ledger, outcomes)}
    objections = held_objections(quarantine, hospital_id=outcomes[0].hospital_id) if outcomes else []
    for outcome in outcomes:
        blocked = gated.blocked.get(outcome.study["study_instance_uid"]) if outcome.study else None
        set_aside = _set_aside(outcome, blocked=blocked, quarantine=quarantine, now=now)
        reasons += [aside.reason for aside in set_aside]
        kept = {} if blocked else outcome.stored
        if kept:
            published.append(outcome)
        held = {aside.quarantine_id for aside in set_aside}
        replayed = {file.quarantine_id for file in outcome.files if file.quarantine_id}
        healed = _healed(entries.get(outcome.study_uid), kept) | met_objections(outcome, kept, held=objections)
        study = outcome.study if kept and outcome.study else {}
        settlements.append(
            Settlement(
                hospital_id=outcome.hospital_id,
                study_uid=outcome.study_uid,
                stored=kept,
                set_aside=tuple({aside.quarantine_id: aside for aside in set_aside}.values()),
                resolved=tuple(sorted((replayed | healed) - held)),
                trouble=part.troubles.get(outcome.study_uid, ""),
                patient_key=study.get("patient_key"),
                lake_study_uid=study.get("study_instance_uid", ""),
                lake_month=study.get("study_month"),
                sealed=outcome.sealed if kept else None,
                retention=outcome.retention if kept else "",
            )
        )
    known = {uid: entry for uid, entry in entries.items() if entry.lake_study_uid}
    publication = Publication(
        n_stored=sum(len(outcome.instances) for outcome in published),
        stored_bytes=sum(row["instance_bytes"] for outcome in published for row in outcome.instances),
        reasons=reasons,
    )
    settlements = [_keep_place(item, known.get(item.study_uid)) for item in settlements]
    return _Made(_tables(published, known=known, lake=lake), settlements, publication)


def _healed(entry: StudyEntry | None, kept: Mapping[str, Any]) -> set[str]:
    """Damaged copies that were set aside before a good one of the same instance came; a conflict stays one."""
    return {
        aside.quarantine_id
        for aside in (entry.set_aside if entry else ())
        if aside.sop_uid in kept and aside.reason != "sop_instance_conflict"
    }


def _gate(outcomes: Sequence[StudyOutcome], *, now: datetime) -> GateResult:
    batch = {
        "dicom.instance": [row for outcome in outcomes for row in outcome.instances],
        "dicom.series": [row for outcome in outcomes for row in outcome.series],
        "dicom.study": [outcome.study for outcome in outcomes if outcome.study],
    }
    if not batch["dicom.study"]:
        return GateResult(load_table("ops.quality").arrow_schema().empty_table(), {})
    batch_id = batch_id_of([Settlement(o.hospital_id, o.study_uid, o.stored) for o in outcomes])
    tables = {name: arrow_rows(load_table(name), rows) for name, rows in batch.items()}
    return check_batch(tables, batch_id=batch_id, checked_at=now)


def _set_aside(outcome: StudyOutcome, *, blocked: str | None, quarantine: Quarantine, now: datetime) -> list[SetAside]:
    refused = [(item.file, item.sop_uid, item.error) for item in outcome.refused]
    if blocked:
        error = QuarantineError(reason="quality_gate", detail=blocked)
        done = {id(item.file) for item in outcome.refused} | {id(file) for file in outcome.resends}
        refused += [(file, file.sop_uid, error) for file in outcome.files if id(file) not in done]
    return [_hold(file, sop_uid, error, outcome, quarantine, now) for file, sop_uid, error in refused]


def _hold(
    file: SourceFile,
    sop_uid: str,
    error: QuarantineError,
    outcome: StudyOutcome,
    quarantine: Quarantine,
    now: datetime,
) -> SetAside:
    return quarantine.hold(
        file.path,
        hospital_id=outcome.hospital_id,
        error=error,
        now=now,
        study_uid=outcome.study_uid,
        sop_uid=sop_uid,
        origin=file.origin,
    )


def _entries(ledger: Ledger, outcomes: Sequence[StudyOutcome]) -> list[StudyEntry]:
    hospitals = {outcome.hospital_id for outcome in outcomes}
    return [
        entry
        for hospital in sorted(hospitals)
        for entry in ledger.entries(hospital, [o.study_uid for o in outcomes if o.hospital_id == hospital])
    ]


def _keep_place(item: Settlement, entry: StudyEntry | None) -> Settlement:
    """A study stays in the partition that it was first stored in."""
    if entry is None:
        return item
    return replace(
        item, patient_key=entry.patient_key, lake_study_uid=entry.lake_study_uid, lake_month=entry.lake_month
    )


def _tables(outcomes: Sequence[StudyOutcome], *, known: Mapping[str, StudyEntry], lake: Lake) -> dict[str, pa.Table]:
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in CHILDREN_FIRST}
    before = _study_rows(lake, [known[o.study_uid] for o in outcomes if o.study_uid in known])
    replaced = []
    for outcome in outcomes:
        assert outcome.study is not None
        study, month = outcome.study, {}
        if old := before.get(study["study_instance_uid"]):
            month = {"study_month": old["study_month"]}
            study = _sum(old, study, new_series=outcome.series)
            replaced.append({name: old[name] for name in ("hospital_id", "study_instance_uid", "study_month")})
        rows["dicom.study"].append(study)
        rows["dicom.series"] += [row | month for row in outcome.series]
        rows["dicom.instance"] += [row | month for row in outcome.instances]
    tables = {name: arrow_rows(load_table(name), items) for name, items in rows.items()}
    if replaced:
        schema = load_table("dicom.study").arrow_schema()
        names = ("hospital_id", "study_instance_uid", "study_month")
        keys = pa.schema([schema.field(name) for name in names])
        tables["replace.dicom.study"] = pa.Table.from_pylist(replaced, schema=keys)
    return tables


def _study_rows(lake: Lake, entries: Sequence[StudyEntry]) -> dict[str, dict[str, Any]]:
    """Rows of dicom.study (with their series UIDs) of one hospital's studies that the lake knows already."""
    if not entries:
        return {}
    with duck.connect(lake, tables=["dicom.study", "dicom.series"]) as connection:
        months = sorted({entry.lake_month for entry in entries if entry.lake_month})
        wanted = [entry.lake_study_uid for entry in entries]
        query = """
            SELECT study.*, (
                SELECT list(DISTINCT series.series_instance_uid || '=' || series.modality) FROM dicom.series AS series
                WHERE series.hospital_id = study.hospital_id
                  AND series.study_instance_uid = study.study_instance_uid
                  AND series.study_month = study.study_month
            ) AS series
            FROM dicom.study AS study
            WHERE study.study_month IN (SELECT unnest($months))
              AND study.hospital_id = $hospital  -- others may have the study too, from a CD
              AND study.study_instance_uid IN (SELECT unnest($wanted))
        """
        found = connection.sql(
            query, params={"months": months, "wanted": wanted, "hospital": entries[0].hospital_id}
        ).to_arrow_table()
    return {row["study_instance_uid"]: row for row in found.to_pylist()}


def _sum(old: dict[str, Any], new: dict[str, Any], *, new_series: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The study row after more of the study came: facts stay, an unknown one is filled, counts add up."""
    series = dict(item.rsplit("=", 1) for item in old.pop("series") or [])
    series |= {row["series_instance_uid"]: row["modality"] for row in new_series}
    merged = {name: new[name] if old[name] in (None, "UNKNOWN", "NONE", "none") else old[name] for name in new}
    return merged | {
        "modalities_in_study": "\\".join(sorted(set(series.values()))),
        "n_series": len(series),
        "n_instances": old["n_instances"] + new["n_instances"],
        "study_bytes": old["study_bytes"] + new["study_bytes"],
    }
