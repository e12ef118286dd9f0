"""A PACS over DIMSE: C-ECHO, C-FIND, C-GET and C-MOVE of an archive (PS3.4 Annexes A and C).

It is the other end for tests and for the demo, so it is pynetdicom and none of our own protocol code. Instances go
out as the bytes of their files wherever the peer accepts their transfer syntax. Nothing is logged.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, cast

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import split_dataset

from radlake.synth.holdings import LEVELS, Held, Holdings, dataset_from
from radlake.synth.quirks import Quirks

__all__ = ["DimsePacs"]

_VERIFICATION = "1.2.840.10008.1.1"
# Find, move and get of the Patient Root and the Study Root information model (PS3.4 C.6).
_QUERY_RETRIEVE = [f"1.2.840.10008.5.1.4.1.2.{model}.{service}" for model in (1, 2) for service in (1, 2, 3)]
_PENDING, _CANCEL, _BAD_IDENTIFIER, _CANNOT_SEND = 0xFF00, 0xFE00, 0xA900, 0xC001


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
        holdings: Holdings,
        *,
        ae_title: str,
        host: str,
        port: int,
        destinations: Mapping[str, tuple[str, int]],
        quirks: Quirks,
    ) -> None:
        self._holdings = holdings
        self._ae_title = ae_title
        self._destinations = destinations
        self._quirks = quirks
        self._sender = _Sender(holdings, quirks=quirks)
        _config.LOG_HANDLER_LEVEL = "none"
        ae = _Entity(ae_title, sender=self._sender)
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
                (evt.EVT_C_FIND, self._on_find),
                (evt.EVT_C_GET, self._on_get),
                (evt.EVT_C_MOVE, self._on_move),
            ],
        )
        assert server is not None
        self.port = int(server.server_address[1])

    def _on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        query = _query_from(event.identifier)
        level = query.pop("QueryRetrieveLevel", "")
        if level not in LEVELS:
            yield _BAD_IDENTIFIER, None
            return
        for number, answer in enumerate(self._holdings.find(level, query)):
            if event.is_cancelled:
                yield _CANCEL, None
                return
            if self._quirks.result_cap and number == self._quirks.result_cap:
                return
            known = {key: answer[key] for key in query if key in answer}
            if self._quirks.omit_counts:
                known = {key: value for key, value in known.items() if not key.startswith("NumberOf")}
            ds = dataset_from(known)
            ds.SpecificCharacterSet = self._quirks.answer_charset
            ds.QueryRetrieveLevel = level
            ds.RetrieveAETitle = self._ae_title
            yield _PENDING, ds

    def _on_get(self, event: evt.Event) -> Iterator[Any]:
        self._sender.serve(event.assoc)
        yield from self._sub_operations(event, self._holdings.instances(_query_from(event.identifier)))

    def _on_move(self, event: evt.Event) -> Iterator[Any]:
        destination = self._destinations.get(cast(str, event.move_destination))
        if destination is None:
            yield None, None
            return
        instances = self._holdings.instances(_query_from(event.identifier))
        syntaxes = {(held.sop_class_uid, held.transfer_syntax_uid) for held in instances}
        syntaxes |= {(sop_class_uid, ImplicitVRLittleEndian) for sop_class_uid, _ in syntaxes}
        contexts = [build_context(sop_class_uid, syntax) for sop_class_uid, syntax in sorted(syntaxes)]
        yield *destination, {"contexts": contexts}
        yield from self._sub_operations(event, instances)

    def _sub_operations(self, event: evt.Event, instances: list[Held]) -> Iterator[Any]:
        """The number of sub-operations, then a pointer to each instance, which `_Sender` follows."""
        yield len(instances)
        for held in instances:
            if event.is_cancelled:
                yield _CANCEL, None
                return
            pointer = Dataset()
            pointer.SOPInstanceUID = held.sop_instance_uid
            yield _PENDING, pointer


class _Sender:
    """C-STORE of stored bytes, in the place of `Association.send_c_store`, which decodes and encodes again."""

    def __init__(self, holdings: Holdings, *, quirks: Quirks) -> None:
        self._by_uid = holdings.by_uid
        self._quirks = quirks
        self._lock = threading.Lock()
        self._n_sent = 0

    @property
    def transfer_syntaxes(self) -> dict[str, list[str]]:
        """Transfer syntaxes to accept for each SOP class held, what is stored most first."""
        counts = Counter((held.sop_class_uid, held.transfer_syntax_uid) for held in self._by_uid.values())
        syntaxes: dict[str, list[str]] = {}
        for (sop_class_uid, syntax), _ in counts.most_common():
            syntaxes.setdefault(sop_class_uid, []).append(syntax)
        for accepted in syntaxes.values():
            accepted += [uid for uid in (ExplicitVRLittleEndian, ImplicitVRLittleEndian) if uid not in accepted]
        return syntaxes

    def serve(self, assoc: Association) -> None:
        """From now on this association sends what pointers name."""

        def send_c_store(pointer: Dataset, **options: Any) -> Dataset:
            return self._send(assoc, self._by_uid[pointer.SOPInstanceUID], **options)

        assoc.send_c_store = send_c_store  # pyright: ignore[reportAttributeAccessIssue]

    def _send(self, assoc: Association, held: Held, **options: Any) -> Dataset:
        if held.sop_instance_uid in self._quirks.fail_instances:
            status = Dataset()
            status.Status = _CANNOT_SEND
            return status
        with self._lock:
            self._n_sent += 1
            is_cut = self._n_sent == self._quirks.drop_after_n + 1 > 1
        if is_cut:
            assoc.abort()
            raise ConnectionAbortedError
        for context in assoc.accepted_contexts:
            syntaxes = context.abstract_syntax, context.transfer_syntax[0]
            if context.as_scu and syntaxes == (held.sop_class_uid, held.transfer_syntax_uid):
                return _store(assoc, held, context_id=cast(int, context.context_id), **options)
        # No context for the stored transfer syntax: pynetdicom converts between uncompressed ones, or refuses.
        return Association.send_c_store(assoc, held.path, **options)


def _store(
    assoc: Association,
    held: Held,
    *,
    context_id: int,
    msg_id: int,
    originator_aet: str | None = None,
    originator_id: int | None = None,
) -> Dataset:
    _, offset = split_dataset(held.path)
    request = C_STORE()
    request.MessageID = msg_id
    request.Priority = 2
    request.AffectedSOPClassUID = UID(held.sop_class_uid)
    request.AffectedSOPInstanceUID = UID(held.sop_instance_uid)
    request.MoveOriginatorApplicationEntityTitle = originator_aet
    request.MoveOriginatorMessageID = originator_id
    request.DataSet = BytesIO(held.path.read_bytes()[offset:])
    if assoc.dul.state_machine.current_state != "Sta6":
        raise ConnectionAbortedError
    assoc.dimse.send_msg(request, context_id)
    _, response = assoc.dimse.get_msg(block=True)
    status = Dataset()
    status.Status = cast(C_STORE, response).Status if response else _CANNOT_SEND
    return status


class _Entity(AE):
    """An application entity whose own associations, those of C-MOVE, send stored bytes too."""

    def __init__(self, ae_title: str, *, sender: _Sender) -> None:
        super().__init__(ae_title)
        self._sender = sender
        self.connection_timeout = 10

    def associate(self, *arguments: Any, **options: Any) -> Association:
        assoc = super().associate(*arguments, evt_handlers=[(evt.EVT_CONN_OPEN, _set_nodelay)], **options)
        if assoc.is_established:
            _hold_reactor(assoc)
            self._sender.serve(assoc)
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
