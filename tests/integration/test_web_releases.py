"""The page of a release over a real socket: what a researcher chooses there is what the command pulls."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from radlake.cli.cohort import app as cohort
from radlake.cohort.approval import revoke
from radlake.cohort.pull import Manifest, Release, manifest_from_text, open_release
from radlake.config import Settings, StoreSettings
from radlake.machine import utc_now
from radlake.web.access import Access, Role
from radlake.web.releases import Choice
from radlake.web.server import app_of
from support.cohorts import CONTACT, NOW, approved, built_everybody, lake_of_cts, released, write_cts
from support.dicom import ct_study, presentation_state, write
from support.webserver import running


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Five CTs, and a presentation state of one of them."""
    folder = tmp_path_factory.mktemp("releases")
    archive = write_cts(folder / "in", persons=5, slices=2)
    write(presentation_state(of=ct_study(n=1, patient_id="P0003", study=0)[0]), archive / "pr.dcm")
    settings = lake_of_cts(folder, archive)
    made = released(settings, built_everybody(settings))
    approved(settings, made.release_id, expires_on=utc_now().date() + timedelta(days=9))
    return settings


@pytest.fixture(scope="module")
def release(settings: Settings) -> Release:
    [path] = (Path(settings.lake) / "releases").glob("*.alpha")
    return open_release(settings, path.name, today=utc_now().date())


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[httpx.Client]:
    with (
        running(app_of(settings, Access(everyone=Role.RESEARCHER))) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def series_of(release: Release, modality: str) -> set[str]:
    return {row["series_instance_uid"] for row in release.series_rows if row["modality"] == modality}


def test_the_page_tells_what_a_release_holds(client: httpx.Client, release: Release) -> None:
    english = client.get("/releases", params={"release": release.release_id, "lang": "en"})
    assert english.status_code == 200
    told = html.unescape(re.sub(r"<[^>]+>", " ", english.text))
    assert "5 persons, 5 exams, 6 series, 11 instances" in told
    assert "Approved for institute: lung nodules. Licence: DUA 3." in told
    assert CONTACT in told
    assert set(re.findall(r'name="series" value="([^"]+)"', english.text)) == {
        row["series_instance_uid"] for row in release.series_rows
    }
    chinese = client.get("/releases", params={"release": release.release_id, "lang": "zh-CN", "modality": "PR"})
    assert "全部" in chinese.text
    assert set(re.findall(r'name="series" value="([^"]+)"', chinese.text)) == series_of(release, "PR")


@pytest.mark.parametrize("chosen", ["series", "modality", "everything"])
def test_the_command_pulls_exactly_what_was_chosen(
    chosen: str, client: httpx.Client, settings: Settings, release: Release, tmp_path: Path
) -> None:
    two = sorted(series_of(release, "CT"))[:2]
    cases: dict[str, tuple[dict[str, list[str]], set[str]]] = {
        "series": ({"series": two}, {*two}),
        "modality": ({"modality": ["PR"]}, series_of(release, "PR")),
        "everything": ({}, series_of(release, "CT") | series_of(release, "PR")),
    }
    given, wanted = cases[chosen]
    page = client.get("/releases", params={"release": release.release_id})
    assert 'formaction="/releases/manifest"' in page.text
    answer = client.get("/releases/manifest", params={"release": release.release_id, **given})
    name = re.fullmatch(r'attachment; filename="([^"]+\.manifest)"', answer.headers["content-disposition"])
    assert name
    file = tmp_path / name[1]
    file.write_bytes(answer.content)
    own = StoreSettings(lake=settings.lake)
    result = CliRunner().invoke(cohort, ["pull", str(file), str(tmp_path / "out")], obj=own)
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "out" / "dicom").glob("*/*/*")} == wanted


def test_a_manifest_says_where_a_store_is_and_never_where_a_folder_is(settings: Settings, release: Release) -> None:
    choice = Choice(release.release_id)
    assert choice.manifest(release, settings) == Manifest(release.release_id)
    remote = Settings(lake="s3://bucket/lake", s3_endpoint_url="https://store.example", restricted=settings.restricted)
    told = choice.manifest(release, remote)
    assert (told.lake, told.endpoint_url) == ("s3://bucket/lake", "https://store.example")


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"modality": "MR"}, 400),
        ({"series": "1.2.3"}, 400),
        ({"release": "no.such.release"}, 404),
        ({"release": "../../restricted"}, 404),
        ({"release": ""}, 404),
    ],
    ids=["modality", "series", "unknown", "path", "none"],
)
def test_what_is_not_there_is_refused_and_never_means_everything(
    client: httpx.Client, release: Release, given: dict[str, str], status: int
) -> None:
    answer = client.get("/releases/manifest", params={"release": release.release_id, **given})
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")


def test_a_release_that_was_revoked_says_whom_to_ask(client: httpx.Client, settings: Settings) -> None:
    made = released(settings, built_everybody(settings), "beta")
    for waits in (True, False):
        answer = client.get("/releases/manifest", params={"release": made.release_id})
        assert answer.status_code == 403
        assert CONTACT in answer.text
        if waits:
            approved(settings, made.release_id, expires_on=utc_now().date() + timedelta(days=9))
            text = client.get("/releases/manifest", params={"release": made.release_id}).text
            assert manifest_from_text(text) == Manifest(made.release_id)
            revoke(settings, made.release_id, by="committee", why="2026-18", now=NOW)
