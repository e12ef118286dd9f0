"""Make a release of a cohort: new identities, coarse quasi-identifiers, attacks; a candidate that waits for approval.

Series objects go to the lake's store at once (`releases/<id>/objects`, under names that nobody can guess), in batches:
run again after a kill it goes on. Tables and review folder wait in the restricted zone until somebody approves
(`approval`); until then nothing tells what objects there are.
"""

from __future__ import annotations

import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from radlake.cohort.build import Built, open_built
from radlake.cohort.candidate import Candidate, candidate_folder, write_candidate
from radlake.cohort.columns import RELEASED
from radlake.cohort.mado.released import manifest_file, manifests_of, packed
from radlake.cohort.rekey import NewIdentity, new_identity
from radlake.cohort.risk import UNKNOWN, Coarse, Person, coarsest_needed
from radlake.cohort.series import SeriesJob, SeriesOutcome, release_series
from radlake.commit_points import reached
from radlake.config import Settings
from radlake.contracts.types import ARROW_TYPES
from radlake.deidentify import KeyRing
from radlake.ingest.workers import most_under_way, workers
from radlake.lake import Lake, duck
from radlake.lake.store import make_folder, storage_errors
from radlake.lake.withdrawals import sharing_lake
from radlake.machine import fsync
from radlake.stats.policy import Policy
from radlake.vault.lake_key import lake_keys

__all__ = ["Step", "make_release", "project_of", "release_id_of"]

_BATCH = 100  # series objects
_SERIES_FIELDS = ("series_at", "series_number", "series_description", "body_part_examined", "laterality",
                  "patient_position", "manufacturer", "sop_class_uid")  # fmt: skip

DateOffsets = AbstractContextManager[Callable[[np.ndarray], np.ndarray]]


@dataclass(frozen=True)
class Step:
    """How far a release is."""

    n_done: int
    n_total: int
    n_bytes: int


@dataclass(frozen=True)
class _Member:
    """A person who is released: by pseudonym of the lake the new identity, and what is told of the person."""

    identities: Mapping[int, NewIdentity]
    row: Mapping[str, Any]


def release_id_of(cohort_id: str, project: str) -> str:
    return f"{cohort_id}.{project}"


def project_of(release_id: str) -> str:
    return release_id.rpartition(".")[2]


def make_release(
    settings: Settings,
    cohort_id: str,
    *,
    project: str,
    contact: str,
    date_offsets: DateOffsets,
    policy: Policy,
    executor: Executor | None = None,
    progress: Callable[[Step], None] = lambda _: None,
) -> Candidate:
    """Make the candidate of a release; running it again goes on where it ended, and gives the same bytes.

    Parameters
    ----------
    project : str
        Names the keys: lower-case letters, digits, `_` and `-`.
    contact : str
        Whom holders and refused ones ask; it is told to everybody.
    policy : Policy
        Its threshold is the k of k-anonymity.

    Raises
    ------
    SourceMissing, ConfigInvalid
    LakeBusy
        If somebody's data are being withdrawn.
    IdentifierLeak
        If a value of the lake or of another project's release is in this one.
    """
    with sharing_lake(settings):
        return _make_release(
            settings,
            cohort_id,
            project=project,
            contact=contact,
            date_offsets=date_offsets,
            policy=policy,
            executor=executor,
            progress=progress,
        )


def _make_release(
    settings: Settings,
    cohort_id: str,
    *,
    project: str,
    contact: str,
    date_offsets: DateOffsets,
    policy: Policy,
    executor: Executor | None,
    progress: Callable[[Step], None],
) -> Candidate:
    lake = Lake.from_settings(settings)
    keys = lake_keys(settings).for_project(project)
    built = open_built(lake, cohort_id)
    release_id = release_id_of(cohort_id, project)
    folder = candidate_folder(lake, release_id)
    with storage_errors(str(folder)):
        make_folder(folder / "work")
    names = ("exam", "follow_up", "series", *(["control"] if built.cohort.controls else []))
    tables = {name: pq.read_table(built.table(name)) for name in names}
    coarse = coarsest_needed(_persons(tables["exam"]), k=policy.threshold)
    with date_offsets as offsets:
        moved = _lake_offsets(tables["exam"], offsets)
    members = _members(tables["exam"], coarse, moved, partial(new_identity, keys))
    with workers(settings, given=executor) as pool:
        ahead = most_under_way(pool, settings)
        jobs = partial(_jobs, settings, lake, built, members, moved, release_id=release_id, project=project)
        _write_series(folder / "work", tables["series"].to_pylist(), jobs, members, pool=pool, ahead=ahead,
                      progress=progress)  # fmt: skip
        made = _made(folder / "work")
        told = {
            "person": [member.row for member in members.values()],
            "exam": list(_exams(tables["exam"], members)),
            "follow_up": list(_follow_ups(tables["follow_up"], members)),
            **({"control": list(_controls(tables["control"], members))} if "control" in tables else {}),
            "finding": list(_findings(lake, built, members)),
            "series": [row for row in made.series if not row["rejected"]],
        }
        released = {name: _arrow(name, rows) for name, rows in told.items()}
        released["instance"] = _sorted("instance", made.instances)
        _write_manifests(folder / "manifests", released, keys, contact, pool=pool, ahead=ahead)
    rejected = Counter(row["rejected"] for row in made.series if row["rejected"])
    rejected["small_class"] += sum(row["person_key"] in coarse.left_out for row in tables["series"].to_pylist())
    return write_candidate(
        settings,
        release_id,
        built=built,
        project=project,
        contact=contact,
        tables=released,
        coarse=coarse,
        rejected=+rejected,
        findings=Counter(found for row in made.series for found in row["findings"]),
        policy=policy,
    )


