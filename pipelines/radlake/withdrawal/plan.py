"""What a withdrawal will remove, whom it has to be told to, and what forbids it; nothing is changed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from radlake.cohort.approval import decisions
from radlake.cohort.build import built_cohorts
from radlake.cohort.candidate import begun_releases, candidate_folder
from radlake.cohort.rekey import new_identity
from radlake.cohort.release import project_of
from radlake.cohort.results.taken import results_store, taken_results
from radlake.contracts import Table, load_tables
from radlake.contracts.check import compute
from radlake.deidentify import KeyRing
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import STUDY
from radlake.lake.person_links import PersonLinks, person_of
from radlake.lake.purge import holders
from radlake.lake.retention import RetentionRows
from radlake.lake.statements import in_parts
from radlake.lake.tables import TableStore
from radlake.withdrawal.subject import Subject

__all__ = ["Plan", "found_since", "obstacles", "person_tables", "plan_withdrawal", "results_of"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What there is of a subject.

    Attributes
    ----------
    rows, old_rows : mapping of str to int
        Rows by table: in its latest version, and in older ones.
    files, file_bytes : int
        Parquet files that are written again.
    objects, object_bytes, cached : int
        Series objects in the store, and copies in the cache.
    held, held_bytes : int
        Instances in quarantine.
    kept : int
        Instances in quarantine that stay: they have a number of the person, but are somebody else's, or may be.
    pins, cohorts : tuple of str
        That are issued again.
    releases : tuple of mapping
        Releases that have the subject: whom to tell (`holder`), for what it was approved, until when.
    results, result_bytes : int
        Objects that researchers made of the subject in releases, and that came home.
    release_names : tuple of str
        What releases call the subject.
    called : mapping of str to tuple of str
        By release, what its holders have of the subject: names of folders of a pull. Never in a report.
    linked : int
        Other pseudonyms that are linked with the person's: they stay unless they are withdrawn too.
    blocked : tuple of str
        Why it is refused; nothing when it is not.
    """

    n_studies: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    old_rows: dict[str, int] = field(default_factory=dict)
    files: int = 0
    file_bytes: int = 0
    objects: int = 0
    object_bytes: int = 0
    cached: int = 0
    held: int = 0
    held_bytes: int = 0
    kept: int = 0
    pins: tuple[str, ...] = ()
    cohorts: tuple[str, ...] = ()
    releases: tuple[dict[str, Any], ...] = ()
    results: int = 0
    result_bytes: int = 0
    release_names: tuple[str, ...] = ()
    called: dict[str, tuple[str, ...]] = field(default_factory=dict)
    linked: int = 0
    blocked: tuple[str, ...] = ()

    @property
    def removed(self) -> dict[str, Any]:
        """The counts, for a report: without names of anybody."""
        told = asdict(self)
        return {name: value for name, value in told.items() if name not in ("release_names", "called", "blocked")}


def person_tables(lake: Lake, subject: Subject) -> Iterator[tuple[TableStore, Table]]:
    """Tables of both zones that can have rows of the subject, with their stores."""
    for table in load_tables().values():
        for store in (lake.tables, lake.restricted_tables):
            if subject.gone(table.column_names) and store.exists(table):
                yield store, table


