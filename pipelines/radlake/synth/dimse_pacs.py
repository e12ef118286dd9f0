"""A PACS over DIMSE: C-ECHO, C-FIND, C-GET and C-MOVE of an archive (PS3.4 Annexes A and C).

It is the other end for tests and for the demo, so it is pynetdicom and none of our own protocol code. Instances go
out as the bytes that are held wherever the peer accepts their transfer syntax. Nothing is logged.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import Any, cast

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from radlake.synth.behaviour import Behaviour, Offline, TooBroad
from radlake.synth.holdings import LEVELS, Held, dataset_from

__all__ = ["DimsePacs"]

_CHARSET = 0x00080005
_VERIFICATION = "1.2.840.10008.1.1"
# Find, move and get of the Patient Root and the Study Root information model (PS3.4 C.6).
_QUERY_RETRIEVE = [f"1.2.840.10008.5.1.4.1.2.{model}.{service}" for model in (1, 2) for service in (1, 2, 3)]
_SUCCESS, _PENDING, _CANCEL, _BAD_IDENTIFIER, _CANNOT_SEND = 0x0000, 0xFF00, 0xFE00, 0xA900, 0xC001
_OUT_OF_RESOURCES, _OFFLINE = 0xA700, 0xA702
_REJECTED_TRANSIENT, _PRESENTATION_PROVIDER, _CONGESTION = 2, 3, 1  # PS3.8 9.3.4
_LATE_SECONDS = 0.3


class DimsePacs:
    """A running PACS.

    Parameters
    ----------
    ae_title : str
        Its own title; associations that call another one are rejected.
    destinations : mapping of str to (str, int)
        Host and port of each AE title that a C-MOVE may name.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        *,
        ae_title: str,
        host: str,
        port: int,
        destinations: Mapping[str, tuple[str, int]],
    ) -> None:
        self._behaviour = behaviour
        self._ae_title = ae_title
        self._destinations = destinations
        self._quirks = behaviour.quirks
        self._sender = _Sender(behaviour)
        _config.LOG_HANDLER_LEVEL = "none"
        self._ae = ae = _Entity(ae_title, sender=self._sender)
        ae.require_called_aet = True
        ae.maximum_associations = 16
        ae.maximum_pdu_size = 131_072
        for uid in (_VERIFICATION, *_QUERY_RETRIEVE):
            ae.add_supported_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        for sop_class_uid, transfer_syntaxes in self._sender.transfer_syntaxes.items():
            ae.add_supported_context(sop_class_uid, transfer_syntaxes, scu_role=False, scp_role=True)
        server = ae.start_server(
            (host, port),
            block=False,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, _set_nodelay),
                (evt.EVT_REQUESTED, self._on_requested),
                (evt.EVT_C_FIND, self._on_find),
                (evt.EVT_C_GET, self._on_get),
                (evt.EVT_C_MOVE, self._on_move),
            ],
        )
        assert server is not None
        server.service_actions = lambda: None  # it collects the garbage of the whole process every 30 s
        self._server = server
        self.port = int(server.server_address[1])

    def stop(self) -> None:
        """End its associations and close its port."""
        self._server.shutdown()
        self._ae.shutdown()

    def _on_requested(self, event: evt.Event) -> None:
        if self._behaviour.refuses():
            event.assoc.acse.send_reject(_REJECTED_TRANSIENT, _PRESENTATION_PROVIDER, _CONGESTION)
            event.assoc.kill()

    def _on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        query = _query_from(event.identifier)
        level = query.pop("QueryRetrieveLevel", "")
        if level not in LEVELS:
            yield _BAD_IDENTIFIER, None
            return
        answers = self._behaviour.find(level, query)
        try:
            for number, answer in enumerate(answers):
                if event.is_cancelled:
                    yield _CANCEL, None
                    return
                if self._quirks.result_cap and number == self._quirks.result_cap:
                    return
                yield _PENDING, self._answer(level, {key: answer[key] for key in query if key in answer})
        except TooBroad:
            yield _OUT_OF_RESOURCES, None

    def _answer(self, level: str, known: dict[str, str]) -> Dataset:
        ds = dataset_from(known)
        ds.SpecificCharacterSet = self._quirks.answer_charset
        ds.QueryRetrieveLevel = level
        ds.RetrieveAETitle = self._ae_title
        if not self._quirks.is_charset_mislabelled:
            return ds
        ds.SpecificCharacterSet = "GB18030"
        ds = dcmread(BytesIO(_encoded(ds)), force=True)  # its texts are bytes now, which a label does not change
        ds[_CHARSET] = RawDataElement(BaseTag(_CHARSET), "CS", 10, b"ISO_IR 100", 0, True, True)
        return ds

    def _on_get(self, event: evt.Event) -> Iterator[Any]:
        self._sender.serve(event.assoc)
        try:
            instances = self._behaviour.sends(_query_from(event.identifier))
        except Offline:
            yield 1
            yield _OFFLINE, None
            return
        yield from self._sub_operations(event, instances)

    def _on_move(self, event: evt.Event) -> Iterator[Any]:
        called = cast(str, event.move_destination)
        destination = self._destinations.get(called)
        if destination is None:
            yield None, None
            return
        try:
            instances, is_offline = self._behaviour.sends(_query_from(event.identifier)), False
        except Offline:
            instances, is_offline = [], True
        syntaxes = {(held.sop_class_uid, held.transfer_syntax_uid) for held in instances}
        syntaxes |= {(sop_class_uid, ImplicitVRLittleEndian) for sop_class_uid, _ in syntaxes}
        syntaxes = syntaxes or {(_VERIFICATION, ImplicitVRLittleEndian)}
        contexts = [build_context(sop_class_uid, syntax) for sop_class_uid, syntax in sorted(syntaxes)]
        yield *destination, {"contexts": contexts}
        if is_offline:
            yield 1
            yield _OFFLINE, None
        elif self._quirks.answer_first and instances:
            threading.Thread(target=self._send_late, args=(called, contexts, instances), daemon=True).start()
            yield 0
        else:
            yield from self._sub_operations(event, instances)

    def _send_late(self, called: str, contexts: list[Any], instances: list[Held]) -> None:
        """After the answer to a C-MOVE, as archives do that put it into a queue."""
        time.sleep(_LATE_SECONDS)
        assoc = self._ae.associate(*self._destinations[called], contexts=contexts, ae_title=called)
        for number, held in enumerate(instances, start=1):
            if assoc.is_established:
                assoc.send_c_store(_pointer(held), msg_id=number)
        assoc.release()

    def _sub_operations(self, event: evt.Event, instances: list[Held]) -> Iterator[Any]:
        """The number of sub-operations, then a pointer to each instance, which `_Sender` follows."""
        yield len(instances)
        for held in instances:
            if event.is_cancelled:
                yield _CANCEL, None
                return
            yield _PENDING, _pointer(held)


