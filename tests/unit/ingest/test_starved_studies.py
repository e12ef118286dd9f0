"""Studies that a node never sends do not keep it from the others."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest

from radlake.errors import RetrieveFailed
from radlake.ingest import harvest_hospital
from radlake.net import DimseNode, Hospital, Window
from radlake.synth.behaviour import Behaviour
from radlake.synth.holdings import Held, Holdings
from radlake.synth.quirks import Quirks
from radlake.synth.virtual import VirtualClient
from support.dicom import image_study, write
from support.lakes import settings_of, states


class Withholding(Behaviour):
    """Reports success for some studies and sends nothing."""

    def __init__(self, archive: Path, *, n_withheld: int) -> None:
        super().__init__(Holdings(archive), quirks=Quirks())
        self.withheld = sorted(self.holdings.root.children)[:n_withheld]

    def sends(self, query: Mapping[str, str]) -> list[Held]:
        return [] if query.get("StudyInstanceUID") in self.withheld else super().sends(query)


def test_what_is_never_sent_comes_after_what_was_not_asked_for(tmp_path: Path) -> None:
    for n in range(6):
        for ds in image_study("CR", study=n, patient_id=f"P{n}", rows=8, columns=8):
            write(ds, tmp_path / "archive" / f"{n}.dcm")
    behaviour = Withholding(tmp_path / "archive", n_withheld=3)
    node = DimseNode(name="h1", ae_title="HIS", host="127.0.0.1", max_associations=1)
    hospital = Hospital(hospital_id="h1", name_zh="一", name_en="One", node=node)
    settings, client = settings_of(tmp_path / "lake"), VirtualClient(behaviour, name="h1")
    window = Window(date(2026, 1, 1), date(2026, 12, 31))

    def harvest() -> list[str]:
        with pytest.raises(RetrieveFailed):  # three in a row
            harvest_hospital(settings, hospital, window=window, client=client)
        return sorted(state for state, _ in states(settings).values())

    assert harvest() == ["discovered"] * 3 + ["partial"] * 3
    assert harvest() == ["complete"] * 3 + ["partial"] * 3
