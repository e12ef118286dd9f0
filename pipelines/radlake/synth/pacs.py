"""Simulated PACS in a process of their own: the command that runs one, and the handle that starts it.

    python -m radlake.synth.pacs dimse    --archive DIR --aet HIS2 --port 0 --move-destination RADLAKE=127.0.0.1:11113
    python -m radlake.synth.pacs dicomweb --archive DIR --port 0

It prints one line, `ready HOST:PORT`, when it can be asked, and ends on SIGTERM, SIGINT, or when the process that
`--parent` names is no longer its parent, so that nothing is left behind however the demo or a test ends.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from radlake import log
from radlake.config import resolve_secret
from radlake.errors import NodeUnavailable, SourceMissing
from radlake.synth.behaviour import Behaviour
from radlake.synth.holdings import Holdings
from radlake.synth.quirks import quirks_from_json

__all__ = ["PacsProcess", "main"]


class PacsProcess:
    """A simulated PACS that runs as long as this object's `with` block.

    Starting does not wait; the first use of `port` does, so that several can read their archives at the same time.

    Parameters
    ----------
    *arguments : str
        Arguments of the command, for example `"dimse", "--archive", str(folder), "--aet", "HIS2"`.
    """

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "radlake.synth.pacs", *arguments, "--parent", str(os.getpid())]
        # A session of its own: Ctrl-C in a terminal reaches the parent only, which then ends its children in order.
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self._port = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def port(self) -> int:
        """The port that it listens on, known when it is ready."""
        if not self._port:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
            if not line.startswith("ready "):
                raise NodeUnavailable(node="the simulated PACS", reason=f"it ended with code {self._process.wait()}")
            self._port = int(line.rpartition(":")[2])
        return self._port

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> PacsProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one PACS until it is told to end."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    options = _parser().parse_args(arguments)
    log.configure()
    warnings.simplefilter("ignore")  # pydicom warns with values
    if not options.archive.is_dir():
        raise SourceMissing(path=options.archive)
    port = _start(options)
    sys.stdout.write(f"ready {options.host}:{port}\n")
    sys.stdout.flush()
    while not stop.wait(0.25):
        if options.parent and os.getppid() != options.parent:
            break
    os._exit(0)  # associations in progress end with the process; nothing is held that would need closing


def _start(options: argparse.Namespace) -> int:
    """Start the kind of PACS that was asked for and return its port."""
    holdings = Holdings(options.archive)
    quirks = quirks_from_json(options.quirks)
    if options.kind == "dicomweb":
        from radlake.synth.web_pacs import WebPacs

        token = resolve_secret(options.token) if options.token else ""
        behaviour = Behaviour(holdings, quirks=quirks)
        return WebPacs(behaviour, host=options.host, port=options.port, token=token).port
    from radlake.synth.dimse_pacs import DimsePacs

    if options.charset:
        quirks = replace(quirks, answer_charset=options.charset)
    return DimsePacs(
        Behaviour(holdings, quirks=quirks),
        ae_title=options.aet,
        host=options.host,
        port=options.port,
        destinations=dict(options.move_destination),
    ).port


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m radlake.synth.pacs", description="A simulated PACS.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name in ("dimse", "dicomweb"):
        kind = kinds.add_parser(name)
        kind.add_argument("--archive", type=Path, required=True, help="folder of Part-10 files")
        kind.add_argument("--host", default="127.0.0.1")
        kind.add_argument("--port", type=int, default=0, help="0: any free one")
        kind.add_argument("--quirks", default="{}", help="JSON object: see radlake.synth.quirks")
        kind.add_argument("--parent", type=int, default=0, help="end when this process is no longer the parent")
    dimse, dicomweb = (kinds.choices[name] for name in ("dimse", "dicomweb"))
    dimse.add_argument("--aet", required=True, help="AE title")
    dimse.add_argument("--charset", default="", help="Specific Character Set of answers")
    dimse.add_argument("--move-destination", type=_destination, action="append", default=[], metavar="AET=HOST:PORT")
    dicomweb.add_argument("--token", default="", help="reference to a bearer token: file:PATH or env:NAME")
    return parser


def _destination(text: str) -> tuple[str, tuple[str, int]]:
    ae_title, _, address = text.partition("=")
    host, _, port = address.rpartition(":")
    return ae_title, (host, int(port))


if __name__ == "__main__":
    main()
