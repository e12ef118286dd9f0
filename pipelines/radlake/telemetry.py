"""OpenTelemetry traces and metrics: off unless the standard environment variables name a collector.

Off, nothing of OpenTelemetry is imported and a call costs a comparison. On, spans and counts leave this process by
OTLP over HTTP. What may leave is decided here: keys of an allow-list, values that are numbers or codes. An exception
is told by its class only, since its text and its traceback may quote a path or a value.

A worker that sees identifiers exports nothing: it measures itself (`Work`), and who gave it the study tells the
collector. So a trace needs no context in a job and no collector that a Dask worker can reach.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from radlake import log
from radlake.commit_points import listening
from radlake.errors import ConfigInvalid

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.view import View
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as SdkSpan

__all__ = [
    "ATTRIBUTES",
    "INSTRUMENTS",
    "Span",
    "Work",
    "add",
    "is_on",
    "record",
    "span",
    "start",
    "started",
    "using",
    "worked",
]

# fmt: off
ATTRIBUTES = log.ALLOWED_KEYS & {
    "hospital", "run_id", "batch_id", "table", "layer", "state", "status", "stage", "verb", "reason", "error_class",
    "n_found", "n_expected", "n_instances", "n_stored", "n_quarantined", "n_duplicate", "n_studies", "n_rows",
    "n_files", "n_failed", "attempt", "seconds", "bytes",
} | {"process.pid"}

INSTRUMENTS: Mapping[str, tuple[str, str, str]] = {  # name -> kind, unit, meaning
    "radlake.studies": ("counter", "{study}", "Studies that a batch settled, by state."),
    "radlake.studies.under_way": ("up_down_counter", "{study}", "Studies that workers have, or that wait for one."),
    "radlake.instances": ("counter", "{instance}", "Instances that are stored, or duplicates of stored ones."),
    "radlake.stored": ("counter", "By", "Bytes stored in the lake."),
    "radlake.quarantine": ("counter", "{instance}", "Instances set aside, by reason."),
    "radlake.runs": ("counter", "{run}", "Runs that ended, by error class; none when all went well."),
    "radlake.retrieve.duration": ("histogram", "s", "From the question to the last byte of a study."),
    "radlake.ingest.duration": ("histogram", "s", "Work of a worker on a study."),
    "radlake.publish.duration": ("histogram", "s", "Gate, commits and settlement of a batch."),
    "radlake.breaker": ("gauge", "1", "Circuit breaker of a node: 0 closed, 1 half-open, 2 open."),
}
# fmt: on

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_SIGNALS = ("TRACES", "METRICS")
_CODE = re.compile(r"[A-Za-z0-9][\w.:+-]{0,79}")  # letters of no alphabet but ours, no blank, no slash
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600)
_MOST_SERIES = 50_000
_PER_OBJECT = ("instance.", "object.", "archive.", "quarantine.", "spool.")  # thousands in a study


@dataclass(frozen=True)
class Work:
    """What a worker did for one study: begin and end in ns since 1970, and the process that did it."""

    began_ns: int
    ended_ns: int
    pid: int

    @classmethod
    def since(cls, began_ns: int) -> Work:
        return cls(began_ns, time.time_ns(), os.getpid())

    @property
    def seconds(self) -> float:
        return (self.ended_ns - self.began_ns) / 1e9


class Span:
    """A span of a trace, or nothing at all when telemetry is off."""

    def __init__(self, inner: SdkSpan | None = None) -> None:
        self._inner = inner

    def set(self, **facts: Any) -> None:
        if self._inner is not None:
            self._inner.set_attributes(_allowed(facts))

    def end(self, error_class: str = "", *, at_ns: int | None = None) -> None:
        """It ends, well or with an error."""
        if self._inner is None:
            return
        if error_class:
            from opentelemetry.trace import StatusCode

            self.set(error_class=error_class)
            self._inner.set_status(StatusCode.ERROR, error_class)
        self._inner.end(end_time=at_ns)


_NOTHING = Span()


class _Exporting:
    """The providers of this process, and its instruments."""

    def __init__(self, tracers: TracerProvider, meters: MeterProvider) -> None:
        self.tracer = tracers.get_tracer("radlake")
        meter = meters.get_meter("radlake")
        self.instruments: dict[str, Any] = {}
        for name, (kind, unit, meaning) in INSTRUMENTS.items():
            options = {"explicit_bucket_boundaries_advisory": _SECONDS} if kind == "histogram" else {}
            make = getattr(meter, f"create_{kind}")
            self.instruments[name] = make(name, unit=unit, description=meaning, **options)

    def reached(self, point: str) -> None:
        """A commit point becomes an event of the span that is current in this thread."""
        if not point.startswith(_PER_OBJECT):
            from opentelemetry.trace import get_current_span

            get_current_span().add_event(point)


_UNKNOWN = object()
_exporting: Any = _UNKNOWN  # _Exporting, or None when it is off; not known before the first use
_held = ExitStack()


def is_on() -> bool:
    return _current() is not None


def start(name: str, *, parent: Span | None = None, at_ns: int | None = None, **facts: Any) -> Span:
    """Begin a span that the caller ends, in whatever thread.

    Parameters
    ----------
    parent : Span, optional
        Another thread's span; else the current one of this thread.
    at_ns : int, optional
        When it began, if that is past.
    """
    exporting = _current()
    if exporting is None:
        return _NOTHING
    from opentelemetry.trace import set_span_in_context

    context = set_span_in_context(parent._inner) if parent is not None and parent._inner is not None else None
    return Span(exporting.tracer.start_span(name, context=context, attributes=_allowed(facts), start_time=at_ns))


@contextmanager
def started(inner: Span) -> Iterator[None]:
    """Make a span the current one of this thread; it does not end with the block."""
    if inner._inner is None:
        yield
        return
    from opentelemetry.trace import use_span

    with use_span(inner._inner, end_on_exit=False, record_exception=False, set_status_on_exception=False):
        yield


@contextmanager
def span(name: str, *, parent: Span | None = None, duration: str = "", **facts: Any) -> Iterator[Span]:
    """A span as long as the block, current in this thread; an error is told by its class.

    Parameters
    ----------
    duration : str
        Histogram of `INSTRUMENTS` that its seconds go to, when it went well.
    """
    begin = time.monotonic()
    made = start(name, parent=parent, **facts)
    try:
        with started(made):
            yield made
    except BaseException as exc:
        made.end(type(exc).__name__)
        raise
    made.end()
    if duration:
        record(duration, time.monotonic() - begin)


def worked(name: str, work: Work, *, parent: Span, **facts: Any) -> None:
    """The span of something that another process did."""
    start(name, parent=parent, at_ns=work.began_ns, **facts, **{"process.pid": work.pid}).end(at_ns=work.ended_ns)


def add(name: str, n: float = 1, **facts: Any) -> None:
    """Add to a counter of `INSTRUMENTS`."""
    if (exporting := _current()) is not None and n:
        exporting.instruments[name].add(n, _allowed(facts))


def record(name: str, value: float, **facts: Any) -> None:
    """Enter a value in a histogram of `INSTRUMENTS`, or set a gauge."""
    if (exporting := _current()) is not None:
        instrument = exporting.instruments[name]
        (instrument.set if INSTRUMENTS[name][0] == "gauge" else instrument.record)(value, _allowed(facts))


@contextmanager
def using(tracers: TracerProvider, meters: MeterProvider) -> Iterator[None]:
    """Send what happens in the block to these providers: for a program that has its own, and for tests."""
    global _exporting
    before, _exporting = _exporting, _Exporting(tracers, meters)
    try:
        with listening(_exporting.reached):
            yield
    finally:
        _exporting = before


def _current() -> _Exporting | None:
    global _exporting
    if _exporting is _UNKNOWN:
        _exporting = _opened(os.environ)
        if _exporting is not None:
            _held.enter_context(listening(_exporting.reached))
    return _exporting


def _opened(environ: Mapping[str, str]) -> _Exporting | None:
    """Exporters by the standard variables; None, and nothing imported, when they name no collector.

    Raises
    ------
    ConfigInvalid
        If a collector is named and OpenTelemetry is not installed, or another protocol is asked for.
    """
    asked = {signal: _is_asked(signal, environ) for signal in _SIGNALS}
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or not any(asked.values()):
        return None
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", *(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL" for signal in _SIGNALS)):
        if environ.get(name, "http/protobuf") != "http/protobuf":
            raise ConfigInvalid(path=name, problems=["only http/protobuf is spoken (port 4318 of most collectors)"])
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as exc:
        raise ConfigInvalid(path=_ENDPOINT, problems=["OpenTelemetry is missing: install radlake[telemetry]"]) from exc
    named = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": "radlake"}
    resource = Resource.create(named)
    tracers = TracerProvider(resource=resource)
    if asked["TRACES"]:
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    readers = [PeriodicExportingMetricReader(OTLPMetricExporter())] if asked["METRICS"] else []
    return _Exporting(tracers, MeterProvider(readers, resource=resource, views=views()))


def views() -> list[View]:
    """Room for every hospital of a province times every state; the SDK's 2,000 series would hide the rest."""
    from opentelemetry.sdk.metrics.view import View

    return [View(instrument_name="radlake.*", aggregation_cardinality_limit=_MOST_SERIES)]


def _is_asked(signal: str, environ: Mapping[str, str]) -> bool:
    wanted = environ.get(f"OTEL_{signal}_EXPORTER", "otlp").split(",")
    return "otlp" in wanted and bool(environ.get(_ENDPOINT) or environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"))


def _allowed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of the allow-list, and values that are numbers or codes; what is neither does not leave."""
    log.check_keys(facts, allowed=ATTRIBUTES)
    return {key: value for key, value in facts.items() if key in ATTRIBUTES and _is_harmless(value)}


def _is_harmless(value: Any) -> bool:
    if isinstance(value, str):
        return bool(_CODE.fullmatch(value)) and value.isascii() and not _UID.fullmatch(value)
    return isinstance(value, (bool, int, float))
