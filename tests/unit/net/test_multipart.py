"""A multipart body is read the same however the network cuts it, and a broken one is never taken for whole."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radlake.net.multipart import MultipartBroken, boundary_of, parts

BOUNDARY = b"b83258bb-a19d"
NASTY = st.sampled_from([b"\r", b"\n", b"\r\n", b"--", b"\r\n--", b"\r\n--" + BOUNDARY[:-1], BOUNDARY, b"\0", b"x"])
CONTENTS = st.lists(  # without a delimiter: that is the sender's duty (RFC 2046 5.1.1)
    st.lists(NASTY, max_size=8).map(b"".join).filter(lambda content: b"\r\n--" + BOUNDARY not in content), max_size=4
)


def body_of(contents: Iterable[bytes], *, with_length: bool, preamble: bytes = b"") -> bytes:
    body = preamble
    for content in contents:
        length = b"Content-Length: %d\r\n" % len(content) if with_length else b""
        body += b"\r\n--" + BOUNDARY + b"\r\nContent-Type: application/dicom\r\n" + length + b"\r\n" + content
    return body + b"\r\n--" + BOUNDARY + b"--\r\n"


def cut(body: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    for size in sizes:
        yield body[:size]
        body = body[size:]
    yield body


def read(chunks: Iterable[bytes]) -> list[bytes]:
    return [b"".join(part) for part in parts(chunks, boundary=BOUNDARY)]


@given(contents=CONTENTS, sizes=st.lists(st.integers(0, 40), max_size=60), with_length=st.booleans())
def test_the_chunks_do_not_matter(contents: list[bytes], sizes: list[int], with_length: bool) -> None:
    assert read(cut(body_of(contents, with_length=with_length), sizes)) == contents


@pytest.mark.parametrize("with_length", [True, False])
def test_one_byte_at_a_time(with_length: bool) -> None:
    contents = [b"first\r\n--b83258bb-", b"", b"\r\n\r\nthird"]
    body = body_of(contents, with_length=with_length)
    assert read(body[n : n + 1] for n in range(len(body))) == contents


@given(contents=st.lists(st.binary(max_size=30), min_size=1, max_size=3), with_length=st.booleans(), data=st.data())
def test_a_truncated_body_is_told_and_what_was_whole_is_kept(
    contents: list[bytes], with_length: bool, data: st.DataObject
) -> None:
    body = body_of(contents, with_length=with_length)
    whole = body[: -len(b"--\r\n")]
    cut_at = data.draw(st.integers(0, len(whole)))
    got = []

    def keep_whole_parts() -> None:
        for part in parts([body[:cut_at]], boundary=BOUNDARY):
            got.append(b"".join(part))

    with pytest.raises(MultipartBroken):
        keep_whole_parts()
    assert got == contents[: len(got)]


def test_a_preamble_and_an_epilogue_are_passed_over() -> None:
    assert read([b"This is a MIME message", body_of([b"x"], with_length=False), b"epilogue"]) == [b"x"]


def test_a_body_that_begins_with_its_boundary() -> None:
    assert read([body_of([b"x"], with_length=True).removeprefix(b"\r\n")]) == [b"x"]


def test_a_part_without_header_lines() -> None:
    assert read([b"--" + BOUNDARY + b"\r\n\r\nx\r\n--" + BOUNDARY + b"--"]) == [b"x"]


def test_a_boundary_inside_a_part_whose_length_is_told() -> None:
    content = b"a\r\n--" + BOUNDARY + b"\r\n\r\nb"
    assert read([body_of([content], with_length=True)]) == [content]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--" + BOUNDARY + b"\r\nContent-Length: 5\r\n\r\nabc\r\n--" + BOUNDARY + b"--",
        b"--" + BOUNDARY + b"\r\nContent-Length: 1\r\n\r\nabc\r\n--" + BOUNDARY + b"--",
        b"--" + BOUNDARY + b" junk\r\n\r\nabc\r\n--" + BOUNDARY + b"--",
        b"--" + BOUNDARY + b"\r\nX: " + b"y" * 40_000,
        b"<html>an error page</html>",
    ],
    ids=["nothing", "length too great", "length too small", "junk after the boundary", "endless header", "no boundary"],
)
def test_a_broken_body(body: bytes) -> None:
    with pytest.raises(MultipartBroken):
        read([body[n : n + 1000] for n in range(0, len(body), 1000)])


@pytest.mark.parametrize("with_length", [True, False])
def test_memory_does_not_grow_with_the_part(with_length: bool) -> None:
    megabyte = b"\0" * 1_000_000

    def chunks() -> Iterator[bytes]:
        length = b"Content-Length: 64000000\r\n" if with_length else b""
        yield b"--" + BOUNDARY + b"\r\n" + length + b"\r\n"
        yield from [megabyte] * 64
        yield b"\r\n--" + BOUNDARY + b"--"

    tracemalloc.start()
    n_bytes = sum(len(piece) for part in parts(chunks(), boundary=BOUNDARY) for piece in part)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_bytes == 64_000_000
    assert peak < 8_000_000


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/related; type=application/dicom; boundary=abc", b"abc"),
        ('Multipart/Related; Boundary="a b:c"; type="application/dicom"', b"a b:c"),
        ("multipart/related; type=application/dicom", None),
        ("application/dicom", None),
        ("", None),
    ],
)
def test_the_boundary_of_a_content_type(content_type: str, boundary: bytes | None) -> None:
    assert boundary_of(content_type) == boundary
