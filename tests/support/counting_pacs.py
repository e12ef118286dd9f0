"""A simulated PACS in the test's own process that keeps what is retrieved from it, and answers as slowly as is asked.

with counting_pacs(archive, result_cap=200) as pacs:
    ...                      # harvest from pacs.node
    pacs.retrieved           # Study Instance UIDs, one for each C-GET, in their order
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pynetdicom import evt

from radlake.config import Settings
from radlake.synth.behaviour import Behaviour
from radlake.synth.dimse_pacs import DimsePacs
from radlake.synth.holdings import Holdings
from radlake.synth.quirks import Quirks
from support.lakes import settings_of

__all__ = ["CountingPacs", "counting_pacs", "lake_of"]


class CountingPacs(DimsePacs):
    """Its AE title is HIS; `delay` are seconds before each C-GET is answered."""

    def __init__(self, archive: Path, *, quirks: Quirks) -> None:
        self.retrieved: list[str] = []
        self.delay = 0.0
        behaviour = Behaviour(Holdings(archive), quirks=quirks)
        super().__init__(behaviour, ae_title="HIS", host="127.0.0.1", port=0, destinations={})

    @property
    def node(self) -> str:
        return f"{{kind: dimse, ae_title: HIS, host: 127.0.0.1, port: {self.port}}}"

    def _on_get(self, event: evt.Event) -> Iterator[Any]:
        self.retrieved.append(str(event.identifier.StudyInstanceUID))
        time.sleep(self.delay)
        yield from super()._on_get(event)


@contextmanager
def counting_pacs(archive: Path, **quirks: Any) -> Iterator[CountingPacs]:
    pacs = CountingPacs(archive, quirks=Quirks(**quirks))
    try:
        yield pacs
    finally:
        pacs.stop()


def lake_of(folder: Path, **nodes: str) -> Settings:
    """A new lake with a hospital for each node."""
    settings = settings_of(folder)
    (folder / "tables").mkdir()
    lines = (
        f"- {{hospital_id: {name}, name_zh: 样例, name_en: Sample, region_code: '320100', node: {node}}}\n"
        for name, node in nodes.items()
    )
    settings.hospitals.write_text("hospitals:\n" + "".join(lines), encoding="utf-8")
    return settings