def plan_withdrawal(lake: Lake, ledger: Ledger, keys: KeyRing, subject: Subject) -> Plan:
    """Count what there is of a subject, and find what forbids its removal."""
    releases, names, called = _releases(lake, ledger, keys, subject)
    subject = replace(subject, more={**subject.more, "release_names": sorted(names)})
    rows: dict[str, int] = {}
    old: dict[str, int] = {}
    files = file_bytes = 0
    pins: set[str] = set()
    for store, table in person_tables(lake, subject):
        found, _ = holders(store, table, subject.gone(table.column_names))
        if found.n_files:
            name = table.view_name if store.root == lake.tables.root else f"restricted {table.view_name}"
            rows[name], old[name] = found.n_rows, found.n_old_rows
            files, file_bytes = files + found.n_files, file_bytes + found.n_bytes
            pins |= set(found.pins)
    objects = object_bytes = cached = 0
    for prefix in _prefixes(subject):
        for path in lake.objects.list(prefix):
            objects, object_bytes = objects + 1, object_bytes + (lake.objects.store.size(path) or 0)
        cached += len(lake.cache.paths(prefix))
    quarantined = [lake.quarantine / one[:2] / f"{one}.dcm" for one in subject.quarantine_ids]
    sizes = [path.stat().st_size for path in quarantined if path.exists()]
    results = [results_store(lake).size(path) for path in results_of(lake, subject)]
    return Plan(
        n_studies=len(subject.studies),
        rows=rows,
        old_rows=old,
        files=files,
        file_bytes=file_bytes,
        objects=objects,
        object_bytes=object_bytes,
        cached=cached,
        held=len(sizes),
        held_bytes=sum(sizes),
        kept=len(subject.kept),
        pins=tuple(sorted(pins)),
        cohorts=_cohorts(lake, subject),
        releases=tuple(releases),
        results=len(results),
        result_bytes=sum(results),
        release_names=tuple(sorted(names)),
        called=called,
        linked=len(_linked(ledger, subject)),
        blocked=tuple(obstacles(lake, ledger, subject)),
    )


def obstacles(lake: Lake, ledger: Ledger, subject: Subject) -> Iterator[str]:
    """What forbids the removal of a subject now: rows of another hospital that would go with it, legal holds, and locks
    of the store.
    """
    yield from _elsewhere(ledger, subject)
    for study in subject.studies:
        if study.lake_study_uid and study.hospital_id in RetentionRows(ledger).held_in(study.lake_study_uid):
            told = f"study {study.lake_study_uid} of {study.hospital_id} is under a legal hold: release it first"
            yield f"{told} (`radlake retention release`), or have it withdrawn when the hold ends"
    for prefix in _prefixes(subject):
        for path in lake.objects.list(prefix):
            if lock := lake.objects.store.lock_of(path):
                yield f"the store has locked {path}: {lock}"
    for path in results_of(lake, subject):
        if lock := results_store(lake).store.lock_of(path):
            yield f"the store has locked results/{path}: {lock}"


def found_since(lake: Lake, ledger: Ledger, keys: KeyRing, subject: Subject) -> Subject:
    """The subject with cohorts and releases that were made since it was planned."""
    more = dict(subject.more)
    releases, names, called = _releases(lake, ledger, keys, subject)
    known = {one["release_id"] for one in more["removed"]["releases"]}
    told = {
        "releases": [*more["removed"]["releases"], *(one for one in releases if one["release_id"] not in known)],
        "cohorts": sorted({*more["cohorts"], *_cohorts(lake, subject)}),
    }
    more |= {
        "cohorts": told["cohorts"],
        "release_names": sorted({*more["release_names"], *names}),
        "called": {**called, **more.get("called", {})},
    }
    return replace(subject, more={**more, "removed": {**more["removed"], **told}})


def results_of(lake: Lake, subject: Subject) -> Iterator[str]:
    """Objects that researchers made of the subject, whether a row names them or not."""
    if names := frozenset(subject.release_names):
        for path in results_store(lake).list():
            if not names.isdisjoint(path.split("/")):
                yield path


def _prefixes(subject: Subject) -> list[str]:
    """Where objects of its studies lie, in the store and in the cache."""
    return [f"{study.hospital_id}/{study.lake_study_uid}/" for study in subject.studies if study.lake_study_uid]


def _elsewhere(ledger: Ledger, subject: Subject) -> Iterator[str]:
    """Studies that another hospital has too: rows of both bear one UID, and would go together."""
    known = {(study.hospital_id, study.lake_study_uid) for study in subject.studies}
    for part in in_parts(subject.lake_studies):
        with ledger.reading() as connection:
            query = sa.select(STUDY.c.hospital_id, STUDY.c.lake_study_uid).where(STUDY.c.lake_study_uid.in_(part))
            for hospital_id, uid in sorted(set(map(tuple, connection.execute(query))) - known):
                yield (
                    f"study {uid} is in {hospital_id} too: have the study withdrawn from all its hospitals"
                    f" (`radlake withdraw study {uid}`, without --hospital), then ask again"
                )


