"""From exams to what they came from: studies, series objects with their bytes, and the harvest events of the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

import duckdb
import sqlalchemy as sa
import xxhash

from radlake.config import Settings
from radlake.errors import SourceMissing
from radlake.lake import Lake, duck
from radlake.lake.certificate_survey import Uid, difference
from radlake.lake.events import Mac, evidence_digest, walk
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import STUDY
from radlake.lake.reading import read_object
from radlake.lake.study_rows import entry_from_row
from radlake.vault.lake_key import lake_keys

__all__ = ["TracedExam", "TracedObject", "TracedStudy", "trace_exams"]


@dataclass(frozen=True)
class HarvestEvent:
    """An event of the ledger's history; not sealed is one that somebody changed."""

    seq: int
    at: datetime
    what: str
    state: str
    reason: str
    is_sealed: bool


@dataclass(frozen=True)
class TracedObject:
    """A series object that holds instances of a study.

    Attributes
    ----------
    where : str
        `lake` when its bytes are here, `hospital` when the hospital keeps them and they were not read.
    n_damaged : int
        Instances whose bytes are gone or not those that were catalogued.
    """

    path: str
    n_instances: int
    n_bytes: int
    where: str
    n_damaged: int


@dataclass(frozen=True)
class TracedStudy:
    """A study of an exam, by its UID in the lake; `problem` is how ledger and catalogue differ, if they do."""

    study_instance_uid: str
    n_instances: int
    objects: tuple[TracedObject, ...]
    events: tuple[HarvestEvent, ...]
    problem: str

    @property
    def problems(self) -> Iterator[str]:
        damaged = sum(one.n_damaged for one in self.objects)
        if damaged:
            yield f"study {self.study_instance_uid}: the bytes of {damaged} instances are gone or were changed"
        if self.problem:
            yield f"study {self.study_instance_uid}: {self.problem}"
        for event in self.events:
            if not event.is_sealed:
                yield f"study {self.study_instance_uid}: event {event.seq} of the ledger was changed"


@dataclass(frozen=True)
class TracedExam:
    """An exam and its studies."""

    hospital_id: str
    exam_pseudo_id: str
    studies: tuple[TracedStudy, ...]

    @property
    def problems(self) -> Iterator[str]:
        if not self.studies:
            yield f"exam {self.exam_pseudo_id} of {self.hospital_id}: it has no study in the lake any more"
        for study in self.studies:
            yield from study.problems


def trace_exams(
    settings: Settings, lake: Lake, exams: Sequence[tuple[str, str]], *, studies_at: int | None
) -> list[TracedExam]:
    """Walk from each exam (hospital, exam_pseudo_id) to pixels and events; every byte of its instances is read.

    Parameters
    ----------
    studies_at : int or None
        Version of dicom.study that the exams were made from; the latest when it is not known. Instances are those of
        now: the same pixels may lie in another object since.

    Raises
    ------
    KeyMissing, KeyMismatch
    """
    keys = lake_keys(settings)
    snapshot = {} if studies_at is None else {"dicom.study": studies_at}
    with (
        closing(Ledger(settings.ledger)) as ledger,
        ledger.snapshot() as reading,
        duck.connect(lake, snapshot=snapshot, tables=["dicom"]) as connection,
    ):
        studies = _studies(connection, exams)

        def traced(hospital_id: str, uid: str, month: int) -> TracedStudy:
            objects = tuple(_objects(lake, connection, hospital_id, uid, month))
            n_instances = sum(one.n_instances for one in objects)
            events, problem = _history(reading, connection, hospital_id, uid, mac=keys.ledger_mac, rename=keys.uid)
            return TracedStudy(uid, n_instances, objects, events, problem)

        return [
            TracedExam(hospital, exam, tuple(traced(hospital, uid, month) for uid, month in studies[hospital, exam]))
            for hospital, exam in exams
        ]


def _studies(
    connection: duckdb.DuckDBPyConnection, exams: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], list[tuple[str, int]]]:
    found: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    rows = connection.execute(
        "SELECT hospital_id, exam_pseudo_id, study_instance_uid, study_month FROM dicom.study"
        " WHERE list_contains(?::VARCHAR[], exam_pseudo_id) ORDER BY ALL",
        [[exam for _, exam in exams]],
    ).fetchall()
    for hospital, exam, uid, month in rows:
        found[hospital, exam].append((uid, month))
    return found


def _objects(
    lake: Lake, connection: duckdb.DuckDBPyConnection, hospital_id: str, uid: str, month: int
) -> Iterator[TracedObject]:
    rows = connection.execute(
        "SELECT instance.object_path, object_offset, instance_bytes, instance.digest,"
        " coalesce(series.residency, 'central') FROM dicom.instance AS instance"
        " LEFT JOIN dicom.series AS series USING (hospital_id, study_month, object_path)"
        " WHERE hospital_id = ? AND instance.study_instance_uid = ? AND study_month = ? ORDER BY ALL",
        [hospital_id, uid, month],
    ).fetchall()
    by_path: dict[str, list[tuple[int, int, str, str]]] = defaultdict(list)
    for path, *row in rows:
        by_path[path].append(tuple(row))
    for path, instances in by_path.items():
        is_away = instances[0][3] == "index"
        n_damaged = 0
        try:
            n_damaged = sum(not _is_intact(lake, path, *instance[:3]) for instance in instances)
            is_away = False
        except SourceMissing:
            n_damaged = 0 if is_away else len(instances)
        n_bytes = sum(length for _, length, _, _ in instances)
        yield TracedObject(path, len(instances), n_bytes, "hospital" if is_away else "lake", n_damaged)


def _is_intact(lake: Lake, path: str, offset: int, length: int, digest: str) -> bool:
    return xxhash.xxh3_128_hexdigest(read_object(lake, path, offset, length)) == digest


def _history(
    reading: sa.Connection,
    connection: duckdb.DuckDBPyConnection,
    hospital_id: str,
    uid: str,
    *,
    mac: Mac,
    rename: Uid,
) -> tuple[tuple[HarvestEvent, ...], str]:
    """Events of a study, and what is wrong with its row; whether the whole chain holds is `radlake ledger verify`'s."""
    query = sa.select(STUDY).where(STUDY.c.hospital_id == hospital_id, STUDY.c.lake_study_uid == uid)
    row = reading.execute(query).mappings().first()
    if row is None:
        return (), "the ledger does not know it"
    events = list(walk(reading, hospital_id, study_uid=row["study_uid"]))
    told = tuple(
        HarvestEvent(one.seq, one.at, one.what, one.state, one.reason, one.sealed(mac) == one.mac) for one in events
    )
    if not events:
        return told, "it has no history in the ledger"
    if events[-1].evidence != evidence_digest(dict(row)):
        return told, f"its row in the ledger is not as event {events[-1].seq} left it"
    return told, difference(connection, entry_from_row(row), uid=rename)
