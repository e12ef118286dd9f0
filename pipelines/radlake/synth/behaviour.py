"""How a simulated PACS behaves on the wire: what it answers, sends and refuses, given its quirks.

One object per PACS, shared by its protocols (`dimse_pacs`, `web_pacs`, and `virtual` in memory), so that a quirk is the
same whichever way it is asked. What depends on how often it was asked is counted here.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping

from radlake.synth.holdings import Held, Holdings
from radlake.synth.quirks import Quirks

__all__ = ["Behaviour", "Offline", "TooBroad"]

_BELOW = {"SERIES": (), "IMAGE": ("StudyInstanceUID", "SeriesInstanceUID")}


class TooBroad(Exception):
    """A query with more answers than the PACS gives."""


class Offline(Exception):
    """What is asked for lies on tape; it is being brought."""


class Behaviour:
    """Thread-safe."""

    def __init__(self, holdings: Holdings, *, quirks: Quirks) -> None:
        self.holdings = holdings
        self.quirks = quirks
        self._lock = threading.Lock()
        self._n_calls = self._n_sent = 0
        self._asks: Counter[tuple[str, str]] = Counter()

    def refuses(self) -> bool:
        """Whether this association or request is refused; every call counts."""
        with self._lock:
            self._n_calls += 1
            return bool(self.quirks.flap) and self._n_calls % self.quirks.flap == 0

    def _take_time(self) -> None:
        if self.quirks.delay_ms:
            time.sleep(self.quirks.delay_ms / 1000)

    def find(self, level: str, query: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """Answers to a query.

        Raises
        ------
        TooBroad
        """
        quirks = self.quirks
        self._take_time()
        if quirks.needs_series and not all(query.get(key) for key in _BELOW.get(level, ())):
            return
        answers = self.holdings.find(level, query)
        if quirks.refuse_above:
            answers = list(answers)
            if len(answers) > quirks.refuse_above:
                raise TooBroad
        for answer in answers:
            if quirks.omit_counts:
                answer = {key: value for key, value in answer.items() if not key.startswith("NumberOf")}
            if quirks.omit_sop_classes:
                answer = {key: value for key, value in answer.items() if not key.startswith("SOPClass")}
            if quirks.offline_one_in:
                answer = answer | {"InstanceAvailability": self._availability(answer["StudyInstanceUID"])}
            yield answer

    def sends(self, query: Mapping[str, str]) -> list[Held]:
        """What a retrieve sends, in order; every call counts.

        Raises
        ------
        Offline
        """
        quirks, study_uid = self.quirks, query.get("StudyInstanceUID", "")
        self._take_time()
        if quirks.needs_series and not query.get("SeriesInstanceUID"):
            return []
        if self._is_on_tape(study_uid):
            with self._lock:
                self._asks["tape", study_uid] += 1
            raise Offline
        with self._lock:
            self._asks["retrieve", study_uid] += 1
            if self._asks["retrieve", study_uid] <= quirks.empty_success:
                return []
        return self.holdings.instances(query)

    def cannot_send(self, held: Held) -> bool:
        quirks, uid = self.quirks, held.sop_instance_uid
        return uid in quirks.fail_instances or _is_chosen(uid, quirks.fail_one_in)

    def is_cut(self) -> bool:
        """Whether the connection is cut instead of sending the next instance; every call counts."""
        with self._lock:
            self._n_sent += 1
            return self._n_sent == self.quirks.drop_after_n + 1 > 1

    def _availability(self, study_uid: str) -> str:
        return "NEARLINE" if self._is_on_tape(study_uid) else "ONLINE"

    def _is_on_tape(self, study_uid: str) -> bool:
        is_archived = _is_chosen(study_uid, self.quirks.offline_one_in)
        with self._lock:
            return is_archived and self._asks["tape", study_uid] < self.quirks.offline_asks


def _is_chosen(uid: str, one_in: int) -> bool:
    """Whether a UID is one of so many: the same ones each time."""
    return one_in > 0 and zlib.crc32(uid.encode()) % one_in == 0
