"""Quarantine: the original bytes of what could not go into the lake, each with a reason code and a way back.

Held in the restricted zone, named by content, never deleted. Which reasons exist is in schemas/reasons.yaml.
"""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from radlake.commit_points import reached
from radlake.errors import QuarantineError, SourceMissing, StoreFull
from radlake.lake.digests import digest_of_file, quarantine_id_of
from radlake.lake.evidence import SetAside
from radlake.lake.ledger import Ledger
from radlake.lake.store import make_folder
from radlake.machine import fsync

__all__ = ["Quarantine"]

_CHUNK = 1 << 20


class Quarantine:
    """Files under `<root>/<id[:2]>/<id>.dcm`, entered in the ledger.

    The id is a digest of hospital and bytes: setting the same object aside again changes nothing but its reason.
    """

    def __init__(self, ledger: Ledger, root: Path) -> None:
        self._ledger = ledger
        self._root = root

    def path(self, quarantine_id: str) -> Path:
        return self._root / quarantine_id[:2] / f"{quarantine_id}.dcm"

    def hold(
        self,
        source: Path,
        *,
        hospital_id: str,
        error: QuarantineError,
        now: datetime,
        study_uid: str = "",
        sop_uid: str = "",
        origin: str = "",
    ) -> SetAside:
        """Copy the bytes of `source` into quarantine and enter them in the ledger.

        Raises
        ------
        StoreFull
            If the bytes cannot be written; nothing is entered then.
        SourceMissing
            If they cannot be read any more.
        """
        try:
            digest = digest_of_file(source)
        except OSError as exc:
            raise SourceMissing(path="A file that is to be set aside") from exc  # its path may name a patient
        quarantine_id = quarantine_id_of(hospital_id, digest)
        target = self.path(quarantine_id)
        if not target.exists():
            part = target.with_suffix(f".{os.getpid()}.part")
            try:
                make_folder(target.parent)
                with source.open("rb") as reader, part.open("wb") as writer:
                    shutil.copyfileobj(reader, writer, _CHUNK)
                fsync(part)
                part.replace(target)
                fsync(target.parent)
                reached("quarantine.copied")
            except OSError as exc:
                part.unlink(missing_ok=True)
                raise StoreFull(path=str(target.parent), reason=exc.strerror) from exc
        self._ledger.hold(
            {
                "quarantine_id": quarantine_id,
                "hospital_id": hospital_id,
                "study_uid": study_uid,
                "sop_uid": sop_uid,
                "reason": error.reason,
                "detail": error.detail,
                "origin": origin,
                "n_bytes": target.stat().st_size,
                "held_at": now,
            }
        )
        reached("quarantine.entered")
        return SetAside(quarantine_id, sop_uid, error.reason)

    def held(self, *, hospital_id: str | None = None, reason: str | None = None) -> list[dict[str, Any]]:
        return self._ledger.held(hospital_id=hospital_id, reason=reason)

    def release(self, quarantine_ids: list[str], *, now: datetime) -> None:
        self._ledger.release(quarantine_ids, now=now)
        reached("quarantine.released")
