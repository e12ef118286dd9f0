"""What every node can do, whichever protocol it speaks: echo, find studies, list instances, retrieve a study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Protocol

from radlake.machine import utc_of_shanghai
from radlake.net.node import DimseNode, FolderNode, PushNode, WebNode
from radlake.net.signals import Watch

__all__ = ["ArchiveClient", "NodeClient", "RetrieveResult", "StudyFound", "Window", "connect"]


@dataclass(frozen=True)
class Window:
    """Study dates from `start` to `end`, both included."""

    start: date
    end: date

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError("the window ends before it starts")

    def __contains__(self, day: date) -> bool:
        return self.start <= day <= self.end

    def days(self) -> Iterator[date]:
        """Its days, oldest first."""
        for number in range((self.end - self.start).days + 1):
            yield self.start + timedelta(days=number)

    def as_range(self) -> str:
        """Range matching of dates (PS3.4 C.2.2.2.5).

        >>> Window(date(2026, 3, 1), date(2026, 3, 31)).as_range()
        '20260301-20260331'
        """
        if self.start == self.end:
            return f"{self.start:%Y%m%d}"
        return f"{self.start:%Y%m%d}-{self.end:%Y%m%d}"


@dataclass(frozen=True)
class StudyFound:
    """A study that the node lists; what it did not tell is None or empty.

    Attributes
    ----------
    availability : str
        Instance Availability (0008,0056): ONLINE, NEARLINE, OFFLINE, UNAVAILABLE or nothing (PS3.4 C.4.1.1.3).
    study_time : time, optional
        By the clock of the hospital.
    """

    study_uid: str
    study_date: date | None = None
    n_instances: int | None = None
    modalities: tuple[str, ...] = ()
    availability: str = ""
    study_time: time | None = None

    @property
    def studied_at(self) -> datetime | None:
        """When it was made, in UTC without a zone; the hospitals' clocks are Shanghai's, without summer time."""
        if self.study_date is None or self.study_time is None:
            return None
        return utc_of_shanghai(datetime.combine(self.study_date, self.study_time))

    @property
    def is_offline(self) -> bool:
        """Its instances lie on tape or elsewhere: retrieving them fails or stalls until they are brought."""
        return self.availability in ("NEARLINE", "OFFLINE")


@dataclass(frozen=True)
class RetrieveResult:
    """What one retrieve brought.

    Attributes
    ----------
    n_received : int
        Instances that came and were not in the folder before.
    n_failed : int
        Instances that were asked for and are still not in the folder, as far as can be known.
    reason : str
        Why, in the node's or the network's words; empty when all that is listed is here.
    in_doubt : frozenset of str
        SOP Instance UIDs that are in the folder, but came less often than the node lists them: of two instances
        under one UID the other one is still to come.
    """

    n_received: int
    n_failed: int
    reason: str = ""
    in_doubt: frozenset[str] = frozenset()


class NodeClient(Protocol):
    """A conversation with one node; it may be used from several threads.

    Attributes
    ----------
    watch : callable
        Told each signal of the node's load, from the thread that felt it. Who wants to know sets it.
    """

    watch: Watch

    def echo(self) -> float:
        """Seconds that the node takes to answer.

        Raises
        ------
        NodeUnavailable, AssociationRejected
        """
        ...

    def find_studies(self, window: Window) -> list[StudyFound]:
        """Studies of the window as the node lists them, each once.

        Raises
        ------
        NodeUnavailable, AssociationRejected, QueryFailed, SlowDown
        """
        ...

    def find_instances(self, study_uid: str) -> frozenset[str] | None:
        """SOP Instance UIDs of a study at the node; None when it gives no list, or none that can be trusted.

        Raises
        ------
        NodeUnavailable, AssociationRejected, QueryFailed, SlowDown
        """
        ...

    def retrieve(self, study_uid: str, *, into: Path, wanted: frozenset[str] | None = None) -> RetrieveResult:
        """Bring a study as files `into/<SOP Instance UID>.dcm`, bytes as they came, each durable before it is counted.

        Parameters
        ----------
        into : Path
            Instances that lie here already stay and are not asked for again where the protocol allows.
        wanted : frozenset of str, optional
            Only these instances; the whole study when None.

        Raises
        ------
        RetrieveFailed
            If something was due and nothing came. If only a part came, the result says what is missing.
        StoreFull
            If our disk does not take it.
        NodeUnavailable, AssociationRejected, SlowDown
        """
        ...

    def hang_up(self) -> None:
        """End what other threads are doing here, at once; they get an error, and the client is of no further use."""
        ...


class ArchiveClient(NodeClient, Protocol):
    """What a planner asks besides: how far the node's lists can be trusted, and what no window of dates reaches."""

    @property
    def list_limit(self) -> int | None:
        """Where the node is known to cut its lists, as far as it was asked."""
        ...

    def doubtful_windows(self) -> tuple[Window, ...]:
        """Days, of all that were asked for, of which the node may have more studies than it lists."""
        ...

    def find_any_studies(self, *, at_most: int) -> list[StudyFound]:
        """Studies of any date and of none, in one query: broken off at `at_most`, and the node may cut it earlier.

        Raises
        ------
        NodeUnavailable, AssociationRejected, QueryFailed, SlowDown
        """
        ...


def connect(
    node: DimseNode | WebNode | FolderNode | PushNode, *, ae_title: str, scp_port: int | None = 0
) -> ArchiveClient:
    """A client for a node; nothing is sent before the first call.

    Parameters
    ----------
    ae_title : str
        Our own AE title.
    scp_port : int, optional
        Where our storage SCP listens for what a C-MOVE node sends; its administrator entered it. None when nothing will
        be retrieved.

    Raises
    ------
    ConfigInvalid
        If the node's settings cannot work on this machine.
    ValueError
        For a folder, which the harvest reads, and for a hospital that pushes: nobody is asked.
    """
    if isinstance(node, DimseNode):
        from radlake.net.dimse import DimseClient

        return DimseClient(node, ae_title=ae_title, scp_port=scp_port)
    if isinstance(node, WebNode):
        from radlake.net.dicomweb import WebClient

        return WebClient(node)
    raise ValueError(f"a node of kind {node.kind} has no client")
