"""A node that speaks DICOMweb: QIDO-RS and WADO-RS (PS3.18 chapter 10), as their user.

Answers flow to disk part by part. Redirects are not followed and the environment's proxies are not asked: the
address under review is the only one that gets our credentials.
"""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import quote

import httpx

from radlake.config import resolve_secret
from radlake.errors import NodeUnavailable, QueryFailed, RetrieveFailed, SlowDown, TransientError
from radlake.net.client import StudyFound, Window
from radlake.net.delivery import Delivery
from radlake.net.instance_files import is_file_name
from radlake.net.inventory import Inventory, Keys, studies_within, study_from_text
from radlake.net.listing import AnyDate, CutLists, Span
from radlake.net.multipart import MultipartBroken, boundary_of, parts
from radlake.net.node import Tls, WebNode
from radlake.net.reach import client_context, why_unreachable
from radlake.net.signals import Signal, SignalKind
from radlake.net.study_client import ATTEMPTS, StudyClient

__all__ = ["WebClient"]

_JSON = "application/dicom+json"
_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_PAGE = 500
_NO_SUCH_SEARCH = (400, 404, 405, 501)  # what an origin server says that cannot list instances

_STUDY_DATE, _STUDY_TIME, _AVAILABILITY, _MODALITIES = "00080020", "00080030", "00080056", "00080061"
_STUDY_UID, _SERIES_UID, _SOP_UID = "0020000D", "0020000E", "00080018"
_INSTANCE = (_SERIES_UID, _SOP_UID)
_N_INSTANCES = "00201208"
_STUDY_FIELDS = ("InstanceAvailability", "ModalitiesInStudy", "NumberOfStudyRelatedInstances")
_INSTANCE_FIELDS = "includefield=SOPInstanceUID&includefield=SeriesInstanceUID"


class _Failure(Protocol):
    def __call__(self, reason: str, **facts: int) -> TransientError: ...


