"""A node that speaks DIMSE: C-ECHO, C-FIND, C-GET and C-MOVE (PS3.4 Annex C), as their user.

One association per call. A status is read, never believed: what counts is what lies in the folder. The words of the
protocol are in `message`, their way in `upper_layer`, what arrives in `delivery` and `storage_scp`.
"""

from __future__ import annotations

import ipaddress
import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import tenacity

from radlake.dicom.uids import IMPLICIT_VR_LITTLE_ENDIAN
from radlake.errors import (
    AssociationRejected,
    ConfigInvalid,
    NodeUnavailable,
    PortBusy,
    QueryFailed,
    TransientError,
)
from radlake.net.client import StudyFound, Window
from radlake.net.connection import AssociationLost, open_socket
from radlake.net.contexts import VERIFICATION, plan_contexts
from radlake.net.delivery import Delivery
from radlake.net.inventory import Inventory, Keys, int_from_text, plan_requests, studies_within, study_from_answer
from radlake.net.listing import AnyDate, CutLists, Span
from radlake.net.message import (
    PENDING,
    SUB_OPERATIONS_FAILED,
    SUCCESS,
    Command,
    Field,
    MessageBroken,
    decode_command,
    decode_identifier,
    encode_command,
    encode_identifier,
    encode_response,
    has_data_set,
    status_text,
)
from radlake.net.node import DimseNode
from radlake.net.pdu import Proposal
from radlake.net.reach import client_context, server_context, why_unreachable
from radlake.net.signals import OUT_OF_RESOURCES, Signal, SignalKind
from radlake.net.storage_scp import receiving
from radlake.net.study_client import ATTEMPTS, StudyClient
from radlake.net.upper_layer import Association, AssociationRefused, AssociationReleased

__all__ = ["DimseClient"]

_MODELS = {  # PS3.4 C.6.1.3, C.6.2.3
    "study": {Field.C_FIND_RQ: "2.1", Field.C_MOVE_RQ: "2.2", Field.C_GET_RQ: "2.3"},
    "patient": {Field.C_FIND_RQ: "1.1", Field.C_MOVE_RQ: "1.2", Field.C_GET_RQ: "1.3"},
}
_NO_SUCH_LEVEL = (0x0122, 0xA900)  # what an archive says that cannot list instances
_LATE_SECONDS = 5.0  # some archives answer C-MOVE first and send then
_LOW = 2  # priority: clinical work goes first


