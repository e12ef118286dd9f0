"""The candidate of a release: its tables, what attacks on it came to, and the folder that a committee reads.

Everything lies in `restricted/releases/<id>/`: `tables/`, `manifests/`, `review/`, `candidate.json`. The document
follows from the cohort, the project and the policy alone, so making it again gives the same digest, which is what is
approved. Manifests say what the tables say, so that tables are attacked and manifests are not.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from radlake.cohort.build import Built
from radlake.cohort.columns import identities
from radlake.cohort.linking import common_offsets, joined_values
from radlake.cohort.review import write_review
from radlake.cohort.risk import Coarse, intervals_of
from radlake.commit_points import reached
from radlake.config import Settings
from radlake.epidemiology.release import coarsened
from radlake.errors import IdentifierLeak, SourceMissing
from radlake.lake import Lake
from radlake.lake.store import make_folder, open_store, storage_errors, write_whole
from radlake.referee import verify_release
from radlake.stats.policy import Policy

__all__ = ["Candidate", "begun_releases", "candidate_folder", "candidates", "open_candidate", "write_candidate"]

_DOCUMENT = "candidate.json"
_ATTACKED = ("person", "exam", "series")
_MOST_ROWS = 50_000  # of a table that is compared with others


@dataclass(frozen=True)
class Candidate:
    """A release that waits for approval, or was approved.

    Attributes
    ----------
    document : mapping
        What is approved; `digest` is of its text.
    """

    release_id: str
    folder: Path
    document: Mapping[str, Any]
    digest: str

    @property
    def tables(self) -> dict[str, Path]:
        return {path.stem: path for path in sorted((self.folder / "tables").glob("*.parquet"))}

    @property
    def manifests(self) -> dict[str, Path]:
        """Files with a KOS for each study, by their names."""
        return _files(self.folder / "manifests")


def candidate_folder(lake: Lake, release_id: str) -> Path:
    return lake.restricted / "releases" / release_id


def candidates(lake: Lake) -> list[str]:
    """Ids of the releases that were made."""
    return sorted(path.parent.name for path in (lake.restricted / "releases").glob(f"*/{_DOCUMENT}"))


def begun_releases(lake: Lake) -> dict[str, bool]:
    """Ids of the releases that were made or begun, and whether each is a candidate."""
    folders = sorted(path for path in (lake.restricted / "releases").glob("[!.]*") if path.is_dir())
    return {folder.name: (folder / _DOCUMENT).exists() for folder in folders}


def open_candidate(lake: Lake, release_id: str) -> Candidate:
    """A release that was made before.

    Raises
    ------
    SourceMissing
    """
    folder = candidate_folder(lake, release_id)
    try:
        text = (folder / _DOCUMENT).read_text(encoding="utf-8")
    except OSError as exc:
        known = ", ".join(candidates(lake)) or "none"
        raise SourceMissing(path=f"The release {release_id} (made ones: {known})") from exc
    return Candidate(release_id, folder, json.loads(text), hashlib.sha256(text.encode()).hexdigest())


def write_candidate(
    settings: Settings,
    release_id: str,
    *,
    built: Built,
    project: str,
    contact: str,
    tables: Mapping[str, pa.Table],
    coarse: Coarse,
    rejected: Mapping[str, int],
    findings: Mapping[str, int],
    policy: Policy,
) -> Candidate:
    """Write tables, attack them, and write what the committee reads.

    Raises
    ------
    IdentifierLeak
    StoreFull
    """
    lake = Lake.from_settings(settings)
    folder = candidate_folder(lake, release_id)
    with storage_errors(str(folder)):
        make_folder(folder / "tables")
        for name, table in tables.items():
            pq.write_table(table, folder / "tables" / f"{name}.parquet", compression="zstd", store_schema=False)
    _refuse_lake_values(built, tables)
    against = {other: _attack(lake, other, tables, release_id) for other in candidates(lake) if other != release_id}
    residual = verify_release(folder / "tables")
    days: dict[object, set[Any]] = {}
    for row in tables["exam"].select(["person_pseudo_id", "study_at"]).to_pylist():
        if row["study_at"] is not None:
            days.setdefault(row["person_pseudo_id"], set()).add(row["study_at"].date())
    series = tables["series"]
    content: dict[str, Any] = {
        "release_id": release_id,
        "cohort_id": built.cohort_id,
        "project": project,
        "contact": contact,
        "definition": dict(built.cohort.content),
        "title": dict(built.cohort.title),
        "snapshot": dict(built.snapshot),
        "steps": [
            {"step": step.name, "n_exams": exams, "n_persons": persons}
            for step, exams, persons in coarsened(built.steps, policy=policy)
        ],
        "n_persons": tables["person"].num_rows,
        "n_exams": tables["exam"].num_rows,
        "n_series": series.num_rows,
        "n_instances": tables["instance"].num_rows,
        "n_bytes": sum(series["object_bytes"].to_pylist()),
        "rejected": dict(sorted(rejected.items())),
        "referee": dict(sorted(findings.items())),
        "telltales": dict(sorted(residual.by_rule.items())),
        "risk": {
            "k": coarse.k,
            "smallest_class": coarse.smallest_class,
            "n_classes": coarse.n_classes,
            "l_diversity": coarse.l_diversity,
            "n_left_out": len(coarse.left_out),
            "age_width": coarse.coarseness.age_width,
            "region_digits": coarse.coarseness.region_digits,
            "intervals": asdict(intervals_of(days)),
        },
        "policy": asdict(policy),
        "tables": {
            name: {"n_rows": tables[name].num_rows, **_facts(folder / "tables" / f"{name}.parquet")}
            for name in sorted(tables)
        },
        "manifests": {name: _facts(path) for name, path in _files(folder / "manifests").items()},
    }
    with storage_errors(str(folder)):
        write_review(folder / "review", content, against=against, policy=policy)
        write_whole(folder / _DOCUMENT, json.dumps(content, sort_keys=True, ensure_ascii=False, indent=1) + "\n")
    _tell(lake, release_id, {"state": "waiting", "contact": contact})
    reached("release.candidate")
    return open_candidate(lake, release_id)


def tell_state(lake: Lake, release_id: str, state: str, contact: str) -> None:
    """Tell those who want to pull what became of a release, where they look."""
    _tell(lake, release_id, {"state": state, "contact": contact})


def _tell(lake: Lake, release_id: str, content: Mapping[str, str]) -> None:
    part = lake.scratch / f"release-{release_id}.part"
    with storage_errors(str(lake.scratch)):
        make_folder(lake.scratch)
        part.write_text(json.dumps(content, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    open_store(lake.url, options=lake.storage_options).put({f"releases/{release_id}/state.json": part})


def _refuse_lake_values(built: Built, tables: Mapping[str, pa.Table]) -> None:
    """No pseudonym or UID of the lake may be in a release."""
    lake_tables = {name: pq.read_table(built.table(name)).slice(0, _MOST_ROWS) for name in ("exam", "series")}
    ours = {f"{name}.{column}" for name in _ATTACKED for column in identities(name)}
    for found in joined_values({name: tables[name].slice(0, _MOST_ROWS) for name in _ATTACKED}, lake_tables):
        if found.column in ours:
            raise IdentifierLeak(rule="identifier-in-table", where=f"{found.column} has values of the lake")


def _attack(lake: Lake, other: str, tables: Mapping[str, pa.Table], release_id: str) -> dict[str, Any]:
    """Try to join this release with another: identities must not, of other columns the committee is told."""
    theirs = {
        name: pq.read_table(candidate_folder(lake, other) / "tables" / f"{name}.parquet").slice(0, _MOST_ROWS)
        for name in _ATTACKED
    }
    is_twin = open_candidate(lake, other).document["project"] == release_id.rpartition(".")[2]
    ours = {name: tables[name].slice(0, _MOST_ROWS) for name in _ATTACKED}
    own = {f"{name}.{column}" for name in _ATTACKED for column in identities(name)}
    joined = joined_values(ours, theirs)
    offsets = common_offsets(ours, theirs)
    if not is_twin:  # two releases of one project share its keys, so that its data can be put together
        for found in joined:
            if found.column in own and found.other in own and not found.column.endswith("_at"):
                raise IdentifierLeak(rule="identifier-in-table", where=f"{found.column} has values of {other}")
    content = Counter({found.column: found.n_values for found in joined if found.column not in own})
    return {"is_same_project": is_twin, "columns": dict(sorted(content.items())), "n_offsets": len(offsets)}


def _files(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(folder.glob("*"))}


def _facts(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
