"""What a node lists for a range of study dates: asked at study level only, nothing is fetched.

Long lists are halved until none was cut (`radlake.net.listing`). Studies without a date lie in no window (Range
Matching leaves them out, PS3.4 C.2.2.2.5): they are looked for by one query for any date, which is broken off when the
archive is too large for that. What cannot be proven whole is told as such.
"""

from __future__ import annotations

from dataclasses import dataclass

from radlake.backfill.windows import months
from radlake.errors import QueryFailed
from radlake.net import ArchiveClient, StudyFound, Window

__all__ = ["Survey", "survey"]

_MOST_OF_ANY_DATE = 100_000  # answers; about a minute and 100 MB


@dataclass(frozen=True)
class Survey:
    """The answer of one node.

    Attributes
    ----------
    studies : tuple of StudyFound
        Of the range, each once, all with a date.
    undated : tuple of StudyFound
    undated_trouble : str
        Why there may be more of them; empty when all are known.
    doubtful : tuple of Window
        Days of which the node may have more studies than it lists.
    list_limit : int or None
        Where it is known to cut its lists.
    """

    studies: tuple[StudyFound, ...]
    undated: tuple[StudyFound, ...]
    undated_trouble: str
    doubtful: tuple[Window, ...]
    list_limit: int | None


def survey(client: ArchiveClient, window: Window) -> Survey:
    """Ask a node month by month, then for studies without a date.

    Raises
    ------
    NodeUnavailable, AssociationRejected, QueryFailed, SlowDown
    """
    found: dict[str, StudyFound] = {}
    for month in months(window):
        found.update((study.study_uid, study) for study in client.find_studies(month))
    dated = {uid: study for uid, study in found.items() if study.study_date is not None}
    undated = {uid: study for uid, study in found.items() if study.study_date is None}
    try:
        anything = client.find_any_studies(at_most=_MOST_OF_ANY_DATE)
    except QueryFailed as exc:
        anything, trouble = [], f"the node does not answer a query for any date ({exc.facts.get('reason', '')})"
    else:
        trouble = _trouble(anything, dated=dated, limit=client.list_limit)
    undated |= {study.study_uid: study for study in anything if study.study_date is None and study.study_uid}
    return Survey(
        studies=tuple(sorted(dated.values(), key=lambda study: (str(study.study_date), study.study_uid))),
        undated=tuple(sorted(undated.values(), key=lambda study: study.study_uid)),
        undated_trouble=trouble,
        doubtful=client.doubtful_windows(),
        list_limit=client.list_limit,
    )


def _trouble(anything: list[StudyFound], *, dated: dict[str, StudyFound], limit: int | None) -> str:
    """Why a list of any date may not be whole; empty when it holds all that the windows brought, and was not cut."""
    if len(anything) >= _MOST_OF_ANY_DATE:
        return f"the archive has more than {_MOST_OF_ANY_DATE:,} studies; the query for any date was broken off"
    if limit is not None and len(anything) >= limit:
        return f"the node cuts its lists at {limit:,}"
    if not dated.keys() <= {study.study_uid for study in anything}:
        return "the node does not list all studies when it is asked for any date"
    return ""
