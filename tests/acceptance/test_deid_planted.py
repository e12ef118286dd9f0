"""Planted identifiers: real files into which names, numbers, addresses and dates were put, with a key of all of them.

Every file ends as an output in which nothing of it can be read, in any encoding, or as a reason for quarantine.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from radlake.errors import QuarantineError
from support.deid import deidentified_bytes, occurrences

pytestmark = pytest.mark.corpus

# Files that must not get through: nothing looks at pixels and documents, and what is broken is not guessed.
SET_ASIDE = {
    "burn_us1/a.dcm": "pixel_risk",
    "burn_us2/a.dcm": "pixel_risk",  # the flag says NO, and lies
    "doc_pdf/a.dcm": "document_not_cleanable",
    "mal_missing_ids/a.dcm": "uid_missing",
    "mal_no_preamble_no_meta/a.dcm": "part10_missing",
    "mal_odd_length_dup_tag/a.dcm": "duplicate_element",
    "mal_truncated_pixel/a.dcm": "part10_truncated",
}


@pytest.fixture(scope="module")
def answers(corpus: Path) -> dict[str, list[dict[str, Any]]]:
    by_file = defaultdict(list)
    for line in (corpus / "planted" / "ANSWER_KEY.jsonl").read_text(encoding="utf-8").splitlines():
        answer = json.loads(line)
        by_file[answer["file"]].append(answer)
    return by_file


@pytest.fixture(scope="module")
def outcomes(corpus: Path, answers: dict[str, list[dict[str, Any]]]) -> dict[str, bytes | str]:
    """Output bytes or reason of every planted file."""
    outcomes: dict[str, bytes | str] = {}
    for name in answers:
        try:
            outcomes[name] = deidentified_bytes((corpus / "planted" / name).read_bytes())
        except QuarantineError as error:
            outcomes[name] = error.reason
    return outcomes


def test_every_file_ends_as_output_or_reason(outcomes: dict[str, bytes | str]) -> None:
    assert {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, str)} == SET_ASIDE
    assert len(outcomes) == 29


def test_no_planted_identifier_can_be_read(
    outcomes: dict[str, bytes | str], answers: dict[str, list[dict[str, Any]]]
) -> None:
    readable = [
        (name, answer["loc"], encodings)
        for name, outcome in outcomes.items()
        if isinstance(outcome, bytes)
        for answer in answers[name]
        if (encodings := list(occurrences(answer["phi"], outcome)))
    ]
    assert readable == []
    assert sum(map(len, answers.values())) == 623
    assert sum(len(answers[name]) for name, outcome in outcomes.items() if isinstance(outcome, bytes)) == 469


def test_twice_is_harmless(outcomes: dict[str, bytes | str], answers: dict[str, list[dict[str, Any]]]) -> None:
    for name, outcome in outcomes.items():
        if isinstance(outcome, bytes):
            again = deidentified_bytes(outcome)
            assert not [answer["loc"] for answer in answers[name] if list(occurrences(answer["phi"], again))]
