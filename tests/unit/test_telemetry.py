"""Telemetry: off by default, one trace from the run to the worker, and nothing of a patient in what leaves."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from radlake import log, telemetry
from radlake.errors import ConfigInvalid
from radlake.ingest import harvest_hospital
from radlake.lake import Lake, duck
from radlake.machine import utc_now
from radlake.net import DimseNode, Hospital, Window
from radlake.synth.pacs import PacsProcess
from support.dicom import ct_study, write
from support.lakes import settings_of

N_STUDIES = 3
PLANTED = {"PatientID": "ZY0012736053", "PatientName": "Wang^Xiulan", "AccessionNumber": "A6407996968"}

HARVEST_IT = """
import sys
from datetime import date

from radlake.config import Settings
from radlake.ingest import harvest_hospital
from radlake.net import Hospital, Window

if __name__ == "__main__":
    hospital = Hospital.model_validate_json(sys.argv[2])
    window = Window(date(2000, 1, 1), date.today())
    harvest_hospital(Settings(lake=sys.argv[1], workers=1), hospital, window=window)
"""


class Collected:
    """Spans and metrics of this process."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader], views=telemetry.views())

    @property
    def spans(self):
        return self.exporter.get_finished_spans()

    def named(self, name: str):
        return [span for span in self.spans if span.name == name]

    def points(self, name: str):
        data = self.reader.get_metrics_data()
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


@pytest.fixture
def collected() -> Iterator[Collected]:
    made = Collected()
    with telemetry.using(made.tracers, made.meters):
        yield made
    made.meters.shutdown()