class DimseClient(StudyClient):
    """See `radlake.net.client.NodeClient`."""

    refusals = frozenset((SUCCESS, *_NO_SUCH_LEVEL))

    def __init__(self, node: DimseNode, *, ae_title: str, scp_port: int | None = 0) -> None:
        super().__init__(node=node.name)
        self._node = node
        self._ae_title = ae_title
        self._scp_port = node.move_port or scp_port or 0
        is_move = node.retrieve == "move" and scp_port is not None
        if is_move and not self._scp_port:
            problem = f"RADLAKE_SCP_PORT: name the port that its administrator entered for {ae_title}, or set move_port"
            raise ConfigInvalid(path=f"node {node.name}", problems=[problem])
        self._client_tls = client_context(node.tls, node=node.name) if node.tls else None
        self._server_tls = server_context(node.tls, node=node.name) if node.tls and is_move else None
        self._lists = CutLists(node=node.name)
        self._places = threading.BoundedSemaphore(node.max_associations)
        self._open: set[Association] = set()
        self._message_ids = itertools.cycle(range(1, 0x10000))

    def echo(self) -> float:
        begin = time.perf_counter()
        with self._association([_implicit(VERIFICATION)], attempts=1) as assoc:
            try:
                self._send(assoc, Field.C_ECHO_RQ, VERIFICATION)
                status = _receive(assoc, Field.C_ECHO_RSP).status
            except _ENDED as exc:
                raise NodeUnavailable(node=self._node.name, reason=str(exc)) from exc
            if status != SUCCESS:
                raise NodeUnavailable(node=self._node.name, reason=status_text(status))
        return time.perf_counter() - begin

    def find_studies(self, window: Window) -> list[StudyFound]:
        with self._association([_implicit(self._model(Field.C_FIND_RQ))]) as assoc:
            answers = self._lists.whole(Span(window), lambda span: self._list_studies(assoc, span))
        return studies_within(window, answers, node=self._node.name)

    @property
    def list_limit(self) -> int | None:
        return self._lists.limit

    def doubtful_windows(self) -> tuple[Window, ...]:
        return self._lists.doubtful()

    def find_any_studies(self, *, at_most: int) -> list[StudyFound]:
        found: list[StudyFound] = []
        with suppress(_Enough), self._association([_implicit(self._model(Field.C_FIND_RQ))]) as assoc:
            found = self._list_studies(assoc, AnyDate(), at_most=at_most)
            if len(found) == at_most:
                raise _Enough  # the association is aborted: the rest is not waited for
        return found

    def _list_studies(
        self, assoc: Association, span: Span | AnyDate, *, at_most: int | None = None
    ) -> list[StudyFound]:
        fields = ("InstanceAvailability", "ModalitiesInStudy", "StudyInstanceUID", "NumberOfStudyRelatedInstances")
        keys = {"StudyTime": "", **span.keys(), **dict.fromkeys(fields, "")}
        answers = itertools.islice(self._find(assoc, "STUDY", keys), at_most)
        return [study_from_answer(answer) for answer in answers]

    def _ask(self, requests: list[Keys], inventory: Inventory, delivery: Delivery) -> None:
        try:
            if self._node.retrieve == "get":
                self._get(requests, inventory, delivery)
            else:
                self._move(requests, delivery)
        except _ENDED as exc:
            delivery.reasons.append(str(exc))

    def _get(self, requests: list[Keys], inventory: Inventory, delivery: Delivery) -> None:
        contexts = plan_contexts(inventory.sop_classes, modalities=inventory.modalities)
        self._get_in(contexts, requests, delivery)
        proposed = {context.abstract_syntax for context in contexts}
        with suppress(TransientError):  # what the first request came to stands
            study_uid = str(requests[0]["StudyInstanceUID"])
            if left_out := self._classes_missing(study_uid, inventory, delivery) - proposed:
                missing = plan_requests(study_uid, inventory=inventory, due=delivery.missing())
                self._get_in(plan_contexts(left_out), missing, delivery)

    def _classes_missing(self, study_uid: str, inventory: Inventory, delivery: Delivery) -> set[str]:
        """SOP classes of what did not come: one that was not proposed cannot come."""
        missing = delivery.missing() & (inventory.instances or frozenset())
        if not missing:
            return set()
        with self._association([_implicit(self._model(Field.C_FIND_RQ))]) as assoc:
            classes: dict[str, str] = {}
            for series_uid in (one for one, uids in (inventory.series or {}).items() if missing.intersection(uids)):
                place = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
                classes |= self._classes(assoc, {**place, "SOPInstanceUID": ""})
        return {classes.get(uid, "") for uid in missing} - {""}

    def _get_in(self, contexts: Sequence[Proposal], requests: list[Keys], delivery: Delivery) -> None:
        model = self._model(Field.C_GET_RQ)
        with self._association([_implicit(model), *contexts]) as assoc:
            assoc.timeout = self._node.timeouts.retrieve
            for request in requests:
                delivery.ask()
                self._send(assoc, Field.C_GET_RQ, model, identifier=request)
                while True:
                    message = _receive(assoc, Field.C_GET_RSP, Field.C_STORE_RQ)
                    if message.command["CommandField"] == Field.C_STORE_RQ:
                        _take(assoc, message, delivery)
                    elif message.status not in PENDING:
                        delivery.count_response(message.command)
                        break

    def _move(self, requests: list[Keys], delivery: Delivery) -> None:
        model = self._model(Field.C_MOVE_RQ)
        with self._association([_implicit(model)]) as assoc:
            assoc.timeout = self._node.timeouts.retrieve
            is_here = ipaddress.ip_address(assoc.peer_host).is_loopback
            try:
                with receiving(
                    str(requests[0]["StudyInstanceUID"]),
                    delivery=delivery,
                    ae_title=self._ae_title,
                    host="127.0.0.1" if is_here else "",
                    port=self._scp_port,
                    timeout=self._node.timeouts.retrieve,
                    tls=self._server_tls,
                ):
                    response = _Message(0, {})
                    for request in requests:
                        delivery.ask()
                        self._send(assoc, Field.C_MOVE_RQ, model, identifier=request)
                        response = self._move_response(assoc, delivery)
                        delivery.count_response(response.command)
                    if response.status in (SUCCESS, SUB_OPERATIONS_FAILED):
                        delivery.wait_until(
                            lambda: delivery.n_missing() <= delivery.n_said_failed, silence=_LATE_SECONDS
                        )
            except PortBusy as exc:
                reason = f"our storage SCP cannot listen on port {self._scp_port}: {exc.facts['reason']}"
                raise NodeUnavailable(node=self._node.name, reason=reason) from exc

    def _move_response(self, assoc: Association, delivery: Delivery) -> _Message:
        """The final response: silence on this association is no silence while instances reach the storage SCP."""
        last = time.monotonic()
        while True:
            while not assoc.is_readable(seconds=1.0):
                if min(time.monotonic() - last, delivery.seconds_silent()) > assoc.timeout:
                    assoc.abort()
                    raise AssociationLost(f"silent for {assoc.timeout:g} s")
            response = _receive(assoc, Field.C_MOVE_RSP)
            if response.status not in PENDING:
                return response
            last = time.monotonic()

    def _find_inventory(self, study_uid: str) -> Inventory:
        """Series first, then the instances of each: not every archive answers for a whole study (PS3.4 C.4.1.2.1)."""
        listed: dict[str, list[str]] = {}
        sop_classes: set[str] = set()
        modalities: set[str] = set()
        is_whole = True
        study = {"StudyInstanceUID": study_uid}
        keys = {**study, "SeriesInstanceUID": "", "Modality": "", "NumberOfSeriesRelatedInstances": ""}
        with self._association([_implicit(self._model(Field.C_FIND_RQ))]) as assoc:
            try:
                for series in list(self._find(assoc, "SERIES", keys)):
                    modalities.add(series.get("Modality", ""))
                    series_uid = series.get("SeriesInstanceUID", "")
                    place = {**study, "SeriesInstanceUID": series_uid}
                    images = list(self._find(assoc, "IMAGE", {**place, "SOPInstanceUID": ""}))
                    uids = [image["SOPInstanceUID"] for image in images if image.get("SOPInstanceUID")]
                    n_said = int_from_text(series.get("NumberOfSeriesRelatedInstances", ""), default=1)
                    # Some archives cut long lists in silence; one that holds a UID twice counts both.
                    is_whole = is_whole and len(uids) > 0 and len(images) >= n_said
                    listed[series_uid] = uids
                    if uids and self._node.retrieve == "get":
                        one = min(uids)
                        sop_classes.add(self._classes(assoc, {**place, "SOPInstanceUID": one}).get(one, ""))
            except QueryFailed as exc:
                if exc.facts.get("status") not in _NO_SUCH_LEVEL:
                    raise
                is_whole = False
        return Inventory(
            listed if is_whole and listed else None,
            frozenset() if "" in sop_classes or not is_whole else frozenset(sop_classes),
            frozenset(modalities),
        )

    def _classes(self, assoc: Association, place: Mapping[str, str]) -> dict[str, str]:
        """SOP class by SOP Instance UID, as far as the node tells it.

        Orthanc reads every file for it, ten times what the list itself costs: so a list is had without, and of each
        series one instance is asked for.
        """
        try:
            images = list(self._find(assoc, "IMAGE", {**place, "SOPClassUID": ""}))
        except QueryFailed as exc:
            if "status" not in exc.facts:
                raise
            return {}
        return {image.get("SOPInstanceUID", ""): image.get("SOPClassUID", "") for image in images}

    def _find(self, assoc: Association, level: str, keys: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """Answers to one C-FIND; those that name another study or series than asked for are left out."""
        model = self._model(Field.C_FIND_RQ)
        fixed = {key: value for key, value in keys.items() if key.endswith("InstanceUID") and value}

        def failed(reason: str, **facts: int) -> QueryFailed:
            return QueryFailed(node=self._node.name, level=level, reason=reason, **facts)

        try:
            begin, is_first = time.monotonic(), True
            self._send(assoc, Field.C_FIND_RQ, model, identifier={"QueryRetrieveLevel": level, **keys})
            while True:
                response = _receive(assoc, Field.C_FIND_RSP)
                if is_first:
                    self.watch(Signal(SignalKind.FIND, time.monotonic() - begin))
                    is_first = False
                if response.status not in PENDING:
                    break
                answer = decode_identifier(response.data)
                if all(answer.get(key) in (None, "", value) for key, value in fixed.items()):
                    yield answer
        except _ENDED as exc:
            raise failed(str(exc)) from exc
        if response.status in OUT_OF_RESOURCES:
            self.watch(Signal(SignalKind.REFUSED))
        if response.status != SUCCESS:
            raise failed(status_text(response.status), status=response.status)

    def _send(self, assoc: Association, verb: Field, sop_class_uid: str, *, identifier: Keys | None = None) -> None:
        context_id = assoc.context_for(sop_class_uid)
        if context_id is None:
            service = verb.name.removesuffix("_RQ").replace("_", "-")
            reason = f"it offers us no {service} ({sop_class_uid})"
            raise AssociationRejected(node=self._node.name, result="no presentation context", reason=reason)
        command: Command = {
            "AffectedSOPClassUID": sop_class_uid,
            "CommandField": verb,
            "MessageID": next(self._message_ids),
        }
        if verb != Field.C_ECHO_RQ:
            command["Priority"] = _LOW
        if verb == Field.C_MOVE_RQ:
            command["MoveDestination"] = self._ae_title
        data = encode_identifier(identifier) if identifier else b""
        assoc.send(context_id, encode_command(command, with_data_set=bool(data)), data)

    def _model(self, verb: Field) -> str:
        return f"1.2.840.10008.5.1.4.1.2.{_MODELS[self._node.query_model][verb]}"

    @contextmanager
    def _association(self, proposals: Sequence[Proposal], *, attempts: int = ATTEMPTS) -> Iterator[Association]:
        """An association that is released at the end, or aborted when the block fails."""
        connect = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(attempts),
            wait=tenacity.wait_exponential_jitter(multiplier=0.2, max=2, jitter=0.2),
            retry=tenacity.retry_if_exception(_may_pass),
            reraise=True,
        )
        with self._places:
            assoc = connect(self._connect, proposals)
            self._open.add(assoc)
            try:
                yield assoc
            except BaseException:
                assoc.abort()
                raise
            finally:
                self._open.discard(assoc)
            assoc.release()

    def _cut(self) -> None:
        for assoc in tuple(self._open):
            assoc.cut()

    def _connect(self, proposals: Sequence[Proposal]) -> Association:
        node = self._node
        if self._is_hung_up:
            raise AssociationRejected(node=node.name, result="hung up", reason="we are about to end")
        try:
            sock = open_socket(node.host, node.port, seconds=node.timeouts.connect, tls=self._client_tls)
        except OSError as exc:
            raise NodeUnavailable(node=node.name, reason=why_unreachable(exc)) from exc
        try:
            return Association.request(
                sock,
                calling=self._ae_title,
                called=node.ae_title,
                proposals=proposals,
                timeout=node.timeouts.query,
            )
        except AssociationRefused as exc:
            if exc.is_transient:
                self.watch(Signal(SignalKind.REFUSED))
            result = "rejected-transient" if exc.is_transient else "rejected-permanent"
            raise AssociationRejected(node=node.name, result=result, reason=str(exc)) from exc
        except AssociationLost as exc:
            raise NodeUnavailable(node=node.name, reason=f"no association: {exc}") from exc


