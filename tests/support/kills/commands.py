"""The list of scenarios, and how one is run, counted, killed, starved and looked at; each call in its own process."""

from __future__ import annotations

import importlib
import resource
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from radlake import log
from radlake.commit_points import listening
from support.dicom import ct_study, write
from support.killing import killing
from support.kills.backfills import BACKFILLS
from support.kills.cohorts import COHORTS
from support.kills.harvests import HARVESTS
from support.kills.pushes import PUSHES
from support.kills.residency import RESIDENCY
from support.kills.scenario import NOW, Scenario, speed_up
from support.kills.upkeep import UPKEEP
from support.kills.withdrawals import WITHDRAWALS
from support.lakes import settings_of

__all__ = ["SCENARIOS", "counted", "killed", "look", "run_again", "starved", "warm_up"]

SCENARIOS: Mapping[str, Scenario] = {**HARVESTS, **PUSHES, **BACKFILLS, **RESIDENCY, **UPKEEP, **COHORTS, **WITHDRAWALS}

# pyarrow imports pandas as soon as it is asked for an array: half a second of each child.
_NEEDED = (
    "imagecodecs",
    "pandas",
    "pyarrow.acero",
    "pyarrow.dataset",
    "radlake.backfill.coverage",
    "radlake.cli.board",
    "radlake.cli.hospitals",
    "radlake.cli.init",
    "radlake.cohort.approval",
    "radlake.cohort.pull",
    "radlake.cohort.release",
    "radlake.expiry",
    "radlake.ingest.certify",
    "radlake.ingest.publish",
    "radlake.ingest.run",
    "radlake.lake.duck",
    "radlake.lake.upkeep",
    "radlake.net.dimse",
    "radlake.receive.closer",
    "radlake.receive.scp",
    "radlake.receive.service",
    "radlake.recompress",
    "radlake.residency",
    "radlake.synth.virtual",
    "radlake.vault.lookup",
    "radlake.vault.rotation",
    "radlake.withdrawal",
    "support.push",
)


def warm_up() -> None:
    """Import and load what every run needs, but no engine that starts threads: one study goes through a worker."""
    for name in _NEEDED:
        importlib.import_module(name)
    from radlake.deidentify import load_profile
    from radlake.ingest.job import IngestJob, SourceFile
    from radlake.ingest.spot_check import check_sample
    from radlake.ingest.study import ingest_study
    from radlake.lake import Lake
    from radlake.lake.ledger import Ledger
    from radlake.lake.quarantine import Quarantine
    from radlake.referee import Policy

    log.configure(strict=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(Path(folder) / "lake")
        datasets = ct_study(n=2)
        paths = [write(ds, Path(folder) / f"{n}.dcm") for n, ds in enumerate(datasets)]
        files = tuple(SourceFile(p, p.name, sop_uid=ds.SOPInstanceUID) for p, ds in zip(paths, datasets, strict=True))
        outcome = ingest_study(IngestJob(settings, "h1", str(datasets[0].StudyInstanceUID), files))
        policy, lake = Policy.of_profile(load_profile(settings.profile)), Lake.from_settings(settings)
        with closing(Ledger(settings.ledger)) as ledger:
            quarantine = Quarantine(ledger, lake.quarantine)
            check_sample([outcome], n=9, policy=policy, lake=lake, quarantine=quarantine, now=NOW)


def counted(scenario: str, folder: Path, given: Mapping[str, Any]) -> Counter[str]:
    """Run the command to its end and tell how often it came by each point."""
    found: Counter[str] = Counter()

    def count(name: str) -> None:
        found[name] += 1

    speed_up()
    with listening(count):
        SCENARIOS[scenario].act(folder, given)
    return found


def killed(scenario: str, folder: Path, given: Mapping[str, Any], point: str, nth: int) -> None:
    """Run the command until it reaches the point for the nth time."""
    speed_up()
    with killing(point, nth):
        SCENARIOS[scenario].act(folder, given)


def starved(scenario: str, folder: Path, given: Mapping[str, Any], point: str) -> tuple[str, str]:
    """Run the command on a disk that is full from the point on; the error that tells it, by name and text."""
    from radlake.errors import TransientError

    def starve(name: str) -> None:
        if name == point:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    speed_up()
    try:
        with listening(starve):
            SCENARIOS[scenario].act(folder, given)
    except TransientError as error:
        return type(error).__name__, str(error)
    raise AssertionError("a full disk was not noticed")


def run_again(scenario: str, folder: Path, given: Mapping[str, Any]) -> Any:
    """Run the command to its end and look."""
    speed_up()
    SCENARIOS[scenario].act(folder, given)
    return SCENARIOS[scenario].see(folder)


def look(scenario: str, folder: Path) -> Any:
    return SCENARIOS[scenario].see(folder)
