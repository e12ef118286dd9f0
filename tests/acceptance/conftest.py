"""The public test files, de-identified once for all who judge them: looking for text in pixels takes minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake.errors import QuarantineError
from support.deid import deidentified_bytes


@pytest.fixture(scope="session")
def corpus_outputs(corpus: Path) -> dict[Path, bytes | str]:
    """Output bytes or reason of every file of real/ and planted/."""
    outputs: dict[Path, bytes | str] = {}
    files = (path for part in ("real", "planted") for path in (corpus / part).rglob("*"))
    for path in sorted(path for path in files if path.is_file() and path.name != "ANSWER_KEY.jsonl"):
        try:
            outputs[path] = deidentified_bytes(path.read_bytes())
        except QuarantineError as error:
            outputs[path] = error.reason
    return outputs