def _cohorts(lake: Lake, subject: Subject) -> tuple[str, ...]:
    """Cohorts that somebody of the subject is in."""
    return tuple(one for one in built_cohorts(lake) if _has(lake, one, subject))


def _has(lake: Lake, cohort_id: str, subject: Subject) -> bool:
    wanted: set[Any] = {*subject.patient_keys, *subject.lake_studies, *subject.exams}
    for path in sorted((lake.restricted / "cohorts" / cohort_id).glob("*.parquet")):
        for column in pq.read_table(path).columns:
            is_number = pa.types.is_int64(column.type)
            values = [value for value in wanted if isinstance(value, int if is_number else str)]
            is_asked = values and (is_number or pa.types.is_string(column.type))
            if is_asked and compute.any(compute.is_in(column, value_set=pa.array(values, column.type))).as_py():
                return True
    return False


def _linked(ledger: Ledger, subject: Subject) -> set[int]:
    """Pseudonyms that are of the same persons by the links of now, but none of the subject's."""
    person = person_of(PersonLinks(ledger).linked().live)
    persons = {person.get(key, key) for key in subject.patient_keys}
    return {key for key, other in person.items() if other in persons} - set(subject.patient_keys)


def _releases(
    lake: Lake, ledger: Ledger, keys: KeyRing, subject: Subject
) -> tuple[list[dict[str, Any]], set[str], dict[str, tuple[str, ...]]]:
    """Releases that have the subject, what they call it and all of it, and what each calls the person or the study. One
    that is half made of a cohort that has the subject has it too: what lies in the store already is in no table yet.
    """
    person = person_of(PersonLinks(ledger).linked().live)
    found, names = [], set()
    folders: dict[str, tuple[str, ...]] = {}
    for release_id, is_made in begun_releases(lake).items():
        project = keys.for_project(project_of(release_id))
        persons, studies = _called(project, subject, person)
        called = persons | studies
        told = {
            value
            for path in candidate_folder(lake, release_id).rglob("*.parquet")
            for column in ("person_pseudo_id", "study_instance_uid")
            if column in (table := pq.read_table(path)).column_names
            for value in table[column].to_pylist()
        }
        is_of_cohort = not is_made and _has(lake, release_id.rpartition(".")[0], subject)
        if not (called & told or is_of_cohort):
            continue
        names |= called if is_of_cohort else called & told
        names |= {project.uid(uid) for uid in subject.uids}
        approvals = [one for one in decisions(ledger, release_id) if one.decision == "approved"]
        told_to = [
            {
                "holder": one.holder,
                "purpose": one.purpose,
                "approved_at": str(one.at),
                "expires_on": str(one.expires_on),
            }
            for one in approvals
        ]
        found.append({"release_id": release_id, "holders": told_to})
        folders[release_id] = tuple(sorted(persons & told or studies & told))
    for release_id, told in _told_by_results(lake).items():  # also of releases that were ended since
        project = keys.for_project(project_of(release_id))
        if called := set().union(*_called(project, subject, person)) & told:
            names |= called | {project.uid(uid) for uid in subject.uids}
    return found, names, folders


def _called(project: KeyRing, subject: Subject, person: Mapping[int, int]) -> tuple[set[str], set[str]]:
    """What a project calls the persons and the studies of a subject."""
    keys = {person.get(key, key) for key in subject.patient_keys}
    persons = {new_identity(project, person_key=key, lake_offset_seconds=0).person_pseudo_id for key in keys}
    return persons, {project.uid(uid) for uid in subject.lake_studies}


def _told_by_results(lake: Lake) -> dict[str, set[str]]:
    """Persons and studies that results of each release are of, by their rows and by what lies in the store."""
    found: dict[str, set[str]] = {}
    for path in {*results_store(lake).list(), *(row["object_path"] for row in taken_results(lake))}:
        release_id, *names = path.split("/")
        found.setdefault(release_id, set()).update(names[:2])
    return found
