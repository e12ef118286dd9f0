"""A lake of real images behind a real socket, and clients of its DICOMweb."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass

from radlake.config import Settings
from radlake.web.access import Role
from radlake.web.server import access_of, accounts_of, app_of
from support.webserver import running

__all__ = ["PASSWORD", "client_of", "serving"]

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