@pytest.fixture(scope="module")
def uids(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder, uids = tmp_path_factory.mktemp("archive"), []
    for s in range(N_STUDIES):
        for n, ds in enumerate(ct_study(n=2, study=s, patient_id=f"P{s}", rows=32, columns=32)):
            for keyword, value in PLANTED.items():
                setattr(ds, keyword, value if keyword != "AccessionNumber" else f"{value}{s}")
            uids += [ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID]
            write(ds, folder / f"{s}" / f"{n}.dcm")
    return folder, uids


@pytest.fixture(scope="module")
def hospital(uids: tuple[Path, list[str]]) -> Iterator[Hospital]:
    with PacsProcess("dimse", "--archive", str(uids[0]), "--aet", "HIS2") as pacs:
        node = DimseNode(kind="dimse", name="node", ae_title="HIS2", host="127.0.0.1", port=pacs.port, retrieve="get")
        yield Hospital(
            hospital_id="h1", name_zh="医院", name_en="Hospital", region_code="320500", level="3A", node=node
        )


def everything() -> Window:
    return Window(utc_now().date().replace(year=2000), utc_now().date())


def test_a_study_is_one_trace_from_the_node_to_the_worker_process(
    hospital: Hospital, tmp_path: Path, collected: Collected
) -> None:
    summary = harvest_hospital(settings_of(tmp_path / "lake", workers=1), hospital, window=everything())
    assert summary.studies_complete == N_STUDIES
    [run] = collected.named("harvest")
    studies = collected.named("study")
    assert len(studies) == N_STUDIES
    assert {span.parent.span_id for span in studies} == {run.context.span_id}
    for name in ("find_instances", "retrieve", "ingest"):
        assert {span.parent.span_id for span in collected.named(name)} == {span.context.span_id for span in studies}
    worker = {span.attributes["process.pid"] for span in collected.named("ingest")}
    assert len(worker) == 1
    assert worker != {os.getpid()}
    [publish] = collected.named("publish")
    assert publish.parent.span_id == run.context.span_id
    assert [e.name for e in publish.events if e.name.startswith("batch.")][:2] == ["batch.written", "batch.staged"]
    assert {span.context.trace_id for span in collected.spans} == {run.context.trace_id}
    assert run.attributes["n_stored"] == 2 * N_STUDIES


def test_metrics_count_what_the_summary_counts(hospital: Hospital, tmp_path: Path, collected: Collected) -> None:
    summary = harvest_hospital(settings_of(tmp_path / "lake"), hospital, window=everything())
    [studies] = collected.points("radlake.studies")
    assert (studies.value, dict(studies.attributes)) == (N_STUDIES, {"hospital": "h1", "state": "complete"})
    assert [point.value for point in collected.points("radlake.instances")] == [summary.instances_stored]
    assert [point.value for point in collected.points("radlake.stored")] == [summary.stored_bytes]
    assert [point.value for point in collected.points("radlake.studies.under_way")] == [0]
    assert [point.count for point in collected.points("radlake.retrieve.duration")] == [N_STUDIES]
    assert [point.value for point in collected.points("radlake.breaker")] == [0]


def test_how_instances_were_deidentified_is_published(hospital: Hospital, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "lake")
    summary = harvest_hospital(settings, hospital, window=everything())
    with duck.connect(Lake.from_settings(settings), tables={"ops"}) as connection:
        [(ways,)] = connection.execute("SELECT deidentified_by FROM ops.harvest_run").fetchall()
    assert json.loads(ways) == summary.deidentified_by
    assert sum(json.loads(ways).values()) == 2 * N_STUDIES


def test_nothing_of_a_patient_leaves(hospital: Hospital, uids, tmp_path: Path, monkeypatch) -> None:
    """A real OTLP receiver; the harvest runs in a process of its own, as `radlake` does."""
    bodies: dict[str, list[bytes]] = {"/v1/traces": [], "/v1/metrics": []}

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            bodies[self.path].append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            return

    settings = settings_of(tmp_path / "lake")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environ = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        script = tmp_path / "harvest_it.py"
        script.write_text(HARVEST_IT, encoding="utf-8")
        arguments = [settings.lake, hospital.model_dump_json()]
        subprocess.run([sys.executable, str(script), *arguments], env=environ, check=True, timeout=120)
        server.shutdown()
    traces = [ExportTraceServiceRequest.FromString(body) for body in bodies["/v1/traces"]]
    spans = [s for t in traces for r in t.resource_spans for scope in r.scope_spans for s in scope.spans]
    assert sum(span.name == "ingest" for span in spans) == N_STUDIES
    metrics = [ExportMetricsServiceRequest.FromString(body) for body in bodies["/v1/metrics"]]
    names = {m.name for e in metrics for r in e.resource_metrics for s in r.scope_metrics for m in s.metrics}
    assert {"radlake.studies", "radlake.stored"} <= names
    resource = {item.key: item.value.string_value for item in traces[0].resource_spans[0].resource.attributes}
    assert resource["service.name"] == "radlake"
    sent = b"".join(body for part in bodies.values() for body in part)
    assert b"h1" in sent
    forbidden = [*uids[1], *PLANTED.values(), "Wang", str(tmp_path), "HIS2", ".dcm"]
    assert [text for text in forbidden if text.encode() in sent] == []


@pytest.mark.parametrize(
    "value", ["1.2.840.113619.2.55", "Wang Xiulan", "王秀兰", "/data/lake/x", "Wang^Xiulan", "x" * 90, None, ["h1"]]
)
def test_a_value_that_is_no_code_does_not_leave(value: object, collected: Collected) -> None:
    with telemetry.span("study", hospital="h1", reason=value):
        pass
    [span] = collected.spans
    assert dict(span.attributes) == {"hospital": "h1"}


def test_a_key_outside_of_the_list_does_not_leave(collected: Collected) -> None:
    with pytest.raises(log.LogKeyForbidden):
        telemetry.start("study", patient="P1")
    log.configure(strict=False)
    try:
        telemetry.start("study", patient="P1").end()
    finally:
        log.configure(strict=True)
    assert dict(collected.spans[0].attributes) == {}


def test_every_hospital_of_a_province_is_counted_for_itself(collected: Collected) -> None:
    for n in range(1578):
        for state in ("complete", "partial", "quarantined"):
            telemetry.add("radlake.studies", hospital=f"h{n}", state=state)
    points = collected.points("radlake.studies")
    assert len(points) == 3 * 1578
    assert {point.value for point in points} == {1}


def test_an_error_is_told_by_its_class(collected: Collected) -> None:
    with pytest.raises(ValueError), telemetry.span("study"):
        raise ValueError("of Wang^Xiulan")
    [span] = collected.spans
    assert (span.status.description, span.events) == ("ValueError", ())
    assert span.attributes["error_class"] == "ValueError"


OFF = [
    {},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
    {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
    },
]


@pytest.mark.parametrize("given", OFF, ids=["nothing set", "disabled", "no exporter"])
def test_off_it_imports_nothing(given: dict[str, str]) -> None:
    program = (
        "import sys; from radlake import telemetry\n"
        "with telemetry.span('study', hospital='h1') as span: span.set(n_files=1)\n"
        "telemetry.add('radlake.studies', hospital='h1', state='complete')\n"
        "assert not telemetry.is_on()\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | given
    assert subprocess.run([sys.executable, "-c", program], env=environ).returncode == 0


def test_a_protocol_that_is_not_spoken_is_told() -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with pytest.raises(ConfigInvalid, match="only http/protobuf"):
        telemetry._opened(environ)
