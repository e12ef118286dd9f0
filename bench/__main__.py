"""`python -m bench`, or one of them: `python -m bench ingest --scale 0.1`."""

from __future__ import annotations

import argparse
import importlib
import tempfile
from pathlib import Path

from bench.measure import Place

_BENCHMARKS = (
    "ingest",
    "receive",
    "retrieve",
    "linkage",
    "recompress",
    "query",
    "normalise",
    "gate",
    "put",
    "pull",
    "throttle",
    "load",
    "open",
)
_LONG = ("province", "analytics", "backfill", "web", "dicomweb")  # minutes to half an hour: only when they are named
_ON_DISK = {
    "receive",
    "backfill",
    "open",
    "pull",
    "web",
    "dicomweb",
}  # where a sync and a read must cost what they cost
_ROOM = {
    "ingest": 6 << 30,
    "province": 8 << 30,
    "analytics": 12 << 30,
}  # corpus, what a contestant makes of it, large objects
_REPETITIONS = {"ingest": 5}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="CPU time of radlake beside that of others.")
    parser.add_argument(
        "benchmark",
        nargs="?",
        choices=(*_BENCHMARKS, *_LONG),
        help="one of them; all but province, analytics, backfill, web and dicomweb when left out",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="amount of data; 1 runs under a minute on two cores")
    parser.add_argument("--repetitions", type=int, help="runs of each contestant, at least 3; 5 of ingest else")
    parser.add_argument(
        "--folder", type=Path, help="where the data lie; else in memory (tmpfs), or on disk where that matters"
    )
    parser.add_argument("--rgw", action="store_true", help="open: from Ceph RGW too")
    province = parser.add_argument_group("province")
    province.add_argument("--hospitals", type=int, default=1578)
    province.add_argument("--studies", type=int, default=100_000)
    province.add_argument("--seed", type=int, default=1)
    analytics = parser.add_argument_group("analytics, web")
    analytics.add_argument("--exams", type=int, help="10 million in analytics, a million in web")
    analytics.add_argument("--linked", type=float, default=0.0, help="analytics: share of pseudonyms linked to another")
    analytics.add_argument("--lake", type=Path, help="a lake of `radlake synth province`, else one is made")
    arguments = parser.parse_args()
    if arguments.repetitions is not None and arguments.repetitions < 3:
        parser.error("3 repetitions are the least")
    for name in [arguments.benchmark] if arguments.benchmark else _BENCHMARKS:
        roomy = Place.roomy(n_bytes=round(_ROOM.get(name, 2 << 30) * max(1.0, arguments.scale)))
        folder = arguments.folder or (Path(tempfile.gettempdir()) if name in _ON_DISK else roomy)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="radlake-bench-", dir=folder) as scratch:
            place = Place(Path(scratch), arguments.repetitions or _REPETITIONS.get(name, 3))
            print(f"{name}: {place}")
            synthetic = {"lake": arguments.lake, "seed": arguments.seed}
            own = {
                "province": {"hospitals": arguments.hospitals, "studies": arguments.studies, "seed": arguments.seed},
                "analytics": synthetic | {"exams": arguments.exams or 10_000_000, "linked": arguments.linked},
                "web": synthetic | {"exams": arguments.exams or 1_000_000},
                "open": {"scale": arguments.scale, "with_rgw": arguments.rgw},
            }
            importlib.import_module(f"bench.{name}").main(place, **own.get(name, {"scale": arguments.scale}))
            print()


if __name__ == "__main__":
    main()