class WebClient(StudyClient):
    """See `radlake.net.client.NodeClient`."""

    refusals = frozenset((400, 404, 405, 501))

    def __init__(self, node: WebNode) -> None:
        super().__init__(node=node.name)
        self._node = node
        self._tls = client_context(node.tls or Tls(), node=node.name)
        self._lists = CutLists(node=node.name)
        self._open: set[socket.socket] = set()

    def echo(self) -> float:
        begin = time.perf_counter()
        with self._session(retries=0) as session, self._get(session, "/studies?limit=1", self._failed_query) as answer:
            answer.read()
        return time.perf_counter() - begin

    @property
    def list_limit(self) -> int | None:
        return self._lists.limit

    def doubtful_windows(self) -> tuple[Window, ...]:
        return self._lists.doubtful()

    def find_studies(self, window: Window) -> list[StudyFound]:
        with self._session() as session:
            studies = self._lists.whole(Span(window), lambda span: self._list_studies(session, span))
        return studies_within(window, studies, node=self._node.name)

    def find_any_studies(self, *, at_most: int) -> list[StudyFound]:
        with self._session() as session:
            return self._list_studies(session, AnyDate(), at_most=at_most)

    def _list_studies(
        self, session: httpx.Client, span: Span | AnyDate, *, at_most: int | None = None
    ) -> list[StudyFound]:
        keys = "".join(f"{key}={value}&" for key, value in span.keys().items() if value)
        fields = "&".join(f"includefield={name}" for name in _STUDY_FIELDS)
        rows = self._search(session, f"/studies?{keys}{fields}", _STUDY_UID, at_most=at_most)
        return [
            study_from_text(
                _first(row, _STUDY_UID),
                study_date=_first(row, _STUDY_DATE),
                n_instances=_first(row, _N_INSTANCES),
                modalities=_values(row, _MODALITIES),
                availability=_first(row, _AVAILABILITY),
                study_time=_first(row, _STUDY_TIME),
            )
            for row in rows
        ]

    def _ask(self, requests: list[Keys], inventory: Inventory, delivery: Delivery) -> None:  # noqa: ARG002
        seconds = self._node.timeouts.retrieve
        with self._session() as session:
            for path in _paths(requests):
                delivery.ask()
                try:
                    with self._get(session, path, self._failed_retrieve, accept=_AS_STORED, seconds=seconds) as answer:
                        _take(answer, delivery)
                except RetrieveFailed as exc:
                    delivery.refuse(str(exc.facts["reason"]))
                    if "status" not in exc.facts:
                        break  # it fell silent; it is not asked for the others now
                    delivery.statuses.add(exc.facts["status"])

    def _find_inventory(self, study_uid: str) -> Inventory:
        study = f"/studies/{_quoted(study_uid)}"
        try:
            with self._session() as session:
                rows = self._search(session, f"{study}/instances?{_INSTANCE_FIELDS}", *_INSTANCE)
                if not rows:  # some origins want the series as well
                    for row in self._search(session, f"{study}/series?includefield=SeriesInstanceUID", _SERIES_UID):
                        series = f"{study}/series/{_quoted(_first(row, _SERIES_UID))}"
                        rows += self._search(session, f"{series}/instances?{_INSTANCE_FIELDS}", *_INSTANCE)
        except QueryFailed as exc:
            if exc.facts.get("status") in _NO_SUCH_SEARCH:
                return Inventory()
            raise
        listed: dict[str, list[str]] = {}
        for row in rows:
            listed.setdefault(_first(row, _SERIES_UID), []).append(_first(row, _SOP_UID))
        return Inventory(listed if listed and all(map(all, listed.values())) else None)

    def _search(self, session: httpx.Client, path: str, *key: str, at_most: int | None = None) -> list[dict[str, Any]]:
        """Rows of every page, one for each key; a server may cut a page shorter than asked, so only an empty one is the
        last.

        Raises
        ------
        QueryFailed
            Also when the server repeats itself though it has more: it cannot be read to the end (PS3.18 8.3.4.4).
        """
        rows: dict[tuple[str, ...], dict[str, Any]] = {}
        n_read = 0
        while True:
            begin = time.monotonic()
            with self._get(session, f"{path}&limit={_PAGE}&offset={n_read}", self._failed_query) as answer:
                self.watch(Signal(SignalKind.FIND, time.monotonic() - begin))
                page = _page(answer)
                has_more = answer.headers.get("Warning", "").startswith("299") or len(page or ()) >= _PAGE
            if page is None:
                raise self._failed_query("its answer is not DICOM JSON")
            n_known = len(rows)
            for row in page:
                rows.setdefault(tuple(_first(row, tag) for tag in key), row)
            if len(rows) == n_known:
                if page and has_more:
                    raise self._failed_query("it gives the same page again and again")
                return list(rows.values())
            if at_most is not None and len(rows) >= at_most:
                return list(rows.values())[:at_most]
            n_read += len(page)

    @contextmanager
    def _session(self, *, retries: int = ATTEMPTS - 1) -> Iterator[httpx.Client]:
        with httpx.Client(
            transport=httpx.HTTPTransport(verify=self._tls, retries=retries, trust_env=False),
            headers={"Accept-Encoding": "identity", **self._authorization()},
            follow_redirects=False,
            trust_env=False,
        ) as session:
            yield session

    def _authorization(self) -> dict[str, str]:
        auth = self._node.auth
        if auth is None:
            return {}
        if auth.bearer:
            return {"Authorization": f"Bearer {resolve_secret(auth.bearer)}"}
        login = resolve_secret(str(auth.basic)).encode("utf-8")
        return {"Authorization": f"Basic {base64.b64encode(login).decode('ascii')}"}

    @contextmanager
    def _get(
        self, session: httpx.Client, path: str, failed: _Failure, *, accept: str = _JSON, seconds: float | None = None
    ) -> Iterator[httpx.Response]:
        """An answer that is worth reading; its body has not been read yet. `seconds` of silence end it."""
        node = self._node
        seconds = seconds or node.timeouts.query
        timeout = httpx.Timeout(seconds, connect=node.timeouts.connect)
        if self._is_hung_up:
            raise failed("we are about to end")
        try:
            with (
                session.stream("GET", node.base_url + path, headers={"Accept": accept}, timeout=timeout) as answer,
                self._cuttable(answer),
            ):
                self._check(answer, failed)
                yield answer
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            raise NodeUnavailable(node=node.name, reason=why_unreachable(exc)) from exc
        except httpx.TimeoutException as exc:
            raise failed(f"silent for {seconds:g} s") from exc
        except (httpx.TransportError, httpx.DecodingError) as exc:
            raise failed(f"connection lost: {exc}") from exc

    def _check(self, answer: httpx.Response, failed: _Failure) -> None:
        status = answer.status_code
        if status in (200, 204, 206):
            return
        if status in (401, 403):
            reason = f"HTTP {status}: it refuses our credentials; check auth in the hospitals file"
            raise NodeUnavailable(node=self._node.name, reason=reason)
        if 300 <= status < 400:
            reason = f"HTTP {status}: it redirects; write the address that it redirects to as base_url"
            raise NodeUnavailable(node=self._node.name, reason=reason)
        if status in (429, 503):
            asked_for = _seconds_from_retry_after(answer.headers.get("Retry-After", ""), now=datetime.now(UTC))
            self.watch(Signal(SignalKind.REFUSED, asked_for))
            raise SlowDown(node=self._node.name, reason=f"HTTP {status}")
        raise failed(f"HTTP {status}", status=status)

    @contextmanager
    def _cuttable(self, answer: httpx.Response) -> Iterator[None]:
        """While its body is read, `hang_up` can end it."""
        sock = answer.extensions["network_stream"].get_extra_info("socket")
        self._open.add(sock)
        try:
            yield
        finally:
            self._open.discard(sock)

    def _cut(self) -> None:
        for sock in tuple(self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _failed_query(self, reason: str, **facts: int) -> QueryFailed:
        return QueryFailed(node=self._node.name, level="QIDO-RS", reason=reason, **facts)

    def _failed_retrieve(self, reason: str, **facts: int) -> RetrieveFailed:
        return RetrieveFailed(node=self._node.name, reason=reason, **facts)


def _take(answer: httpx.Response, delivery: Delivery) -> None:
    """Store every part of a WADO-RS answer as it flows by; what is whole stays when the rest does not come."""
    content_type = answer.headers.get("Content-Type", "")
    boundary = boundary_of(content_type)
    if boundary:
        instances = parts(answer.iter_bytes(), boundary=boundary)
    elif content_type.startswith("application/dicom"):
        instances = iter([answer.iter_bytes()])
    else:
        delivery.refuse("its answer holds no DICOM files")
        return
    try:
        for instance in instances:
            _store(instance, delivery)
    except MultipartBroken as exc:
        delivery.refuse(str(exc))
    if answer.status_code == 206:
        delivery.refuse("HTTP 206: it sent only a part")


def _store(instance: Iterable[bytes], delivery: Delivery) -> None:
    with delivery.folder.draft() as draft:
        for chunk in instance:
            delivery.hear()
            draft.write(chunk)
        uid = draft.sop_instance_uid()
        if uid and is_file_name(uid):
            delivery.count(uid, is_new=draft.keep_as(uid))
        else:
            delivery.refuse("an instance had no usable SOP Instance UID")


def _seconds_from_retry_after(text: str, *, now: datetime) -> float:
    """Seconds from now, whichever of its two forms the header has (RFC 9110 10.2.3); 0 when it has none of them.

    >>> _seconds_from_retry_after("120", now=datetime.now(UTC))
    120.0
    """
    if text.strip().isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, (at - now).total_seconds()) if at.tzinfo else 0.0


