"""What is done to a lake that stands: encode anew, tidy, review, rotate keys, certify, tell the lag, expire."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from support.kills.harvests import harvest_together_of, harvested, see_harvest
from support.kills.scenario import NOW, Scenario, files_of, settings_in, speed_up
from support.lakes import leads_back, picture, states

__all__ = ["UPKEEP"]

_BOARD_NOW = NOW.replace(month=3, day=2)


def _recompress(folder: Path, given: Mapping[str, Any]) -> None:
    from radlake.recompress import recompress_hospital

    recompress_hospital(settings_in(folder), "h1", batch_instances=3)


def _recompressed(folder: Path, given: Mapping[str, Any]) -> None:
    harvested(folder, given)
    _recompress(folder, given)


def _see_lake(folder: Path) -> dict[str, Any]:
    settings = settings_in(folder)
    staged = files_of(settings.restricted / "staged")
    return {
        "picture": picture(settings),
        "states": states(settings),
        "leads back": leads_back(settings),
        "staged": staged,
    }


def _tidy(folder: Path, given: Mapping[str, Any]) -> None:
    """A pin, an unpin, and the night's upkeep with nothing to be kept."""
    from radlake.lake import Lake
    from radlake.lake.ledger import Ledger
    from radlake.lake.upkeep import tidy

    settings = settings_in(folder)
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

    lake = Lake.from_settings(settings_in(folder))
    files = {table.full_name: len(lake.tables.files(table)) for table in load_tables().values()}
    return _see_lake(folder) | {"pins": lake.tables.pins(), "files": files}


def _review(folder: Path, given: Mapping[str, Any]) -> None:
    """Decide, take it back, decide again, replay. Run again it goes on where the ledger says that it is."""
    from radlake.cli.hospitals import hospital_of_files
    from radlake.ingest import replay_quarantine
    from radlake.lake.ledger import Ledger
    from radlake.lake.reviews import Reviews

    settings = settings_in(folder)
    with closing(Ledger(settings.ledger)) as ledger:
        held = ledger.held()
        names = sorted(record["quarantine_id"] for record in held)
        reviews = Reviews(ledger)
        in_force = reviews.in_force(names)
        decided = {"by": "reviewer", "now": NOW}
        if not in_force and not reviews.log():
            reviews.record(names, decision="accept", why="seen", **decided)
        if reviews.in_force(names) and all(review.decision == "accept" for review in reviews.in_force(names).values()):
            reviews.undo(names, by="reviewer", now=NOW)
        if not reviews.in_force(names):
            reviews.record(names, decision="reject", why="seen twice", **decided)
    replay_quarantine(settings, hospital_of_files(settings, "h1"), held=held)


def _see_reviews(folder: Path) -> dict[str, Any]:
    from radlake.lake.ledger import Ledger
    from radlake.lake.reviews import Reviews

    with closing(Ledger(settings_in(folder).ledger)) as ledger:
        log = [(r.quarantine_id, r.decision, r.undone_by, r.replayed_at is not None) for r in Reviews(ledger).log()]
    return see_harvest(folder) | {"reviews": log}


def _rotate(folder: Path, given: Mapping[str, Any]) -> None:
    """What `radlake key rotate` does."""
    from radlake.machine import utc_now
    from radlake.vault.lookup import Vault
    from radlake.vault.rotation import rotate
    from radlake.vault.trail import Reason

    vault, reason = Vault(settings_in(folder), clock=utc_now), Reason("keeper", "yearly")
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

    settings = settings_in(folder)
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


def _province(folder: Path, given: Mapping[str, Any]) -> None:
    """A lake of several hospitals."""
    speed_up()
    harvest_together_of(folder, given)


def _certify(folder: Path, given: Mapping[str, Any]) -> None:
    from radlake.ingest.certify import certify, shanghai_day

    certify(settings_in(folder), (), shanghai_day(NOW), NOW)


def _see_certificates(folder: Path) -> dict[str, Any]:
    """The documents, their files and rows, and that they verify."""
    from radlake.ingest.certify import verify
    from radlake.lake import Lake, duck
    from radlake.lake.certificate_store import documents
    from radlake.lake.ledger import Ledger

    settings = settings_in(folder)
    with closing(Ledger(settings.ledger)) as ledger, ledger.reading() as connection:
        entered = {name: documents(connection, name) for name in ledger.hospital_ids()}
    with duck.connect(Lake.from_settings(settings), tables=("ops",)) as connection:
        rows = connection.execute("SELECT * FROM ops.certificate ORDER BY ALL").fetchall()
    files = files_of(settings.restricted / "certificates")
    return {"entered": entered, "rows": rows, "files": files, "problems": list(verify(settings))}


def _tell_lag(folder: Path, given: Mapping[str, Any]) -> None:
    """What `radlake board --publish` does; the hour of the board is fixed, that of the publication is not."""
    from radlake.cli.board import boards_of
    from radlake.ingest.ops import publish_lag
    from radlake.lake import Lake
    from radlake.lake.ledger import Ledger
    from radlake.machine import utc_now

    settings = settings_in(folder)
    with closing(Ledger(settings.ledger)) as ledger:
        boards = boards_of(ledger, (), now=_BOARD_NOW, days=7)
    publish_lag(Lake.from_settings(settings), boards, now=utc_now())


