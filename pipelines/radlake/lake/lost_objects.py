"""Series objects whose last row is about to be forgotten: they go with it.

Rows are replaced (a series was recompressed) or removed (a person opted out) long before the Parquet files that held
them are deleted: until then an older version, a pin or a reader may still ask for the object. So the moment to delete
an object is when no Parquet file that stays names it any more.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.parquet as pq

from radlake import log
from radlake.contracts import Table, load_table
from radlake.errors import LedgerBusy, ObjectLocked
from radlake.lake import parquet
from radlake.lake.ledger import Ledger
from radlake.lake.zones import Lake

__all__ = ["delete_lost_objects"]

_TABLE = "dicom.instance"


def delete_lost_objects(lake: Lake, ledger: Ledger, *, doomed: Sequence[str]) -> tuple[int, set[str]]:
    """Delete the objects that only `doomed` files of dicom.instance name.

    The hospital's lock is held meanwhile: a harvest may be about to name such an object again. Of a hospital that is
    harvested right now nothing is deleted. What the store has locked stays until a run after the lock's end.

    Parameters
    ----------
    doomed : sequence of str
        Files that are to be deleted, as `TableStore.unneeded` gives them.

    Returns
    -------
    int, set of str
        How many objects were deleted, and the files that must stay for the next time.
    """
    table = load_table(_TABLE)
    n_deleted, spared = 0, set()
    for hospital_id, files in _lost(lake, table, doomed).items():
        try:
            with ledger.lock(hospital_id):
                staged = _staged(lake, hospital_id)
                for path, named_by in _lost(lake, table, doomed, hospital_id=hospital_id).get(hospital_id, {}).items():
                    if path in staged:
                        continue
                    try:
                        lake.objects.delete(path)
                        n_deleted += 1
                    except ObjectLocked as exc:
                        log.get_logger().warning("object_locked", hospital=hospital_id, reason=str(exc.facts["until"]))
                        spared |= named_by
        except LedgerBusy:
            log.get_logger().info("objects_spared", hospital=hospital_id)
            spared |= set().union(*files.values())
    return n_deleted, spared


def _lost(
    lake: Lake, table: Table, doomed: Sequence[str], *, hospital_id: str | None = None
) -> dict[str, dict[str, set[str]]]:
    """Objects that only doomed files name: hospital -> path of the object -> those files."""
    store = lake.tables.store
    folder = table.full_name.replace(".", "/")
    months = sorted({name.rpartition("/")[0] for name in doomed})
    kept = [
        name
        for month in months
        for name in store.list(f"{folder}/{month}/")
        if name.endswith(".parquet") and name.removeprefix(f"{folder}/") not in set(doomed)
    ]
    if not doomed:
        return {}
    going = parquet.scan(table, [store.uri(f"{folder}/{name}") for name in doomed], extra=', filename AS "file"')
    staying = parquet.scan(table, [store.uri(name) for name in kept])
    query = f"""
        SELECT DISTINCT hospital_id, object_path, "file" FROM {going}
        WHERE ($hospital IS NULL OR hospital_id = $hospital)
            AND object_path NOT IN (SELECT object_path FROM {staying})
    """
    with parquet.new_connection(filesystem=lake.tables.filesystem) as connection:
        rows = connection.execute(query, {"hospital": hospital_id}).fetchall()
    lost: dict[str, dict[str, set[str]]] = {}
    root = store.uri(folder) + "/"
    for hospital, path, file in rows:
        lost.setdefault(hospital, {}).setdefault(path, set()).add(file.removeprefix(root))
    return lost


def _staged(lake: Lake, hospital_id: str) -> set[str]:
    """Objects of batches that will be committed."""
    files = (lake.staged / hospital_id).glob(f"*/{_TABLE}.parquet")
    return {path for file in files for path in pq.read_table(file, columns=["object_path"])["object_path"].to_pylist()}
