"""Pull: a release of CT series to a disk, from a folder beside `cp -r`, from a real Ceph RGW beside boto3.

radlake looks at the digest of every byte, and a file has its name when it is durable (syncfs). `cp` does neither, and
boto3 looks at lengths; `cp -r, sync` is followed by `sync -f`. Counted is wall time of a process that is there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import date
from functools import partial
from pathlib import Path

from bench.ingest_peers import PYTHON
from bench.lakes import s3_store
from bench.measure import Done, Place, Prepare, compare, in_fresh_process, print_rows

__all__ = ["main"]

_N_SERIES, _SLICES, _SLICE_BYTES = 8, 80, 526_000  # CT: 512 x 512 of 16 bits, and a header
_TODAY = date(2026, 11, 22)
_BOTO3 = Path(__file__).with_name("pull_boto3.py")


def main(place: Place, *, scale: float) -> None:
    """640 slices of half a megabyte (340 MB) at scale 1."""
    with ExitStack() as stack:
        lake = place.folder / "made"
        in_fresh_process(_make, lake, max(5, round(_SLICES * scale)))
        [release] = (lake / "lake" / "releases").iterdir()
        tree = place.folder / "tree"
        in_fresh_process(_pull_once, lake / "lake", release.name, tree)
        n_bytes = sum(path.stat().st_size for path in tree.rglob("*.dcm"))
        near = {"lake": str(lake / "lake")}
        _compare(
            {
                "radlake, DICOM tree": partial(_radlake, near, release.name, "dicom"),
                "radlake, series ZIPs": partial(_radlake, near, release.name, "zip"),
                "radlake, WebDataset": partial(_radlake, near, release.name, "webdataset"),
                "cp -r": partial(_cp, tree / "dicom", False),
                "cp -r, sync": partial(_cp, tree / "dicom", True),
            },
            place=place,
            n_bytes=n_bytes,
            title="from a folder",
            peers=["cp -r", "cp -r, sync"],
        )
        if not (s3 := stack.enter_context(s3_store())):
            return
        far = {name: value for name, value in s3.items() if name != "bucket"} | {"lake": f"{s3['bucket']}/lake"}
        in_fresh_process(_upload, release, far)
        _compare(
            {
                "radlake, DICOM tree": partial(_radlake, far, release.name, "dicom"),
                "radlake, series ZIPs": partial(_radlake, far, release.name, "zip"),
                "boto3": partial(_boto3, far, release.name),
            },
            place=place,
            n_bytes=n_bytes,
            title="from Ceph RGW",
            peers=["boto3"],
        )


def _compare(contestants: Mapping[str, Prepare], *, place: Place, n_bytes: int, title: str, peers: list[str]) -> None:
    measured = compare(contestants, place=place, is_same_work=False, may_fail={"boto3"})
    beside = {peer: measured[peer].seconds for peer in peers if peer in measured}
    rows = [["", "seconds", "MB/s", "CPU s", "peak MB", *(f"speed x {peer}" for peer in beside)]]
    for name, run in measured.items():
        figures = [f"{run.seconds:.2f}", f"{n_bytes / run.seconds / 1e6:,.0f}", f"{run.cpu:.2f}"]
        figures.append(f"{run.peak_bytes / 1e6:,.0f}")
        rows.append(
            [name, *figures, *(f"{measured[peer].seconds / run.seconds:.2f}" for peer in peers if peer in measured)]
        )
    print_rows(rows, title=f"{title}: {n_bytes / 1e6:,.0f} MB")


def _radlake(where: Mapping[str, str], release_id: str, layout: str, out: Path) -> Callable[[], Done]:
    from radlake.cohort.pull import Manifest, open_release, pull
    from radlake.config import StoreSettings

    settings = StoreSettings(**where)  # pyright: ignore[reportArgumentType]

    def run() -> Done:
        release = open_release(settings, release_id, today=_TODAY)
        done = pull(release, out, manifest=Manifest(release_id), layout=layout)
        assert done.is_complete, done
        return Done(done.downloaded.n_series)

    return run


def _cp(tree: Path, is_synced: bool, out: Path) -> Callable[[], Done]:
    def run() -> Done:
        subprocess.run(["cp", "-r", tree, out], check=True)
        if is_synced:
            subprocess.run(["sync", "-f", out], check=True)
        return Done(len(list(tree.glob("*/*/*"))))

    return run


def _boto3(where: Mapping[str, str], release_id: str, out: Path) -> Callable[[], Done]:
    """boto3's transfer manager as it comes: ten threads, parts of 8 MiB."""
    bucket, _, prefix = where["lake"].removeprefix("s3://").partition("/")
    keys = [Path(where[name].removeprefix("file:")).read_text() for name in ("s3_access_key", "s3_secret_key")]
    place = [where["s3_endpoint_url"], bucket, f"{prefix}/releases/{release_id}/objects/", str(out)]
    process = subprocess.Popen(
        [PYTHON, _BOTO3, *place, *keys], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise RuntimeError("boto3 is not among the installed peers")

    def run() -> Done:
        said, _ = process.communicate("go\n")
        return Done(int(said))

    return run


def _make(folder: Path, slices: int) -> None:
    """A release whose instances are noise: what is pulled is not looked into, but for its digest."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq
    import xxhash

    from radlake.lake import ObjectStore

    release = folder / "lake" / "releases" / "bench.v1.000000000000.bench"
    objects = ObjectStore(str(release / "objects"), scratch=folder / "scratch")
    series, instances = list[dict[str, object]](), list[dict[str, object]]()
    for number in range(_N_SERIES):
        who = {"person_pseudo_id": f"{number:016x}", "study_instance_uid": f"2.25.1.{number}"}
        who["series_instance_uid"] = f"2.25.2.{number}"
        members = ((f"2.25.3.{number}.{n}.dcm", os.urandom(_SLICE_BYTES)) for n in range(slices))
        packed = objects.pack_series("/".join(who.values()), members)
        digest = xxhash.xxh3_128_hexdigest(Path(objects.store.uri(packed.path)).read_bytes())
        where = {"object_path": packed.path, "object_bytes": packed.n_bytes, "object_digest": digest}
        series.append({**who, **where, "modality": "CT"})
        for member in packed.members:
            name = member.name.removesuffix(".dcm")
            place = {"object_offset": member.offset, "instance_bytes": member.length, "digest": member.digest}
            instances.append({**who, "sop_instance_uid": name, "object_path": packed.path, **place})
    tables = {}
    for name, rows in (("series", series), ("instance", instances)):
        path = release / "tables" / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
        content = path.read_bytes()
        tables[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    document = {"release_id": release.name, "contact": "-", "tables": tables, "approval": {"expires_on": "2099-01-01"}}
    (release / "release.json").write_text(json.dumps(document))
    (release / "state.json").write_text(json.dumps({"state": "approved", "contact": "-"}))


def _pull_once(lake: Path, release_id: str, out: Path) -> None:
    _radlake({"lake": str(lake)}, release_id, "dicom", out)()


def _upload(release: Path, where: Mapping[str, str]) -> None:
    from radlake.config import StoreSettings
    from radlake.lake.store import S3Options, S3Store

    settings = StoreSettings(**where)  # pyright: ignore[reportArgumentType]
    store = S3Store(f"{settings.lake}/releases", S3Options.from_settings(settings))
    folder = release.parent.parent / "copy"
    shutil.copytree(release, folder / release.name)
    store.put({path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()})
