"""Whole instances as they leave: parts of a multipart message or members of a ZIP, read a few megabytes at a time."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence

from radlake.dicom.uids import EXPLICIT_VR_LITTLE_ENDIAN
from radlake.web.dicomweb.catalogue import Instance
from radlake.web.dicomweb.media import Wish
from radlake.web.dicomweb.multipart import Multipart
from radlake.web.dicomweb.pixels import Pixels
from radlake.web.dicomweb.transcode import explicit, is_decodable

__all__ = ["DICOM", "ZIP", "can_be_sent", "multipart_length", "multipart_of", "part10", "sent_syntax",
           "zip_of"]  # fmt: skip

DICOM, ZIP = "application/dicom", "application/zip"
_PIECE = 4 << 20


def can_be_sent(instances: Iterable[Instance], wish: Wish) -> bool:
    """Whether every instance is stored as wished, or can be written again as Explicit VR Little Endian.

    That is also what a type without a transfer syntax means (PS3.18 8.7.3.5.2); `*/*` is whatever is stored.
    """
    if not _is_transcoded(wish):
        return wish.syntax in ("", "*") or all(one.syntax == wish.syntax for one in instances)
    return all(one.syntax == EXPLICIT_VR_LITTLE_ENDIAN or is_decodable(one) for one in instances)


def sent_syntax(instance: Instance, wish: Wish) -> str:
    """Transfer syntax that an instance leaves in."""
    return EXPLICIT_VR_LITTLE_ENDIAN if _is_transcoded(wish) else instance.syntax


def part10(pixels: Pixels, instance: Instance, wish: Wish) -> Iterator[bytes]:
    """One Part-10 file."""
    if _is_transcoded(wish) and instance.syntax != EXPLICIT_VR_LITTLE_ENDIAN:
        yield explicit(pixels.read(instance.path, instance.offset, instance.n_bytes))
    else:
        yield from _pieces(pixels, instance)


def multipart_length(instances: Iterable[Instance], wish: Wish, form: Multipart) -> int | None:
    """Bytes of the whole message; None when that is only known at its end."""
    if _is_transcoded(wish) and any(one.syntax != EXPLICIT_VR_LITTLE_ENDIAN for one in instances):
        return None
    return sum(len(_head(form, one.syntax)) + one.n_bytes for one in instances) + form.overhead(len(list(instances)))


def multipart_of(pixels: Pixels, instances: Sequence[Instance], wish: Wish, form: Multipart) -> Iterator[bytes]:
    """Part-10 files; small ones that lie beside each other are read at once."""
    for run in _runs(instances):
        syntaxes = {one.syntax for one in run}
        if len(run) == 1 or (_is_transcoded(wish) and syntaxes != {EXPLICIT_VR_LITTLE_ENDIAN}):
            for one in run:
                yield _head(form, sent_syntax(one, wish))
                yield from part10(pixels, one, wish)
                yield form.tail
        else:
            begin = run[0].offset
            content = memoryview(pixels.read(run[0].path, begin, run[-1].offset + run[-1].n_bytes - begin))
            pieces: list[bytes | memoryview] = []
            for one in run:
                at = one.offset - begin
                pieces += [_head(form, one.syntax), content[at : at + one.n_bytes], form.tail]
            yield b"".join(pieces)
    yield form.end


def zip_of(pixels: Pixels, instances: Iterable[Instance]) -> Iterator[bytes]:
    """A ZIP with a folder for each series, stored, with no date of its own: its bytes follow from the lake."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for one in instances:
            entry = zipfile.ZipInfo(f"{one.series_uid}/{one.uid}.dcm")
            entry.file_size = one.n_bytes
            with archive.open(entry, "w", force_zip64=one.n_bytes >= 1 << 31) as member:
                for piece in _pieces(pixels, one):
                    member.write(piece)
                    yield sink.taken()
    yield sink.taken()


class _Sink(io.RawIOBase):
    """Takes what is written until it is sent; nobody can go back in it."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._held.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        held, self._held = self._held, []
        return b"".join(held)


def _is_transcoded(wish: Wish) -> bool:
    return not wish.is_any and wish.syntax in ("", EXPLICIT_VR_LITTLE_ENDIAN)


def _head(form: Multipart, syntax: str) -> bytes:
    return form.head(f"{DICOM};transfer-syntax={syntax}")


def _runs(instances: Iterable[Instance]) -> Iterator[list[Instance]]:
    """Neighbours in one object that make one read together; what is larger is alone."""
    run: list[Instance] = []
    for one in instances:
        if run and (one.path != run[0].path or one.offset + one.n_bytes - run[0].offset > _PIECE):
            yield run
            run = []
        run.append(one)
    if run:
        yield run


def _pieces(pixels: Pixels, instance: Instance) -> Iterator[bytes]:
    for start in range(0, instance.n_bytes, _PIECE):
        yield pixels.read(instance.path, instance.offset + start, min(_PIECE, instance.n_bytes - start))
