"""Commands that are killed at commit points: what each begins with, what it does, and what must be equal at the end.

Every function here is called in a process of its own with the folder of a scenario: `<folder>/lake` is its lake,
`given` holds what all lakes of the scenario share.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import resource
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset

from radlake import log
from radlake.commit_points import listening
from support.dicom import ct_study, image_study, pdf_document, write
from support.killing import killing
from support.lakes import leads_back, picture, settings_of, states

__all__ = [
    "SCENARIOS",
    "Scenario",
    "counted",
    "files_of",
    "killed",
    "look",
    "run_again",
    "starved",
    "warm_up",
    "write_archive",
]

_NOW = datetime(2026, 3, 10, 8, 0, 0)
_WINDOW = date(2026, 1, 1), date(2026, 12, 31)


def _nothing(folder: Path, given: Mapping[str, Any]) -> None:
    settings_of(folder / "lake")


@dataclass(frozen=True)
class Scenario:
    """One command.

    Attributes
    ----------
    prepare : callable
        Makes the lake that the command begins with; it is copied for every kill.
    act : callable
        The command: it is killed, and called again.
    see : callable
        What must be equal to an uninterrupted run.
    """

    act: Callable[[Path, Mapping[str, Any]], None]
    see: Callable[[Path], Any]
    prepare: Callable[[Path, Mapping[str, Any]], None] = _nothing


def write_archive(folder: Path) -> None:
    """Four studies: one in a ZIP archive, one with a damaged instance, one with a document that no rule lets pass."""
    studies = [
        ct_study(n=3, patient="李雷"),
        image_study("MR", n=2, patient="韩梅梅", patient_id="P2"),
        [*image_study("DX", n=1, patient="Wang^Fang", patient_id="P3"), pdf_document(patient="Wang^Fang")],
        ct_study(n=2, patient="Zhao^Min", patient_id="P4"),
    ]
    studies[2][1].StudyInstanceUID = studies[2][0].StudyInstanceUID
    studies[2][1].PatientID = studies[2][0].PatientID
    for number, ds in enumerate(ds for study in studies for ds in study if "PixelData" in ds):
        _smoothen(ds, number)
    files = [write(ds, folder / f"{s}" / f"{n}.dcm") for s, study in enumerate(studies) for n, ds in enumerate(study)]
    damaged = files[2]
    damaged.write_bytes(damaged.read_bytes()[:-20])


def _smoothen(ds: Dataset, number: int) -> None:
    """Pixels that compress; those of the phantom are noise, and recompression leaves them."""
    ds.Rows = ds.Columns = 64
    slope = np.add.outer(np.arange(64), np.arange(64)) * (number + 3) % (1 << ds.BitsStored)
    ds.PixelData = slope.astype("<u2").tobytes()


def zip_last_study(folder: Path) -> None:
    """A ZIP archive in the place of the folder of the last study."""
    members = sorted((folder / "3").iterdir())
    with zipfile.ZipFile(folder / "3.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for member in members:
            archive.write(member, member.name)
    shutil.rmtree(folder / "3")


def warm_up() -> None:
    """Import and load what every run needs, but no engine that starts threads: one study goes through a worker."""
    import radlake.cli.hospitals
    import radlake.cli.init
    import radlake.ingest.publish
    import radlake.ingest.run
    import radlake.lake.duck
    import radlake.lake.upkeep
    import radlake.recompress
    import radlake.vault.lookup  # noqa: F401
    from radlake.deidentify import load_profile
    from radlake.ingest.job import IngestJob, SourceFile
    from radlake.ingest.spot_check import check_sample
    from radlake.ingest.study import ingest_study
    from radlake.lake import Lake
    from radlake.lake.ledger import Ledger
    from radlake.lake.quarantine import Quarantine
    from radlake.quality.suites import _suites
    from radlake.referee import Policy

    log.configure(strict=True)
    _suites()
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(Path(folder) / "lake")
        datasets = ct_study(n=2)
        paths = [write(ds, Path(folder) / f"{n}.dcm") for n, ds in enumerate(datasets)]
        files = tuple(SourceFile(p, p.name, sop_uid=ds.SOPInstanceUID) for p, ds in zip(paths, datasets, strict=True))
        outcome = ingest_study(IngestJob(settings, "h1", str(datasets[0].StudyInstanceUID), files))
        policy, lake = Policy.of_profile(load_profile(settings.profile)), Lake.from_settings(settings)
        with closing(Ledger(settings.ledger)) as ledger:
            quarantine = Quarantine(ledger, lake.quarantine)
            check_sample([outcome], n=9, policy=policy, lake=lake, quarantine=quarantine, now=_NOW)


def _speed_up(folder: Path) -> None:
    """Small batches, so that there are several; the gate's verdict on the same rows is worked out once."""
    from radlake.ingest import publish, running

    running._BATCH_STUDIES = 2
    check = publish.check_batch
    memory = folder.parent / "verdicts"
    memory.mkdir(exist_ok=True)

    def remembered(tables: Mapping[str, Any], *, batch_id: str, checked_at: datetime) -> Any:
        rows = repr([(name, table.to_pylist()) for name, table in sorted(tables.items())])
        file = memory / hashlib.sha256(rows.encode()).hexdigest()
        if not file.exists():
            verdict = check(tables, batch_id=batch_id, checked_at=checked_at)
            if resource.getrlimit(resource.RLIMIT_FSIZE)[0] == 0:  # a full disk remembers nothing
                return verdict
            part = file.with_suffix(f".{os.getpid()}")
            part.write_bytes(pickle.dumps(verdict))
            part.rename(file)
        return pickle.loads(file.read_bytes())

    publish.check_batch = remembered


