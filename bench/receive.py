"""Receive: CT instances pushed by DCMTK's storescu at storage SCPs, over one, two and four associations at once.

Counted is the receiver alone. radlake makes each instance durable before it acknowledges it. The peers do not, so
each runs a second time with its files and their folder synced before they are acknowledged. The sender runs twice:
with TCP_NODELAY=1, where CPU time is compared, and as Debian ships it, with Nagle's algorithm on, where the wall time
is: there the two ends mostly wait for each other.

The data lie on a disk, as a sync costs nothing in memory.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from xxhash import xxh3_128_hexdigest

from bench.archive import write_archive
from bench.measure import Done, Measured, Place, Prepare, compare, in_fresh_process, same_answer

__all__ = [
    "AE_TITLE",
    "HOST",
    "LARGEST_PDU",
    "LIMITS",
    "NO_DELAY",
    "free_ports",
    "main",
    "pixels_of",
    "received_in",
    "set_no_delay",
    "write_undecoded",
]

HOST = "127.0.0.1"
AE_TITLE = "RADLAKE"
NO_DELAY = {"TCP_NODELAY": "1"}  # read by DCMTK
LARGEST_PDU = 131_072  # that DCMTK knows
LIMITS = ("-pdu", str(LARGEST_PDU), "-to", "10", "-td", "60")  # and seconds to connect and to answer

_ASSOCIATIONS = (1, 2, 4)
_OURS, _PYNETDICOM, _STORESCP, _DURABLE = "radlake", "pynetdicom", "storescp", ", durable"
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_SYNC_AT_CLOSE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int fclose(FILE *file) {
  int (*really)(FILE *) = (int (*)(FILE *))dlsym(RTLD_NEXT, "fclose");
  if ((fcntl(fileno(file), F_GETFL) & O_ACCMODE) != O_RDONLY) {
    int folder = open(getenv("SYNCED_FOLDER"), O_RDONLY);
    fflush(file);
    fsync(fileno(file));
    fsync(folder);
    close(folder);
  }
  return really(file);
}
"""

_Environment = Mapping[str, str]


@dataclass(frozen=True)
class _Push:
    """Files that so many storescu send at once, each its share."""

    files: tuple[Path, ...]
    n_associations: int
    environment: _Environment

    def send(self, port: int) -> float:
        """CPU time of the senders, whatever becomes of them."""
        command = ["storescu", "-aec", AE_TITLE, *LIMITS, HOST, str(port)]
        nothing = subprocess.DEVNULL
        processes = [
            subprocess.Popen(
                [*command, *map(str, self.files[n :: self.n_associations])],
                env=os.environ | dict(self.environment),
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
            )
            for n in range(self.n_associations)
        ]
        cpu = 0.0
        for process in processes:
            _, process.returncode, usage = os.wait4(process.pid, 0)
            cpu += usage.ru_utime + usage.ru_stime
        return cpu


