"""The queue of a reviewer over a real quarantine: what waits, what may be decided, what the log keeps."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pydicom
import pytest

from radlake.cli.hospitals import hospital_of_files
from radlake.ingest import replay_quarantine
from radlake.lake import Lake
from radlake.lake.reviews import ReviewRefused
from radlake.pixels import DecisionKind, Region
from radlake.review import Item
from support.lakes import states
from support.waiting import COLUMNS, NAME, ROWS, Waiting, waiting_lake

NOW = datetime(2026, 3, 1, 12)
BOX = Region(0, 0, 130, 24)


@pytest.fixture
def waiting(tmp_path: Path) -> Waiting:
    return waiting_lake(tmp_path)


def decide(waiting: Waiting, items: list[Item], kind: str, *regions: Region, **told: Any) -> None:
    told = {"by": "Dr Wang", "why": "seen", "now": NOW} | told
    waiting.queue().decide(items, kind=DecisionKind(kind), regions=regions, **told)


def replay(waiting: Waiting, items: list[Item]) -> None:
    hospital = hospital_of_files(waiting.settings, "h1")
    replay_quarantine(waiting.settings, hospital, held=[item.record for item in items])


def test_pictures_and_documents_wait_series_by_series(waiting: Waiting) -> None:
    items = waiting.items()
    assert sorted(item.reason for item in items) == ["document_not_cleanable", *["pixel_risk"] * 4]
    series = [item.facts.series for item in items]
    assert [series.index(uid) for uid in series] == sorted(series.index(uid) for uid in series)
    picture = next(item for item in items if item.facts.has_picture)
    facts = picture.facts
    assert (facts.modality, facts.made_by, facts.rows, facts.columns) == ("US", "Mindray Model 1", ROWS, COLUMNS)


def test_others_of_the_series_are_found_and_no_other_study(waiting: Waiting) -> None:
    queue = waiting.queue()
    counts = [len(queue.alike(item)) for item in queue.waiting()]
    assert sorted(counts) == [0, 0, 2, 2, 2]


def test_a_document_can_only_be_rejected(waiting: Waiting) -> None:
    document = next(item for item in waiting.items() if item.reason == "document_not_cleanable")
    assert document.choices == (DecisionKind.REJECT,)
    with pytest.raises(ReviewRefused, match="not a picture"):
        decide(waiting, [document], "accept")
    decide(waiting, [document], "reject")
    assert document.quarantine_id not in {item.quarantine_id for item in waiting.items()}


def test_a_picture_that_cannot_be_shown_can_only_be_rejected(waiting: Waiting) -> None:
    picture = waiting.items()[0]
    queue = waiting.queue(can_show=lambda _: False)
    with pytest.raises(ReviewRefused, match="cannot be shown"):
        queue.decide([picture], kind=DecisionKind.ACCEPT, regions=(), by="a", why="b", now=NOW)
    queue.decide([picture], kind=DecisionKind.REJECT, regions=(), by="a", why="b", now=NOW)


@pytest.mark.parametrize(
    ("kind", "regions", "told", "message"),
    [
        ("mask", [], {}, "a mask needs regions"),
        ("accept", [BOX], {}, "only a mask has them"),
        ("mask", [Region(0, 0, COLUMNS + 1, 10)], {}, "outside"),
        ("mask", [Region(0, 0, 10, ROWS + 1)], {}, "outside"),
        ("mask", [Region(0, 0, 10, 10, first_frame=2)], {}, "outside"),
        ("accept", [], {"by": " "}, "who decides"),
        ("accept", [], {"why": ""}, "who decides"),
        ("accept", [], {"why": "x" * 2001}, "who decides"),
    ],
    ids=["no region", "region of accept", "too wide", "too high", "no such frame", "no name", "no reason", "too long"],
)
def test_a_decision_that_is_not_whole_is_refused(
    waiting: Waiting, kind: str, regions: list[Region], told: dict[str, str], message: str
) -> None:
    picture = next(item for item in waiting.items() if item.facts.has_picture)
    with pytest.raises(ReviewRefused, match=message):
        decide(waiting, [picture], kind, *regions, **told)
    assert waiting.queue().log() == []


def test_a_decision_for_a_series_is_all_or_nothing(waiting: Waiting) -> None:
    items = waiting.items()
    with pytest.raises(ReviewRefused):
        decide(waiting, items, "accept")  # the document is among them
    assert waiting.queue().log() == []


def test_undo_brings_an_object_back_and_the_log_keeps_both(waiting: Waiting) -> None:
    picture = waiting.items()[0]
    decide(waiting, [picture], "reject")
    assert len(waiting.items()) == 4
    waiting.queue().undo([picture.quarantine_id], by="Dr Li", now=NOW + timedelta(minutes=1))
    assert len(waiting.items()) == 5
    with pytest.raises(ReviewRefused, match="no decision"):
        waiting.queue().undo([picture.quarantine_id], by="Dr Li", now=NOW)
    [review] = waiting.queue().log()
    assert (review.decision, review.by, review.why, review.at) == ("reject", "Dr Wang", "seen", NOW)
    assert (review.undone_by, review.undone_at, review.replayed_at) == ("Dr Li", NOW + timedelta(minutes=1), None)


def test_a_rejected_object_stays_out_and_its_study_says_why(waiting: Waiting) -> None:
    picture = next(item for item in waiting.items() if item.facts.has_picture)
    decide(waiting, [picture], "reject")
    replay(waiting, waiting.queue().decided())
    for _ in range(2):
        assert waiting.held()[picture.quarantine_id] == "rejected_by_reviewer"
        assert picture.quarantine_id not in {item.quarantine_id for item in waiting.items()}
        state, reason = states(waiting.settings)[f"h1/{picture.study_uid}"]
        assert state in ("quarantined", "partial")
        assert "rejected_by_reviewer x1" in reason
        waiting.harvest()  # the same file again changes nothing
    with pytest.raises(ReviewRefused, match="was replayed"):
        waiting.queue().undo([picture.quarantine_id], by="Dr Li", now=NOW)


def test_a_rejected_object_can_be_decided_again(waiting: Waiting) -> None:
    picture = next(item for item in waiting.items() if item.facts.has_picture)
    decide(waiting, [picture], "reject")
    replay(waiting, waiting.queue().decided())
    decide(waiting, [waiting.queue().find(picture.quarantine_id)], "mask", BOX)
    assert [item.review.decision for item in waiting.queue().decided() if item.review] == ["mask"]
    replay(waiting, waiting.queue().decided())
    assert picture.quarantine_id not in waiting.held()
    assert [review.decision for review in waiting.queue().log()] == ["reject", "mask"]


def test_nothing_that_a_reviewer_is_told_names_the_patient(waiting: Waiting) -> None:
    for item in waiting.items():
        told = repr([item.facts.modality, item.facts.made_by, item.facts.sop_class, item.detail, item.reason])
        assert NAME not in told


def test_a_region_covers_only_the_frames_that_it_names(tmp_path: Path) -> None:
    waiting = waiting_lake(tmp_path, n=1, frames=3)
    picture = next(item for item in waiting.items() if item.facts.n_frames == 3)
    decide(waiting, [picture], "mask", replace(BOX, first_frame=2, last_frame=2))
    replay(waiting, waiting.queue().decided())
    objects = Lake.from_settings(waiting.settings).objects
    [path] = objects.list()
    with ZipFile(BytesIO(objects.read(path, 0, objects.size(path)))) as archive:
        masked = pydicom.dcmread(BytesIO(archive.read(archive.namelist()[0]))).pixel_array
    expected = pydicom.dcmread(picture.path).pixel_array.copy()
    expected[1, BOX.top : BOX.bottom, BOX.left : BOX.right] = 0
    assert np.array_equal(masked, expected)
