"""What catalogues read of a release, judged by their own validators: RO-Crate 1.3, Croissant 1.1; without a network."""

from __future__ import annotations

import io
import json
import shutil
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import urllib3
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from radlake.cohort.pull import Manifest, open_release, pull
from support import need
from support.cohorts import approved, built_everybody, lake_of_cts, released, write_cts
from support.pulling import TODAY

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")  # rdflib's

# Recommended, and nothing that a release can know: it is written before `release.json`, its licence is an agreement
# on paper, and its contact need not have an address in the web.
NOT_KNOWN = {
    ("release.json", "File Data Entities SHOULD have a `contentSize` property"),
    ("#licence", "A License entity SHOULD have an absolute HTTP(S) URL as its @id"),
    ("#contact", "The organization SHOULD have a URL."),
    ("#contact", "An Organization entity SHOULD have a ROR identifier as its @id"),
}


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release as its holder has it."""
    folder = tmp_path_factory.mktemp("catalogues")
    settings = lake_of_cts(folder, write_cts(folder / "in", persons=5, slices=2))
    made = released(settings, built_everybody(settings))
    approved(settings, made.release_id)
    release = open_release(settings, made.release_id, today=TODAY)
    pull(release, folder / "out", manifest=Manifest(made.release_id), layout="tables")
    return folder / "out"


@pytest.fixture
def crate(pulled: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(pulled, tmp_path / "crate")


def installed(*names: str) -> None:
    if absent := [name for name in names if find_spec(name) is None]:
        need.missing(f"{', '.join(absent)} (`make install`)")


@pytest.fixture
def without_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The validator asks w3id.org for the context of RO-Crate 1.3; `rocrate` brings the same file (CC0)."""
    installed("rocrate", "rocrate_validator")
    context = (resources.files("rocrate") / "data" / "ro-crate.jsonld").read_bytes()
    assert json.loads(context)["version"] == "1.3.0"
    asked = list[str]()

    def send(self: HTTPAdapter, request: PreparedRequest, **_: Any) -> Response:
        asked.append(str(request.url))
        headers = {"content-type": "application/ld+json"}
        body = urllib3.HTTPResponse(io.BytesIO(context), headers=headers, status=200, preload_content=False)
        return self.build_response(request, body)

    monkeypatch.setattr(HTTPAdapter, "send", send)
    return asked


def issues_of(crate: Path, severity: str) -> set[tuple[str, str]]:
    """What roc-validator's profile of RO-Crate 1.3 finds, which contains those of 1.1 and 1.2: where, and its words."""
    from rocrate_validator.models import Severity
    from rocrate_validator.services import ValidationSettings, validate

    settings = ValidationSettings(
        rocrate_uri=crate,
        profile_identifier="ro-crate-1.3",
        requirement_severity=Severity[severity],
        cache_path=crate.parent / "http",
    )
    found = ((str(one.violatingEntity), str(one.message)) for one in validate(settings).get_issues())
    return {(where.removeprefix("./"), told.partition(" (e.g.")[0]) for where, told in found}


def test_a_release_is_a_valid_ro_crate(crate: Path, without_network: list[str]) -> None:
    assert issues_of(crate, "REQUIRED") == set()
    assert issues_of(crate, "RECOMMENDED") == NOT_KNOWN
    assert "https://w3id.org/ro/crate/1.3/context" in without_network


@pytest.mark.parametrize("damage", ["licence", "table"])
def test_a_ro_crate_that_is_not_valid_would_be_seen(crate: Path, without_network: list[str], damage: str) -> None:
    path = crate / "ro-crate-metadata.json"
    content = json.loads(path.read_text())
    if damage == "licence":
        [root] = [one for one in content["@graph"] if one["@id"] == "./"]
        del root["license"]
        path.write_text(json.dumps(content))
    else:
        (crate / "tables" / "exam.parquet").unlink()
    assert issues_of(crate, "REQUIRED")
    assert without_network


def test_other_programs_read_the_crate(crate: Path) -> None:
    installed("rocrate")
    from rocrate.rocrate import ROCrate

    found = ROCrate(crate)
    told = json.loads((crate / "release.json").read_text())
    assert (found.version, found.name) == ("1.3", told["title"]["en"])
    assert found.root_dataset["identifier"]["value"] == told["release_id"]
    tables = {f"tables/{name}.parquet" for name in told["tables"]}
    assert {entity.id for entity in found.data_entities} == tables | {"release.json"}


def test_mlcroissant_finds_nothing_wrong_and_reads_every_row(crate: Path) -> None:
    installed("mlcroissant")
    from mlcroissant import Dataset

    dataset = Dataset(jsonld=str(crate / "croissant.json"))
    told = json.loads((crate / "release.json").read_text())
    assert (dataset.metadata.ctx.issues.errors, dataset.metadata.ctx.issues.warnings) == (set(), set())
    assert {one.name for one in dataset.metadata.record_sets} == set(told["tables"])
    for name, facts in told["tables"].items():
        assert len(list(dataset.records(name))) == facts["n_rows"], name
