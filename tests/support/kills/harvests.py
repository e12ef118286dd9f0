"""Harvests: of a folder, of a node, of several hospitals that share batches, and of a hospital that pushes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence

from support.dicom import ct_study, image_study
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
    speed_up(folder)
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

    settings = settings_in(folder)
    with workers(settings) as executor, together(settings) as shared:
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
    with duck.connect(lake) as connection:
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


def _push(folder: Path, given: Mapping[str, Any]) -> None:
    """A hospital pushes over DIMSE what was not acknowledged before; the receiver closes its studies and ingests them.

    One study has an MPPS that lists all of it, one an MPPS that lists more than came, of one nothing is told.
    """
    from radlake.lake import Lake
    from radlake.lake.pushed import PushRecords
    from radlake.net.message import Field
    from radlake.net.storage_scp import StorageServer
    from radlake.receive.closer import Closer
    from radlake.receive.scp import Reception
    from radlake.receive.senders import Senders
    from radlake.receive.spool import PushSpool
    from radlake.vault.lake_key import open_ledger
    from support.push import Receiver, hospitals_of, lake_of, mpps_step

    settings = lake_of(folder, quiet=0.1)
    senders = Senders(hospitals_of(settings), path=str(settings.hospitals))
    spool = PushSpool(Lake.from_settings(settings).spool, keep_free=0)
    with closing(open_ledger(settings)) as ledger:
        records = PushRecords(ledger)
        with closing(Closer(settings, senders, spool, ledger, executor=None)) as closer:
            host = Reception(senders, spool, records, told=closer.told)
            server = StorageServer(settings.ae_title, "127.0.0.1", 0, timeout=10, tls=None, host=host)
            receiver = Receiver(settings, server.port, 0)
            once = _Once(folder / "acknowledged")
            try:
                for name, (begun, done, instances) in _pushed().items():
                    if begun and done:
                        once(f"create {name}", partial(mpps_step, receiver, Field.N_CREATE_RQ, begun, name=name))
                    for ds in instances:
                        once(f"send {ds.SOPInstanceUID}", partial(_sent, receiver, ds))
                    if begun and done:
                        once(f"set {name}", partial(mpps_step, receiver, Field.N_SET_RQ, done, name=name))
            finally:
                server.stop()
                server.wait()
            _sweep(closer, lambda: not spool.n_waiting() and _all_settled(settings, n=len(_pushed())))


def _sent(receiver: Any, ds: Dataset) -> int:
    from support.push import send

    (status,) = send(receiver, [ds])
    return status


class _Once:
    """A sender that sends again what was not acknowledged, and only that."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._done = set(journal.read_text().splitlines()) if journal.exists() else set()

    def __call__(self, name: str, send: Callable[[], int]) -> None:
        if name in self._done:
            return
        # 0x0111, 0x0110: the step was created, or ended, before the kill; the answer did not come.
        assert send() in (0, 0x0111, 0x0110)
        with self._journal.open("a") as journal:
            journal.write(f"{name}\n")


def _pushed() -> dict[str, tuple[Dataset | None, Dataset | None, list[Dataset]]]:
    """The beginning and the end of its step, and the instances of each study."""
    ct = ct_study(n=2)
    mr = image_study("MR", n=2, patient="韩梅梅", patient_id="P2", study=2)
    dx = image_study("DX", n=1, patient="Wang^Fang", patient_id="P3", study=3)
    return {"ct": (*_step(ct), ct), "mr": (*_step(mr), mr[:1]), "dx": (None, None, dx)}


def _step(instances: list[Dataset]) -> tuple[Dataset, Dataset]:
    begun, done, scheduled, series = Dataset(), Dataset(), Dataset(), Dataset()
    scheduled.StudyInstanceUID = instances[0].StudyInstanceUID
    begun.ScheduledStepAttributesSequence = Sequence([scheduled])
    begun.PerformedProcedureStepStatus = "IN PROGRESS"
    begun.PerformedSeriesSequence = Sequence([])
    series.SeriesInstanceUID = instances[0].SeriesInstanceUID
    series.ReferencedImageSequence = Sequence([_reference(ds) for ds in instances])
    done.PerformedProcedureStepStatus = "COMPLETED"
    done.PerformedSeriesSequence = Sequence([series])
    return begun, done


def _reference(ds: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    return reference


def _sweep(closer: Any, is_done: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_done():
        assert time.monotonic() < end, "what was pushed is not ingested"
        closer.sweep()
        time.sleep(0.05)


def _all_settled(settings: Any, *, n: int) -> bool:
    found = states(settings).values()
    return len(found) == n and not any(state in ("discovered", "retrieving") for state, _ in found)


def _see_pushed(folder: Path) -> dict[str, Any]:
    """Besides a harvest: what was told, and who vouches."""
    from radlake.lake.ledger import Ledger
    from radlake.lake.pushed import PushRecords

    with closing(Ledger(settings_in(folder).ledger)) as ledger:
        records = PushRecords(ledger)
        told = {
            entry.study_uid: (records.notices("h1", entry.study_uid), records.unverified("h1", entry.study_uid))
            for entry in ledger.entries("h1")
        }
    return see_harvest(folder) | {"told": told}


HARVESTS: Mapping[str, Scenario] = {
    "folder": Scenario(harvest_folder_of, see_harvest),
    "node": Scenario(_harvest_node, see_harvest),
    "together": Scenario(harvest_together_of, see_harvest),
    "push": Scenario(_push, _see_pushed),
}
