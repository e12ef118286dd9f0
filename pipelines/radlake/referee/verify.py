"""What can be verified: a folder that any tool wrote, a release, or a lake."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import xxhash

from radlake.errors import SourceMissing
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from radlake.lake.reading import read_object
from radlake.lake.store import Store
from radlake.referee.conformance import Dciodvfy
from radlake.referee.files import is_object
from radlake.referee.finding import Report
from radlake.referee.instance import Instance, Unreadable, read
from radlake.referee.originals import Originals
from radlake.referee.referee import Referee
from radlake.referee.rows import row_findings
from radlake.referee.standard import Policy

__all__ = ["verify_folder", "verify_lake", "verify_release"]


def verify_release(folder: Path, *, originals: Sequence[Path] = (), policy: Policy | None = None) -> Report:
    """Everything in the folder of a release: objects, archives, tables, JSON, names."""
    return verify_folder(folder, originals=originals, policy=policy)


def verify_folder(
    written: Path,
    *,
    originals: Sequence[Path] = (),
    policy: Policy | None = None,
    sample: int = 0,
    dciodvfy: Dciodvfy | None = None,
) -> Report:
    """What any tool wrote into a folder, against the originals where they are given.

    An object finds its original by the same path below its root, else by the same pixels.

    Parameters
    ----------
    sample : int
        Look at so many files only, chosen by the digest of their names; 0 looks at all.
    dciodvfy : Dciodvfy or None
        Compare its errors before and after, too.

    Raises
    ------
    SourceMissing
    """
    if not written.exists():
        raise SourceMissing(path=str(written))
    told = Originals.from_paths(originals)
    referee = Referee(told, policy=policy, dciodvfy=dciodvfy)
    _note_originals(referee.report, told)
    root = written if written.is_dir() else written.parent
    names = sorted(path.relative_to(root).as_posix() for path in _files(written))
    for name in sampled(names, sample):
        referee.judge_name(name)
        path = root / name
        with path.open("rb") as file:
            if not is_object(file.read(132), name):
                referee.judge_file(file, where=name)
                continue
        data = path.read_bytes()
        original = _original_of(data, name, told)
        if original is None and told.n_files:
            referee.report.notes["objects whose original was not found"] += 1
        referee.judge_object(data, where=name, original=original)
    return referee.conclude()


def verify_lake(
    lake: Lake,
    *,
    ledger: Ledger | None = None,
    originals: Sequence[Path] = (),
    policy: Policy | None = None,
    hospital: str = "",
    sample: int = 0,
    also: Sequence[Path] = (),
    dciodvfy: Dciodvfy | None = None,
) -> Report:
    """Objects, rows, tables, commit logs and names of a lake.

    Parameters
    ----------
    ledger : Ledger or None
        Tells which original an instance was made from.
    hospital : str
        Look at the instances of this hospital only; tables are looked at as a whole.
    sample : int
        Look at so many instances and table files only, chosen by digest; 0 looks at all.
    also : sequence of Path
        Other files to search: logs, exports.
    """
    told = Originals.from_paths(originals)
    with duck.connect(lake, tables=["dicom.study"]) as connection:
        hospitals = [row[0] for row in connection.execute("SELECT DISTINCT hospital_id FROM dicom.study").fetchall()]
    referee = Referee(told, policy=policy, dciodvfy=dciodvfy, hospitals=hospitals)
    _note_originals(referee.report, told)
    _judge_instances(referee, lake, told, ledger=ledger, hospital=hospital, sample=sample)
    tables = lake.tables.store
    for name in sampled(list(tables.list("")), sample):
        referee.judge_name(f"tables/{name}")
        referee.judge_file(_whole(tables, name), where=f"tables/{name}")
    for path in also:
        for file in _files(path):
            referee.judge_name(file.name)
            with file.open("rb") as handle:
                referee.judge_file(handle, where=file.name)
    return referee.conclude()


def sampled(names: Sequence[str], n: int) -> list[str]:
    """The `n` names with the smallest digests, in their order; all when `n` is 0."""
    if not n or len(names) <= n:
        return list(names)
    chosen = set(sorted(names, key=lambda name: xxhash.xxh3_64_intdigest(name.encode("utf-8", "replace")))[:n])
    return [name for name in names if name in chosen]


def _judge_instances(
    referee: Referee, lake: Lake, told: Originals, *, ledger: Ledger | None, hospital: str, sample: int
) -> None:
    sources = _sources(ledger, told, hospital) if ledger else {}
    store = lake.objects.store
    of_object: dict[str, list[tuple[int, int]]] = {}
    with duck.connect(lake, tables=["dicom.series", "dicom.instance"]) as connection:
        kept = connection.execute("SELECT DISTINCT object_path FROM dicom.series WHERE residency = 'index'").fetchall()
        elsewhere = {path for (path,) in kept}
        relation = connection.sql(
            "SELECT * FROM dicom.instance WHERE $hospital IN ('', hospital_id) "
            + ("ORDER BY digest LIMIT $sample" if sample else "ORDER BY object_path, object_offset"),
            params={"hospital": hospital} | ({"sample": sample} if sample else {}),
        )
        for batch in relation.to_arrow_reader(1000):
            for row in batch.to_pylist():
                path, span = row["object_path"], (row["object_offset"], row["instance_bytes"])
                of_object.setdefault(path, []).append(span)
                try:
                    data = read_object(lake, path, *span)
                except SourceMissing:
                    if path not in elsewhere:
                        raise
                    referee.report.notes["instances whose pixels the hospital keeps"] += 1
                    continue
                where = f"objects/{path}@{span[0]}"
                referee.report.looked_at["rows"] += 1
                referee.report.add(row_findings(row, data, where=where))
                found = _original_in_ledger(sources.get(row["digest"]), told)
                if found is None and told.n_files:
                    referee.report.notes["instances whose original is not among the given ones"] += 1
                referee.judge_object(data, where=where, original=_read(found[0]) if found else None)
    listed = (
        list(store.list(f"{hospital}/" if hospital else "")) if not sample else sorted(of_object.keys() - elsewhere)
    )
    for path in listed:
        referee.judge_name(f"objects/{path}")
        spans = of_object.get(path)
        if spans is None:  # a harvest that was cut off: nobody reads it, and it lies in the lake
            referee.report.notes["objects of no row"] += 1
            referee.judge_file(_whole(store, path), where=f"objects/{path}")
        elif not sample:
            referee.judge_bytes(_between(store, path, spans), where=f"objects/{path}", path="between the members")


_Source = tuple[str, str, str]  # digest, Study and SOP Instance UID of an original


def _original_in_ledger(source: _Source | None, told: Originals) -> tuple[bytes, str] | None:
    """The given file that has the bytes that were received; else, as a node sends other meta information, the UIDs."""
    return (told.of_digest(source[0]) or told.of_uids(*source[1:])) if source else None


def _sources(ledger: Ledger, told: Originals, hospital: str) -> dict[str, _Source]:
    """Digest of the stored bytes to what the ledger knows of its original, for the studies of the originals."""
    return {
        stored.digest: (stored.source_digest, entry.study_uid, sop_uid)
        for hospital_id in sorted({hospital} if hospital else {row["hospital_id"] for row in ledger.completeness()})
        for entry in ledger.entries(hospital_id, list(told.studies))
        for sop_uid, stored in entry.stored.items()
    }


def _between(store: Store, path: str, spans: Sequence[tuple[int, int]]) -> bytes:
    """Bytes of a series object that belong to no row: headers, directory, and anything else."""
    rest, position = [], 0
    for offset, length in sorted(spans):
        rest.append(store.read(path, offset=position, length=offset - position))
        position = offset + length
    size = store.size(path) or position
    rest.append(store.read(path, offset=position, length=size - position))
    return b"\x1e".join(rest)


def _whole(store: Store, name: str) -> io.BytesIO:
    return io.BytesIO(store.read(name, offset=0, length=store.size(name) or 0))


def _original_of(data: bytes, name: str, told: Originals) -> Instance | None:
    if not told.n_files:
        return None
    found = told.of_name(name)
    if found is None:
        try:
            found = told.of_pixels(read(data))
        except Unreadable:
            return None
    return _read(found[0]) if found else None


def _read(data: bytes) -> Instance | None:
    try:
        return read(data)
    except Unreadable:
        return None


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    else:
        yield from sorted(item for item in path.rglob("*") if item.is_file())


def _note_originals(report: Report, told: Originals) -> None:
    if told.n_files:
        report.looked_at["originals"] = told.n_files - told.n_unreadable
    if told.n_unreadable:
        report.notes["originals that are no readable DICOM"] = told.n_unreadable