def _persons(exams: pa.Table) -> dict[object, Person]:
    """Quasi-identifiers of every person at the first index exam, and what was examined of them ever."""
    first: dict[int, Mapping[str, Any]] = {}
    examined: dict[int, set[str]] = {}
    for row in exams.to_pylist():
        key = row["person_key"]
        examined.setdefault(key, set()).add(f"{row['modality_group']} {row['body_part_code']}")
        order = (row["role"] != "index", str(row["study_at"]), row["exam_pseudo_id"])
        if key not in first or order < first[key]["order"]:
            first[key] = row | {"order": order}
    return {
        key: Person(row["patient_sex"], row["patient_age_years"], row["region_code"], frozenset(examined[key]))
        for key, row in first.items()
    }


def _lake_offsets(exams: pa.Table, offsets: Callable[[np.ndarray], np.ndarray]) -> dict[int, int]:
    """By how many seconds the lake moved each pseudonym."""
    keys = np.unique(exams["patient_key"].to_numpy())
    return dict(zip(keys.tolist(), np.asarray(offsets(keys)).tolist(), strict=True))


def _members(
    exams: pa.Table, coarse: Coarse, moved: Mapping[int, int], identity: Callable[..., NewIdentity]
) -> dict[int, _Member]:
    """Everybody who is released, by person_key, in the order of their new pseudonyms."""
    found: dict[int, _Member] = {}
    pseudonyms: dict[int, set[int]] = {}
    for row in exams.select(["person_key", "patient_key"]).to_pylist():
        pseudonyms.setdefault(row["person_key"], set()).add(row["patient_key"])
    width = coarse.coarseness.age_width
    for key, person in _persons(exams).items():
        assert isinstance(key, int)
        if key in coarse.left_out:
            continue
        sex, age, region = coarse.coarseness.of(person)
        identities = {
            patient: identity(person_key=key, lake_offset_seconds=moved[patient], age_years=age)
            for patient in pseudonyms[key]
        }
        pseudonym = next(iter(identities.values())).person_pseudo_id
        found[key] = _Member(
            identities,
            {
                "person_pseudo_id": pseudonym,
                "patient_sex": sex,
                "age_from_years": age if age >= 0 else None,
                "age_to_years": age + width - 1 if age >= 0 else None,
                "region_code": region or UNKNOWN,
            },
        )
    return dict(sorted(found.items(), key=lambda item: item[1].row["person_pseudo_id"]))


def _exam_id(identity: NewIdentity, hospital_id: str, exam_pseudo_id: str) -> str:
    return identity.keys.pseudo_id("exam", f"{hospital_id}|{exam_pseudo_id}|{identity.person_pseudo_id}")


def _exams(exams: pa.Table, members: Mapping[int, _Member]) -> Iterator[dict[str, Any]]:
    for row in exams.to_pylist():
        if (member := members.get(row["person_key"])) is not None:
            identity = member.identities[row["patient_key"]]
            yield row | {
                "exam_pseudo_id": _exam_id(identity, row["hospital_id"], row["exam_pseudo_id"]),
                "person_pseudo_id": identity.person_pseudo_id,
                "site_pseudo_id": identity.keys.pseudo_id("site", row["hospital_id"]),
                "study_at": identity.at(row["study_at"]),
            }


