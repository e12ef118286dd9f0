"""Run a folder harvest that is killed (SIGKILL) right after a named commit point: POINT LAKE FOLDER.

The points are the ones that the docstring of `radlake.ingest.batch` lists, in their order.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

POINTS = (
    "object",
    "staged",
    "dicom.instance",
    "dicom.series",
    "dicom.study",
    "ops.quality",
    "ledger",
    "unstaged",
    "ops.completeness",
)


def killing(function: Callable[..., Any], *, when: Callable[..., bool]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if when(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


def _arm(point: str) -> None:
    from radlake.ingest import batch, publish
    from radlake.lake import ObjectStore
    from radlake.lake.ledger import Ledger
    from radlake.lake.tables import TableStore

    if point == "object":
        ObjectStore.pack_series = killing(ObjectStore.pack_series, when=lambda *_: True)
    elif point == "staged":
        publish.stage = killing(publish.stage, when=lambda *_, **__: True)
    elif point == "ledger":
        Ledger.settle = killing(Ledger.settle, when=lambda *_, **__: True)
    elif point == "unstaged":
        publish.commit = killing(publish.commit, when=lambda *_, **__: True)
    else:
        TableStore.commit_batch = killing(
            TableStore.commit_batch, when=lambda _, table, *__, **___: table.view_name == point
        )
    assert batch  # the module that the points belong to


def main(point: str, lake: str, folder: str) -> None:
    from radlake.cli.hospitals import hospital_of_files
    from radlake.cli.init import ensure_key
    from radlake.config import Settings
    from radlake.ingest import harvest_folder

    settings = Settings(lake=lake, workers=0)
    ensure_key(settings)
    _arm(point)
    harvest_folder(settings, Path(folder), hospital=hospital_of_files(settings, "h1"))


if __name__ == "__main__":
    main(*sys.argv[1:])
