"""A receiver that is killed (SIGKILL) when it reaches a commit point: POINT LAKE."""

from __future__ import annotations

import os
import signal
import sys
import threading


def main(point: str, lake: str) -> None:
    from radlake.commit_points import listening
    from radlake.config import Settings
    from radlake.net import load_hospitals
    from radlake.receive.service import Listening, receive

    settings = Settings(lake=lake, workers=0)

    def kill(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    with listening(kill):
        receive(
            settings,
            load_hospitals(settings.hospitals).values(),
            Listening(host="127.0.0.1", dicom_port=0, http_port=0, keep_free=0),
            stop=threading.Event(),
            announce=lambda line: print(line, flush=True),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