def _follow_ups(pairs: pa.Table, members: Mapping[int, _Member]) -> Iterator[dict[str, Any]]:
    for row in pairs.to_pylist():
        if (member := members.get(row["person_key"])) is not None:
            first = member.identities[row["index_patient_key"]]
            later = member.identities[row["patient_key"]]
            index = _exam_id(first, row["index_hospital_id"], row["index_exam_pseudo_id"])
            exam = _exam_id(later, row["hospital_id"], row["exam_pseudo_id"])
            yield {"index_exam_pseudo_id": index, "exam_pseudo_id": exam, "days_after": row["days_after"],
                   "person_pseudo_id": first.person_pseudo_id}  # fmt: skip


def _controls(pairs: pa.Table, members: Mapping[int, _Member]) -> Iterator[dict[str, Any]]:
    for row in pairs.to_pylist():
        case, control = members.get(row["index_person_key"]), members.get(row["person_key"])
        if case is not None and control is not None:
            first, other = case.identities[row["index_patient_key"]], control.identities[row["patient_key"]]
            index = _exam_id(first, row["index_hospital_id"], row["index_exam_pseudo_id"])
            exam = _exam_id(other, row["hospital_id"], row["exam_pseudo_id"])
            yield {"index_exam_pseudo_id": index, "exam_pseudo_id": exam, "person_pseudo_id": other.person_pseudo_id}


def _findings(lake: Lake, built: Built, members: Mapping[int, _Member]) -> Iterator[dict[str, Any]]:
    """Coded findings of the members' exams, of the person and of now."""
    with duck.connect(lake, snapshot=built.snapshot, tables=["core.finding"]) as connection:
        connection.register("exam", pq.read_table(built.table("exam")))
        rows = connection.execute(
            "SELECT DISTINCT exam.person_key, exam.patient_key, exam.hospital_id, exam.exam_pseudo_id,"
            " finding.finding_code, finding.certainty_code FROM exam INNER JOIN core.finding AS finding"
            " ON finding.hospital_id = exam.hospital_id AND finding.exam_pseudo_id = exam.exam_pseudo_id"
            " WHERE finding.is_current AND finding.is_of_patient"
        ).fetchall()
    for person, patient, hospital, exam, code, certainty in rows:
        if (member := members.get(person)) is not None:
            identity = member.identities[patient]
            yield {"exam_pseudo_id": _exam_id(identity, hospital, exam), "finding_code": code,
                   "certainty_code": certainty, "person_pseudo_id": identity.person_pseudo_id}  # fmt: skip


def _jobs(
    settings: Settings,
    lake: Lake,
    built: Built,
    members: Mapping[int, _Member],
    moved: Mapping[int, int],
    wanted: Sequence[Mapping[str, Any]],
    *,
    release_id: str,
    project: str,
) -> Iterator[tuple[SeriesJob, dict[str, Any]]]:
    """Jobs of some series objects, each with what dicom.series tells of it."""
    with duck.connect(lake, snapshot=built.snapshot, tables=["dicom.series", "dicom.instance"]) as connection:
        connection.register("wanted", pa.Table.from_pylist([{"path": row["object_path"]} for row in wanted]))
        where = "WHERE object_path IN (SELECT path FROM wanted)"
        names = ", ".join(("object_path", *_SERIES_FIELDS))
        facts = {row["object_path"]: row for row in connection.sql(f"SELECT {names} FROM dicom.series {where}").to_arrow_table().to_pylist()}  # fmt: skip  # noqa: E501
        instances: dict[str, list[dict[str, Any]]] = {}
        rows = connection.sql(f"SELECT * FROM dicom.instance {where} ORDER BY object_path, object_offset")
        for row in rows.to_arrow_table().to_pylist():
            instances.setdefault(row["object_path"], []).append(row)
    for row in wanted:
        identity = members[row["person_key"]].identities[row["patient_key"]]
        job = SeriesJob(
            settings=settings,
            release_id=release_id,
            project=project,
            path=row["object_path"],
            person_key=row["person_key"],
            lake_offset_seconds=moved[row["patient_key"]],
            age_years=identity.age_years,
            instances=tuple(instances.get(row["object_path"], [])),
        )
        yield job, {**row, **facts.get(row["object_path"], {})}


