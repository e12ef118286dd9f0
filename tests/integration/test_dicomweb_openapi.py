"""Whatever a client asks of DICOMweb, it is answered or refused with a reason, never by a fault (Schemathesis)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from radlake.config import Settings
from radlake.lake import Lake, duck
from radlake.web.dicomweb.app import create_dicomweb
from radlake.web.dicomweb.attributes import ATTRIBUTES
from radlake.web.server import access_of, accounts_of
from support.dicom import compressed, ct_study, image_study, sr_document, write
from support.dicomweb import PASSWORD, serving
from support.openapi import TEXT, statuses_of
from support.residency import harvested

ACCEPT = (
    "application/zip",
    "application/dicom",
    "application/dicom+json",
    "application/octet-stream",
    "image/png",
    'multipart/related; type="application/octet-stream"; transfer-syntax=*',
)
SHOWN = {"window": "40,400,linear", "viewport": "8,8,0,0,4,4", "quality": "50"}
OTHERS = ("includefield", "limit", "offset", "fuzzymatching")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("images")
    studies = [ct_study(n=2), [compressed(ds) for ds in image_study("MR", n=1, frames=3)], [sr_document()]]
    for s, study in enumerate(studies):
        for n, ds in enumerate(study):
            write(ds, folder / "archive" / f"{s}" / f"{n}.dcm")
    return harvested(folder / "lake", folder / "archive", policy="central")


def document(settings: Settings) -> dict[str, Any]:
    """The OpenAPI document, with what the routes read of paths and queries."""
    names = ("study_instance_uid", "series_instance_uid", "sop_instance_uid")
    with duck.connect(Lake.from_settings(settings), tables=["dicom"]) as connection:
        rows = connection.execute(f"SELECT {', '.join(names)} FROM dicom.instance").fetchall()
    known = dict(zip(("study", "series", "instance"), zip(*rows, strict=True), strict=True))
    known |= {"frames": ("1", "1,3", "2"), "path": ("7FE00010", "00081140.0.00091010")}
    found = create_dicomweb(settings, access_of(settings, "0.0.0.0")).openapi()
    for path, operations in found["paths"].items():
        within = [
            {"name": name, "in": "path", "required": True, "schema": _one_of(known[name])}
            for name in re.findall(r"{(\w+)}", path)
        ]
        asked = {"accept": ACCEPT, **{name: (text,) for name, text in SHOWN.items()}}
        asked |= dict.fromkeys([*ATTRIBUTES, *OTHERS], ("1", "20250102-", "A*"))
        is_search = path.rpartition("/")[2] in ("studies", "series", "instances")
        query = [
            {"name": name, "in": "query", "schema": _one_of(values)}
            for name, values in asked.items()
            if name == "accept" or (name in SHOWN) != is_search
        ]
        for operation in operations.values():
            operation["parameters"] = within + query
    return found


def _one_of(values: tuple[str, ...]) -> dict[str, Any]:
    return {"anyOf": [{"enum": sorted(set(values))}, TEXT]}


def test_no_request_finds_a_fault(settings: Settings, tmp_path: Path) -> None:
    with serving(settings) as url:
        assert accounts_of(settings).all()
        auth = {"auth": ("researcher", PASSWORD)}
        statuses = statuses_of(document(settings), url, send=lambda _, __: auth)
    assert len(statuses) == 18
    assert set().union(*statuses.values()) >= {200, 204, 400, 404, 406}
