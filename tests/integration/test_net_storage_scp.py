"""Our storage SCP, met by DCMTK's storescu and echoscu: it takes what is awaited, durably, and nothing else."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from radlake.errors import PortBusy, StoreFull
from radlake.net.delivery import Delivery
from radlake.net.instance_files import InstanceFolder
from radlake.net.node import Tls
from radlake.net.reach import server_context
from radlake.net.storage_scp import receiving
from support import need
from support.certificates import certificates
from support.dicom import uid
from support.samples import COMPRESSED, UNCOMPRESSED, sample_study

pytestmark = pytest.mark.dcmqrscp  # the tools come in the same package

STUDY = uid("sample")


@contextlib.contextmanager
def scp(folder: Path, *, study: str = STUDY, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Delivery]:
    delivery = Delivery(InstanceFolder(folder), due=None)
    with receiving(study, delivery=delivery, ae_title="RADLAKE", host="127.0.0.1", port=port, timeout=5, tls=tls):
        yield delivery


def store(port: int, *files: Path, called: str = "RADLAKE", options: tuple[str, ...] = ()) -> str:
    """Send files; returns what storescu says when it fails, else nothing."""
    command = [need.program("storescu", package="dcmtk"), *options, "-aec", called, "127.0.0.1", str(port)]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, timeout=60, check=False)
    return (done.stdout + done.stderr) if done.returncode else ""


@pytest.fixture
def port() -> int:
    return need.free_port()


def test_an_awaited_study_is_stored_as_it_comes(tmp_path: Path, port: int) -> None:
    files = sample_study(tmp_path / "files", names=UNCOMPRESSED)
    with scp(tmp_path / "study", port=port) as delivery:
        assert store(port, *files.values()) == ""
        # Acknowledged means durable: every file is there as soon as the sender is content.
        assert delivery.folder.uids() == delivery.arrived == files.keys()
    for sop_uid, path in files.items():
        assert dcmread(tmp_path / "study" / f"{sop_uid}.dcm") == dcmread(path)


@pytest.mark.parametrize(
    ("name", "option"),
    [("JPEG2000.dcm", "-xw"), ("MR_small_RLE.dcm", "-xr"), ("SC_rgb_jpeg_dcmtk.dcm", "-xy"), ("image_dfl.dcm", "-xd")],
)
def test_any_transfer_syntax_is_kept(name: str, option: str, tmp_path: Path, port: int) -> None:
    ((sop_uid, path),) = sample_study(tmp_path / "files", names=[name]).items()
    with scp(tmp_path / "study", port=port):
        assert store(port, path, options=(option,)) == ""
    came = dcmread(tmp_path / "study" / f"{sop_uid}.dcm")
    assert came == dcmread(path)
    assert came.file_meta.TransferSyntaxUID == dcmread(path).file_meta.TransferSyntaxUID


def test_an_instance_sent_twice_is_acknowledged_and_counted_once(tmp_path: Path, port: int) -> None:
    (path,) = sample_study(tmp_path / "files", names=UNCOMPRESSED[:1]).values()
    with scp(tmp_path / "study", port=port) as delivery:
        assert store(port, path, path) == ""
        assert store(port, path) == ""
    assert delivery.n_new == 1


def test_another_study_is_refused(tmp_path: Path, port: int) -> None:
    (stray,) = sample_study(tmp_path / "stray", names=UNCOMPRESSED[:1], study="stray").values()
    with scp(tmp_path / "study", port=port) as delivery:
        assert "0x124" in store(port, stray, options=("-v",))
    assert list((tmp_path / "study").iterdir()) == []
    assert delivery.arrived == set()


def test_two_studies_find_their_folders(tmp_path: Path, port: int) -> None:
    one = sample_study(tmp_path / "1", names=UNCOMPRESSED[:2], study="one")
    two = sample_study(tmp_path / "2", names=COMPRESSED[:1], study="two")
    with scp(tmp_path / "one", study=uid("one"), port=port), scp(tmp_path / "two", study=uid("two"), port=port):
        assert store(port, *one.values(), *two.values(), options=("-R", "-xw")) == ""
    assert {path.stem for path in (tmp_path / "one").iterdir()} == one.keys()
    assert {path.stem for path in (tmp_path / "two").iterdir()} == two.keys()


def test_another_called_ae_title_is_rejected(tmp_path: Path, port: int) -> None:
    (path,) = sample_study(tmp_path / "files", names=UNCOMPRESSED[:1]).values()
    with scp(tmp_path / "study", port=port):
        assert "Called AE Title Not Recognized" in store(port, path, called="SOMEBODY")


def test_an_administrator_may_echo_us(tmp_path: Path, port: int) -> None:
    echo = [need.program("echoscu", package="dcmtk"), "-v", "-aec", "RADLAKE", "127.0.0.1", str(port)]
    with scp(tmp_path / "study", port=port):
        done = subprocess.run(echo, check=True, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert "Received Echo Response (Success)" in done.stdout


def test_the_port_is_closed_when_nothing_is_awaited(tmp_path: Path, port: int) -> None:
    echo = [need.program("echoscu", package="dcmtk"), "-aec", "RADLAKE", "127.0.0.1", str(port)]
    with scp(tmp_path / "one", study="1.1", port=port):
        with scp(tmp_path / "two", study="1.2", port=port):
            pass
        subprocess.run(echo, check=True, timeout=60)
    assert subprocess.run(echo, check=False, timeout=60, capture_output=True).returncode != 0
    with scp(tmp_path / "three", port=port):
        subprocess.run(echo, check=True, timeout=60)


def test_a_port_of_somebody_else(tmp_path: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)), pytest.raises(PortBusy), scp(tmp_path, port=port):
        pass


def test_a_full_disk_is_told_to_the_sender_and_to_us(tmp_path: Path, port: int) -> None:
    (path,) = sample_study(tmp_path / "files", names=["CT_small.dcm"]).values()
    assert path.stat().st_size > 20_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with scp(tmp_path / "study", port=port) as delivery:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # the kernel refuses to write more
        try:
            said = store(port, path, options=("-v",))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "OutOfResources" in said
    assert list((tmp_path / "study").iterdir()) == []
    with pytest.raises(StoreFull, match="File too large"):
        delivery.result(node="n")


def test_over_tls_both_sides_show_a_certificate(tmp_path: Path, port: int) -> None:
    pem = certificates(tmp_path / "pem")
    context = server_context(Tls(ca=pem.ca, certificate=pem.ours, key=pem.our_key), node="n")
    files = sample_study(tmp_path / "files", names=UNCOMPRESSED[:2])
    known = ("+tls", str(pem.node_key), str(pem.node), "+cf", str(pem.ca))
    with scp(tmp_path / "study", port=port, tls=context) as delivery:
        assert store(port, *files.values()) != "", "plain"
        assert store(port, *files.values(), options=("+tla", "+cf", str(pem.ca))) != "", "anonymous"
        assert delivery.arrived == set()
        assert store(port, *files.values(), options=known) == ""
        assert delivery.arrived == files.keys()
