"""A hospital whose policy became central: its objects come into the store, and no row changes but its residency.

Objects first, each proven; then the rows of a batch in one staged commit. Running it again goes on where it ended.
"""

from __future__ import annotations

import itertools
import shutil
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing

import pyarrow as pa
import xxhash

from radlake.commit_points import reached
from radlake.config import Settings
from radlake.contracts import load_table
from radlake.ingest.batch import CHILDREN_FIRST, commit, roll_forward, stage_rows
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from radlake.machine import utc_now
from radlake.net import Hospital, NodeClient
from radlake.residency.catalogue import SeriesObject, objects_of
from radlake.residency.fetch import Fetched, fetch_study
from radlake.vault.lake_key import open_ledger

__all__ = ["bring_in"]

_PATIENCE_SECONDS = 600.0
_BATCH_STUDIES = 100
_KEY = ("hospital_id", "study_month", "series_instance_uid", "object_path")


def bring_in(
    settings: Settings,
    hospital: Hospital,
    *,
    client: NodeClient | None = None,
    tell: Callable[[list[Fetched]], None] = lambda _: None,
) -> list[Fetched]:
    """Bring every object that the hospital kept into the store.

    Parameters
    ----------
    tell : callable
        Told after each study.

    Returns
    -------
    list of Fetched
        Those that could not be brought stay where they are.

    Raises
    ------
    TransientError
        If the node cannot be reached, or rests for long, or a harvest of the hospital is running. What came before is
        in the store.
    """
    lake = Lake.from_settings(settings)
    _finish(settings, lake, hospital.hospital_id)
    left = objects_of(lake, hospital_id=hospital.hospital_id, residency="index")
    studies = [list(group) for _, group in itertools.groupby(left, key=lambda item: item.study_uid)]
    done: list[Fetched] = []
    for start in range(0, len(studies), _BATCH_STUDIES):
        stored: list[SeriesObject] = []
        try:
            for study in studies[start : start + _BATCH_STUDIES]:
                fetched = fetch_study(settings, hospital, study, client=client, is_awaited=False)
                stored += [one.object for one in fetched if one.is_here and _store(lake, one.object)]
                done += fetched
                tell(fetched)
        finally:
            with closing(open_ledger(settings)) as ledger, ledger.lock(hospital.hospital_id):
                roll_forward(lake, ledger, hospital_id=hospital.hospital_id, now=utc_now())
                _enter(lake, ledger, hospital.hospital_id, stored)
        for item in stored:
            lake.cache.drop(item.path)
    return done


def _finish(settings: Settings, lake: Lake, hospital_id: str) -> None:
    """Do what a killed run left: commit its staged batch, and drop from the cache what is in the store by its row."""
    settings.prepare_restricted()
    with closing(open_ledger(settings)) as ledger, ledger.lock(hospital_id):
        roll_forward(lake, ledger, hospital_id=hospital_id, now=utc_now())
    if cached := lake.cache.paths(f"{hospital_id}/"):
        for item in objects_of(lake, paths=cached, residency="central"):
            lake.cache.drop(item.path)


def _store(lake: Lake, item: SeriesObject) -> bool:
    """Copy an object from the cache into the store; False when it left the cache meanwhile."""
    if lake.objects.store.size(item.path) == item.n_bytes:
        return True
    lake.scratch.mkdir(parents=True, exist_ok=True)
    copy = lake.scratch / f"object-{uuid.uuid4().hex}.zip"
    try:
        with lake.cache.lock(
            f"{item.hospital_id}/{item.study_uid}", timeout=_PATIENCE_SECONDS
        ):  # no withdrawal meanwhile
            shutil.copyfile(lake.cache.path(item.path), copy)
            lake.objects.store.put({item.path: copy})
            reached("object.stored")
    except FileNotFoundError:
        return False
    finally:
        copy.unlink(missing_ok=True)
    return True


def _enter(lake: Lake, ledger: Ledger, hospital_id: str, stored: Sequence[SeriesObject]) -> None:
    """Let the rows of these objects say `central`; the hospital's lock is held."""
    if not stored:
        return
    with duck.connect(lake, tables=["dicom.series"]) as connection:
        rows = connection.sql(
            """
            SELECT * REPLACE ('central' AS residency)
            FROM dicom.series
            WHERE hospital_id = $hospital AND residency = 'index' AND object_path IN (SELECT unnest($paths))
            """,
            params={"hospital": hospital_id, "paths": [item.path for item in stored]},
        ).to_arrow_table()
    if not rows.num_rows:
        return
    schema = load_table("dicom.series").arrow_schema()
    rows = rows.cast(schema)
    empty = {name: load_table(name).arrow_schema().empty_table() for name in (*CHILDREN_FIRST, "ops.quality")}
    tables: dict[str, pa.Table] = empty | {"dicom.series": rows, "replace.dicom.series": rows.select(_KEY)}
    words = [str(lake.tables.version("dicom.series")), *sorted(rows["object_path"].to_pylist())]
    batch_id = f"residency-{xxhash.xxh3_128_hexdigest('|'.join(words).encode())}"
    commit(lake, ledger, stage_rows(lake, hospital_id=hospital_id, batch_id=batch_id, tables=tables), now=utc_now())
