"""A PACS that misbehaves to order, made with pynetdicom: answers are given by the test, requests are kept for it.

def get(event): yield 0                        # success, and nothing is sent
with odd_pacs(get=get) as pacs:
    connect(pacs.node(), ae_title="RADLAKE").retrieve("1.2.3", into=tmp_path)
    pacs.asked                                 # [("C_GET", <identifier>)]
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from socketserver import BaseServer
from typing import Any

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    MRImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)
from pynetdicom.transport import ThreadedAssociationServer

from radlake.net.node import DimseNode

__all__ = ["OddPacs", "odd_pacs", "rows"]

Handler = Callable[[Any], Any]


@dataclass
class OddPacs:
    port: int
    asked: list[tuple[str, Dataset]] = field(default_factory=list)
    n_associations: int = 0

    def node(self, **settings: Any) -> DimseNode:
        known = {"name": "odd", "ae_title": "ODD", "host": "127.0.0.1", "port": self.port}
        return DimseNode.model_validate({**known, **settings})

    def levels(self, verb: str) -> list[str]:
        """Levels of the requests of one kind, in order."""
        return [identifier.QueryRetrieveLevel for name, identifier in self.asked if name == verb]


def rows(*answers: Dataset | dict[str, Any]) -> list[Dataset]:
    """Answers of a C-FIND from keywords and values."""
    return [answer if isinstance(answer, Dataset) else _data_set(answer) for answer in answers]


def _data_set(values: dict[str, Any]) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


@contextmanager
def odd_pacs(
    *,
    find: Callable[[Dataset], Iterable[Dataset]] | Handler | None = None,
    get: Handler | None = None,
    move: Handler | None = None,
    on_requested: Handler | None = None,
) -> Iterator[OddPacs]:
    """Listen on 127.0.0.1 until the block ends.

    Parameters
    ----------
    find : callable
        Given the identifier: the answers, or a status that ends them; given as generator of statuses and answers.
    get, move : callable
        pynetdicom handlers of C-GET and C-MOVE.
    on_requested : callable
        pynetdicom handler of an association request, for example to reject it.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    ae = AE(ae_title="ODD")
    ae.require_called_aet = True
    ae.maximum_associations = 20
    ae.add_supported_context(Verification)
    for model, handler in (
        (StudyRootQueryRetrieveInformationModelFind, find),
        (StudyRootQueryRetrieveInformationModelGet, get),
        (StudyRootQueryRetrieveInformationModelMove, move),
    ):
        if handler:
            ae.add_supported_context(model)
    for storage in (CTImageStorage, MRImageStorage):
        ae.add_supported_context(
            storage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian], scu_role=True, scp_role=True
        )
        ae.add_requested_context(storage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    pacs = OddPacs(0)
    lock = threading.Lock()

    def requested(event: Any) -> None:
        with lock:
            pacs.n_associations += 1
        if on_requested:
            on_requested(event)

    def asked(name: str, handler: Handler) -> Handler:
        def handle(event: Any) -> Iterator[Any]:
            pacs.asked.append((name, event.identifier))
            yield from handler(event)

        return handle

    def found(event: Any) -> Iterator[Any]:
        for answer in find(event.identifier) if find else ():
            yield answer if isinstance(answer, (int, tuple)) else (0xFF00, answer)
        yield 0x0000, None

    handlers = [(evt.EVT_REQUESTED, requested), (evt.EVT_C_FIND, asked("C_FIND", found))]
    if get:
        handlers.append((evt.EVT_C_GET, asked("C_GET", get)))
    if move:
        handlers.append((evt.EVT_C_MOVE, asked("C_MOVE", move)))
    server = ae.make_server(("127.0.0.1", 0), evt_handlers=handlers, server_class=ThreadedAssociationServer)
    pacs.port = server.server_address[1]
    listening = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    listening.start()
    try:
        yield pacs
    finally:
        BaseServer.shutdown(server)
        server.server_close()
        listening.join()
        ae.shutdown()
