"""Echo, find and retrieve against real archives: Orthanc and DCMTK's dcmqrscp."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from pydicom import dcmread

from radlake.errors import AssociationRejected, NodeUnavailable, RetrieveFailed
from radlake.net import NodeClient, RetrieveResult, StudyFound, Window, connect
from support import need
from support.dicom import uid
from support.pacs import Pacs, dcmqrscp, orthanc
from support.samples import COMPRESSED, UNCOMPRESSED, sample_study

MARCH = Window(date(2026, 3, 1), date(2026, 3, 31))
STUDY = uid("sample")

Files = dict[str, Path]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return sample_study(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def april(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("april")
    return sample_study(folder, names=UNCOMPRESSED[:2], study="april", study_date="20260401")


@pytest.fixture(scope="module")
def archive(files: Files, april: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    with orthanc(tmp_path_factory.mktemp("orthanc"), files=[*files.values(), *april.values()]) as pacs:
        yield pacs


@pytest.fixture(scope="module")
def his(files: Files, april: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    with dcmqrscp(tmp_path_factory.mktemp("dcmqrscp"), files=[*files.values(), *april.values()]) as pacs:
        yield pacs


def client(pacs: Pacs, *, ae_title: str = "RADLAKE", **settings: object) -> NodeClient:
    return connect(pacs.dimse_node(**settings), ae_title=ae_title, scp_port=pacs.destination_port)


def assert_same_content(folder: Path, expected: Files) -> None:
    """Every instance is there once, with the content and the transfer syntax that the archive was given."""
    assert {path.stem for path in folder.iterdir()} == expected.keys()
    for sop_uid, path in expected.items():
        came, stored = dcmread(folder / f"{sop_uid}.dcm"), dcmread(path)
        assert came == stored, path.name
        assert came.file_meta.TransferSyntaxUID == stored.file_meta.TransferSyntaxUID, path.name
        assert came.file_meta.MediaStorageSOPClassUID == stored.SOPClassUID


@pytest.mark.orthanc
class TestOrthanc:
    def test_echo(self, archive: Pacs) -> None:
        assert 0 < client(archive).echo() < 60

    @pytest.mark.parametrize(
        ("start", "end", "studies"),
        [
            (date(2026, 3, 1), date(2026, 3, 1), {"sample"}),
            (date(2026, 3, 1), date(2026, 4, 1), {"sample", "april"}),
            (date(2026, 3, 2), date(2026, 3, 31), set()),
        ],
        ids=["one day", "both ends included", "nothing"],
    )
    def test_studies_of_a_window(self, archive: Pacs, start: date, end: date, studies: set[str]) -> None:
        found = client(archive).find_studies(Window(start, end))
        assert {study.study_uid for study in found} == {uid(study) for study in studies}

    def test_what_is_known_of_a_study(self, archive: Pacs, files: Files) -> None:
        modalities = ("CT", "MR", "NM", "OT", "RTPLAN", "SR")
        [found] = client(archive).find_studies(MARCH)
        assert found.study_time is not None
        assert replace(found, study_time=None) == StudyFound(STUDY, date(2026, 3, 1), len(files), modalities)

    def test_the_list_of_instances(self, archive: Pacs, files: Files) -> None:
        assert client(archive).find_instances(STUDY) == files.keys()
        assert client(archive).find_instances("1.2.3") is None

    @pytest.mark.parametrize("retrieve", ["get", "move"])
    def test_a_study_arrives_as_it_was_stored(self, archive: Pacs, files: Files, retrieve: str, tmp_path: Path) -> None:
        result = client(archive, retrieve=retrieve).retrieve(STUDY, into=tmp_path / "study")
        assert result == RetrieveResult(len(files), 0)
        assert_same_content(tmp_path / "study", files)

    @pytest.mark.parametrize("retrieve", ["get", "move"])
    def test_only_what_is_missing_is_fetched(self, archive: Pacs, files: Files, retrieve: str, tmp_path: Path) -> None:
        asked = client(archive, retrieve=retrieve)
        asked.retrieve(STUDY, into=tmp_path)
        kept = {path: path.stat().st_ino for path in sorted(tmp_path.iterdir())[3:]}
        for path in sorted(tmp_path.iterdir())[:3]:
            path.unlink()
        assert asked.retrieve(STUDY, into=tmp_path) == RetrieveResult(3, 0)
        assert asked.retrieve(STUDY, into=tmp_path) == RetrieveResult(0, 0)
        assert {path: path.stat().st_ino for path in kept} == kept
        assert_same_content(tmp_path, files)

    @pytest.mark.parametrize("retrieve", ["get", "move"])
    def test_only_what_is_wanted_is_fetched(self, archive: Pacs, files: Files, retrieve: str, tmp_path: Path) -> None:
        wanted = frozenset(list(files)[1:4])
        result = client(archive, retrieve=retrieve).retrieve(STUDY, into=tmp_path, wanted=wanted)
        assert result == RetrieveResult(3, 0)
        assert_same_content(tmp_path, {sop_uid: files[sop_uid] for sop_uid in wanted})

    def test_the_patient_root_model(self, archive: Pacs, files: Files, tmp_path: Path) -> None:
        asked = client(archive, query_model="patient")
        assert [study.study_uid for study in asked.find_studies(MARCH)] == [STUDY]
        assert asked.retrieve(STUDY, into=tmp_path) == RetrieveResult(len(files), 0)

    @pytest.mark.parametrize("retrieve", ["get", "move"])
    def test_a_study_that_is_not_there(self, archive: Pacs, retrieve: str, tmp_path: Path) -> None:
        with pytest.raises(RetrieveFailed):
            client(archive, retrieve=retrieve).retrieve("1.2.3", into=tmp_path)

    def test_several_studies_at_once_through_one_port(
        self, archive: Pacs, files: Files, april: Files, tmp_path: Path
    ) -> None:
        asked = client(archive, retrieve="move")
        with ThreadPoolExecutor(2) as pool:
            march = pool.submit(asked.retrieve, STUDY, into=tmp_path / "march")
            other = pool.submit(asked.retrieve, uid("april"), into=tmp_path / "april")
        assert (march.result(), other.result()) == (RetrieveResult(len(files), 0), RetrieveResult(len(april), 0))
        assert_same_content(tmp_path / "march", files)
        assert_same_content(tmp_path / "april", april)

    def test_a_wrong_ae_title_is_told(self, archive: Pacs) -> None:
        with pytest.raises(AssociationRejected, match="called AE title not recognized") as caught:
            connect(archive.dimse_node(ae_title="ORTHANK"), ae_title="RADLAKE").echo()
        assert caught.value.facts["result"] == "rejected-permanent"

    def test_a_destination_that_the_archive_does_not_know(self, archive: Pacs, tmp_path: Path) -> None:
        with pytest.raises(RetrieveFailed, match="0x"):
            client(archive, ae_title="NOBODY", retrieve="move").retrieve(STUDY, into=tmp_path)

    def test_our_port_is_taken(self, archive: Pacs, tmp_path: Path) -> None:
        with (
            socket.create_server(("127.0.0.1", archive.destination_port)),
            pytest.raises(NodeUnavailable, match=f"cannot listen on port {archive.destination_port}"),
        ):
            client(archive, retrieve="move").retrieve(STUDY, into=tmp_path)

    def test_an_archive_that_died(self, files: Files, tmp_path: Path) -> None:
        with orthanc(tmp_path, ae_title="MORTAL", files=list(files.values())[:1]) as pacs:
            asked = client(pacs)
            asked.echo()
            os.kill(pacs.process_id, signal.SIGKILL)
            with pytest.raises(NodeUnavailable):
                asked.find_studies(MARCH)


@pytest.mark.dcmqrscp
class TestDcmqrscp:
    def test_keys_that_are_not_answered_are_none(self, his: Pacs) -> None:
        [found] = client(his).find_studies(MARCH)
        assert replace(found, study_time=None) == StudyFound(STUDY, date(2026, 3, 1), None, ())

    def test_the_list_of_instances(self, his: Pacs, files: Files) -> None:
        assert client(his).find_instances(STUDY) == files.keys()

    @pytest.mark.parametrize("retrieve", ["get", "move"])
    def test_a_study_arrives(self, his: Pacs, april: Files, retrieve: str, tmp_path: Path) -> None:
        asked = client(his, retrieve=retrieve)
        assert asked.retrieve(uid("april"), into=tmp_path) == RetrieveResult(len(april), 0)
        assert_same_content(tmp_path, april)

    @pytest.mark.parametrize("retrieve", ["get", "move"])
    def test_what_it_will_not_send_is_told_and_the_rest_is_kept(self, his: Pacs, retrieve: str, tmp_path: Path) -> None:
        # Unless told otherwise it sends nothing compressed.
        result = client(his, retrieve=retrieve).retrieve(STUDY, into=tmp_path)
        assert result == RetrieveResult(
            len(UNCOMPRESSED), len(COMPRESSED), "0xB000: sub-operations complete, with failures"
        )
        assert len(list(tmp_path.iterdir())) == len(UNCOMPRESSED)

    def test_compressed_images_arrive_compressed(self, tmp_path: Path) -> None:
        files = sample_study(tmp_path / "files", names=("JPEG2000.dcm", "JPEG2000.dcm"))
        with dcmqrscp(tmp_path, files=files.values(), options=["-xw"]) as pacs:
            assert client(pacs, retrieve="move").retrieve(STUDY, into=tmp_path / "study") == RetrieveResult(2, 0)
        assert_same_content(tmp_path / "study", files)

    def test_a_destination_that_it_does_not_know(self, his: Pacs, tmp_path: Path) -> None:
        with pytest.raises(RetrieveFailed, match="0xA801: move destination unknown"):
            client(his, ae_title="NOBODY", retrieve="move").retrieve(STUDY, into=tmp_path)

    def test_a_wrong_ae_title_is_told(self, his: Pacs) -> None:
        with pytest.raises(AssociationRejected, match="called AE title not recognized"):
            connect(his.dimse_node(ae_title="OTHERPACS"), ae_title="RADLAKE").find_studies(MARCH)


@pytest.mark.parametrize(
    ("host", "reason"),
    [("127.0.0.1", "connection refused"), ("no-such-host.invalid", "host name is not known")],
    ids=["closed port", "unknown host"],
)
def test_a_node_that_cannot_be_reached(host: str, reason: str, tmp_path: Path) -> None:
    pacs = Pacs("NOBODY", need.free_port(), 0, 0, 0)
    node = pacs.dimse_node(host=host)
    with pytest.raises(NodeUnavailable, match=reason):
        connect(node, ae_title="RADLAKE").echo()
    with pytest.raises(NodeUnavailable, match=reason):
        connect(node, ae_title="RADLAKE").retrieve(STUDY, into=tmp_path)
