"""Hospitals push, by DCMTK's storescu, our own sender and STOW-RS: nothing acknowledged is lost, nothing is guessed."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from radlake.net.message import Field
from radlake.net.upper_layer import AssociationRefused
from support import need
from support.dicom import ct_study, image_study, write, write_all
from support.lakes import picture
from support.pacs import orthanc
from support.push import (
    TOKEN,
    lake_of,
    mpps_step,
    multipart,
    receiver_process,
    receiving_lake,
    send,
    storescu,
    study_states,
    until,
)

QUIET = 1.5  # seconds
NEVER = 600.0
ONLY_QUIET = "unverified: closed by quiet time only"

CT = ct_study(n=3)
MR = image_study("MR", n=2, patient="韩梅梅", patient_id="P2", study=2)
DX = image_study("DX", n=1, patient="Wang^Fang", patient_id="P3", study=3)


def study_of(instances: list[Dataset]) -> str:
    return str(instances[0].StudyInstanceUID)


def notice(url: str, **document: object) -> httpx.Response:
    return httpx.post(f"{url}/notices", json=document, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)


def listing(instances: list[Dataset]) -> list[dict[str, object]]:
    series: dict[str, list[str]] = {}
    for ds in instances:
        series.setdefault(str(ds.SeriesInstanceUID), []).append(str(ds.SOPInstanceUID))
    return [{"series": name, "instances": uids} for name, uids in series.items()]


# Who may send


def test_an_unknown_sender_is_refused(tmp_path: Path) -> None:
    with receiving_lake(lake_of(tmp_path, quiet=NEVER)) as receiver:
        with pytest.raises(AssociationRefused, match="calling AE title not recognized"):
            send(receiver, CT, calling="STRANGER")
        (path,) = write_all(CT[:1], tmp_path / "in")
        said = storescu(receiver, path, calling="STRANGER")
        assert "Calling AE Title Not Recognized" in said
        assert "Called AE Title Not Recognized" in storescu(receiver, path, called="SOMEBODY")
        assert receiver.spooled() == set()


def test_a_token_belongs_to_one_hospital(tmp_path: Path) -> None:
    with receiving_lake(lake_of(tmp_path, quiet=NEVER)) as receiver:
        body, headers = multipart(CT[0])
        for wrong in ({}, {"Authorization": "Bearer guessed"}, {"Authorization": f"Basic {TOKEN}"}):
            given = {key: value for key, value in headers.items() if key != "Authorization"} | wrong
            answer = httpx.post(f"{receiver.url}/studies", content=b"x", headers=given, timeout=10)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert httpx.post(f"{receiver.url}/studies", content=body, headers=headers, timeout=10).status_code == 200
        assert [path.parts[-4] for path in receiver.settings.restricted.rglob("push/*/*/1/*.dcm")] == ["h1"]


# What closes a study


def test_quiet_time_ingests_and_proves_nothing(tmp_path: Path) -> None:
    settings = lake_of(tmp_path, quiet=QUIET)
    with receiving_lake(settings) as receiver:
        assert storescu(receiver, *write_all(CT, tmp_path / "in")) == ""
        until(lambda: study_states(settings) == {study_of(CT): ("partial", ONLY_QUIET)})
        until(lambda: receiver.spooled() == set())
        assert len(picture(settings)["dicom.instance"]) == 3
        assert notice(receiver.url, study=study_of(CT), series=listing(CT)).json()["status"] == "kept"
        until(lambda: study_states(settings) == {study_of(CT): ("complete", "")})


def test_mpps_closes_a_study_at_once(tmp_path: Path) -> None:
    settings = lake_of(tmp_path, quiet=NEVER)
    begun, done = Dataset(), Dataset()
    step = Dataset()
    step.StudyInstanceUID = study_of(CT)
    begun.ScheduledStepAttributesSequence = Sequence([step])
    begun.PerformedProcedureStepStatus = "IN PROGRESS"
    begun.PerformedSeriesSequence = Sequence([])
    done.PerformedProcedureStepStatus = "COMPLETED"
    series = Dataset()
    series.SeriesInstanceUID = CT[0].SeriesInstanceUID
    series.ReferencedImageSequence = Sequence([])
    for ds in CT:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
        series.ReferencedImageSequence.append(reference)
    done.PerformedSeriesSequence = Sequence([series])
    with receiving_lake(settings) as receiver:
        assert mpps_step(receiver, Field.N_SET_RQ, done) == 0x0112
        assert mpps_step(receiver, Field.N_CREATE_RQ, done) == 0x0120
        assert mpps_step(receiver, Field.N_CREATE_RQ, begun) == 0
        assert mpps_step(receiver, Field.N_CREATE_RQ, begun) == 0x0111
        assert send(receiver, CT) == [0, 0, 0]
        until(lambda: study_states(settings) == {study_of(CT): ("retrieving", "")})
        assert mpps_step(receiver, Field.N_SET_RQ, done) == 0
        until(lambda: study_states(settings) == {study_of(CT): ("complete", "")})
        assert mpps_step(receiver, Field.N_SET_RQ, done) == 0x0110


def test_a_notice_tells_what_never_came(tmp_path: Path) -> None:
    settings = lake_of(tmp_path, quiet=QUIET)
    with receiving_lake(settings) as receiver:
        assert notice(receiver.url, study=study_of(CT), series=listing(CT)).status_code == 200
        assert notice(receiver.url, study=study_of(MR), instances=2).status_code == 200
        assert send(receiver, CT[:2]) == [0, 0]
        until(
            lambda: (
                study_states(settings)
                == {study_of(CT): ("partial", "missing 1 of 3"), study_of(MR): ("partial", "missing 2 of 2")}
            )
        )
        assert send(receiver, [*CT[2:], *MR]) == [0, 0, 0]
        until(lambda: set(study_states(settings).values()) == {("complete", "")})


def test_a_late_series_opens_a_complete_study_again(tmp_path: Path) -> None:
    settings = lake_of(tmp_path, quiet=QUIET)
    both = ct_study(n=2, series=2)
    first, late = both[:2], both[2:]
    with receiving_lake(settings) as receiver:
        notice(receiver.url, study=study_of(CT), series=listing(first))
        assert send(receiver, first) == [0, 0]
        until(lambda: study_states(settings) == {study_of(CT): ("complete", "")})
        assert send(receiver, late) == [0, 0]
        until(lambda: study_states(settings)[study_of(CT)][0] == "retrieving")
        until(
            lambda: (
                study_states(settings)
                == {
                    study_of(CT): ("partial", "unverified: 2 instances came that the notice does not tell of"),
                }
            )
        )
        notice(receiver.url, study=study_of(CT), series=listing(both))
        until(lambda: study_states(settings) == {study_of(CT): ("complete", "")})
        assert len(picture(settings)["dicom.instance"]) == 4


@pytest.mark.orthanc
def test_the_node_of_the_hospital_vouches_and_tells_what_is_missing(tmp_path: Path) -> None:
    """Orthanc has all of the CT and one instance more of the MR than it sent."""
    files = [*write_all(CT, tmp_path / "in"), *write_all(MR, tmp_path / "in")]
    with orthanc(tmp_path, files=files) as pacs:
        node = f"node: {{kind: dimse, ae_title: {pacs.ae_title}, host: 127.0.0.1, port: {pacs.dicom_port}}}"
        settings = lake_of(tmp_path, quiet=QUIET, node=node)
        with receiving_lake(settings) as receiver:
            assert storescu(receiver, *files[:-1]) == ""
            expected = {study_of(CT): ("complete", ""), study_of(MR): ("partial", "missing 1 of 2")}
            until(lambda: study_states(settings) == expected)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"study": "../1"}, "study"),
        ({"study": "1.2"}, "tell series"),
        ({"study": "1.2", "series": [{"series": "1.3", "instances": ["1.4"]}], "instances": 2}, "another number"),
    ],
)
def test_a_notice_that_says_nothing_is_refused(document: dict[str, object], problem: str, tmp_path: Path) -> None:
    with receiving_lake(lake_of(tmp_path, quiet=NEVER)) as receiver:
        answer = notice(receiver.url, **document)
        assert answer.status_code == 400
        assert problem in answer.text


# STOW-RS


def test_stow_stores_what_it_says_it_stores(tmp_path: Path) -> None:
    settings = lake_of(tmp_path, quiet=NEVER)
    with receiving_lake(settings) as receiver:
        body, headers = multipart(*CT, CT[0])
        answer = httpx.post(f"{receiver.url}/studies/{study_of(CT)}", content=body, headers=headers, timeout=10)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom+json")
        good = [item["00081155"]["Value"][0] for item in answer.json()["00081199"]["Value"]]
        assert good == [*(str(ds.SOPInstanceUID) for ds in CT), str(CT[0].SOPInstanceUID)]
        assert answer.json().keys() == {"00081199"}
        assert receiver.spooled() == set(good)
        body, headers = multipart(MR[0], b"not DICOM" * 1000, CT[0])
        answer = httpx.post(f"{receiver.url}/studies/{study_of(CT)}", content=body, headers=headers, timeout=10)
        said = answer.json()
        assert answer.status_code == 202
        (wrong,) = said["00081198"]["Value"]
        assert wrong["00081155"]["Value"] == [str(MR[0].SOPInstanceUID)]
        assert wrong["00081197"]["Value"] == [0xA901]
        assert said["0008119A"]["Value"] == [{"00081197": {"vr": "US", "Value": [0xC000]}}]
        assert receiver.spooled() == set(good)
        body, headers = multipart(b"not DICOM")
        assert httpx.post(f"{receiver.url}/studies", content=body, headers=headers, timeout=10).status_code == 409


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"--b\r\n\r\nhalf", 'multipart/related; type="application/dicom"; boundary=b', 400),
        (b"--b--", 'multipart/related; type="application/dicom"; boundary=b', 400),
        (b"{}", "application/json", 415),
        (b"--b--", 'multipart/related; type="application/dicom+xml"; boundary=b', 415),
    ],
)
def test_a_request_that_is_none_is_refused(body: bytes, content_type: str, status: int, tmp_path: Path) -> None:
    with receiving_lake(lake_of(tmp_path, quiet=NEVER)) as receiver:
        headers = {"Content-Type": content_type, "Authorization": f"Bearer {TOKEN}"}
        assert httpx.post(f"{receiver.url}/studies", content=body, headers=headers, timeout=10).status_code == status


def test_a_request_that_is_too_large_is_cut(tmp_path: Path) -> None:
    with receiving_lake(lake_of(tmp_path, quiet=NEVER), largest=10_000) as receiver:
        body, headers = multipart(b"\0" * 20_000)
        assert httpx.post(f"{receiver.url}/studies", content=body, headers=headers, timeout=10).status_code == 413


# What cannot be kept


def test_a_disk_that_is_nearly_full_is_told_to_the_sender(tmp_path: Path) -> None:
    with receiving_lake(lake_of(tmp_path, quiet=NEVER), keep_free=1 << 60) as receiver:
        assert send(receiver, CT) == [0xA700] * 3
        body, headers = multipart(*CT)
        answer = httpx.post(f"{receiver.url}/studies", content=body, headers=headers, timeout=10)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
        assert httpx.get(f"{receiver.url}/readyz", timeout=10).status_code == 503
        assert httpx.get(f"{receiver.url}/healthz", timeout=10).status_code == 200
        assert receiver.spooled() == set()


def test_an_instance_that_comes_again_with_other_bytes_is_kept_and_set_aside(tmp_path: Path) -> None:
    settings = lake_of(tmp_path, quiet=QUIET)
    changed = ct_study(n=3, seed=7)[0]
    with receiving_lake(settings) as receiver:
        assert send(receiver, [*CT, changed, changed, CT[0]]) == [0] * 6
        until(lambda: study_states(settings).get(study_of(CT), ("",))[0] == "partial")
        assert "set aside: sop_instance_conflict x1" in study_states(settings)[study_of(CT)][1]
        assert len(picture(settings)["dicom.instance"]) == 3


# What a kill leaves


@pytest.mark.dcmqrscp
def test_killed_in_mid_transfer_and_after_the_acknowledgement(tmp_path: Path) -> None:
    """Three studies in two associations; the receiver is killed, started again, and everything is sent once more."""
    settings = lake_of(tmp_path, quiet=NEVER)
    files = {
        str(write(ds, tmp_path / "in" / f"{n}.dcm")): str(ds.SOPInstanceUID) for n, ds in enumerate([*CT, *MR, *DX])
    }
    program = [need.program("storescu", package="dcmtk"), "-v", "-aec", "RADLAKE", "127.0.0.1"]
    acknowledged: set[str] = set()
    with receiver_process(settings) as (receiver, process):
        for share in (list(files)[::2], list(files)[1::2]):
            with subprocess.Popen(
                [*program, str(receiver.dicom_port), *share],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as sending:
                assert sending.stdout is not None
                said = ""
                for line in sending.stdout:
                    said += line
                    if share[0] != next(iter(files)) and said.count("(Success)") == 1:
                        process.send_signal(signal.SIGKILL)
            done = re.findall(r"Sending file: (\S+)\n(?:(?!Sending file).*\n)*?.*Store Response \(Success\)", said)
            acknowledged |= {files[path] for path in done}
        process.wait(30)
        assert acknowledged <= receiver.spooled()
    assert len(acknowledged) >= 4
    with receiving_lake(lake_of(tmp_path, quiet=QUIET)) as receiver:
        assert storescu(receiver, *map(Path, files)) == ""
        until(lambda: len(study_states(settings)) == 3)
        until(lambda: set(study_states(settings).values()) == {("partial", ONLY_QUIET)})
        until(lambda: receiver.spooled() == set())
        for study in (CT, MR, DX):
            notice(receiver.url, study=study_of(study), instances=len(study))
        until(lambda: set(study_states(settings).values()) == {("complete", "")})
    rows = picture(settings)["dicom.instance"]
    assert len(rows) == len(files)


def test_what_a_killed_receiver_took_is_ingested_without_a_resend(tmp_path: Path) -> None:
    settings = lake_of(tmp_path, quiet=QUIET)
    with receiver_process(settings) as (receiver, process):
        assert send(receiver, CT) == [0, 0, 0]
        assert notice(receiver.url, study=study_of(MR), instances=2).status_code == 200
        process.send_signal(signal.SIGKILL)
    with receiving_lake(settings):
        until(
            lambda: (
                study_states(settings)
                == {study_of(CT): ("partial", ONLY_QUIET), study_of(MR): ("partial", "missing 2 of 2")}
            )
        )
    assert len(picture(settings)["dicom.instance"]) == 3


def test_it_ends_in_order(tmp_path: Path) -> None:
    settings = lake_of(tmp_path, quiet=NEVER)
    with receiver_process(settings) as (receiver, process):
        assert send(receiver, CT) == [0, 0, 0]
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said.splitlines()[0][:8]) == (0, "stopping")
        assert receiver.spooled() == {str(ds.SOPInstanceUID) for ds in CT}
