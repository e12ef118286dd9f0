"""Take a subject out of every place; every step may be repeated, and what a kill hits the next run goes on with.

Rows go before objects, so that no reader finds a row without its object for longer than a vacuum would take. The caller
holds the hospitals of the subject's studies, and the claim on builds.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Collection
from contextlib import closing, nullcontext
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from radlake.cohort.approval import revoke
from radlake.cohort.build import rebuild_cohort
from radlake.cohort.candidate import candidate_folder, candidates
from radlake.cohort.results.taken import results_store
from radlake.commit_points import reached
from radlake.config import Settings
from radlake.harvest import spool_folder
from radlake.ingest.offsets import date_offsets
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import (
    HOLD,
    PUSH_COMMITMENT,
    QUARANTINE,
    REVIEW,
    TOMBSTONE,
    UNREAD_PERSON,
    VAULT,
    VAULT_ALIAS,
)
from radlake.lake.person_links import PersonLinks, publish_links
from radlake.lake.purge import purge
from radlake.lake.quarantine import Quarantine
from radlake.lake.reminders import LINK, REMINDER, WISH, ReminderJournal
from radlake.lake.store import open_store
from radlake.withdrawal.plan import person_tables, results_of
from radlake.withdrawal.subject import Subject

__all__ = ["forget_releases", "reminders_of", "remove", "tidy_databases"]

_BY_LAKE_STUDY = (VAULT, HOLD, TOMBSTONE)
_PATIENCE_SECONDS = 900.0
_INDEX = "recent_exams.sqlite"  # of the reminder; without it the lake is asked


def remove(settings: Settings, ledger: Ledger, subject: Subject, *, name: str, why: str, now: datetime) -> None:
    """Take a subject out of ledger, tables, objects, caches, quarantine, spool, vault and cohorts.

    Parameters
    ----------
    name : str
        `withdrawal-<number>`.
    why : str
        What the ledger tells of the studies: no identifier.
    """
    lake = Lake.from_settings(settings)
    for study in subject.studies:
        if study.study_uid:
            ledger.erase(study.hospital_id, study.study_uid, why=why, now=now)
            reached("withdrawal.erased")
    for store, table in person_tables(lake, subject):
        gone = subject.gone(table.column_names)
        uids = {*subject.uids, *subject.release_names}
        purge(store, table, gone, names=uids, name=name, day=str(now.date()))
        reached("withdrawal.purged")
    for study in subject.studies:
        if not study.lake_study_uid:
            continue
        place = f"{study.hospital_id}/{study.lake_study_uid}"
        prefix = f"{place}/"
        has_cache = lake.cache.root.is_dir()
        # A fetch that is under way ends first, and nothing of it is stored after this.
        with lake.cache.lock(place, timeout=_PATIENCE_SECONDS) if has_cache else nullcontext():
            for path in list(lake.objects.list(prefix)):
                lake.objects.delete(path)
                reached("withdrawal.object")
            for path in lake.cache.paths(prefix):
                lake.cache.drop(path)
        for root in (lake.cache.root, lake.cache.root / ".pending", _local(lake.objects.url)):
            if root is not None:  # empty folders bear the study's name
                shutil.rmtree(root / prefix, ignore_errors=True)
    _forget_results(lake, subject)
    _issue_cohorts_anew(settings, lake, subject)
    _forget_rows(ledger, subject)
    PersonLinks(ledger).forget(subject.patient_keys, by=subject.more["by"], why=why, now=now)
    publish_links(lake, ledger)
    _forget_files(lake, ledger, subject)
    _forget_reminders(settings, subject)
    reached("withdrawal.removed")


def reminders_of(settings: Settings, subject: Subject) -> list[str]:
    """Ids of the reminders that were shown about the subject."""
    journal = ReminderJournal.existing(settings)
    if journal is None:
        return []
    with closing(journal), journal.engine.connect() as connection:
        return list(connection.scalars(sa.select(REMINDER.c.reminder_id).where(_about(subject))))


def forget_releases(settings: Settings, release_ids: Collection[str], *, by: str, why: str, now: datetime) -> None:
    """End releases and take them out of our store; they are made anew without the subject by `radlake cohort release`.

    Whoever pulled one has a copy of their own: the report lists them.
    """
    lake = Lake.from_settings(settings)
    store = open_store(lake.url, options=lake.storage_options)
    for release_id in release_ids:
        if release_id in candidates(lake):
            revoke(settings, release_id, by=by, why=why, now=now)
        for path in list(store.list(f"releases/{release_id}/")):
            if not path.endswith("/state.json"):
                store.delete(path)
                reached("withdrawal.released")
        if (root := _local(lake.url)) is not None:  # empty folders bear the names of studies
            for folder in (root / "releases" / release_id).glob("*/"):
                shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(candidate_folder(lake, release_id), ignore_errors=True)


def tidy_databases(settings: Settings, ledger: Ledger) -> None:
    """Overwrite what deleted rows left in the files of SQLite; PostgreSQL gets a VACUUM FULL of these tables."""
    journal = ReminderJournal.existing(settings)
    engines = [ledger.engine, *([journal.engine] if journal else [])]
    for engine in engines:
        with closing(engine.raw_connection()) as connection:
            cursor = connection.cursor()
            if engine.dialect.name == "sqlite":
                cursor.execute("VACUUM")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            else:
                connection.rollback()
                connection.driver_connection.autocommit = True  # pyright: ignore[reportOptionalMemberAccess]
                for table in ("study", "study_event", "vault", "vault_alias", "quarantine", "withdrawal"):
                    cursor.execute(f"VACUUM FULL {table}")
                connection.driver_connection.autocommit = False  # pyright: ignore[reportOptionalMemberAccess]
    if journal:
        journal.close()
    reached("withdrawal.tidied")


def _local(url: str) -> Path | None:
    return None if "://" in url else Path(url)


def _forget_results(lake: Lake, subject: Subject) -> None:
    """Objects that researchers made of the subject; their rows are gone with those of other tables."""
    store = results_store(lake)
    for path in list(results_of(lake, subject)):
        store.delete(path)
        reached("withdrawal.object")
    if (root := _local(store.url)) is not None:  # empty folders bear the names of persons and studies
        for folder in [*root.glob("*/*"), *root.glob("*/*/*")]:  # RELEASE/PERSON, RELEASE/PERSON/STUDY
            if folder.name in subject.release_names:
                shutil.rmtree(folder, ignore_errors=True)


def _issue_cohorts_anew(settings: Settings, lake: Lake, subject: Subject) -> None:
    """Build cohorts of the subject again from their own versions, which do not have it any more."""
    for cohort_id in subject.more.get("cohorts", ()):
        rebuild_cohort(lake, cohort_id, date_offsets=date_offsets(settings))
        reached("withdrawal.cohort")


def _forget_rows(ledger: Ledger, subject: Subject) -> None:
    """Take a subject out of the tables beside `study`, its sealed records first."""
    with ledger.writing() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
        for study in subject.studies:
            for table in _BY_LAKE_STUDY if study.lake_study_uid else ():
                where = table.c.hospital_id == study.hospital_id, table.c.lake_study_uid == study.lake_study_uid
                connection.execute(table.delete().where(*where))
            if study.study_uid:
                where = QUARANTINE.c.hospital_id == study.hospital_id, QUARANTINE.c.study_uid == study.study_uid
                connection.execute(QUARANTINE.delete().where(*where))
        for quarantine_id in subject.quarantine_ids:
            for table in (QUARANTINE, REVIEW):
                connection.execute(table.delete().where(table.c.quarantine_id == quarantine_id))
        for key in subject.patient_keys:
            for column in (VAULT.c.patient_key, VAULT_ALIAS.c.patient_key, UNREAD_PERSON.c.patient_key):
                connection.execute(column.table.delete().where(column == key))
        if subject.hospitals:
            _forget_commitments(connection, subject)
    reached("withdrawal.shredded")


def _forget_commitments(connection: sa.Connection, subject: Subject) -> None:
    """Requests for storage commitment of an instance that is gone: nobody may be told that it is safe here."""
    query = sa.select(PUSH_COMMITMENT).where(PUSH_COMMITMENT.c.hospital_id.in_(subject.hospitals))
    for row in connection.execute(query).mappings().all():
        text = zlib.decompress(row["wanted"]).decode()
        if any(f'"{uid}"' in text for uid in subject.uids):
            where = [PUSH_COMMITMENT.c[name] == row[name] for name in ("hospital_id", "transaction_uid")]
            connection.execute(PUSH_COMMITMENT.delete().where(*where))


def _forget_files(lake: Lake, ledger: Ledger, subject: Subject) -> None:
    """Bytes in quarantine and spool, offsets that were derived, and the index of recent exams."""
    quarantine = Quarantine(ledger, lake.quarantine)
    for quarantine_id in subject.quarantine_ids:
        quarantine.path(quarantine_id).unlink(missing_ok=True)
    named = {(study.hospital_id, study.study_uid) for study in subject.studies if study.study_uid}
    for hospital_id, study_uid in named:
        shutil.rmtree(spool_folder(lake.spool, hospital_id=hospital_id, study_uid=study_uid), ignore_errors=True)
    for name in (lake.spool / "push").glob("*/*/study.uid"):
        if (name.parent.parent.name, name.read_text(encoding="utf-8").strip()) in named:
            shutil.rmtree(name.parent, ignore_errors=True)
    shutil.rmtree(lake.restricted / "offsets", ignore_errors=True)
    (lake.restricted / _INDEX).unlink(missing_ok=True)
    reached("withdrawal.forgotten")


def _forget_reminders(settings: Settings, subject: Subject) -> None:
    journal = ReminderJournal.existing(settings)
    if journal is None:
        return
    with closing(journal), journal.writing() as connection:
        ids = list(connection.scalars(sa.select(REMINDER.c.reminder_id).where(_about(subject))))
        for table in (WISH, LINK, REMINDER):
            connection.execute(table.delete().where(table.c.reminder_id.in_(ids)))


def _about(subject: Subject) -> sa.ColumnElement[bool]:
    of_person = REMINDER.c.patient_key.in_(subject.patient_keys)
    return of_person | REMINDER.c.earlier_exam_pseudo_id.in_(subject.exams)
