"""Where bytes lie: a local folder or an S3 prefix, with the same verbs.

A file appears whole or not at all, and is never changed afterwards. Which files make up a table is the log's business
(`tables`), what is in an object is `objects`'.
"""

from __future__ import annotations

from radlake.lake.store.errors import storage_errors
from radlake.lake.store.local import LocalStore, make_folder, sweep, write_whole
from radlake.lake.store.opening import Store, open_store
from radlake.lake.store.options import S3Options
from radlake.lake.store.s3 import S3Store

__all__ = [
    "LocalStore",
    "S3Options",
    "S3Store",
    "Store",
    "make_folder",
    "open_store",
    "storage_errors",
    "sweep",
    "write_whole",
]