def counted(scenario: str, folder: Path, given: Mapping[str, Any]) -> Counter[str]:
    """Run the command to its end and tell how often it came by each point."""
    found: Counter[str] = Counter()

    def count(name: str) -> None:
        found[name] += 1

    _speed_up(folder)
    with listening(count):
        SCENARIOS[scenario].act(folder, given)
    return found


def killed(scenario: str, folder: Path, given: Mapping[str, Any], point: str, nth: int) -> None:
    """Run the command until it reaches the point for the nth time."""
    _speed_up(folder)
    with killing(point, nth):
        SCENARIOS[scenario].act(folder, given)


def starved(scenario: str, folder: Path, given: Mapping[str, Any], point: str) -> tuple[str, str]:
    """Run the command on a disk that is full from the point on; the error that tells it, by name and text."""
    from radlake.errors import TransientError

    def starve(name: str) -> None:
        if name == point:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    _speed_up(folder)
    try:
        with listening(starve):
            SCENARIOS[scenario].act(folder, given)
    except TransientError as error:
        return type(error).__name__, str(error)
    raise AssertionError("a full disk was not noticed")


def run_again(scenario: str, folder: Path, given: Mapping[str, Any]) -> Any:
    """Run the command to its end and look."""
    _speed_up(folder)
    SCENARIOS[scenario].act(folder, given)
    return SCENARIOS[scenario].see(folder)


def look(scenario: str, folder: Path) -> Any:
    return SCENARIOS[scenario].see(folder)


def files_of(folder: Path) -> dict[str, str]:
    """Digest of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _settings(folder: Path) -> Any:
    return settings_of(folder / "lake")


def _harvest_folder(folder: Path, given: Mapping[str, Any]) -> None:
    from radlake.cli.hospitals import hospital_of_files
    from radlake.ingest import harvest_folder

    settings = _settings(folder)
    harvest_folder(settings, Path(given["archive"]), hospital=hospital_of_files(settings, "h1"))


def _harvest_node(folder: Path, given: Mapping[str, Any]) -> None:
    from radlake.ingest import harvest_hospital
    from radlake.net import DimseNode, Hospital, Window

    node = DimseNode(name="h1", ae_title="HIS", host="127.0.0.1", port=given["port"], retrieve=given["retrieve"])
    hospital = Hospital(hospital_id="h1", name_zh="样例", name_en="Sample", region_code="320100", node=node)
    harvest_hospital(_settings(folder), hospital, window=Window(*_WINDOW))


def _see_harvest(folder: Path) -> dict[str, Any]:
    """Objects, rows, states, what leads back, what is held, what was published, and that nothing is left over."""
    from radlake.lake import Lake, duck
    from radlake.lake.ledger import Ledger

    settings = _settings(folder)
    lake = Lake.from_settings(settings)
    with closing(Ledger(settings.ledger)) as ledger:
        held = sorted((row["quarantine_id"], row["study_uid"], row["reason"]) for row in ledger.held())
        entries = [(e.study_uid, e.expected, dict(e.stored), e.set_aside, e.lake_month) for e in ledger.entries("h1")]
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


def _harvested(folder: Path, given: Mapping[str, Any]) -> None:
    settings_of(folder / "lake")
    _speed_up(folder)
    _harvest_folder(folder, given)


def _recompress(folder: Path, given: Mapping[str, Any]) -> None:
    from radlake.recompress import recompress_hospital

    recompress_hospital(_settings(folder), "h1", batch_instances=3)


def _recompressed(folder: Path, given: Mapping[str, Any]) -> None:
    _harvested(folder, given)
    _recompress(folder, given)


def _see_lake(folder: Path) -> dict[str, Any]:
    settings = _settings(folder)
    return {"picture": picture(settings), "states": states(settings), "leads back": leads_back(settings)}


def _tidy(folder: Path, given: Mapping[str, Any]) -> None:
    """A pin, an unpin, and the night's upkeep with nothing to be kept."""
    from radlake.lake import Lake
    from radlake.lake.ledger import Ledger
    from radlake.lake.upkeep import tidy

    settings = _settings(folder)
    lake = Lake.from_settings(settings)
    lake.tables.pin("release-1", {"dicom.study_v1": 1})
    lake.tables.unpin("release-1")
    lake.tables.pin("release-2", {"dicom.study_v1": 2})
    with closing(Ledger(settings.ledger)) as ledger:
        tidy(lake, ledger=ledger, retention=timedelta(0))


