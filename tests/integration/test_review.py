"""`radlake review` from harvest to stored object: by command and by page, on a real socket."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import httpx
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset

from radlake.cli.hospitals import hospital_of_files
from radlake.ingest import HarvestSummary, replay_quarantine
from radlake.lake import Lake
from radlake.web.review import create_review_app
from support.lakes import states
from support.waiting import COLUMNS, NAME, ROWS, Waiting, waiting_lake
from support.webserver import running

BOX = "0,0,130,24"
COMMAND = (sys.executable, "-c", "from radlake.cli import main; main()")


@pytest.fixture
def waiting(tmp_path: Path) -> Waiting:
    return waiting_lake(tmp_path)


def radlake(waiting: Waiting, *arguments: str) -> str:
    """Standard output of the real command."""
    command = [*COMMAND, "--lake", waiting.settings.lake, *arguments]
    done = subprocess.run(command, env=os.environ | {"RADLAKE_WORKERS": "0"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def stored(waiting: Waiting) -> list[Dataset]:
    """Every instance in the lake's objects."""
    objects = Lake.from_settings(waiting.settings).objects
    found = []
    for path in objects.list():
        with ZipFile(BytesIO(objects.read(path, 0, objects.size(path)))) as archive:
            found += [pydicom.dcmread(BytesIO(archive.read(name))) for name in archive.namelist()]
    return found


def assert_masked(ds: Dataset, original: np.ndarray[Any, Any]) -> None:
    """The region is black, all else is as it was, and the header says so (PS3.15 E.3.1)."""
    expected = original.copy()
    expected[..., 0:24, 0:130] = 0
    assert np.array_equal(ds.pixel_array, expected)
    assert not np.array_equal(expected, original)
    assert ds.BurnedInAnnotation == "NO"
    assert NAME not in str(ds)


def originals(waiting: Waiting) -> dict[int, np.ndarray[Any, Any]]:
    files = sorted(waiting.folder.glob("*.dcm"))
    return {
        n: pydicom.dcmread(path).pixel_array for n, path in enumerate(files) if "PixelData" in pydicom.dcmread(path)
    }


def test_a_series_is_masked_by_command_and_stored(waiting: Waiting) -> None:
    rows = [json.loads(line) for line in radlake(waiting, "review", "list", "--json").splitlines()]
    assert len(rows) == 5
    queue = waiting.queue()
    picture = next(item for item in queue.waiting() if len(queue.alike(item)) == 2)
    png = waiting.folder.parent / "frame.png"
    told = radlake(waiting, "review", "show", picture.quarantine_id[:10], "--png", str(png))
    assert NAME not in told
    with Image.open(png) as picture_seen:
        assert picture_seen.size == (COLUMNS, ROWS)
    assert png.stat().st_mode & 0o777 == 0o600

    signed = ("--by", "Dr Wang", "--why", "name covered")
    arguments = ("mask", "--region", BOX, "--series", "--yes", "--replay", *signed)
    radlake(waiting, "review", "decide", picture.quarantine_id, *arguments)

    instances = sorted(stored(waiting), key=lambda ds: ds.InstanceNumber)
    assert len(instances) == 3
    for n, ds in enumerate(instances):
        assert_masked(ds, originals(waiting)[n])
    assert states(waiting.settings)[f"h1/{picture.study_uid}"] == ("partial", "set aside: document_not_cleanable x1")
    log = [json.loads(line) for line in radlake(waiting, "review", "log", "--json").splitlines()]
    assert {(row["decision"], row["by"], row["why"], *row["regions"]) for row in log} == {
        ("mask", "Dr Wang", "name covered", BOX)
    }
    assert all(row["replayed_at"] and not row["undone_at"] for row in log)
    assert len(radlake(waiting, "review", "list", "--json").splitlines()) == 2


def test_what_is_accepted_is_stored_bit_for_bit(waiting: Waiting) -> None:
    picture = next(item for item in waiting.items() if item.facts.has_picture)
    signed = ("--by", "Dr Wang", "--why", "nothing to see")
    radlake(waiting, "review", "decide", picture.quarantine_id, "accept", *signed)
    radlake(waiting, "review", "store")
    [ds] = stored(waiting)
    assert any(np.array_equal(ds.pixel_array, pixels) for pixels in originals(waiting).values())
    assert ds.BurnedInAnnotation == "NO"
    assert NAME not in str(ds)


def test_an_ordinary_replay_takes_the_decision_too(waiting: Waiting) -> None:
    picture = next(item for item in waiting.items() if item.facts.has_picture)
    signed = ("--by", "Dr Wang", "--why", "covered")
    radlake(waiting, "review", "decide", picture.quarantine_id, "mask", "--region", BOX, *signed)
    radlake(waiting, "quarantine", "replay", "--reason", "pixel_risk")
    assert len(stored(waiting)) == 1


@dataclass
class Visit:
    """A browser that opened the link."""

    base: str
    http: httpx.Client
    root: str

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self.http.get(self.root + path, **given)

    def post(self, path: str, body: dict[str, Any], **given: Any) -> httpx.Response:
        return self.http.post(self.root + path, json=body, **given)


