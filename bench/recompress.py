"""Recompress: native images into each lossless codec, as `radlake recompress` does it, beside other tools.

radlake stores the new object, reads it back and decodes every frame; the others encode and write, and prove nothing.
Images are real ones of RADLAKE_CORPUS; without it the phantom of the synthetic archive, whose ratio means nothing.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.archive import write_archive
from bench.measure import Done, Place, Prepare, command_cpu, compare, in_fresh_process, print_table

__all__ = ["main"]

_MODALITIES = {"CR", "CT", "DX", "MG", "MR", "PT", "US"}
_SMALLEST = 100_000
_MEGABYTES = 24  # at scale 1
_MB = 1_000_000
_PYDICOM = {"pydicom JPEG-LS": "1.2.840.10008.1.2.4.80", "pydicom JPEG 2000": "1.2.840.10008.1.2.4.90"}
_PROGRAMS = {
    "dcmcjpls": ("dcmcjpls", "+el"),
    "gdcmconv --jpegls": ("gdcmconv", "--jpegls"),
    "gdcmconv --j2k": ("gdcmconv", "--j2k"),
}


def main(place: Place, *, scale: float) -> None:
    """24 MB of images at scale 1."""
    archive = place.folder / "archive"
    archive.mkdir()
    is_real = in_fresh_process(_collect, archive, round(_MEGABYTES * _MB * scale))
    if not is_real:
        print("synthetic images: set RADLAKE_CORPUS for ratios that mean something")
    contestants: dict[str, Prepare] = {
        f"radlake {codec}": partial(_radlake, archive, codec) for codec in ("htj2k", "jxl", "jpegls", "j2k", "rle")
    }
    contestants |= {name: partial(_pydicom, archive, syntax) for name, syntax in _PYDICOM.items()}
    for name, command in _PROGRAMS.items():
        if shutil.which(command[0]):
            contestants[name] = partial(_program, archive, command)
        else:
            print(f"skipped: {command[0]} is not installed")
    measured = compare(contestants, place=place)
    print_table(
        measured,
        title=f"{len(list(archive.iterdir()))} native images encoded without loss; radlake decodes what it wrote, too",
        unit="MB",
        peers=["pydicom JPEG-LS", "dcmcjpls"],
        answer="ratio",
    )


def _collect(archive: Path, n_bytes: int) -> bool:
    """Native images into a folder, in our canonical form, which every contestant reads; whether they are real ones."""
    from radlake.dicom.part10 import encode_instance, read_instance
    from radlake.errors import QuarantineError

    corpus = Path(os.environ.get("RADLAKE_CORPUS", ""))
    manifest = corpus / "MANIFEST.csv"
    if manifest.is_file():
        with manifest.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["modality"] in _MODALITIES and row["kind"] == "real"]
        paths = [corpus / row["path"] for row in rows if int(row["bytes"]) >= _SMALLEST]
    else:
        source = archive.with_name("synthetic")
        write_archive(source, n_instances=max(1, n_bytes // 530_000))
        paths = sorted(source.glob("*/*"))
    total = 0
    for path in paths:
        try:
            ds = read_instance(path)
        except QuarantineError:
            continue
        is_native = "PixelData" in ds and not ds.file_meta.TransferSyntaxUID.is_encapsulated
        if not is_native or ds.BitsAllocated not in (8, 16) or ds.get("PixelRepresentation") is None:
            continue
        if len(ds.PixelData) != ds.Rows * ds.Columns * ds.SamplesPerPixel * int(ds.get("NumberOfFrames") or 1) * (
            ds.BitsAllocated // 8
        ):
            continue
        if ds.PixelRepresentation == 1 and ds.BitsStored < 16:  # JPEG-LS has no sign
            continue
        (archive / f"{total:010d}.dcm").write_bytes(encode_instance(ds))
        total += path.stat().st_size
        if total >= n_bytes:
            break
    return manifest.is_file()


def _megabytes(archive: Path) -> int:
    return max(1, round(_bytes(archive) / _MB))


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _radlake(archive: Path, codec: str, out: Path) -> Callable[[], Done]:
    from radlake.config import Settings
    from radlake.dicom.part10 import encode_parts, read_instance
    from radlake.lake import Lake
    from radlake.recompress.instance import Member
    from radlake.recompress.series import SeriesJob, recompress_series

    settings = Settings(lake=str(out / "lake"), workers=0)
    objects = Lake.from_settings(settings).objects
    jobs = []
    for number, path in enumerate(sorted(archive.iterdir())):
        ds = read_instance(path)
        parts = encode_parts(ds)
        packed = objects.pack_series(f"h/s/{number}", [("1.dcm", b"".join(parts))])
        member = Member(
            sop_instance_uid="1",
            modality=str(ds.Modality),
            offset=packed.members[0].offset,
            n_bytes=packed.members[0].length,
            pixel_offset=len(parts.head),
            digest=packed.members[0].digest,
            transfer_syntax_uid=str(ds.file_meta.TransferSyntaxUID),
            photometric_interpretation=str(ds.PhotometricInterpretation),
            bits_allocated=ds.BitsAllocated,
        )
        jobs.append(SeriesJob(settings, codec, packed.path, 202603, (member,)))
    recompress_series(jobs[0])  # imports

    def run() -> Done:
        outcomes = [recompress_series(job) for job in jobs]
        if any(outcome.refused for outcome in outcomes):
            raise ValueError("an image was refused")
        after = sum(size.after for outcome in outcomes for size in outcome.sizes)
        after += sum(outcome.job.members[0].n_bytes for outcome in outcomes if not outcome.sizes)
        return Done(_megabytes(archive), look=partial(_ratio, archive, after))

    return run


def _pydicom(archive: Path, syntax: str, out: Path) -> Callable[[], Done]:
    import logging

    from pydicom import dcmread
    from pydicom.pixels.encoders.base import get_encoder

    plugin = "pyjpegls" if syntax.endswith(".80") else "pylibjpeg"
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    assert get_encoder(syntax).is_available

    def run() -> Done:
        for path in sorted(archive.iterdir()):
            ds = dcmread(path)
            try:
                ds.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
            except (RuntimeError, ValueError):
                continue
            ds.save_as(out / path.name)
        return Done(_megabytes(archive), look=partial(_written_ratio, archive, out))

    return run


def _program(archive: Path, command: tuple[str, ...], out: Path) -> Callable[[], Done]:
    def run() -> Done:
        paths = sorted(archive.iterdir())
        for path in paths:
            command_cpu(*command, path, out / path.name)
        start = sum(command_cpu(command[0], "--version") for _ in paths)
        return Done(_megabytes(archive), foreign_cpu=2 * start, look=partial(_written_ratio, archive, out))

    return run


def _written_ratio(archive: Path, out: Path) -> str:
    """What was not written counts as it was."""
    missing = [path for path in archive.iterdir() if not (out / path.name).exists()]
    ratio = _ratio(archive, _bytes(out) + sum(path.stat().st_size for path in missing))
    return f"{ratio} ({len(missing)} failed)" if missing else ratio


def _ratio(archive: Path, after: int) -> str:
    return f"{_bytes(archive) / after:.2f}"
