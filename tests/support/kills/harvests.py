"""Harvests: of a folder, of a node, and of several hospitals that share batches."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

from support.kills.scenario import Scenario, files_of, settings_in, speed_up
from support.lakes import leads_back, picture, states

__all__ = [
    "HARVESTS",
    "TOGETHER",
    "harvest_folder_of",
    "harvest_together_of",
    "harvested",
    "hospital_of",
    "pacs_hospital",
    "see_harvest",
    "window",
]

TOGETHER = ("h1", "h2", "h3", "h4")  # each has one study of the archive


def harvest_folder_of(folder: Path, given: Mapping[str, Any]) -> None:
    from radlake.cli.hospitals import hospital_of_files
    from radlake.ingest import harvest_folder

    settings = settings_in(folder)
    harvest_folder(settings, Path(given["folder"]), hospital=hospital_of_files(settings, "h1"))


def harvested(folder: Path, given: Mapping[str, Any]) -> None:
    """A lake that has the folder."""
    speed_up()
    harvest_folder_of(folder, given)


def window() -> Any:
    """All study dates of the archive."""
    from radlake.net import Window

    return Window(date(2026, 1, 1), date(2026, 12, 31))


def hospital_of(name: str, node: Any, **given: Any) -> Any:
    from radlake.net import Hospital

    return Hospital(hospital_id=name, name_zh="样例", name_en="Sample", region_code="320100", node=node, **given)


def pacs_hospital(given: Mapping[str, Any]) -> Any:
    """Hospital h1 with the simulated PACS."""
    from radlake.net import DimseNode

    return hospital_of("h1", DimseNode(name="h1", ae_title="HIS", host="127.0.0.1", port=given["port"], retrieve="get"))


def _harvest_node(folder: Path, given: Mapping[str, Any]) -> None:
    from radlake.ingest import harvest_hospital

    harvest_hospital(settings_in(folder), pacs_hospital(given), window=window())


def harvest_together_of(folder: Path, given: Mapping[str, Any]) -> None:
    """Four hospitals, two to a batch: one is published while the next hospitals are asked."""
    from radlake.ingest import harvest_hospital
    from radlake.ingest.together import together
    from radlake.ingest.workers import workers
    from radlake.net import DimseNode
    from radlake.synth.behaviour import Behaviour
    from radlake.synth.holdings import Holdings
    from radlake.synth.quirks import Quirks
    from radlake.synth.virtual import VirtualClient

    def raised(_: object, error: BaseException | None) -> None:
        if error is not None:
            raise error

    settings = settings_in(folder)
    with workers(settings) as executor, together(settings, tell=raised) as shared:
        for number, name in enumerate(TOGETHER):
            node = DimseNode(name=name, ae_title="HIS", host="127.0.0.1")
            client = VirtualClient(
                Behaviour(Holdings(Path(given["archive"]) / f"{number}"), quirks=Quirks()), name=name
            )
            harvest_hospital(
                settings, hospital_of(name, node), window=window(), client=client, executor=executor, shared=shared
            )


def see_harvest(folder: Path) -> dict[str, Any]:
    """Objects, rows, states, what leads back, what is held, what was published, and that nothing is left over."""
    from radlake.lake import Lake, duck
    from radlake.lake.ledger import Ledger

    settings = settings_in(folder)
    lake = Lake.from_settings(settings)
    with closing(Ledger(settings.ledger)) as ledger:
        held = sorted((row["quarantine_id"], row["study_uid"], row["reason"]) for row in ledger.held())
        entries = [
            (hospital_id, e.study_uid, e.expected, dict(e.stored), e.set_aside, e.lake_month)
            for hospital_id in ledger.hospital_ids()
            for e in ledger.entries(hospital_id)
        ]
    with duck.connect(lake, tables=("ref", "ops")) as connection:
        published = {
            name: connection.execute(f"SELECT * EXCLUDE ({without}) FROM {name} ORDER BY ALL").fetchall()
            for name, without in (
                ("ref.hospital", "name_zh"),
                ("ops.completeness", "updated_at"),
                ("ops.quarantine", "updated_at"),
            )
        }
    return {
        "picture": picture(settings),
        "states": states(settings),
        "entries": entries,
        "leads back": leads_back(settings),
        "held": held,
        "quarantine": files_of(lake.quarantine),
        "published": published,
        "spool": files_of(lake.spool),
        "staged": files_of(lake.staged),
    }


HARVESTS: Mapping[str, Scenario] = {
    "folder": Scenario(harvest_folder_of, see_harvest),
    "node": Scenario(_harvest_node, see_harvest),
    "together": Scenario(harvest_together_of, see_harvest),
}
