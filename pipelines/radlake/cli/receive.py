"""`radlake receive`: take what hospitals push, and ingest it when its studies are closed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from radlake.cli._lake import existing_lake
from radlake.cli._stop import told_to_end
from radlake.config import Settings
from radlake.errors import ConfigInvalid
from radlake.ingest import HarvestSummary
from radlake.net import load_hospitals
from radlake.net.node import Tls
from radlake.receive.service import Listening, receive

app = typer.Typer(help="Take what hospitals push, and ingest it when its studies are closed.")

_GB = 1_000_000_000


@app.command()
def run(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on; every one of this machine when empty.")] = "",
    dicom_port: Annotated[
        int, typer.Option(min=-1, max=65535, help="Port of our storage SCP; 0 for any free one, -1 for none.")
    ] = 11112,
    http_port: Annotated[
        int, typer.Option(min=-1, max=65535, help="Port of STOW-RS and of notices; 0 for any free one, -1 for none.")
    ] = -1,
    certificate: Annotated[Path | None, typer.Option(help="Our TLS certificate (PEM), for both ports.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    ca: Annotated[
        Path | None, typer.Option(help="Who signs the senders' certificates: over DIMSE they must show one.")
    ] = None,
    keep_free: Annotated[
        float, typer.Option(min=0, help="GB of the spool's disk that are left free; what comes then is refused.")
    ] = 2.0,
    largest: Annotated[float, typer.Option(min=0.001, help="GB of an HTTP request at most.")] = 64.0,
    silence: Annotated[float, typer.Option(min=1, help="Seconds of silence that end a conversation.")] = 60.0,
) -> None:
    """Receive by C-STORE and STOW-RS until Ctrl+C or SIGTERM, from the hospitals with a push: entry.

    An instance is acknowledged when it is durable in the spool. Its study is ingested when a notice or the hospital's
    node says that all of it came, or after a quiet time; it is complete only when somebody said so.
    See docs/how-to/receive.md.
    """
    settings: Settings = ctx.obj
    existing_lake(settings)
    if dicom_port < 0 and http_port < 0:
        raise typer.BadParameter("both ports are -1: there is nothing to listen on")
    listening = Listening(
        host=host,
        dicom_port=None if dicom_port < 0 else dicom_port,
        http_port=None if http_port < 0 else http_port,
        tls=_tls(certificate, key, ca),
        keep_free=int(keep_free * _GB),
        largest=int(largest * _GB),
        silence=silence,
    )
    hospitals = load_hospitals(settings.hospitals).values()
    with told_to_end("stopping; what was received stays in the spool") as told:
        receive(settings, hospitals, listening, stop=told, announce=_announce, ingested=_tell)


def _tls(certificate: Path | None, key: Path | None, ca: Path | None) -> Tls | None:
    if certificate is None and key is None and ca is None:
        return None
    if certificate is None or key is None:
        raise ConfigInvalid(path="--certificate", problems=["a certificate and its key come together"])
    try:
        return Tls(ca=ca, certificate=certificate.resolve(), key=key.resolve())
    except ValidationError as exc:
        raise ConfigInvalid(path="--certificate", problems=[error["msg"] for error in exc.errors()]) from exc


def _tell(summary: HarvestSummary) -> None:
    typer.echo(
        f"{summary.hospital_id}: {summary.studies_found:,} studies, {summary.instances_stored:,} instances stored, "
        f"{summary.instances_duplicate:,} resent, {summary.instances_quarantined:,} set aside"
    )


def _announce(line: str) -> None:
    print(line, flush=True)  # whoever started us reads the ports here
