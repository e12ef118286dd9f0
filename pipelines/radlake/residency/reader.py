"""Reading instance bytes wherever they are: the store, the cache, or the hospital that keeps them."""

from __future__ import annotations

import threading

from radlake.config import Settings
from radlake.errors import PermanentError, RetrieveFailed, SourceMissing, TransientError
from radlake.lake import Lake
from radlake.lake.reading import read_object
from radlake.net import Hospital, load_hospitals
from radlake.residency.catalogue import SeriesObject, objects_of
from radlake.residency.fetch import Fetched, Outcome, fetch_study

__all__ = ["FetchTooSlow", "PixelsChanged", "PixelsDiffer", "SeriesReader"]


class FetchTooSlow(TransientError):
    sentence = "{hospital} has not sent the series within {seconds:g} seconds. It is still on its way; ask again."

    def __str__(self) -> str:
        return self.sentence.format(**self.facts)


class PixelsChanged(PermanentError):
    """CHANGED or GONE: the hospital does not have any more what was catalogued."""

    sentence = (
        "{hospital} no longer has series {series} as it was catalogued ({reason}). Nothing was served, and its "
        "study is open in the ledger again; see docs/how-to/pixels-at-the-hospital.md."
    )


class PixelsDiffer(PermanentError):
    sentence = (
        "Series {series} of {hospital} was catalogued by another profile or version of radlake than today's, and "
        "cannot be made again as it was. Nothing was served; see docs/how-to/pixels-at-the-hospital.md."
    )


class SeriesReader:
    """Reads ranges of series objects as rows of dicom.instance tell them.

    Parameters
    ----------
    timeout : float
        Seconds that a read may wait for a hospital.
    """

    def __init__(self, settings: Settings, *, timeout: float = 120) -> None:
        self._settings = settings
        self._lake = Lake.from_settings(settings)
        self._timeout = timeout

    def read(self, path: str, offset: int, length: int) -> bytes:
        """One range of a series object; when its hospital keeps it, it is fetched and proven first.

        Raises
        ------
        FetchTooSlow, RetrieveFailed, NodeUnavailable, AssociationRejected, SlowDown
            It may work later. A fetch that is too slow goes on.
        PixelsChanged, PixelsDiffer
        SourceMissing
            If no row knows the object, or it should be in the store and is not.
        """
        try:
            return read_object(self._lake, path, offset, length)
        except SourceMissing:
            wanted = objects_of(self._lake, paths=[path], residency="index")
            if not wanted:
                raise
        self.fetch(wanted[0])
        return read_object(self._lake, path, offset, length)

    def fetch(self, wanted: SeriesObject) -> None:
        """Bring a series object into the cache, within the time limit."""
        hospital = load_hospitals(self._settings.hospitals).get(wanted.hospital_id)
        if hospital is None:
            raise SourceMissing(path=f"The node of {wanted.hospital_id} in {self._settings.hospitals}")
        answer = _within(self._timeout, self._settings, hospital, wanted)
        facts = {"hospital": wanted.hospital_id, "series": wanted.series_uid, "reason": answer.reason}
        if answer.outcome in (Outcome.CHANGED, Outcome.GONE):
            raise PixelsChanged(**facts)
        if answer.outcome is Outcome.DIFFERS:
            raise PixelsDiffer(**facts)
        if answer.outcome is Outcome.INCOMPLETE:
            raise RetrieveFailed(node=wanted.hospital_id, reason=answer.reason)


def _within(seconds: float, settings: Settings, hospital: Hospital, wanted: SeriesObject) -> Fetched:
    answers: list[Fetched] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.extend(fetch_study(settings, hospital, [wanted], timeout=seconds))
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=run, daemon=True, name="radlake-fetch")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise FetchTooSlow(hospital=wanted.hospital_id, seconds=seconds)
    if errors:
        raise errors[0]
    return answers[0]
