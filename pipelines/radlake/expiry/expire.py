"""Remove expired studies: tombstone, ledger, rows, objects, vault; whatever step a kill hits, the next run goes on.

From the tombstone on a study is removed whatever happens. Parents go before children, so no reader sees a study without
its instances. What the store refuses to delete is told, and its tombstone stays open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
import xxhash

from radlake.commit_points import reached
from radlake.config import Settings
from radlake.contracts import load_table
from radlake.contracts.rows import arrow_rows
from radlake.errors import LedgerBusy, RadlakeError
from radlake.expiry.due import Due, due_studies
from radlake.ingest.batch import roll_forward
from radlake.lake import Lake, duck
from radlake.lake.evidence import StudyState
from radlake.lake.ledger import Ledger
from radlake.lake.retention import RetentionRows, Tombstone
from radlake.retention import Schedule
from radlake.vault.lake_key import lake_keys
from radlake.vault.trail import AuditTrail, Reason

__all__ = ["Expired", "expire"]

_PARENTS_FIRST = ("dicom.study", "dicom.series", "dicom.instance")
_KEY = ("hospital_id", "study_instance_uid", "study_month")


@dataclass(frozen=True)
class Expired:
    """What a run did.

    Attributes
    ----------
    removed : list of Tombstone
        Of which nothing is left.
    refused : dict of str to str
        Object path to the reason why the store keeps it; its study stays open.
    busy : list of str
        Hospitals that are harvested now: nothing of them was touched.
    """

    removed: list[Tombstone]
    refused: dict[str, str]
    busy: list[str]


def expire(
    settings: Settings, ledger: Ledger, *, schedule: Schedule, today: date, reason: Reason, now: datetime
) -> Expired:
    """Remove every study whose time is over and that is not held; finish what a run before left open.

    Parameters
    ----------
    ledger : Ledger
        From `open_ledger`: studies are changed in it.
    """
    lake, rows = Lake.from_settings(settings), RetentionRows(ledger)
    done = Expired([], {}, [])
    due = due_studies(rows.kept(), schedule=schedule, today=today)
    hospitals = {item.study.hospital_id for item in due} | {
        item.hospital_id for item in rows.tombstones(only_open=True)
    }
    for hospital_id in sorted(hospitals):
        try:
            with ledger.lock(hospital_id):
                roll_forward(lake, ledger, hospital_id=hospital_id, now=now)
                fresh = due_studies(rows.kept(hospital_id), schedule=schedule, today=today)
                _bury(
                    settings, lake, ledger, [item for item in fresh if not item.study.is_held], reason=reason, now=now
                )
                _remove(lake, ledger, rows.tombstones(hospital_id, only_open=True), done=done, now=now)
        except LedgerBusy:
            done.busy.append(hospital_id)
    return done


def _bury(settings: Settings, lake: Lake, ledger: Ledger, due: Sequence[Due], *, reason: Reason, now: datetime) -> None:
    """Enter tombstones; the audit trail knows who did it before anything is done."""
    trail = AuditTrail(ledger, lake_keys(settings), restricted=settings.restricted)
    contents = _contents(lake, due)
    for item in due:
        study = item.study
        trail.record(
            "expire",
            reason=reason,
            now=now,
            kind="study",
            pseudonym=study.lake_study_uid,
            hospital_id=study.hospital_id,
            outcome=item.rule,
        )
        n_series, n_instances, n_bytes, digest = contents.get(study.lake_study_uid, (0, 0, 0, ""))
        if RetentionRows(ledger).bury(
            Tombstone(
                hospital_id=study.hospital_id,
                lake_study_uid=study.lake_study_uid,
                lake_month=study.lake_month,
                begun_at=now,
                rule=item.rule,
                why=reason.why,
                n_series=n_series,
                n_instances=n_instances,
                n_bytes=n_bytes,
                digest=digest,
            )
        ):
            reached("expiry.buried")


def _contents(lake: Lake, due: Sequence[Due]) -> dict[str, tuple[int, int, int, str]]:
    """Series, instances, bytes and digest of what the rows of these studies of one hospital hold."""
    if not due:
        return {}
    query = """
        SELECT study_instance_uid, count(DISTINCT series_instance_uid), count(*), sum(instance_bytes)::BIGINT,
            list(sop_instance_uid || '=' || digest ORDER BY sop_instance_uid, digest)
        FROM dicom.instance
        WHERE hospital_id = $hospital AND study_instance_uid IN (SELECT unnest($studies))
        GROUP BY study_instance_uid
    """
    parameters = {"hospital": due[0].study.hospital_id, "studies": [item.study.lake_study_uid for item in due]}
    with duck.connect(lake, tables=["dicom.instance"]) as connection:
        return {
            uid: (n_series, n, n_bytes, xxhash.xxh3_128_hexdigest("\n".join(listed).encode()))
            for uid, n_series, n, n_bytes, listed in connection.execute(query, parameters).fetchall()
        }


def _remove(lake: Lake, ledger: Ledger, tombstones: Sequence[Tombstone], *, done: Expired, now: datetime) -> None:
    """Remove what these tombstones of one hospital stand for; every step may be repeated."""
    if not tombstones:
        return
    for item in tombstones:
        study_uid = ledger.study_of(item.hospital_id, item.lake_study_uid)
        entry = ledger.entry(item.hospital_id, study_uid) if study_uid else None
        if entry is not None and entry.state is not StudyState.WITHDRAWN:
            ledger.withdraw(entry.hospital_id, entry.study_uid, why=f"expired: {item.rule}", now=now)
    reached("expiry.withdrawn")
    names = "|".join(f"{item.hospital_id}/{item.lake_study_uid}" for item in tombstones)
    batch_id = f"expire-{xxhash.xxh3_128_hexdigest(f'{names}|{tombstones[0].begun_at}'.encode())}"
    _bring_out(lake, tombstones, batch_id=batch_id)
    finished = []
    for item in tombstones:
        refused = _delete_objects(lake, item)
        done.refused.update(refused)
        if not refused:
            finished.append(item)
    reached("expiry.objects")
    RetentionRows(ledger).finish(finished, now=now)
    reached("expiry.finished")
    done.removed.extend(finished)


def _bring_out(lake: Lake, tombstones: Sequence[Tombstone], *, batch_id: str) -> None:
    """Rows out of the dicom tables, tombstones into ops.tombstone: a day there would tell how far dates are moved."""
    keys = [
        {"hospital_id": item.hospital_id, "study_instance_uid": item.lake_study_uid, "study_month": item.lake_month}
        for item in tombstones
    ]
    table = load_table("ops.tombstone")
    rows = [
        {
            "hospital_id": item.hospital_id,
            "study_instance_uid": item.lake_study_uid,
            "removed_year": item.begun_at.year,
            "rule": item.rule,
            "n_series": item.n_series,
            "n_instances": item.n_instances,
            "n_bytes": item.n_bytes,
            "digest": item.digest,
        }
        for item in tombstones
    ]
    data = arrow_rows(table, rows)
    lake.tables.commit_batch(table, data, batch_id=batch_id, replace=data.select(table.key))
    reached("expiry.told")
    for name in _PARENTS_FIRST:
        contract = load_table(name)
        schema = contract.arrow_schema()
        gone = pa.Table.from_pylist(keys, schema=pa.schema([schema.field(column) for column in _KEY]))
        lake.tables.commit_batch(contract, schema.empty_table(), batch_id=batch_id, replace=gone)
        reached(f"expiry.{name}")


def _delete_objects(lake: Lake, item: Tombstone) -> dict[str, str]:
    """Delete the series objects of a study; those that the store refuses to delete, and why."""
    prefix = f"{item.hospital_id}/{item.lake_study_uid}/"
    refused = {}
    for path in list(lake.objects.list(prefix)):
        try:
            lake.objects.delete(path)
        except (RadlakeError, OSError) as exc:
            refused[path] = type(exc).__name__
            continue
        if lake.objects.store.size(path) is not None:
            refused[path] = "it is still there: object lock, or another writer"
        reached("expiry.object")
    for path in lake.cache.paths(prefix):
        lake.cache.drop(path)
    return refused
