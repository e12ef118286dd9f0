"""Recompress a lake in a process that is killed (SIGKILL) at a commit point: POINT LAKE."""

from __future__ import annotations

import os
import signal
import sys

POINTS = (
    "object.stored",
    "recompress.proven",
    "batch.staged",
    "batch.dicom.instance",
    "batch.dicom.series",
    "batch.dicom.study",
    "batch.unstaged",
)


def main(point: str, lake: str) -> None:
    from radlake.commit_points import listening
    from radlake.config import Settings
    from radlake.recompress import recompress_hospital

    def kill(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    with listening(kill):
        recompress_hospital(Settings(lake=lake, workers=0), "h1")


if __name__ == "__main__":
    main(*sys.argv[1:])
