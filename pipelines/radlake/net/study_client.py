"""What retrieving has in common over DIMSE and DICOMweb: what is due, what is here, what is said in the end."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path

from radlake.errors import QueryFailed
from radlake.net.client import RetrieveResult
from radlake.net.delivery import Delivery
from radlake.net.instance_files import InstanceFolder
from radlake.net.inventory import Inventory, Keys, plan_by_series, plan_requests
from radlake.net.signals import Watch, ignore_signal

__all__ = ["ATTEMPTS", "StudyClient"]

ATTEMPTS = 3  # at an association or a connection, before a node is said to refuse it


class StudyClient(ABC):
    """Half of a `radlake.net.client.NodeClient`; the other half speaks the protocol.

    Attributes
    ----------
    refusals : frozenset of int
        Statuses of the protocol with which a node sends nothing of what it has, when it was asked in a way that it
        does not know.
    breath : float
        Seconds until a node that said success and did not send all is asked once more.
    """

    refusals: frozenset[int] = frozenset()
    breath: float = 1.0

    def __init__(self, *, node: str) -> None:
        self.watch: Watch = ignore_signal
        self._name = node
        self._listed = threading.local()  # the study whose instances this thread listed last
        self._is_hung_up = False

    def find_instances(self, study_uid: str) -> frozenset[str] | None:
        inventory = self._find_inventory(study_uid)
        self._listed.latest = (study_uid, inventory)
        return inventory.instances

    def retrieve(self, study_uid: str, *, into: Path, wanted: frozenset[str] | None = None) -> RetrieveResult:
        folder = InstanceFolder(into)
        inventory = self._known_inventory(study_uid)
        listed = inventory.instances if wanted is None else wanted
        # Of two instances under one UID maybe only one is here: they are due with whatever else is.
        due = listed and listed | inventory.twins.keys()
        delivery = Delivery(folder, due=due, twins=inventory.twins, watch=self.watch)
        if due is not None:
            due = delivery.missing()
            if not due:
                return RetrieveResult(0, 0)
        requests = plan_requests(study_uid, inventory=inventory, due=due)
        self._ask(requests, inventory, delivery)
        whole = plan_requests(study_uid, inventory=Inventory(), due=None)
        others = plan_by_series(study_uid, inventory=inventory) if requests == whole else whole
        if others and not delivery.arrived and delivery.statuses and delivery.statuses <= self.refusals:
            delivery.forget_refusals()  # some archives know no retrieve below the study, some none of a whole one
            self._ask(others, inventory, delivery)
        if delivery.is_short_of_success:
            time.sleep(self.breath)  # some archives say success and send nothing when they are overwhelmed
            rest = plan_requests(study_uid, inventory=inventory, due=delivery.missing())
            self._ask(rest if delivery.arrived else others or requests, inventory, delivery)
        return delivery.result(node=self._name)

    def _known_inventory(self, study_uid: str) -> Inventory:
        """Mostly the instances were listed just before; a node that cannot list them may send them all the same."""
        known_uid, inventory = getattr(self._listed, "latest", ("", Inventory()))
        if known_uid == study_uid:
            return inventory
        try:
            return self._find_inventory(study_uid)
        except QueryFailed:
            return Inventory()

    def hang_up(self) -> None:
        self._is_hung_up = True
        self._cut()

    def _cut(self) -> None:  # noqa: B027 - a conversation in memory has none
        """Shut the sockets of every conversation that is open."""

    @abstractmethod
    def _find_inventory(self, study_uid: str) -> Inventory: ...

    @abstractmethod
    def _ask(self, requests: list[Keys], inventory: Inventory, delivery: Delivery) -> None:
        """Let what these identifiers of one study name come; what goes wrong is noted in the delivery."""
