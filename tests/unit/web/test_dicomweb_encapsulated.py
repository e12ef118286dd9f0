"""Frames of encapsulated pixels: those of pydicom, and one read each once it is known where they lie."""

from __future__ import annotations

import pytest
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import JPEGBaseline8Bit

from radlake.web.dicomweb.catalogue import Instance
from radlake.web.dicomweb.frames import stored_frame
from radlake.web.dicomweb.refusals import NotAcceptable
from radlake.web.dicomweb.rendered import pictures
from support.dicom import dicom_bytes, image_study

N_FRAMES = 40
FRAMES = [b"\xff\xd8" + bytes([number]) * 100_000 + b"\xff\xd9" for number in range(N_FRAMES)]


class Counted:
    """An object in memory that counts how often it is read."""

    def __init__(self, content: bytes) -> None:
        self.content, self.n_reads = content, 0

    def read(self, path: str, offset: int, length: int) -> bytes:
        self.n_reads += 1
        return self.content[offset : offset + length]


def stored(kind: str) -> tuple[Counted, Instance]:
    """An instance whose pixels are `FRAMES`."""
    [ds] = image_study("MR", n=1, frames=N_FRAMES)
    if kind == "extended":
        ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(FRAMES)
    else:
        n_fragments = 3 if kind.endswith("fragments") else 1
        ds.PixelData = encapsulate(FRAMES, fragments_per_frame=n_fragments, has_bot=kind.startswith("basic"))
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    content = dicom_bytes(ds, transfer_syntax=JPEGBaseline8Bit)
    begin = content.index(b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff") + 12
    instance = Instance("1.2", "1.2.3", "1.2.3.4", JPEGBaseline8Bit, 8, 8, 1, 8, "MONOCHROME2", N_FRAMES, kind, 6,
                        len(content), begin)  # fmt: skip
    return Counted(b"before" + content), instance


@pytest.mark.parametrize(
    ("kind", "most_reads"), [("basic", 2), ("basic, fragments", 2), ("extended", 3), ("none", N_FRAMES + 4)]
)
def test_a_frame_is_one_read_once_it_is_known_where_they_lie(kind: str, most_reads: int) -> None:
    pixels, instance = stored(kind)
    assert stored_frame(pixels, instance, 1) == FRAMES[0]  # pyright: ignore[reportArgumentType]
    assert pixels.n_reads <= most_reads
    pixels.n_reads = 0
    for number in (N_FRAMES, 7, 2):
        assert stored_frame(pixels, instance, number).rstrip(b"\0") == FRAMES[number - 1]  # pyright: ignore[reportArgumentType]
    assert pixels.n_reads == 3


def test_fragments_without_a_table_are_told_apart_by_their_markers() -> None:
    pixels, instance = stored("fragments")
    for number in (1, N_FRAMES):
        assert stored_frame(pixels, instance, number).rstrip(b"\0") == FRAMES[number - 1]  # pyright: ignore[reportArgumentType]


def test_frames_that_cannot_be_told_apart_are_refused() -> None:
    pixels, instance = stored("none")
    pixels.content = pixels.content.replace(b"\xfe\xff\x00\xe0", b"\xfe\xff\x00\xe1")
    with pytest.raises(NotAcceptable):
        stored_frame(pixels, instance, 2)  # pyright: ignore[reportArgumentType]


def test_a_damaged_frame_does_not_keep_the_others_from_being_seen() -> None:
    _, instance = stored("none")

    def show(_: Instance, number: int) -> bytes:
        if number % 2:
            raise NotAcceptable("damaged")
        return bytes([number])

    assert list(pictures([instance], show)) == [bytes([number]) for number in range(2, N_FRAMES + 1, 2)]
    with pytest.raises(NotAcceptable):
        list(pictures([], show))
