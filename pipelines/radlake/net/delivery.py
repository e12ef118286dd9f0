"""One study on its way to us: what really came, and what the node says of it.

Both ways of DIMSE end here, the C-STORE requests of a C-GET on our own association and those that reach our storage
SCP (PS3.4 B.2). A data set goes from the wire to its file undecoded.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from radlake.errors import RetrieveFailed, StoreFull
from radlake.net.client import RetrieveResult
from radlake.net.instance_files import Draft, Fragment, InstanceFolder, is_file_name, part10_header
from radlake.net.message import SUCCESS, Command, status_text
from radlake.net.signals import OUT_OF_RESOURCES, Signal, SignalKind, Watch, ignore_signal

__all__ = ["Delivery"]

_OUT_OF_RESOURCES = 0xA700
_CANNOT_UNDERSTAND = 0xC000


def _write_instance(
    draft: Draft, command: Command, data: Iterator[Sequence[Fragment]], *, transfer_syntax: str
) -> None:
    """The Part-10 file of a C-STORE request, its data set as it comes."""
    header = part10_header(
        sop_class_uid=str(command.get("AffectedSOPClassUID", "")),
        sop_instance_uid=str(command.get("AffectedSOPInstanceUID", "")),
        transfer_syntax=transfer_syntax,
    )
    draft.write(header, *next(data, ()))
    for pieces in data:
        draft.write(*pieces)


class Delivery:
    """Filled by several threads; the one that asked for the study may wait for them.

    Attributes
    ----------
    due : frozenset of str, optional
        SOP Instance UIDs that shall come; None when nobody knows.
    twins : mapping
        How often a SOP Instance UID shall come that the node lists more than once.
    arrived : set of str
        SOP Instance UIDs that came, also those that the folder had before.
    arrivals : Counter of str
        How often each of them came.
    n_new : int
        How many of them it had not.
    n_said, n_said_failed : int
        Sub-operations that the node calls completed, and failed or not done (PS3.7 9.1.3.1, 9.1.4.1).
    statuses : set of int
        Final statuses of its responses.
    reasons : list of str
        Why something did not come.
    store_full : StoreFull or None
        Our disk refused an instance.
    """

    def __init__(
        self,
        folder: InstanceFolder,
        *,
        due: frozenset[str] | None,
        twins: Mapping[str, int] = MappingProxyType({}),
        watch: Watch = ignore_signal,
    ) -> None:
        self.folder = folder
        self.due = due
        self.twins = twins
        self.arrived: set[str] = set()
        self.arrivals: Counter[str] = Counter()
        self.n_new = self.n_said = self.n_said_failed = 0
        self.statuses: set[int] = set()
        self.reasons: list[str] = []
        self.store_full: StoreFull | None = None
        self._changed = threading.Condition()
        self._n_under_way = 0
        self._last = time.monotonic()
        self._watch = watch
        self._asked: float | None = None

    def ask(self) -> None:
        """A request for instances goes out now."""
        with self._changed:
            self._asked = time.monotonic()

    def hear(self) -> None:
        """Bytes of an instance are here: the first after a request tell how long the node let us wait."""
        with self._changed:
            asked, self._asked = self._asked, None
        if asked is not None:
            self._watch(Signal(SignalKind.FIRST_BYTE, time.monotonic() - asked))

    def begin(self) -> None:
        """An instance is under way; `store` or `end` follows."""
        self.hear()
        with self._changed:
            self._n_under_way += 1

    def store(self, command: Command, data: Iterable[Sequence[Fragment]], *, transfer_syntax: str) -> int:
        """Write one instance durably and return the status of the C-STORE response; uses the data up."""
        uid, is_new = str(command.get("AffectedSOPInstanceUID", "")), False
        rest = iter(data)
        status = _CANNOT_UNDERSTAND
        try:
            if is_file_name(uid):
                is_new = self._keep(command, rest, uid, transfer_syntax)
                status = SUCCESS
            else:
                self.reasons.append("an instance had no usable SOP Instance UID")
        except StoreFull as exc:
            self.store_full = exc
            status = _OUT_OF_RESOURCES
        finally:
            try:
                for _ in rest:
                    pass
            finally:
                self.end(uid if status == SUCCESS else "", is_new=is_new)
        return status

    def _keep(self, command: Command, data: Iterator[Sequence[Fragment]], uid: str, transfer_syntax: str) -> bool:
        """Make an instance durable; whether it is new, or other bytes under a known UID."""
        with self.folder.draft() as draft:
            _write_instance(draft, command, data, transfer_syntax=transfer_syntax)
            return draft.keep_as(uid)

    def count(self, uid: str, *, is_new: bool) -> None:
        """An instance is in the folder."""
        self.begin()
        self.end(uid, is_new=is_new)

    def forget_refusals(self) -> None:
        """The node is asked again in another way: what it said to the first does not count."""
        self.reasons.clear()
        self.statuses.clear()
        self.n_said = self.n_said_failed = 0

    def refuse(self, reason: str) -> None:
        """Something did not come, or was of no use."""
        self.n_said_failed += 1
        self.reasons.append(reason)

    def end(self, uid: str = "", *, is_new: bool = False) -> None:
        """It is in the folder under its UID, or it failed."""
        with self._changed:
            self._n_under_way -= 1
            self._last = time.monotonic()
            if uid:
                self.arrived.add(uid)
                self.arrivals[uid] += 1
                self.n_new += is_new
            self._changed.notify_all()

    def count_response(self, response: Command) -> None:
        """Take in the final response to one C-GET or C-MOVE."""
        done, warned, failed, remaining = (
            int(response.get(f"NumberOf{what}Suboperations", 0))
            for what in ("Completed", "Warning", "Failed", "Remaining")
        )
        self.n_said += done + warned
        self.n_said_failed += failed + remaining
        status = int(response["Status"])
        self.statuses.add(status)
        if status != SUCCESS:
            self.reasons.append(status_text(status))
        if status in OUT_OF_RESOURCES:
            self._watch(Signal(SignalKind.REFUSED))

    @property
    def is_idle(self) -> bool:
        """Whether no instance is under way."""
        with self._changed:
            return self._n_under_way == 0

    def seconds_silent(self) -> float:
        """Since when nothing came; 0 while an instance is under way."""
        with self._changed:
            return 0.0 if self._n_under_way else time.monotonic() - self._last

    def wait_until(self, is_done: Callable[[], bool], *, silence: float) -> None:
        """Wait until `is_done`, or until nothing came for `silence` seconds."""
        begin = time.monotonic()
        with self._changed:
            while not is_done():
                since = 0.0 if self._n_under_way else time.monotonic() - max(begin, self._last)
                if since >= silence:
                    return
                self._changed.wait(timeout=silence - since)

    def drain(self) -> None:
        """Wait until no instance is under way: the silence of a sender ends it too."""
        with self._changed:
            self._changed.wait_for(lambda: self._n_under_way == 0)

    def missing(self) -> set[str]:
        """SOP Instance UIDs that are due and not here, or not as often as listed; none when nobody knows what is due.

        Twins with the same bytes are one file: they are here once they came as often as they are listed.
        """
        if not self.due:
            return set()
        here = self.folder.copies()
        lone = {uid for uid, n in self.twins.items() if max(here[uid], self.arrivals[uid]) < n}
        return {uid for uid in self.due if uid not in here or uid in lone}

    @property
    def is_short_of_success(self) -> bool:
        """Something did not come though nothing was said to have failed."""
        is_well = self.statuses == {SUCCESS} and not self.reasons and not self.n_said_failed
        return is_well and (not self.arrived or bool(self.missing()))

    def n_missing(self) -> int:
        """How many instances are still missing: by the list, or by what the node says when there is none."""
        if self.due is not None:
            return len(self.missing())
        return self.n_said_failed + max(0, self.n_said - self.arrivals.total())

    def result(self, *, node: str) -> RetrieveResult:
        """What came of the retrieve.

        Raises
        ------
        RetrieveFailed
            If something was due and nothing came.
        StoreFull
        """
        if self.store_full:
            raise self.store_full
        missing, here = self.missing(), self.folder.uids()
        if not self.reasons:
            missing -= here  # an archive that lists an instance twice may hold it, and send it, once
        n_failed = self.n_missing() if self.due is None else len(missing)
        reason = "; ".join(dict.fromkeys(self.reasons))
        if not self.arrived and (n_failed or self.due is None):
            raise RetrieveFailed(node=node, reason=reason or "it reported success and sent nothing")
        if self.due is not None and not n_failed:
            return RetrieveResult(self.n_new, 0)  # whatever was said, all is here
        if n_failed and not reason:
            reason = f"it reported success, but {n_failed} of the instances did not come"
        return RetrieveResult(self.n_new, n_failed, reason, in_doubt=frozenset(missing & here))
