"""What a worker is asked to do for one study, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from radlake.config import Settings
from radlake.errors import QuarantineError
from radlake.lake.evidence import SealedRecord, StoredInstance, UnreadPiece
from radlake.pixels import PixelDecision
from radlake.retention.classes import Rule
from radlake.telemetry import Work

__all__ = ["IngestJob", "Refused", "SourceFile", "StudyOutcome", "unexpected"]


@dataclass(frozen=True)
class SourceFile:
    """A received file: where its bytes lie, and where they came from (for people)."""

    path: Path
    origin: str
    sop_uid: str = ""
    quarantine_id: str = ""  # set when it is replayed from quarantine
    decision: PixelDecision | None = None  # of a reviewer who saw the pixels


@dataclass(frozen=True)
class IngestJob:
    """Everything a worker needs for one study.

    Attributes
    ----------
    stored : mapping of SOP Instance UID to StoredInstance
        What the lake already has of this study: an equal instance is a resend, a different one a conflict.
    kept_out : mapping of str to QuarantineError
        By quarantine id, why bytes stay out however often they come: a reviewer rejected them, or the referee objected
        and they are not what is replayed.
    patient_key : int or None
        The person that the study was stored under before, when it was.
    vault_version : int
        Of the key that the vault's record is sealed with.
    key_check : str
        Check value of the lake's key: a worker on another machine may have been given another one.
    residency : {"central", "index"}
        Whether the series objects stay in our store, or the hospital keeps the pixels.
    retention_rules : tuple of Rule
        What headers say of the retention class.
    withdrawn : frozenset of str
        Keyed digests of persons who withdrew: nothing new of them is stored.
    """

    settings: Settings
    hospital_id: str
    study_uid: str
    files: tuple[SourceFile, ...]
    stored: Mapping[str, StoredInstance] = field(default_factory=dict)
    kept_out: Mapping[str, QuarantineError] = field(default_factory=dict)
    patient_key: int | None = None
    vault_version: int = 1
    key_check: str = ""
    residency: str = "central"
    retention_rules: tuple[Rule, ...] = ()
    withdrawn: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Refused:
    """A file that goes to quarantine."""

    file: SourceFile
    sop_uid: str
    error: QuarantineError


@dataclass(frozen=True)
class StudyOutcome:
    """What became of the files of one study. A file that could not be read any more is in none of them.

    Attributes
    ----------
    ways : mapping of str to int
        How many instances were de-identified by template, and why the others were not.
    unread : tuple of UnreadPiece
        What no rule of the vocabulary could read in the descriptions of a study whose body part is not sure.
    work : Work, optional
        When and where a worker did it.
    """

    hospital_id: str
    study_uid: str
    study: dict[str, Any] | None = None
    series: tuple[dict[str, Any], ...] = ()
    instances: tuple[dict[str, Any], ...] = ()
    stored: Mapping[str, StoredInstance] = field(default_factory=dict)
    resends: tuple[SourceFile, ...] = ()
    refused: tuple[Refused, ...] = ()
    files: tuple[SourceFile, ...] = ()
    sealed: SealedRecord | None = None  # the vault's record of `stored`
    retention: str = ""  # class that the headers tell
    ways: Mapping[str, int] = field(default_factory=dict)
    unread: tuple[UnreadPiece, ...] = ()
    is_withdrawn: bool = False  # it is of a person who withdrew, and nothing of it was stored
    work: Work | None = field(default=None, compare=False)


def unexpected(exc: Exception) -> QuarantineError:
    """The class only: the text of a foreign exception may quote a value."""
    return QuarantineError(reason="unexpected_error", detail=type(exc).__name__)
