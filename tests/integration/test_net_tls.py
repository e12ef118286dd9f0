"""Nodes behind TLS: both sides check each other, and a wrong certificate is told as such."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from radlake.errors import ConfigInvalid, NodeUnavailable
from radlake.net import RetrieveResult, Window, connect
from radlake.net.node import Tls
from support import need
from support.certificates import Certificates, certificates
from support.dicom import uid
from support.odd_origin import Answer, odd_origin
from support.pacs import Pacs, orthanc
from support.samples import UNCOMPRESSED, sample_study

DAY = Window(date(2026, 3, 1), date(2026, 3, 1))
FILES = UNCOMPRESSED[:3]


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("pem"))


@pytest.fixture(scope="module")
def archive(pem: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    folder, port = tmp_path_factory.mktemp("orthanc"), need.free_port()
    settings = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(pem.node),
        "DicomTlsPrivateKey": str(pem.node_key),
        "DicomTlsTrustedCertificates": str(pem.ca),
        "DicomTlsRemoteCertificateRequired": True,
        "DicomModalities": {"radlake": {"AET": "RADLAKE", "Host": "127.0.0.1", "Port": port, "UseDicomTls": True}},
    }
    files = sample_study(folder / "files", names=FILES).values()
    with orthanc(folder, files=files, destination_port=port, settings=settings) as pacs:
        yield pacs


@pytest.fixture
def ours(pem: Certificates) -> Tls:
    return Tls(ca=pem.ca, certificate=pem.ours, key=pem.our_key)


@pytest.mark.orthanc
@pytest.mark.parametrize("retrieve", ["get", "move"])
def test_a_study_arrives_over_tls(archive: Pacs, ours: Tls, retrieve: str, tmp_path: Path) -> None:
    node = archive.dimse_node(tls=ours, retrieve=retrieve)
    asked = connect(node, ae_title="RADLAKE", scp_port=archive.destination_port)
    assert [study.n_instances for study in asked.find_studies(DAY)] == [len(FILES)]
    assert asked.retrieve(uid("sample"), into=tmp_path) == RetrieveResult(len(FILES), 0)


@pytest.mark.orthanc
def test_an_archive_whose_certificate_is_not_trusted(archive: Pacs, ours: Tls, tmp_path: Path) -> None:
    strangers = certificates(tmp_path)
    node = archive.dimse_node(tls=ours.model_copy(update={"ca": strangers.ca}))
    with pytest.raises(NodeUnavailable, match="its TLS certificate is not trusted"):
        connect(node, ae_title="RADLAKE").echo()


@pytest.mark.orthanc
@pytest.mark.parametrize("certificate", ["none", "a stranger's"])
def test_an_archive_that_does_not_trust_us(archive: Pacs, pem: Certificates, certificate: str, tmp_path: Path) -> None:
    stranger = certificates(tmp_path)
    shown = {} if certificate == "none" else {"certificate": stranger.ours, "key": stranger.our_key}
    with pytest.raises(NodeUnavailable):
        connect(archive.dimse_node(tls=Tls(ca=pem.ca, **shown)), ae_title="RADLAKE").echo()


@pytest.mark.orthanc
def test_plain_dicom_to_a_tls_port(archive: Pacs) -> None:
    with pytest.raises(NodeUnavailable, match="no association"):
        connect(archive.dimse_node(), ae_title="RADLAKE").echo()


def test_c_move_over_tls_needs_a_certificate_of_ours(pem: Certificates) -> None:
    node = Pacs("A", 1, 0, 0, 0).dimse_node(tls=Tls(ca=pem.ca), retrieve="move")
    with pytest.raises(ConfigInvalid, match="needed for C-MOVE over TLS"):
        connect(node, ae_title="RADLAKE", scp_port=1)


def test_dicomweb_over_https(pem: Certificates, ours: Tls, tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pem.ca)
    context.load_cert_chain(pem.node, pem.node_key)
    context.verify_mode = ssl.CERT_REQUIRED
    with odd_origin(lambda _: Answer(b"[]"), tls=context) as origin:
        url = f"https://127.0.0.1:{origin.port}"
        connect(origin.node(base_url=url, tls=ours), ae_title="RADLAKE").echo()
        with pytest.raises(NodeUnavailable, match="its TLS certificate is not trusted"):
            connect(origin.node(base_url=url), ae_title="RADLAKE").echo()
        strangers = Tls(ca=certificates(tmp_path).ca)
        with pytest.raises(NodeUnavailable, match="its TLS certificate is not trusted"):
            connect(origin.node(base_url=url, tls=strangers), ae_title="RADLAKE").echo()
        assert len(origin.requests) == 1
