"""Planted identifiers: real files into which names, numbers, addresses and dates were put, with a key of all of them.

Every file ends as an output in which nothing of it can be read, in any encoding, or as a reason for quarantine.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from radlake.dicom.part10 import read_bytes
from radlake.errors import QuarantineError
from radlake.pixels.frames import layout_of, read_frames
from radlake.pixels.pictures import picture_of
from support.deid import deidentified_bytes, occurrences, read_output

pytestmark = pytest.mark.corpus

# Files that must not get through: nothing reads documents, and what is broken is not guessed.
SET_ASIDE = {
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
    assert sum(len(answers[name]) for name, outcome in outcomes.items() if isinstance(outcome, bytes)) == 501


def test_no_planted_pixel_can_be_read(
    corpus: Path, outcomes: dict[str, bytes | str], answers: dict[str, list[dict[str, Any]]]
) -> None:
    """Burned-in names and numbers, with the flag absent and with a flag that lies, are black."""
    boxes = {(name, tuple(answer["box"])) for name in answers for answer in answers[name] if answer["kind"] == "pixel"}
    assert len(boxes) == 2
    for name, (left, top, right, bottom) in boxes:
        data = outcomes[name]
        assert isinstance(data, bytes)
        after = read_output(data)
        before = read_bytes((corpus / "planted" / name).read_bytes())
        old, new = _first_frame(before), _first_frame(read_bytes(data))
        inside = new[top:bottom, left:right].astype(int)
        text = old[top:bottom, left:right].astype(int)
        drawn = text == text.max()  # the writing is white
        assert drawn.sum() > 500
        assert (inside[drawn] == new.min()).mean() > 0.995
        changed = old != new
        assert (new[changed] == new.min()).all()
        assert (after.BurnedInAnnotation, after.PatientIdentityRemoved) == ("NO", "YES")
        assert "113101" in [code.CodeValue for code in after.DeidentificationMethodCodeSequence]
        assert _words(new, before).isdisjoint(answer["phi"] for answer in answers[name])


def _first_frame(ds: Dataset) -> Any:
    return next(read_frames(ds, layout_of(ds))[1])


def _words(values: Any, ds: Dataset) -> set[str]:
    """What the recogniser reads in the picture, as lines."""
    rapidocr = pytest.importorskip("rapidocr")
    picture = picture_of(values, layout_of(ds), ds)
    read = rapidocr.RapidOCR(params={"Global.log_level": "critical"})(picture)
    return set(read.txts or ())


def test_twice_is_harmless(outcomes: dict[str, bytes | str], answers: dict[str, list[dict[str, Any]]]) -> None:
    for name, outcome in outcomes.items():
        if isinstance(outcome, bytes):
            again = deidentified_bytes(outcome)
            assert not [answer["loc"] for answer in answers[name] if list(occurrences(answer["phi"], again))]