@contextmanager
def visit_of(waiting: Waiting) -> Iterator[Visit]:
    queue = waiting.queue()
    hospital = hospital_of_files(waiting.settings, "h1")

    def replay() -> list[HarvestSummary]:
        return [replay_quarantine(waiting.settings, hospital, held=[item.record for item in queue.decided()])]

    app = create_review_app(queue, by="Dr Wang", token="t0ken", replay=replay)
    with running(app) as base, httpx.Client(base_url=base, headers={"origin": base}, timeout=30) as http:
        yield Visit(base, http, http.get("/?token=t0ken").headers["location"].rstrip("/"))


def test_a_series_is_masked_by_page_undone_and_stored(waiting: Waiting) -> None:
    with visit_of(waiting) as visit:
        queue = waiting.queue()
        picture = next(item for item in queue.waiting() if len(queue.alike(item)) == 2)
        document = next(item for item in queue.waiting() if not item.facts.has_picture)
        also = [item.quarantine_id for item in queue.alike(picture)]
        page = visit.get(f"/items/{picture.quarantine_id}").text
        assert all(name in page for name in also)  # shown before it is applied
        png = visit.get(f"/items/{picture.quarantine_id}/frames/1.png")
        assert png.headers["content-type"] == "image/png"
        assert Image.open(BytesIO(png.content)).size == (COLUMNS, ROWS)

        decision = {"decision": "mask", "regions": [BOX], "why": "name covered", "also": also}
        assert visit.post(f"/items/{picture.quarantine_id}", decision).json() == {"decided": 3}
        assert visit.post("/undo", {"ids": also[:1]}).json() == {"undone": 1}
        refused = visit.post(f"/items/{document.quarantine_id}", {"decision": "accept", "why": "x"})
        assert refused.status_code == 409
        assert visit.post("/store", {}).json() == {"stored": 2, "held": 0}
        assert visit.post("/undo", {"ids": also[1:]}).status_code == 409  # stored
    numbers = sorted(ds.InstanceNumber for ds in stored(waiting))
    assert len(numbers) == 2
    for ds in stored(waiting):
        assert_masked(ds, originals(waiting)[ds.InstanceNumber - 1])
    states_now = states(waiting.settings)[f"h1/{picture.study_uid}"]
    assert states_now == ("partial", "set aside: document_not_cleanable x1, pixel_risk x1")


def test_no_page_tells_the_name_and_nothing_is_kept(waiting: Waiting) -> None:
    with visit_of(waiting) as visit:
        for language in ("zh", "en"):
            paths = ["/", *(f"/items/{item.quarantine_id}" for item in waiting.items())]
            for path in paths:
                answer = visit.get(path, params={"lang": language})
                assert answer.status_code == 200
                assert NAME not in answer.text
                assert "Maja" not in answer.text
                assert not re.search(r'(?:src|href)="(?:https?:)?//', answer.text)
                assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon\w+=", answer.text)
                assert answer.headers["cache-control"] == "no-store"
                assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        picture = next(item for item in waiting.items() if item.facts.has_picture)
        for path in (f"/items/{picture.quarantine_id}/frames/1.png", "/static/review.js"):
            assert visit.get(path).headers["cache-control"] == "no-store"


def test_the_link_works_once_and_nothing_works_without_it(waiting: Waiting) -> None:
    with visit_of(waiting) as visit:
        assert visit.get("/").status_code == 200
        for path in ("/", "/?token=other", "/?token=t0ken", "/static/review.js", visit.root[:-1] + "/"):
            answer = visit.http.get(path)
            assert (answer.status_code, answer.headers["cache-control"]) == (403, "no-store"), path
        assert visit.http.post("/store", json={}).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example:80", ""])
def test_another_host_name_is_refused(waiting: Waiting, host: str) -> None:
    with visit_of(waiting) as visit:
        assert visit.get("/", headers={"host": host}).status_code == 403
        assert visit.get("/", headers={"host": "localhost:80"}).status_code == 200  # through a tunnel


@pytest.mark.parametrize("origin", [None, "null", "http://127.0.0.1:1", "http://evil.example"])
def test_another_page_can_decide_nothing(waiting: Waiting, origin: str | None) -> None:
    with visit_of(waiting) as visit:
        del visit.http.headers["origin"]
        picture = waiting.items()[0]
        headers = {"origin": origin} if origin else {}
        body = {"decision": "reject", "why": "x"}
        assert visit.post(f"/items/{picture.quarantine_id}", body, headers=headers).status_code == 403
    assert waiting.queue().log() == []


@pytest.mark.parametrize("path", ["/items/ffffffffffffffff", "/items/..%2f..", "/nothing"])
def test_what_is_not_there_is_told(waiting: Waiting, path: str) -> None:
    with visit_of(waiting) as visit:
        assert visit.get(path).status_code == 404


def test_the_command_serves_loopback_until_it_is_interrupted(waiting: Waiting) -> None:
    command = [*COMMAND, "--lake", waiting.settings.lake, "review", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            url = server.stdout.readline().split()[-1]
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", url)
            with httpx.Client(follow_redirects=True, timeout=30) as http:
                assert http.get(url).status_code == 200
                assert http.get(url).status_code == 403
        finally:
            server.send_signal(signal.SIGINT)
            _, errors = server.communicate(timeout=30)
    assert server.returncode == 0
    assert errors == ""
