"""A naive harvester over DIMSE, made with pynetdicom: what many scripts do, so that tests show why it is not enough.

One C-FIND lists the studies of a window. One C-MOVE or C-GET brings each study; its status is believed. A study that
was brought is not asked for again. What comes lies in a dict by SOP Instance UID, as others name files by it. For
C-MOVE the storage SCP is open while the answer to the C-MOVE is awaited, and for one association.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, build_role, evt

from radlake.synth.headers import SOP_CLASS_UIDS

__all__ = ["Naive"]

Find, Move, Get = (f"1.2.840.10008.5.1.4.1.2.2.{service}" for service in (1, 2, 3))  # Study Root, PS3.4 C.6.2.3
_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


@dataclass
class Naive:
    """What it has: studies that it calls complete, instances by UID, how many it counted, names of patients."""

    port: int
    called: str
    scp_port: int = 0
    seconds: float = 10.0
    complete: set[str] = field(default_factory=set)
    instances: dict[str, bytes] = field(default_factory=dict)
    n_counted: int = 0
    names: set[str] = field(default_factory=set)

    def harvest(self, dates: str) -> Naive:
        """Harvest a window, as `20250101-20250131`; what is complete is left alone."""
        _config.LOG_HANDLER_LEVEL = "none"
        for study_uid in self._studies(dates):
            if study_uid not in self.complete and self._bring(study_uid):
                self.complete.add(study_uid)
        return self

    def _studies(self, dates: str) -> list[str]:
        keys = {"PatientName": "", "StudyInstanceUID": "", "StudyDate": dates}
        answers = self._find("STUDY", keys)
        self.names |= {str(answer.get("PatientName", "")) for answer in answers}
        return [str(answer.StudyInstanceUID) for answer in answers]

    def _find(self, level: str, keys: dict[str, str]) -> list[Dataset]:
        with self._association([Find]) as assoc:
            if assoc is None:
                return []
            found = assoc.send_c_find(_identifier(level, keys), Find)
            return [answer for status, answer in found if answer is not None and status.Status in (0xFF00, 0xFF01)]

    def _bring(self, study_uid: str) -> bool:
        """Whether the node says that all is sent."""
        keys = {"StudyInstanceUID": study_uid}
        if self.scp_port:
            return self._move(keys)
        classes = {answer.get("SOPClassUID", "") for answer in self._find("IMAGE", {**keys, "SOPClassUID": ""})}
        storage = sorted(classes - {""}) or [SOP_CLASS_UIDS["CT"], SOP_CLASS_UIDS["MR"]]
        with self._association([Get], storage=storage) as assoc:
            if assoc is None:
                return False
            return _is_success(assoc.send_c_get(_identifier("STUDY", keys), Get))

    def _move(self, keys: dict[str, str]) -> bool:
        scp = AE("RADLAKE")
        for context in sorted(set(SOP_CLASS_UIDS.values())):
            scp.add_supported_context(context, _SYNTAXES)
        seen: list[Any] = []

        def store(event: Any) -> int:
            if event.assoc not in seen:
                seen.append(event.assoc)
            return self._store(event) if seen[0] is event.assoc else 0xA700

        server = scp.start_server(("127.0.0.1", self.scp_port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
        assert server is not None
        try:
            with self._association([Move]) as assoc:
                if assoc is None:
                    return False
                return _is_success(assoc.send_c_move(_identifier("STUDY", keys), "RADLAKE", Move))
        finally:
            server.shutdown()
            time.sleep(0.05)

    def _store(self, event: Any) -> int:
        self.n_counted += 1
        self.instances[str(event.request.AffectedSOPInstanceUID)] = event.request.DataSet.getvalue()
        return 0x0000

    @contextmanager
    def _association(self, models: list[Any], *, storage: list[Any] | None = None) -> Iterator[Any]:
        ae = AE("RADLAKE")
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = self.seconds
        for model in models:
            ae.add_requested_context(model)
        for one in storage or ():
            ae.add_requested_context(one, _SYNTAXES)
        assoc = ae.associate(
            "127.0.0.1",
            self.port,
            ae_title=self.called,
            ext_neg=[build_role(one, scp_role=True) for one in storage or ()],
            evt_handlers=[(evt.EVT_C_STORE, self._store)],
        )
        try:
            yield assoc if assoc.is_established else None
        finally:
            if assoc.is_established:
                assoc.release()


def _identifier(level: str, keys: dict[str, str]) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    return ds


def _is_success(responses: Any) -> bool:
    last = 0xC000
    for status, _ in responses:
        last = status.get("Status", 0xC000) if status else 0xC000
    return last == 0x0000
