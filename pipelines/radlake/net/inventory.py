"""What a node lists, read with doubt, and the fewest requests that bring what is due. Nothing is sent here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from radlake.dicom.values import date_from_text, time_from_text
from radlake.log import get_logger
from radlake.net.client import StudyFound, Window

__all__ = [
    "Inventory",
    "Keys",
    "int_from_text",
    "plan_by_series",
    "plan_requests",
    "studies_within",
    "study_from_answer",
    "study_from_text",
]

Keys = Mapping[str, str | Sequence[str]]

_UIDS_A_REQUEST = 100

log = get_logger()


@dataclass(frozen=True)
class Inventory:
    """What a node lists of one study.

    Attributes
    ----------
    series : mapping, optional
        SOP Instance UIDs of each Series Instance UID; None when the node gives no list, or none that can be trusted.
        Some archives hold two instances under one UID, mostly in two series.
    sop_classes : frozenset of str
        Empty when the node does not tell one of them.
    modalities : frozenset of str
        Of its series.
    """

    series: Mapping[str, Sequence[str]] | None = None
    sop_classes: frozenset[str] = frozenset()
    modalities: frozenset[str] = frozenset()

    @property
    def instances(self) -> frozenset[str] | None:
        return None if self.series is None else frozenset().union(*self.series.values())

    @property
    def twins(self) -> dict[str, int]:
        """How often each SOP Instance UID is listed that is listed more than once."""
        counts = Counter(uid for uids in (self.series or {}).values() for uid in uids)
        return {uid: n for uid, n in counts.items() if n > 1}


def plan_requests(study_uid: str, *, inventory: Inventory, due: Iterable[str] | None) -> list[Keys]:
    """The fewest identifiers that bring the due instances and nothing else: the study, whole series, or instances.

    Without a list of what the node has, or of what is due, the whole study is asked for (PS3.4 C.4.2.2.1).
    """
    study = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study_uid}
    if inventory.series is None or due is None or not set(due) < (inventory.instances or frozenset()):
        return [study]
    requests: list[Keys] = []
    for series_uid, uids in inventory.series.items():
        wanted = sorted(set(uids).intersection(due))
        if len(wanted) == len(set(uids)):
            requests.append({**study, "QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": series_uid})
            continue
        image = {**study, "QueryRetrieveLevel": "IMAGE", "SeriesInstanceUID": series_uid}
        for begin in range(0, len(wanted), _UIDS_A_REQUEST):
            requests.append({**image, "SOPInstanceUID": wanted[begin : begin + _UIDS_A_REQUEST]})
    return requests


def plan_by_series(study_uid: str, *, inventory: Inventory) -> list[Keys]:
    """A whole study, series by series: some archives send nothing when only the study is named."""
    study = {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": study_uid}
    return [{**study, "SeriesInstanceUID": uid} for uid in sorted(inventory.series or ()) if uid]


def study_from_text(
    study_uid: str,
    *,
    study_date: str,
    n_instances: str,
    modalities: Iterable[str],
    availability: str = "",
    study_time: str = "",
) -> StudyFound:
    """A study from the texts of an answer; what is missing or no date or number becomes None.

    >>> study_from_text("1.2", study_date="2026.03.01", n_instances="", modalities=["CT", ""]).study_date
    datetime.date(2026, 3, 1)
    """
    day = date_from_text(study_date)
    n = int_from_text(n_instances, default=-1)
    named = tuple(m.strip() for m in modalities if m.strip())
    return StudyFound(
        study_uid.strip(), day, n if n >= 0 else None, named, availability.strip().upper(), time_from_text(study_time)
    )


def study_from_answer(answer: Mapping[str, str]) -> StudyFound:
    """A study from the answer to a query at STUDY level."""
    return study_from_text(
        answer.get("StudyInstanceUID", ""),
        study_date=answer.get("StudyDate", ""),
        n_instances=answer.get("NumberOfStudyRelatedInstances", ""),
        modalities=answer.get("ModalitiesInStudy", "").split("\\"),
        availability=answer.get("InstanceAvailability", ""),
        study_time=answer.get("StudyTime", ""),
    )


def int_from_text(text: str, *, default: int) -> int:
    try:
        return int(text)
    except ValueError:
        return default


def studies_within(window: Window, answers: Iterable[StudyFound], *, node: str) -> list[StudyFound]:
    """Each study once, in the order of the answers; one without a date stays, one outside the window goes."""
    found: dict[str, StudyFound] = {}
    n_nameless = 0
    for study in answers:
        if not study.study_uid:
            n_nameless += 1
        elif study.study_date is None or study.study_date in window:
            found.setdefault(study.study_uid, study)
    if n_nameless:
        log.warning("studies_without_uid_listed", node=node, n_failed=n_nameless)
    return list(found.values())
