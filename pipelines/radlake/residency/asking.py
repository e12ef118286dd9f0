"""The node that keeps the pixels, asked with the courtesy of a harvest (docs/adr/0022)."""

from __future__ import annotations

from pathlib import Path

from radlake.config import Settings
from radlake.errors import RetrieveFailed
from radlake.harvest.courtesy import NodeGate, week_of
from radlake.lake.ledger import Ledger
from radlake.net import DimseNode, Hospital, NodeClient, WebNode, connect

__all__ = ["Asking"]


class Asking:
    """Asks the node of a hospital for one study.

    Parameters
    ----------
    client : NodeClient, optional
        A conversation with the node that the caller has already.
    patience : float
        Seconds to wait for others who ask beside the harvest, and for a node that rests.
    is_awaited : bool
        Somebody waits for it: the node's `fetch_any_hour` counts.
    """

    def __init__(
        self,
        settings: Settings,
        hospital: Hospital,
        *,
        ledger: Ledger,
        client: NodeClient | None,
        patience: float,
        is_awaited: bool,
    ) -> None:
        node = hospital.node
        self._client = client or connect(node, ae_title=settings.ae_title, scp_port=settings.scp_port)
        assert isinstance(node, DimseNode | WebNode)  # for others there is no client
        week = week_of(node)
        if is_awaited and node.courtesy.fetch_any_hour:
            week = week.any_hour()
        self._gate = NodeGate(hospital.hospital_id, node, ledger=ledger, week=week)
        self._client.watch = self._gate.watch
        self._patience = patience

    def retrieve(self, study_uid: str, *, into: Path, wanted: frozenset[str]) -> str:
        """Bring instances of the study, and tell why not all of them came.

        Raises
        ------
        NodeAtRest, LedgerBusy, NodeUnavailable, AssociationRejected, SlowDown, StoreFull
        """
        try:
            with self._gate.visit(patience=self._patience):
                return self._client.retrieve(study_uid, into=into, wanted=wanted).reason
        except RetrieveFailed as exc:  # nothing came: perhaps the study is not there any more
            return str(exc.facts.get("reason", ""))

    def find_instances(self, study_uid: str) -> frozenset[str] | None:
        with self._gate.visit(patience=self._patience):
            return self._client.find_instances(study_uid)
