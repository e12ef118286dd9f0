"""The upper layer against itself and against peers that break the rules, over loopback."""

from __future__ import annotations

import socket
import struct
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radlake.net import connection
from radlake.net.connection import AssociationLost, Connection, open_socket
from radlake.net.pdu import MAX_PDU, RELEASE_RP, RELEASE_RQ, Proposal, Refusal, associate_rq, p_data
from radlake.net.upper_layer import Association, AssociationRefused, AssociationReleased

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT, IMPLICIT, J2K = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.90"
PROPOSALS = [Proposal(CT, (J2K,)), Proposal(CT, (EXPLICIT, IMPLICIT)), Proposal(MR, (EXPLICIT,), is_scp=True)]

Peer = Callable[[socket.socket], None]


@contextmanager
def talking_to(peer: Peer) -> Iterator[socket.socket]:
    """A connected socket whose other end is played by `peer`; what it raises is raised here."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    raised: list[BaseException] = []

    def play() -> None:
        try:
            theirs.settimeout(5)
            peer(theirs)
        except BaseException as exc:
            raised.append(exc)
        finally:
            theirs.close()

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield ours
    finally:
        ours.close()
        thread.join(timeout=10)
        assert not thread.is_alive()
    if raised:
        raise raised[0]


def request(sock: socket.socket, *, timeout: float = 5) -> Association:
    return Association.request(sock, calling="RADLAKE", called="PACS", proposals=PROPOSALS, timeout=timeout)


def accept(sock: socket.socket, ae_title: str = "PACS") -> Association:
    def choose(abstract_syntax: str, offered: Sequence[str]) -> str | Refusal:
        if abstract_syntax != CT:
            return Refusal.ABSTRACT_SYNTAX
        return EXPLICIT if EXPLICIT in offered else Refusal.TRANSFER_SYNTAXES

    return Association.accept(sock, ae_title=ae_title, choose=choose, timeout=5)


def echoing(sock: socket.socket) -> None:
    """Sends every message back until the release."""
    assoc = accept(sock)
    with suppress(AssociationReleased):
        while True:
            context_id, command = assoc.receive()
            assoc.send(context_id, command, assoc.whole_data_set())


def test_contexts_are_negotiated_one_by_one() -> None:
    with talking_to(echoing) as sock:
        assoc = request(sock)
        assert [(c.context_id, c.abstract_syntax, c.transfer_syntax) for c in assoc.contexts.values()] == [
            (3, CT, EXPLICIT)
        ]
        assert assoc.context_for(CT) == 3
        assert assoc.context_for(MR) is None
        assoc.release()


@pytest.mark.parametrize("size", [1, MAX_PDU - 6, MAX_PDU - 5, 5 * MAX_PDU], ids=str)
def test_data_sets_of_any_size_come_back_as_they_were(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with talking_to(echoing) as sock:
        assoc = request(sock)
        for _ in range(2):
            assoc.send(3, b"command", data)
            assert assoc.receive() == (3, b"command")
            assert assoc.whole_data_set() == data
        assoc.release()


def test_the_other_ae_title_is_refused_with_its_reason() -> None:
    def strict(sock: socket.socket) -> None:
        with pytest.raises(AssociationLost, match="another AE title"):
            accept(sock, ae_title="OTHER")

    with talking_to(strict) as sock:
        with pytest.raises(AssociationRefused, match="called AE title not recognized") as caught:
            request(sock)
        assert not caught.value.is_transient


ACCEPT = b"\2\0" + struct.pack(">L", 68) + b"\0\1\0\0" + b" " * 64
BROKEN = {
    "closes at once": (b"", "closed by the peer"),
    "a web server": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak DICOM"),
    "aborts": (b"\7\0\0\0\0\4\0\0\2\0", "aborted by its upper layer"),
    "accepts, then closes inside a PDU": (ACCEPT + b"\4\0\0\0\1\0" + b"\0\0", "closed by the peer"),
    "a fragment longer than its PDU": (ACCEPT + b"\4\0\0\0\0\6" + b"\0\0\0\xff\1\3", "wrong length"),
    "a fragment without its two bytes": (ACCEPT + b"\4\0\0\0\0\6" + b"\0\0\0\1\1\3", "wrong length"),
    "a PDU of 4 GiB": (ACCEPT + b"\4\0\xff\xff\xff\xff", "does not speak DICOM"),
    "a data set without a command": (ACCEPT + b"\4\0\0\0\0\7" + b"\0\0\0\3\1\2x", "where a command was due"),
    "a second acceptance": (ACCEPT + ACCEPT, "unexpected PDU of type 2"),
    "an item longer than its PDU": (
        b"\2\0" + struct.pack(">L", 72) + b"\0\1\0\0" + b" " * 64 + b"\x21\0\0\x20",
        "wrong length",
    ),
}


@pytest.mark.parametrize(("answer", "reason"), BROKEN.values(), ids=BROKEN)
def test_peers_that_break_the_rules(answer: bytes, reason: str) -> None:
    def peer(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(answer)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass

    with talking_to(peer) as sock, pytest.raises(AssociationLost, match=reason):
        request(sock).receive()


@pytest.mark.parametrize("said", [b"", ACCEPT, ACCEPT + b"\4\0\0\0"], ids=["at once", "once accepted", "inside a PDU"])
def test_silence_ends_the_association(said: bytes) -> None:
    def peer(sock: socket.socket) -> None:
        sock.sendall(said)
        while sock.recv(65536):
            pass

    with talking_to(peer) as sock, pytest.raises(AssociationLost, match=r"silent for 0\.05 s"):
        request(sock, timeout=0.05).receive()


def test_a_peer_that_takes_nothing() -> None:
    stop = threading.Event()

    def peer(sock: socket.socket) -> None:
        sock.sendall(ACCEPT)
        stop.wait(5)

    with talking_to(peer) as sock:
        assoc = request(sock, timeout=0.05)
        with pytest.raises(AssociationLost, match="takes nothing"):
            assoc.send(1, b"command", b"\0" * 50_000_000)
        stop.set()


def test_both_release_at_once() -> None:
    heard = []

    def peer(sock: socket.socket) -> None:
        sock.sendall(ACCEPT + RELEASE_RQ)
        received = b""
        while not received.endswith(RELEASE_RP):
            received += sock.recv(65536)
        sock.sendall(RELEASE_RP)
        heard.extend([received[-20:], sock.recv(1)])

    with talking_to(peer) as sock:
        request(sock).release()
    assert heard == [RELEASE_RQ + RELEASE_RP, b""], "both requests are answered, then we close"


REQUEST = associate_rq(called="PACS", calling="RADLAKE", proposed={1: PROPOSALS[1]})
ABORTED = b"\7\0\0\0\0\4\0\0"
ANSWERS = {  # by PS3.8 Tables 9-21 and 9-26
    "another protocol version": (REQUEST[:6] + b"\0\2" + REQUEST[8:], b"\3\0\0\0\0\4\0\1\2\2"),
    "another application context": (REQUEST.replace(b"10008.3.1.1.1", b"10008.3.1.1.2"), b"\3\0\0\0\0\4\0\1\1\2"),
    "another called AE title": (REQUEST.replace(b"PACS", b"ELSE"), b"\3\0\0\0\0\4\0\1\1\7"),
    "no PDU": (b"GET / HTTP/1.1\r\n\r\n", ABORTED + b"\2\1"),
    "a message first": (p_data(1, 3, b"x"), ABORTED + b"\2\2"),
    "a request too short": (b"\1\0\0\0\0\2\0\1", ABORTED + b"\2\6"),
    "an item too long": (REQUEST[:76] + b"\xff\xff" + REQUEST[78:], ABORTED + b"\2\6"),
}


@pytest.mark.parametrize(("said", "answer"), ANSWERS.values(), ids=ANSWERS)
def test_what_is_wrong_is_answered_with_its_reason(said: bytes, answer: bytes) -> None:
    heard = []

    def peer(sock: socket.socket) -> None:
        sock.sendall(said + b"and more that nobody reads")
        heard.append(sock.recv(100))

    with talking_to(peer) as sock, pytest.raises(AssociationLost):
        accept(sock)
    assert heard == [answer]


def test_a_data_set_takes_no_more_memory_in_one_huge_pdu() -> None:
    size = 32 << 20
    message = p_data(1, 3, b"command") + p_data(1, 2, bytes(size))

    def peer(sock: socket.socket) -> None:
        sock.sendall(ACCEPT + message)
        sock.recv(65536)

    with talking_to(peer) as sock:
        assoc = request(sock)
        assert assoc.receive() == (1, b"command")
        tracemalloc.start()
        assert sum(len(piece) for pieces in assoc.data_set() for piece in pieces) == size
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()
        assoc.abort()


@settings(max_examples=30)
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=40))
def test_the_network_may_cut_anywhere(sizes: list[int]) -> None:
    message = b""
    for flag, content in ((1, b"comm"), (3, b"and"), (0, b"data" * 50), (2, b"end")):
        pdv = struct.pack(">LBB", len(content) + 2, 1, flag) + content
        message += b"\4\0" + struct.pack(">L", len(pdv)) + pdv

    def peer(sock: socket.socket) -> None:
        stream = ACCEPT + message + message
        for size in sizes:
            sock.sendall(stream[:size])
            stream = stream[size:]
        sock.sendall(stream)
        while sock.recv(65536):
            pass

    with talking_to(peer) as sock:
        assoc = request(sock)
        for _ in range(2):
            assert assoc.receive() == (1, b"command")
            assert assoc.whole_data_set() == b"data" * 50 + b"end"


def test_no_piece_is_overwritten_while_it_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_BUFFER", 1024)
    monkeypatch.setattr(connection, "_LITTLE", 256)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = Connection(ours, timeout=5, farewell=b"")
        theirs.sendall(b"a" * 760)
        held = [line.some(760)]
        theirs.sendall(b"h" * 12)
        assert bytes(line.take(6)) + bytes(line.take(6)) == b"h" * 12
        assert line.is_full, "and all of it is taken"
        theirs.sendall(b"b" * 900)
        held.append(line.some(700))
        assert b"".join(held) == b"a" * 760 + b"b" * 700
        line.let_go()
        theirs.sendall(b"c" * 100)
        assert bytes(line.take(200)) + bytes(line.some(100)) == b"b" * 200 + b"c" * 100


@settings(max_examples=60)
@given(
    lengths=st.lists(st.sampled_from([0, 1, 50, 244, 500, 1000]) | st.integers(0, 1500), min_size=1, max_size=30),
    cuts=st.lists(st.integers(1, 1100), min_size=1, max_size=60),
)
def test_data_sets_wind_through_a_small_buffer(lengths: list[int], cuts: list[int]) -> None:
    contents = [bytes((n * 7 + k) % 256 for k in range(length)) for n, length in enumerate(lengths)]
    message = p_data(1, 3, b"command")
    for n, content in enumerate(contents):
        message += p_data(1, 2 if n == len(contents) - 1 else 0, content)

    def peer(sock: socket.socket) -> None:
        stream = ACCEPT + message + message
        for cut in cuts:
            sock.sendall(stream[:cut])
            stream = stream[cut:]
        sock.sendall(stream)
        while sock.recv(65536):
            pass

    with (
        mock.patch.object(connection, "_BUFFER", 1024),
        mock.patch.object(connection, "_LITTLE", 256),
        talking_to(peer) as sock,
    ):
        assoc = request(sock)
        for _ in range(2):
            assert assoc.receive() == (1, b"command")
            assert assoc.whole_data_set() == b"".join(contents)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([0x10, 0x20, 0x21, 0x30, 0x40, 0x50, 0x51, 0x54]), st.binary(max_size=12))))
def test_whatever_is_negotiated_is_an_association_or_lost(items: list[tuple[int, bytes]]) -> None:
    body = b"".join(struct.pack(">BxH", kind, len(value)) + value for kind, value in items)
    header = b"\0\1\0\0" + b"PACS".ljust(16) + b" " * 48

    def peer(sock: socket.socket) -> None:
        with suppress(AssociationLost):
            accept(sock)  # the same items as a request
        sock.close()

    with talking_to(peer) as sock:
        sock.sendall(b"\1\0" + struct.pack(">L", 68 + len(body)) + header + body)

    def answering(sock: socket.socket) -> None:
        sock.sendall(b"\2\0" + struct.pack(">L", 68 + len(body)) + header + body)

    with talking_to(answering) as sock, suppress(AssociationLost):
        assert set(request(sock).contexts) <= {1, 3, 5}


def test_several_fragments_in_one_pdu() -> None:
    body = b"".join(struct.pack(">LBB", 3, 1, flag) + b"x" for flag in (1, 3, 0, 2))

    def peer(sock: socket.socket) -> None:
        sock.sendall(ACCEPT + b"\4\0" + struct.pack(">L", len(body)) + body)
        while sock.recv(65536):
            pass

    with talking_to(peer) as sock:
        assoc = request(sock)
        assert assoc.is_readable(seconds=5)
        assert assoc.receive() == (1, b"xx")
        assert assoc.is_readable(seconds=0)
        assert assoc.whole_data_set() == b"xx"
        assert not assoc.is_readable(seconds=0)


def test_nobody_listens() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        open_socket("127.0.0.1", port, seconds=5, tls=None)
