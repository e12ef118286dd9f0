"""Recompress a lake in a process that is killed (SIGKILL) right after a named commit point: POINT LAKE."""

from __future__ import annotations

import sys

from support.killed_harvest import killing

POINTS = ("object", "staged", "dicom.instance", "dicom.series", "dicom.study", "unstaged")


def _arm(point: str) -> None:
    from radlake.lake import ObjectStore
    from radlake.lake.tables import TableStore
    from radlake.recompress import swap

    if point == "object":
        ObjectStore.pack_series = killing(ObjectStore.pack_series, when=lambda *_: True)
    elif point == "staged":
        swap.stage_rows = killing(swap.stage_rows, when=lambda *_, **__: True)
    elif point == "unstaged":
        swap.commit = killing(swap.commit, when=lambda *_, **__: True)
    else:
        TableStore.commit_batch = killing(
            TableStore.commit_batch, when=lambda _, table, *__, **___: table.view_name == point
        )


def main(point: str, lake: str) -> None:
    from radlake.config import Settings
    from radlake.recompress import recompress_hospital

    _arm(point)
    recompress_hospital(Settings(lake=lake, workers=0), "h1")


if __name__ == "__main__":
    main(*sys.argv[1:])