def _see_lag(folder: Path) -> dict[str, Any]:
    from radlake.lake import Lake, duck

    with duck.connect(Lake.from_settings(settings_in(folder)), tables=("ops",)) as connection:
        rows = connection.execute("SELECT * EXCLUDE (updated_at) FROM ops.lag ORDER BY ALL").fetchall()
    return {"lag": rows}


def _build(folder: Path, given: Mapping[str, Any]) -> None:
    """The core tables, and the index of recent exams."""
    from radlake.ingest.build import build_lake
    from radlake.ingest.offsets import date_offsets
    from radlake.lake import Lake
    from radlake.stats.duplicates.recent import build_index

    settings = settings_in(folder)
    build_lake(settings, now=NOW, layers=["core"])
    with date_offsets(settings) as offsets:
        build_index(Lake.from_settings(settings), date_offsets=offsets, now=NOW)


def _see_built(folder: Path) -> dict[str, Any]:
    """Exams, and what the index answers from."""
    from radlake.lake import Lake, duck

    settings = settings_in(folder)
    with duck.connect(Lake.from_settings(settings), tables=("core",)) as connection:
        exams = connection.execute("FROM core.exam ORDER BY ALL").fetchall()
    with closing(sqlite3.connect(settings.restricted / "recent_exams.sqlite")) as index:
        recent = index.execute("SELECT * FROM exam ORDER BY 1, 2, 3, 4").fetchall()
        since = index.execute("SELECT since FROM made_from").fetchall()
    return {"exams": exams, "recent": recent, "since": since, "parts": list(settings.restricted.glob("*.part"))}


def _unlinked(folder: Path, given: Mapping[str, Any]) -> None:
    """A vault with two spellings of one person."""
    from support.linkage import identity, keep_no_score, seal_identities

    settings = settings_in(folder)
    phone = "13912345678"
    seal_identities(settings, [identity("劉曉梅", phone=phone), identity("LIU^XIAOMEI", phone=phone)])
    keep_no_score(settings)


def _link(folder: Path, given: Mapping[str, Any]) -> None:
    from radlake.linkage.policy import load_policy
    from radlake.linkage.run import link_all
    from radlake.vault.lookup import Vault
    from radlake.vault.trail import Reason

    settings = settings_in(folder)
    with closing(Vault(settings, clock=lambda: NOW)) as vault:
        link_all(vault, settings, policy=load_policy(), reason=Reason("a registrar", "monthly"), now=NOW)


def _see_linked(folder: Path) -> dict[str, Any]:
    """The map, its quality, and the history."""
    from radlake.lake import Lake, duck
    from radlake.lake.ledger import Ledger
    from radlake.lake.person_links import PersonLinks

    settings = settings_in(folder)
    with duck.connect(Lake.from_settings(settings), tables=_LINKED) as connection:
        rows = {name: connection.execute(f"FROM {name} ORDER BY ALL").fetchall() for name in _LINKED}
    with closing(Ledger(settings.ledger)) as ledger:
        return rows | {"history": PersonLinks(ledger).linked()}


_LINKED = ("core.person_link", "ops.linkage")


def _lake_of_2009(folder: Path, given: Mapping[str, Any]) -> None:
    """Three studies that are due in 2040, of which one is held."""
    from radlake.expiry import hold
    from radlake.lake import Lake, duck
    from radlake.vault.lake_key import open_ledger
    from support.expiry import REASON, lake_of_2009, write_archive

    speed_up()
    settings = lake_of_2009(folder / "lake", write_archive(folder / "archive"))
    query = "SELECT study_instance_uid FROM dicom.study WHERE modality_group = 'DX'"
    with duck.connect(Lake.from_settings(settings), tables=("dicom",)) as connection:
        ((uid,),) = connection.execute(query).fetchall()
    with closing(open_ledger(settings)) as ledger:
        hold(settings, ledger, uid, reason=REASON)


def _expire(folder: Path, given: Mapping[str, Any]) -> None:
    from support.expiry import expired

    expired(settings_in(folder), today=date(2040, 12, 31))


def _see_expired(folder: Path) -> dict[str, Any]:
    """What is left, the tombstones in both zones, and an audit trail that is whole."""
    from radlake.lake import Lake, duck
    from radlake.lake.ledger import Ledger
    from radlake.lake.retention import RetentionRows

    settings = settings_in(folder)
    with closing(Ledger(settings.ledger)) as ledger:
        stones = [
            (stone.lake_study_uid, stone.rule, stone.n_instances, stone.digest, stone.finished_at is not None)
            for stone in RetentionRows(ledger).tombstones()
        ]
    with duck.connect(Lake.from_settings(settings), tables=("ops",)) as connection:
        told = connection.execute("FROM ops.tombstone ORDER BY ALL").fetchall()
    return _see_lake(folder) | {"stones": stones, "told": told, "problems": _see_vault(folder)["problems"]}


UPKEEP: Mapping[str, Scenario] = {
    "recompress": Scenario(_recompress, _see_lake, harvested),
    "tidy": Scenario(_tidy, _see_tidied, _recompressed),
    "review": Scenario(_review, _see_reviews, harvested),
    "rotate": Scenario(_rotate, _see_vault, harvested),
    "certify": Scenario(_certify, _see_certificates, _province),
    "board": Scenario(_tell_lag, _see_lag, _province),
    "build": Scenario(_build, _see_built, harvested),
    "link": Scenario(_link, _see_linked, _unlinked),
    "expire": Scenario(_expire, _see_expired, _lake_of_2009),
    "init": Scenario(_init, _see_key, _no_lake),
}