class _Pointer(Dataset):
    """What pynetdicom is told to send; `_Sender` sends the bytes of `held` instead."""

    held: Held


def _pointer(held: Held) -> Dataset:
    pointer = _Pointer()
    pointer.SOPInstanceUID = held.sop_instance_uid
    object.__setattr__(pointer, "held", held)
    return pointer


def _encoded(ds: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    return buffer.getvalue()


class _Sender:
    """C-STORE of stored bytes, in the place of `Association.send_c_store`, which decodes and encodes again."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self.opens_many = behaviour.quirks.association_per_image

    @property
    def transfer_syntaxes(self) -> dict[str, list[str]]:
        """Transfer syntaxes to accept for each SOP class held, what is stored most first."""
        counts = Counter(
            (held.sop_class_uid, held.transfer_syntax_uid) for held in self._behaviour.holdings.by_uid.values()
        )
        syntaxes: dict[str, list[str]] = {}
        for (sop_class_uid, syntax), _ in counts.most_common():
            syntaxes.setdefault(sop_class_uid, []).append(syntax)
        for accepted in syntaxes.values():
            accepted += [uid for uid in (ExplicitVRLittleEndian, ImplicitVRLittleEndian) if uid not in accepted]
        return syntaxes

    def serve(self, assoc: Association, *, again: Callable[[], Association] | None = None) -> None:
        """From now on this association sends what pointers name; or, with `again`, one of its own for each."""

        def send_c_store(pointer: _Pointer, **options: Any) -> Dataset:
            if again is None:
                return self._send(assoc, pointer.held, **options)
            other = again()
            try:
                return self._send(other, pointer.held, **options)
            finally:
                other.release()

        assoc.send_c_store = send_c_store  # pyright: ignore[reportAttributeAccessIssue]

    def _send(self, assoc: Association, held: Held, **options: Any) -> Dataset:
        if self._behaviour.cannot_send(held):
            status = Dataset()
            status.Status = _SUCCESS if self._behaviour.quirks.hide_failures else _CANNOT_SEND
            return status
        if self._behaviour.is_cut():
            assoc.abort()
            raise ConnectionAbortedError
        for context in assoc.accepted_contexts:
            syntaxes = context.abstract_syntax, context.transfer_syntax[0]
            if context.as_scu and syntaxes == (held.sop_class_uid, held.transfer_syntax_uid):
                return _store(assoc, held, context_id=cast(int, context.context_id), **options)
        # No context for the stored transfer syntax: pynetdicom converts between uncompressed ones, or refuses.
        return Association.send_c_store(assoc, dcmread(BytesIO(held.content())), **options)


def _store(
    assoc: Association,
    held: Held,
    *,
    context_id: int,
    msg_id: int,
    originator_aet: str | None = None,
    originator_id: int | None = None,
) -> Dataset:
    content = held.content()
    request = C_STORE()
    request.MessageID = msg_id
    request.Priority = 2
    request.AffectedSOPClassUID = UID(held.sop_class_uid)
    request.AffectedSOPInstanceUID = UID(held.sop_instance_uid)
    request.MoveOriginatorApplicationEntityTitle = originator_aet
    request.MoveOriginatorMessageID = originator_id
    request.DataSet = BytesIO(content[_data_set_at(content) :])
    if assoc.dul.state_machine.current_state != "Sta6":
        raise ConnectionAbortedError
    assoc.dimse.send_msg(request, context_id)
    _, response = assoc.dimse.get_msg(block=True)
    status = Dataset()
    status.Status = cast(C_STORE, response).Status if response else _CANNOT_SEND
    return status


def _data_set_at(content: bytes) -> int:
    """Where the data set of a Part-10 file begins: after the group length of its meta information (PS3.10 7.1)."""
    return 144 + int.from_bytes(content[140:144], "little")


class _Entity(AE):
    """An application entity whose own associations, those of C-MOVE, send stored bytes too."""

    def __init__(self, ae_title: str, *, sender: _Sender) -> None:
        super().__init__(ae_title)
        self._sender = sender
        self.connection_timeout = 10

    def associate(self, *arguments: Any, **options: Any) -> Association:
        def open_one() -> Association:
            assoc = super(_Entity, self).associate(
                *arguments, **options, evt_handlers=[(evt.EVT_CONN_OPEN, _set_nodelay)]
            )
            if assoc.is_established:
                _hold_reactor(assoc)
            return assoc

        assoc = open_one()
        if assoc.is_established:
            self._sender.serve(assoc, again=open_one if self._sender.opens_many else None)
        return assoc


def _hold_reactor(assoc: Association) -> None:
    """Keep the reactor of a requestor from reading responses that `_store` waits for.

    In pynetdicom 3.0.4 a reactor that is just waking may take a response off the queue although it was told to pause
    (0.5 % of stores without Nagle's delay); after two of its rounds it certainly rests. Release wakes it again.
    """
    assoc._reactor_checkpoint.clear()
    time.sleep(0.01)
    while not assoc._is_paused:
        time.sleep(0.001)


def _set_nodelay(event: evt.Event) -> None:
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _query_from(identifier: Dataset) -> dict[str, str]:
    """Keys of a query as text; an unknown key is no key."""
    query = {}
    for element in identifier:
        if element.keyword and element.keyword != "SpecificCharacterSet" and element.VR != "SQ":
            values = element.value if element.VM > 1 else [element.value]
            query[element.keyword] = "\\".join("" if value is None else str(value) for value in values)
    return query
