"""What the ingest benchmark reads: the shared corpus when it is there, else the archive of `bench.archive`.

The shared corpus (`make_corpus.py OUT SCALE` in the folder that RADLAKE_BENCH names, `../shared/bench` without it) is
2,405 instances in 2.3 GB at scale 1: CT, MR, DX and enhanced CT of four vendors, Chinese names, private and nested
elements, four transfer syntaxes, and a token in some 35 attributes of every instance.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

from bench.archive import identifiers, write_archive
from bench.measure import in_fresh_process

__all__ = ["Corpus", "make_corpus", "n_leaking", "sampled", "write_large"]

_SHARED = Path(__file__).resolve().parents[2] / "shared/bench"
_TOKEN = b"ZZPHI"
_N_CT = 2000  # of the fall-back at scale 1
_PIXEL_DATA = bytes.fromhex("e07f10004f570000")  # (7FE0,0010) OW in Explicit VR Little Endian, its length follows


@dataclass(frozen=True)
class Corpus:
    """Files of a benchmark.

    Attributes
    ----------
    needles : frozenset of bytes
        What names the patients.
    """

    folder: Path
    needles: frozenset[bytes]

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.rglob("*.dcm"))

    @property
    def n_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)

    def __str__(self) -> str:
        n, megabytes = len(self.files), self.n_bytes / 1e6
        return f"{n:,} instances of {megabytes / n:.2f} MB"

    def part(self, name: str) -> Corpus:
        """A folder of it."""
        return Corpus(self.folder / name, self.needles)


def make_corpus(folder: Path, *, scale: float) -> tuple[Corpus, bool]:
    """Write the corpus, and tell whether it is the shared one."""
    builder = Path(os.environ.get("RADLAKE_BENCH", _SHARED)) / "make_corpus.py"
    if builder.is_file():
        command = [sys.executable, "-W", "ignore", str(builder), str(folder), str(scale)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return Corpus(folder, frozenset([_TOKEN])), True
    in_fresh_process(partial(write_archive, folder / "ct", n_instances=max(1, round(_N_CT * scale))))
    return Corpus(folder, in_fresh_process(identifiers, folder / "ct")), False


def sampled(corpus: Corpus, folder: Path, *, every: int) -> Corpus:
    """Every so manyth file of each folder, as links."""
    folders: dict[Path, list[Path]] = {}
    for path in corpus.files:
        folders.setdefault(path.parent, []).append(path)
    for parent, paths in folders.items():
        place = folder / parent.relative_to(corpus.folder)
        place.mkdir(parents=True)
        for path in paths[::every]:
            os.link(path, place / path.name)
    return Corpus(folder, corpus.needles)


def write_large(source: Path, path: Path, *, n_bytes: int) -> None:
    """A native multi-frame X-ray angiogram, 512 x 512 x 16 bit, with the header of an archive's CT instance."""
    from pydicom import dcmread, dcmwrite
    from pydicom.uid import XRayAngiographicImageStorage

    ds = dcmread(source)
    frame = ds.PixelData
    del ds.PixelData
    n_frames = n_bytes // len(frame)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = XRayAngiographicImageStorage
    ds.Modality, ds.BurnedInAnnotation, ds.NumberOfFrames = "XA", "NO", n_frames
    dcmwrite(path, ds)
    with path.open("ab") as file:
        file.write(_PIXEL_DATA + (n_frames * len(frame)).to_bytes(4, "little"))
        for _ in range(n_frames):
            file.write(frame)


def n_leaking(needles: frozenset[bytes], folder: Path) -> str:
    """How many outputs in a folder still name somebody, of how many: instances, and rows of tables."""
    contents = list(_leaks(needles, folder))
    return f"{sum(contents)}/{len(contents)}"


def _leaks(needles: frozenset[bytes], folder: Path) -> Iterator[bool]:
    for path in folder.rglob("*.dcm"):
        yield _holds(path.read_bytes(), needles)
    for path in folder.rglob("*.zip"):
        with ZipFile(path) as series:
            is_plain = all(member.compress_type == ZIP_STORED for member in series.infolist())
            if is_plain and not _holds(path.read_bytes(), needles):  # once, not by member: most are clean
                yield from (False for _ in series.namelist())
                continue
            for name in series.namelist():
                yield _holds(name.encode() + series.read(name), needles)
    for path in folder.rglob("*.parquet"):
        yield _holds(_values(path), needles)


def _values(path: Path) -> bytes:
    """Every value of a file, for a search."""
    import pyarrow.parquet as pq

    return repr(pq.ParquetFile(path).read().to_pydict()).encode()


def _holds(content: bytes, needles: frozenset[bytes]) -> bool:
    return any(needle in content for needle in needles)