def _see_tidied(folder: Path) -> dict[str, Any]:
    """Besides the lake: its pins, and how many live files and objects there are."""
    from radlake.contracts import load_tables
    from radlake.lake import Lake

    lake = Lake.from_settings(_settings(folder))
    files = {table.full_name: len(lake.tables.files(table)) for table in load_tables().values()}
    return _see_lake(folder) | {"pins": lake.tables.pins(), "files": files}


def _review(folder: Path, given: Mapping[str, Any]) -> None:
    """Decide, take it back, decide again, replay. Run again it goes on where the ledger says that it is."""
    from radlake.cli.hospitals import hospital_of_files
    from radlake.ingest import replay_quarantine
    from radlake.lake.ledger import Ledger
    from radlake.lake.reviews import Reviews

    settings = _settings(folder)
    with closing(Ledger(settings.ledger)) as ledger:
        held = ledger.held()
        names = sorted(record["quarantine_id"] for record in held)
        reviews = Reviews(ledger)
        in_force = reviews.in_force(names)
        decided = {"by": "reviewer", "now": _NOW}
        if not in_force and not reviews.log():
            reviews.record(names, decision="accept", why="seen", **decided)
        if reviews.in_force(names) and all(review.decision == "accept" for review in reviews.in_force(names).values()):
            reviews.undo(names, by="reviewer", now=_NOW)
        if not reviews.in_force(names):
            reviews.record(names, decision="reject", why="seen twice", **decided)
    replay_quarantine(settings, hospital_of_files(settings, "h1"), held=held)


def _see_reviews(folder: Path) -> dict[str, Any]:
    from radlake.lake.ledger import Ledger
    from radlake.lake.reviews import Reviews

    with closing(Ledger(_settings(folder).ledger)) as ledger:
        log = [(r.quarantine_id, r.decision, r.undone_by, r.replayed_at is not None) for r in Reviews(ledger).log()]
    return _see_harvest(folder) | {"reviews": log}


def _rotate(folder: Path, given: Mapping[str, Any]) -> None:
    """What `radlake key rotate` does."""
    from radlake.machine import utc_now
    from radlake.vault.lookup import Vault
    from radlake.vault.rotation import rotate
    from radlake.vault.trail import Reason

    vault, reason = Vault(_settings(folder), clock=utc_now), Reason("keeper", "yearly")
    try:
        vault.record("rotate", reason=reason)
        rotate(vault.keys, vault.rows)
        vault.record("rotated", reason=reason)
    finally:
        vault.close()


def _see_vault(folder: Path) -> dict[str, Any]:
    """The records open, all with the newest key, and the audit trail is whole."""
    from radlake.lake.ledger import Ledger
    from radlake.lake.vault import VaultRows
    from radlake.vault.lake_key import lake_keys
    from radlake.vault.trail import AuditTrail

    settings = _settings(folder)
    with closing(Ledger(settings.ledger)) as ledger:
        rows = VaultRows(ledger)
        old = [version for version in rows.count_by_version() if version != rows.version]
        problems = AuditTrail(ledger, lake_keys(settings), restricted=settings.restricted).problems()
    return {"leads back": leads_back(settings), "old versions": old, "problems": problems}


def _init(folder: Path, given: Mapping[str, Any]) -> None:
    from radlake.cli.init import ensure_key

    ensure_key(_bare(folder))


def _bare(folder: Path) -> Any:
    from radlake.config import Settings

    return Settings(lake=str(folder / "lake"), workers=0)


def _see_key(folder: Path) -> Any:
    """A whole key that only its owner may read."""
    key = _bare(folder).restricted / "root.key"
    return {"bytes": len(bytes.fromhex(key.read_text())), "mode": oct(key.stat().st_mode & 0o777)}


def _no_lake(folder: Path, given: Mapping[str, Any]) -> None:
    folder.mkdir(exist_ok=True)


SCENARIOS: Mapping[str, Scenario] = {
    "folder": Scenario(_harvest_folder, _see_harvest),
    "node": Scenario(_harvest_node, _see_harvest),
    "recompress": Scenario(_recompress, _see_lake, _harvested),
    "tidy": Scenario(_tidy, _see_tidied, _recompressed),
    "review": Scenario(_review, _see_reviews, _harvested),
    "rotate": Scenario(_rotate, _see_vault, _harvested),
    "init": Scenario(_init, _see_key, _no_lake),
}
