"""Run a backfill that is killed (SIGKILL) when it reaches a commit point for the n-th time: POINT N LAKE."""

from __future__ import annotations

import os
import signal
import sys


def main(point: str, number: str, lake: str) -> None:
    from radlake.backfill import run_backfill
    from radlake.commit_points import listening
    from radlake.config import Settings
    from radlake.net import load_hospitals

    settings = Settings(lake=lake, workers=0)
    left = int(number)

    def listener(name: str) -> None:
        nonlocal left
        left -= name == point
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with listening(listener):
        run_backfill(settings, load_hospitals(settings.hospitals)["h1"])


if __name__ == "__main__":
    main(*sys.argv[1:])