class _Enough(Exception):
    """What is still to come is not wanted."""


@dataclass(frozen=True)
class _Message:
    context_id: int
    command: Command
    data: bytes = b""

    @property
    def status(self) -> int:
        return int(self.command.get("Status", -1))


_ENDED = (AssociationLost, AssociationReleased, MessageBroken)


def _receive(assoc: Association, *fields: Field) -> _Message:
    """The next message, of one of these kinds, with its data set; that of a C-STORE request is left on the wire."""
    context_id, raw = assoc.receive()
    command = decode_command(raw)
    if command["CommandField"] not in fields:
        raise AssociationLost(f"an unexpected message with command field 0x{command['CommandField']:04X}")
    if command["CommandField"] == Field.C_STORE_RQ:
        return _Message(context_id, command)
    return _Message(context_id, command, assoc.whole_data_set() if has_data_set(command) else b"")


def _take(assoc: Association, message: _Message, delivery: Delivery) -> None:
    """Answer one C-STORE request on our own association."""
    context = assoc.contexts.get(message.context_id)
    if context is None or not has_data_set(message.command):
        raise AssociationLost("an instance came without a data set, or in a context that was not agreed")
    delivery.begin()
    status = delivery.store(message.command, assoc.data_set(), transfer_syntax=context.transfer_syntax)
    if delivery.store_full:
        raise delivery.store_full  # the rest would be refused as well
    response = encode_response(message.command, field=Field.C_STORE_RSP, status=status)
    assoc.send(message.context_id, response)


def _implicit(abstract_syntax: str) -> Proposal:
    return Proposal(abstract_syntax, (IMPLICIT_VR_LITTLE_ENDIAN,))


def _may_pass(exc: BaseException) -> bool:
    return isinstance(exc, NodeUnavailable) or (
        isinstance(exc, AssociationRejected) and exc.facts["result"] == "rejected-transient"
    )
