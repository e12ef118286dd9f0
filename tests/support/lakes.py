"""Small lakes for tests: settings with a fixed key, and a picture of everything in a lake that must be equal."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radlake.config import Settings
from radlake.lake import Lake, duck

if TYPE_CHECKING:
    from radlake.lake.ledger import Ledger

KEY = "5f" * 32


def settings_of(folder: Path, **given: Any) -> Settings:
    """Settings of a new lake in `folder` whose root key is always the same."""
    settings = Settings(lake=str(folder), **{"workers": 0, **given})
    settings.prepare_restricted()
    key = settings.restricted / "root.key"
    key.touch(mode=0o600)
    key.write_text(KEY)
    return settings


def keyed_ledger(url: str) -> Ledger:
    """A ledger in which studies can be changed, with the key of `settings_of`."""
    from radlake.deidentify import KeyRing
    from radlake.lake.ledger import Ledger

    return Ledger(url, mac=KeyRing.from_secret(KEY).ledger_mac)


def picture(settings: Settings) -> dict[str, Any]:
    """Digest of every object by path, and every row of the dicom tables, in a fixed order."""
    lake = Lake.from_settings(settings)
    objects = {
        path: hashlib.sha256(lake.objects.read(path, 0, lake.objects.size(path))).hexdigest()
        for path in sorted(lake.objects.list())
    }
    with duck.connect(lake, tables=("dicom",)) as connection:
        rows = {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall()
            for name in ("dicom.study", "dicom.series", "dicom.instance")
        }
    return {"objects": objects} | rows


def states(settings: Settings) -> dict[str, tuple[str, str]]:
    """State and reason of every study in the ledger."""
    from radlake.lake.ledger import Ledger

    ledger = Ledger(settings.ledger)
    try:
        hospitals = [row["hospital_id"] for row in ledger.completeness()]
        return {
            f"{hospital}/{entry.study_uid}": (entry.state.value, entry.reason)
            for hospital in hospitals
            for entry in ledger.entries(hospital)
        }
    finally:
        ledger.close()


def leads_back(settings: Settings) -> list[tuple[Any, ...]]:
    """What the vault tells of every stored study, in a fixed order."""
    from radlake.lake.ledger import Ledger
    from radlake.lake.vault import VaultRows
    from radlake.vault.lake_key import lake_keys
    from radlake.vault.record import open_record

    ledger, keys = Ledger(settings.ledger), lake_keys(settings)
    try:
        rows = VaultRows(ledger).page(after="", limit=10_000)
    finally:
        ledger.close()
    return sorted(
        (row["lake_study_uid"], record.study, record.series, record.instances, str(record.identity))
        for row in rows
        for record in [open_record(keys, row)]
    )