def _paths(requests: Iterable[Keys]) -> Iterator[str]:
    """Resources of WADO-RS for the identifiers of a retrieve (PS3.18 table 10.4.1-1)."""
    for request in requests:
        path = f"/studies/{_quoted(request['StudyInstanceUID'])}"
        if "SeriesInstanceUID" in request:
            path += f"/series/{_quoted(request['SeriesInstanceUID'])}"
        if "SOPInstanceUID" in request:
            yield from (f"{path}/instances/{_quoted(uid)}" for uid in request["SOPInstanceUID"])
        else:
            yield path


def _quoted(uid: str | Iterable[str]) -> str:
    return quote(str(uid), safe="")


def _page(answer: httpx.Response) -> list[dict[str, Any]] | None:
    """Rows of one page of DICOM JSON; None when it is something else."""
    if answer.status_code == 204 or not answer.read():
        return []
    try:
        rows = answer.json()
    except ValueError:
        return None
    is_dicom_json = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
    return rows if is_dicom_json else None


def _values(row: Mapping[str, Any], tag: str) -> list[str]:
    """Values of an attribute as text (PS3.18 F.2.2)."""
    element = row.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return [str(value) for value in values if value is not None] if isinstance(values, list) else []


def _first(row: Mapping[str, Any], tag: str) -> str:
    return next(iter(_values(row, tag)), "").strip()
