"""Sessions of a Streamlit app: `python web_peer_sessions.py URL SESSIONS SECONDS THINK`, prints JSON.

A program for the interpreter of `bench/peers.lock`: it speaks the app's own protocol, as a browser does, and imports
nothing of this repository. The clock of a session runs from what it asks until the script has run to its end.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence

from streamlit.proto.BackMsg_pb2 import BackMsg  # pyright: ignore[reportMissingImports]
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg  # pyright: ignore[reportMissingImports]
from websockets.asyncio.client import connect  # pyright: ignore[reportMissingImports]
from websockets.typing import Subprotocol  # pyright: ignore[reportMissingImports]


async def _session(
    number: int, url: str, queries: Sequence[str], times: list[float], *, end: float, think: float
) -> int:
    rng = random.Random(number)
    await asyncio.sleep(rng.uniform(0, think))
    n_bytes = 0
    async with connect(url, subprotocols=[Subprotocol("streamlit")], max_size=None, compression=None) as socket:
        while time.monotonic() < end:
            asked = BackMsg()
            asked.rerun_script.query_string = rng.choice(queries)
            begun = time.perf_counter()
            await socket.send(asked.SerializeToString())
            while True:
                data = await socket.recv()
                n_bytes += len(data)
                told = ForwardMsg()
                told.ParseFromString(data)
                if told.WhichOneof("type") == "script_finished":
                    break
            times.append(1000 * (time.perf_counter() - begun))
            if told.script_finished != ForwardMsg.FINISHED_SUCCESSFULLY:
                raise RuntimeError("the script of the app failed")
            await asyncio.sleep(rng.uniform(0.5, 1.5) * think)
    return n_bytes


async def _main(url: str, sessions: int, seconds: float, think: float, queries: Sequence[str]) -> None:
    times: list[float] = []
    end = time.monotonic() + seconds
    sizes = await asyncio.gather(
        *(_session(number, url, queries, times, end=end, think=think) for number in range(sessions))
    )
    print(json.dumps({"times": times, "bytes": sum(sizes)}))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), json.load(sys.stdin)))
