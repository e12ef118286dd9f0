"""A new key for the vault: every record is sealed anew, in steps that may be interrupted and repeated.

The pseudonyms of the lake stay: they follow the root key (docs/adr/0011-keys-and-the-vault.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from radlake.commit_points import reached
from radlake.deidentify import KeyRing
from radlake.lake.vault import VaultRows
from radlake.vault.record import VaultRecordDamaged, sealed_anew

__all__ = ["Rotated", "rotate"]

_STEP = 200


@dataclass(frozen=True)
class Rotated:
    """What a rotation did."""

    version: int
    n_sealed: int
    is_new: bool  # False: an interrupted one was finished
    damaged: tuple[str, ...]  # pseudonymous UIDs of studies whose record cannot be opened; left as they are


def rotate(keys: KeyRing, rows: VaultRows, *, progress: Callable[[int], None] = lambda _: None) -> Rotated:
    """Begin a new version of the vault's key, or finish one that was begun, and seal every record with it.

    Parameters
    ----------
    progress : callable
        Told how many records are done.

    Notes
    -----
    A harvest that is under way seals with the version that it began with: `radlake key status` counts such records,
    and the next rotation finishes them first.
    """
    version = rows.version
    n_sealed, damaged = _seal_all(keys, rows, version=version, progress=progress)
    is_new = n_sealed == 0
    if is_new:
        version = rows.next_version()
        reached("vault.version_begun")
        n_sealed, damaged = _seal_all(keys, rows, version=version, progress=progress)
    rows.forget_old_pages()
    reached("vault.forgotten")
    return Rotated(version, n_sealed, is_new, tuple(damaged))


def _seal_all(
    keys: KeyRing, rows: VaultRows, *, version: int, progress: Callable[[int], None]
) -> tuple[int, list[str]]:
    """Seal what has another version; how many there were, and the studies whose record cannot be opened."""
    n_sealed, damaged, after = 0, [], ""
    while page := rows.page(after=after, limit=_STEP, not_version=version):
        after = page[-1]["record_id"]
        fresh: dict[str, bytes] = {}
        for row in page:
            try:
                fresh[row["record_id"]] = sealed_anew(keys, row, version=version)
            except VaultRecordDamaged:
                damaged.append(row["lake_study_uid"])
        rows.replace(fresh, version=version)
        reached("vault.resealed")
        n_sealed += len(fresh)
        progress(n_sealed)
    return n_sealed, damaged
