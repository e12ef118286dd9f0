"""Approval of a release: who may hold it, for what and until when; entered in the ledger, then told where holders look.

Rows of the ledger's table are only added: the newest of a release holds. What is approved is a digest, so a candidate
that was made anew with other content has to be approved anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from radlake.cohort.candidate import Candidate, candidates, open_candidate, tell_state
from radlake.cohort.metadata import metadata_files
from radlake.commit_points import reached
from radlake.config import Settings
from radlake.errors import ConfigInvalid, PermanentError
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import COHORT_RELEASE
from radlake.lake.store import make_folder, open_store, storage_errors
from radlake.lake.withdrawals import sharing_lake
from radlake.vault.lake_key import lake_keys, open_ledger
from radlake.vault.trail import AuditTrail, Reason

__all__ = ["Approval", "approve", "decisions", "revoke", "standing"]


class ReleaseUnfit(PermanentError):
    sentence = "{release} cannot be approved: {reason}."


@dataclass(frozen=True, kw_only=True)
class Approval:
    """What somebody decided about a release.

    Attributes
    ----------
    decision : {"approved", "revoked", "ended"}
        `ended` is never entered: `standing` tells it.
    digest : str
        Of the candidate's document.
    purpose, holder : str
        What the data are for, and who answers for them.
    expires_on : date
        The last day on which it can be pulled (UTC).
    """

    release_id: str
    decision: str
    digest: str
    purpose: str
    holder: str
    licence: str
    by: str
    why: str
    at: datetime
    expires_on: date | None


def approve(
    settings: Settings,
    release_id: str,
    *,
    purpose: str,
    holder: str,
    expires_on: date,
    by: str,
    why: str,
    licence: str,
    now: datetime,
) -> Approval:
    """Enter an approval and let the release be pulled; running it again is harmless.

    Raises
    ------
    SourceMissing, ConfigInvalid
    LakeBusy
        If somebody's data are being withdrawn.
    ReleaseUnfit
        If nobody is in it, or it would end before it begins.
    """
    lake = Lake.from_settings(settings)
    given = {"--purpose": purpose, "--holder": holder, "--by": by, "--why": why, "--licence": licence}
    if empty := [name for name, text in given.items() if not text.strip()]:
        raise ConfigInvalid(path="The approval", problems=[f"{name} is empty" for name in empty])
    if expires_on <= now.date():
        raise ReleaseUnfit(release=release_id, reason=f"it would expire on {expires_on}, which is not in the future")
    with sharing_lake(settings):
        candidate = open_candidate(lake, release_id)
        if not candidate.document["n_persons"]:
            raise ReleaseUnfit(release=release_id, reason="nobody is in it")
        approval = Approval(
            release_id=release_id,
            decision="approved",
            digest=candidate.digest,
            purpose=purpose,
            holder=holder,
            licence=licence,
            by=by,
            why=why,
            at=now,
            expires_on=expires_on,
        )
        _enter(settings, approval)
        _publish(lake, candidate, approval)
    return approval


def revoke(settings: Settings, release_id: str, *, by: str, why: str, now: datetime) -> Approval:
    """End a release before its time: it cannot be pulled from here on.

    Raises
    ------
    SourceMissing
    """
    lake = Lake.from_settings(settings)
    candidate = open_candidate(lake, release_id)
    ended = Approval(
        release_id=release_id,
        decision="revoked",
        digest=candidate.digest,
        purpose="",
        holder="",
        licence="",
        by=by,
        why=why,
        at=now,
        expires_on=None,
    )
    _enter(settings, ended)
    open_store(lake.url, options=lake.storage_options).delete(f"releases/{release_id}/release.json")
    tell_state(lake, release_id, "revoked", candidate.document["contact"])
    reached("release.told")
    return ended


def decisions(ledger: Ledger, release_id: str = "") -> list[Approval]:
    """Every decision about a release, or about all, oldest first."""
    query = sa.select(COHORT_RELEASE).order_by(COHORT_RELEASE.c.number)
    if release_id:
        query = query.where(COHORT_RELEASE.c.release_id == release_id)
    with ledger.reading() as connection:
        rows = connection.execute(query).mappings()
        return [Approval(**{name: value for name, value in row.items() if name != "number"}) for row in rows]


def standing(lake: Lake, ledger: Ledger) -> dict[str, Approval | None]:
    """How each release stands, by id: its newest decision, or None while it waits for one.

    A revoked one still tells who holds what was pulled, for what and until when. One that was decided about and is no
    longer there is `ended`: somebody was withdrawn from it.
    """
    last: dict[str, Approval] = {}
    for one in decisions(ledger):
        before = last.get(one.release_id)
        if one.decision == "revoked" and before is not None:
            told = {name: getattr(before, name) for name in ("purpose", "holder", "licence", "expires_on")}
            last[one.release_id] = replace(one, **told)
        else:
            last[one.release_id] = one
    there = candidates(lake)
    last |= {name: replace(one, decision="ended") for name, one in last.items() if name not in there}
    return {release_id: last.get(release_id) for release_id in sorted({*there, *last})}


def _enter(settings: Settings, decision: Approval) -> None:
    with closing(open_ledger(settings)) as ledger:
        last = decisions(ledger, decision.release_id)[-1:]
        same = ("decision", "digest", "purpose", "holder", "licence", "by", "why", "expires_on")
        if last and all(getattr(last[0], name) == getattr(decision, name) for name in same):
            return
        # The trail first: after a kill in between it tells of a decision twice, and never misses one.
        trail = AuditTrail(ledger, lake_keys(settings), restricted=settings.restricted)
        trail.record(
            f"release {decision.decision}",
            reason=Reason(decision.by, decision.why),
            now=decision.at,
            kind="release",
            pseudonym=decision.release_id,
            outcome=decision.digest,
        )
        with ledger.writing() as connection:
            connection.execute(COHORT_RELEASE.insert().values(**vars(decision)))
    reached("release.entered")


def _publish(lake: Lake, candidate: Candidate, approval: Approval) -> None:
    """Tables, manifests and metadata first, the document that names them last."""
    store = open_store(lake.url, options=lake.storage_options)
    prefix = f"releases/{candidate.release_id}"
    folder = lake.scratch / f"release-{uuid.uuid4().hex}"
    with storage_errors(str(lake.scratch)):
        make_folder(folder)
        try:
            files = {}
            for path in candidate.tables.values():
                files[f"{prefix}/tables/{path.name}"] = Path(shutil.copyfile(path, folder / path.name))
            for path in candidate.manifests.values():
                files[f"{prefix}/{path.name}"] = Path(shutil.copyfile(path, folder / path.name))
            told = _told(candidate, approval)
            told["metadata"] = dict(candidate.document["manifests"])
            for name, content in metadata_files(told).items():
                (folder / name).write_bytes(content)
                files[f"{prefix}/{name}"] = folder / name
                told["metadata"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            store.put(files)
            text = json.dumps(told, sort_keys=True, ensure_ascii=False, indent=1) + "\n"
            (folder / "release.json").write_text(text, encoding="utf-8")
            store.put({f"{prefix}/release.json": folder / "release.json"})
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    tell_state(lake, candidate.release_id, "approved", candidate.document["contact"])
    reached("release.told")


_TOLD = ("release_id", "cohort_id", "project", "contact", "definition", "title", "n_persons", "n_exams", "n_series",
         "n_instances", "n_bytes", "tables", "risk")  # fmt: skip


def _told(candidate: Candidate, approval: Approval) -> dict[str, Any]:
    """What a holder is told of the release."""
    content: dict[str, Any] = {name: candidate.document[name] for name in _TOLD}
    content["approval"] = {
        "purpose": approval.purpose,
        "holder": approval.holder,
        "licence": approval.licence,
        "approved_by": approval.by,
        "approved_at": approval.at.isoformat(timespec="seconds"),
        "expires_on": str(approval.expires_on),
        "digest": approval.digest,
    }
    return content
