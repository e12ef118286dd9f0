"""A lake of real images behind a real socket, and clients of its DICOMweb."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from pydicom import Dataset

from radlake.config import Settings
from radlake.web.access import Role
from radlake.web.server import access_of, accounts_of, app_of
from support.webserver import running

__all__ = ["PASSWORD", "client_of", "ct", "mr", "of_multipart", "path_of", "serving"]

PASSWORD = "a password for tests"


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """The URL of the service; every role has an account of its name."""
    settings.prepare_restricted()
    for role in Role:
        if role.value not in accounts_of(settings).all():  # a password that is set again ends sessions elsewhere
            accounts_of(settings).put(role.value, role, PASSWORD)
    with running(app_of(settings, access_of(settings, "0.0.0.0"))) as url:
        yield f"{url}/dicom-web"


def client_of(url: str, role: Role = Role.RESEARCHER) -> DICOMwebClient:
    session = create_session_from_user_pass(username=role.value, password=PASSWORD)
    return DICOMwebClient(url, session=session)


def path_of(ds: Dataset) -> str:
    return f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


def ct(stored: dict[str, Dataset]) -> Dataset:
    return min((ds for ds in stored.values() if ds.Modality == "CT"), key=lambda ds: (ds.StudyDate, ds.InstanceNumber))


def mr(stored: dict[str, Dataset]) -> Dataset:
    return next(ds for ds in stored.values() if ds.Modality == "MR")


def of_multipart(answer: httpx.Response) -> list[bytes]:
    """Contents of the parts, read by the letter of RFC 2046."""
    assert answer.status_code == 200, answer.text
    boundary = answer.headers["content-type"].partition("boundary=")[2].encode()
    before, *parts, after = answer.content.split(b"--" + boundary)
    assert (before, after) == (b"", b"--\r\n")
    return [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts]