def main(place: Place, *, scale: float) -> None:
    """200 instances at scale 1, 80 from a sender that waits."""
    if not shutil.which("storescu"):
        print("skipped: storescu is not installed")
        return
    n_instances = max(4, round(200 * scale))
    archive = place.folder / "archive"
    in_fresh_process(partial(write_archive, archive, n_instances=n_instances, study_instances=n_instances))
    (study,) = archive.iterdir()
    files = tuple(sorted(study.iterdir()))
    sync_at_close = _compiled(place.folder)
    quick = _compared(files, NO_DELAY, sync_at_close, place=place)
    waiting = _compared(files[: max(4, n_instances * 2 // 5)], {}, sync_at_close, place=place)
    _print_table(quick, title=f"storescu with TCP_NODELAY=1 sends {len(files)} CT instances")
    _print_table(waiting, title=f"storescu as it comes sends {max(4, n_instances * 2 // 5)} CT instances")
    print()
    for peer in (_PYNETDICOM, _PYNETDICOM + _DURABLE):
        _print_ratios(quick, peer, "cpu", title="CPU time", wanted=4)
    for peer in (_STORESCP, _STORESCP + _DURABLE):
        _print_ratios(waiting, peer, "seconds", title="wall time", wanted=10)


def _compared(
    files: tuple[Path, ...], environment: _Environment, sync_at_close: Path | None, *, place: Place
) -> dict[tuple[str, int], Measured]:
    contestants: dict[tuple[str, int], Prepare] = {}
    for n in _ASSOCIATIONS:
        push = _Push(files, n, environment)
        contestants[_OURS, n] = partial(_radlake, push)
        contestants[_PYNETDICOM, n] = partial(_pynetdicom, push, write_undecoded)
        contestants[_PYNETDICOM + _DURABLE, n] = partial(_pynetdicom, push, _write_durably)
        if shutil.which("storescp"):
            contestants[_STORESCP, n] = partial(_storescp, push, None)
            if sync_at_close:
                contestants[_STORESCP + _DURABLE, n] = partial(_storescp, push, sync_at_close)
    measured = compare(contestants, place=place, pick=min)
    same_answer({f"{name}, {n}": run for (name, n), run in measured.items()})
    return measured


def _print_table(measured: Mapping[tuple[str, int], Measured], *, title: str) -> None:
    load, _, _ = os.getloadavg()
    print(f"\n{title}; the best of all runs, load now {load:.1f}")
    print(f"{'associations':24}" + "".join(f"{n:>24}" for n in _ASSOCIATIONS))
    print(f"{'':24}" + f"{'us CPU   instances/s':>24}" * len(_ASSOCIATIONS))
    for name in dict.fromkeys(name for name, _ in measured):
        runs = [measured[name, n] for n in _ASSOCIATIONS]
        cells = (f"{run.cpu / run.n * 1e6:>12,.0f}{run.n / run.seconds:>12,.0f}" for run in runs)
        print(f"{name:24}" + "".join(cells))


def _print_ratios(
    measured: Mapping[tuple[str, int], Measured], peer: str, figure: str, *, title: str, wanted: float
) -> None:
    pairs = [(measured[peer, n], measured[_OURS, n]) for n in _ASSOCIATIONS if (peer, n) in measured]
    ratios = [getattr(theirs, figure) / getattr(ours, figure) for theirs, ours in pairs]
    said = ", ".join(f"{ratio:.1f}" for ratio in ratios) or "not measured"
    print(f"{title} of {peer} / that of radlake, 1, 2, 4 associations: {said} (at least {wanted:g} is wanted)")


def _radlake(push: _Push, out: Path) -> Callable[[], Done]:
    from radlake.net.delivery import Delivery
    from radlake.net.instance_files import InstanceFolder
    from radlake.net.storage_scp import receiving

    (port,) = free_ports(1)
    delivery = Delivery(InstanceFolder(out), due=None)
    study_uid = push.files[0].parent.name

    def run() -> Done:
        with receiving(study_uid, delivery=delivery, ae_title=AE_TITLE, host=HOST, port=port, timeout=60, tls=None):
            foreign_cpu = push.send(port)
        return received_in(out, foreign_cpu=foreign_cpu)

    return run


def _pynetdicom(push: _Push, write: Callable[[Any, Path], int], out: Path) -> Callable[[], Done]:
    from pydicom.uid import CTImageStorage
    from pynetdicom import AE, evt

    (port,) = free_ports(1)
    ae = AE(AE_TITLE)
    ae.maximum_pdu_size = LARGEST_PDU
    ae.add_supported_context(CTImageStorage)
    handlers: list[Any] = [(evt.EVT_C_STORE, write, [out])]
    if push.environment:
        handlers.append((evt.EVT_CONN_OPEN, set_no_delay))

    def run() -> Done:
        server = ae.start_server((HOST, port), block=False, evt_handlers=handlers)
        done = received_in(out, foreign_cpu=push.send(port))

        def look() -> str:
            if server is not None:
                server.shutdown()  # takes half a second to notice
            return pixels_of(out)

        return replace(done, look=look)

    return run


def _storescp(push: _Push, sync_at_close: Path | None, out: Path) -> Callable[[], Done]:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what its children took is counted when it leaves them behind
    (port,) = free_ports(1)
    command = ["storescp", "-pdu", str(LARGEST_PDU), "--bit-preserving", "-od", str(out)]
    command += ["--fork"] if push.n_associations > 1 else []
    environment = os.environ | dict(push.environment)
    if sync_at_close:
        environment |= {"LD_PRELOAD": str(sync_at_close), "SYNCED_FOLDER": str(out)}

    @contextmanager
    def listening() -> Iterator[None]:
        process = subprocess.Popen([*command, str(port)], env=environment, stderr=subprocess.DEVNULL)
        try:
            while not _is_open(port):
                if process.poll() is not None:
                    raise RuntimeError("storescp ended")
                time.sleep(0.01)
            yield
        finally:
            process.terminate()
            process.wait()
            with suppress(ChildProcessError):
                while True:
                    os.waitpid(-1, 0)

    with listening():
        pass
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    start_cpu = usage.ru_utime + usage.ru_stime

    def run() -> Done:
        with listening():
            begin = time.perf_counter()
            foreign_cpu = push.send(port)
            seconds = time.perf_counter() - begin
        return replace(received_in(out, foreign_cpu=foreign_cpu + start_cpu), seconds=seconds)

    return run


def _compiled(folder: Path) -> Path | None:
    """A library that lets a program sync what it closes; None without a C compiler."""
    if not shutil.which("cc"):
        print(f"skipped: {_STORESCP}{_DURABLE}, there is no C compiler")
        return None
    source, library = folder / "sync.c", folder / "sync.so"
    source.write_text(_SYNC_AT_CLOSE)
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    return library


def write_undecoded(event: Any, folder: Path) -> int:
    """The cheapest way that pynetdicom has: the data set goes to its file undecoded."""
    (folder / f"{event.request.AffectedSOPInstanceUID}.dcm").write_bytes(event.encoded_dataset())
    return 0x0000


def _write_durably(event: Any, folder: Path) -> int:
    with (folder / f"{event.request.AffectedSOPInstanceUID}.dcm").open("wb") as file:
        file.write(event.encoded_dataset())
        file.flush()
        os.fsync(file.fileno())
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    return 0x0000


def set_no_delay(event: Any) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def received_in(folder: Path, *, foreign_cpu: float = 0.0) -> Done:
    return Done(sum(1 for _ in folder.iterdir()), foreign_cpu=foreign_cpu, look=partial(pixels_of, folder))


def pixels_of(folder: Path) -> str:
    """Digest of the instances in a folder and their pixels, whatever their files are called."""
    from pydicom import dcmread

    seen = sorted(f"{ds.SOPInstanceUID} {xxh3_128_hexdigest(ds.PixelData)}" for ds in map(dcmread, folder.iterdir()))
    return xxh3_128_hexdigest("\n".join(seen).encode())


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