def _write_series(
    work: Path,
    series: Sequence[Mapping[str, Any]],
    jobs: Callable[[Sequence[Mapping[str, Any]]], Iterator[tuple[SeriesJob, dict[str, Any]]]],
    members: Mapping[int, _Member],
    *,
    pool: Executor,
    ahead: int,
    progress: Callable[[Step], None],
) -> None:
    """Write all series objects, a batch after the other; what a batch came to lies in two files of `work`."""
    wanted = [row for row in series if row["person_key"] in members]
    n_done = n_bytes = 0
    for number in range(0, len(wanted), _BATCH):
        batch = wanted[number : number + _BATCH]
        told = work / f"series-{number:08d}.parquet"
        if not told.exists():
            facts: dict[str, dict[str, Any]] = {}

            def wanted_jobs(batch: Sequence[Mapping[str, Any]] = batch, facts: dict = facts) -> Iterator[SeriesJob]:
                for job, row in jobs(batch):
                    facts[job.path] = row
                    yield job

            rows, instances = [], []
            for outcome in _results(pool, release_series, wanted_jobs(), ahead=ahead):
                row = facts[outcome.job.path]
                identity = members[row["person_key"]].identities[row["patient_key"]]
                rows.append(_series_row(row, outcome, identity))
                instances += [one | {"person_pseudo_id": identity.person_pseudo_id} for one in outcome.instances]
                n_done, n_bytes = n_done + 1, n_bytes + outcome.n_bytes
                progress(Step(n_done, len(wanted), n_bytes))
            _write(work / f"instance-{number:08d}.parquet", _arrow("instance", instances))
            _write(told, _arrow("series", rows, also=_OUTCOME))
            reached("release.batch")
        else:
            n_done += len(batch)
            progress(Step(n_done, len(wanted), n_bytes))


_OUTCOME = (pa.field("rejected", pa.string()), pa.field("findings", pa.list_(pa.string())))


def _series_row(row: Mapping[str, Any], outcome: SeriesOutcome, identity: NewIdentity) -> dict[str, Any]:
    return {
        **row,
        "person_pseudo_id": identity.person_pseudo_id,
        "exam_pseudo_id": _exam_id(identity, row["hospital_id"], row["exam_pseudo_id"]),
        "study_instance_uid": identity.uid(row["study_instance_uid"]),
        "series_instance_uid": identity.uid(row["series_instance_uid"]),
        "series_at": identity.at(row.get("series_at")),
        "object_path": outcome.path,
        "object_bytes": outcome.n_bytes,
        "object_digest": outcome.digest,
        "rejected": outcome.rejected,
        "findings": list(outcome.findings),
    }


def _write_manifests(
    folder: Path, tables: Mapping[str, pa.Table], keys: KeyRing, contact: str, *, pool: Executor, ahead: int
) -> None:
    """A manifest of each study that is released, in the files of a folder."""

    def table(name: str, columns: Sequence[str] | None) -> pa.Table:
        return tables[name].select(list(columns)) if columns else tables[name]

    shutil.rmtree(folder, ignore_errors=True)
    with storage_errors(str(folder)):
        make_folder(folder)
        batches = manifests_of(table, institution=contact, uid=keys.uid)
        for number, content in enumerate(_results(pool, packed, batches, ahead=ahead), 1):
            (folder / manifest_file(number)).write_bytes(content)


def _results(pool: Executor, work: Callable[[Any], Any], jobs: Iterator[Any], *, ahead: int) -> Iterator[Any]:
    """Outcomes in the order of the jobs; only so many are under way as keep the workers busy."""
    running: deque[Future[Any]] = deque()
    for job in jobs:
        running.append(pool.submit(work, job))
        if len(running) >= ahead:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


@dataclass(frozen=True)
class _Made:
    series: list[dict[str, Any]]
    instances: pa.Table


def _made(work: Path) -> _Made:
    series = [row for path in sorted(work.glob("series-*.parquet")) for row in pq.read_table(path).to_pylist()]
    empty = _arrow("instance", [])
    return _Made(series, pa.concat_tables([empty, *map(pq.read_table, sorted(work.glob("instance-*.parquet")))]))


def _arrow(name: str, rows: Sequence[Mapping[str, Any]], *, also: Sequence[pa.Field] = ()) -> pa.Table:
    """Rows of a table of a release, in its order."""
    fields = [pa.field(column.name, ARROW_TYPES[column.type]) for column in RELEASED[name]]
    schema = pa.schema([*fields, *also])
    return _sorted(name, pa.Table.from_pylist([dict(row) for row in rows], schema=schema))


def _sorted(name: str, table: pa.Table) -> pa.Table:
    """In the order of the release's own pseudonyms."""
    order = {
        "finding": ("exam_pseudo_id", "finding_code", "certainty_code"),
        "instance": ("object_path", "object_offset"),
        "series": ("person_pseudo_id", "object_path"),
    }
    columns = order.get(name, tuple(column.name for column in RELEASED[name] if column.privacy == "pseudonym"))
    return table.sort_by([(column, "ascending") for column in columns])


def _write(path: Path, table: pa.Table) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    with storage_errors(str(path.parent)):
        pq.write_table(table, part, compression="zstd")
        fsync(part)
        part.replace(path)
