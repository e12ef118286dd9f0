"""The simulated PACS against independent peers: dcmtk's programs over DIMSE, httpx over DICOMweb."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from radlake.errors import NodeUnavailable
from radlake.synth.datasets import instances_of, write_archive
from radlake.synth.pacs import PacsProcess
from radlake.synth.province import Exam, Province, make_province
from support import need

HOSPITAL, AE_TITLE = "jsa-provincial", "JSA_PACS"
# Without it Debian's dcmtk leaves Nagle's delay on: 40 ms for each instance.
ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}


@pytest.fixture(scope="module")
def province() -> Province:
    return make_province(seed=31, n_exams=10)


@pytest.fixture(scope="module")
def archive(province: Province, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_archive(province, HOSPITAL, folder)
    return folder


@pytest.fixture(scope="module")
def exam(province: Province) -> Exam:
    """One exam with several series."""
    return max(province.exams_of(HOSPITAL), key=lambda exam: exam.n_instances)


@pytest.fixture(scope="module")
def contents(province: Province, exam: Exam) -> dict[str, bytes]:
    """Files of that exam by SOP Instance UID."""
    return {instance.sop_instance_uid: instance.content for instance in instances_of(province, exam)}


@pytest.fixture(scope="module")
def destination_port() -> int:
    return need.free_port()


@pytest.fixture(scope="module")
def dimse(archive: Path, destination_port: int) -> Iterator[PacsProcess]:
    destination = f"RADLAKE=127.0.0.1:{destination_port}"
    options = ("--aet", AE_TITLE, "--charset", "GB18030", "--move-destination", destination)
    with PacsProcess("dimse", "--archive", str(archive), *options) as pacs:
        yield pacs


@pytest.fixture(scope="module")
def web(archive: Path) -> Iterator[httpx.Client]:
    with (
        PacsProcess("dicomweb", "--archive", str(archive)) as pacs,
        httpx.Client(base_url=f"http://127.0.0.1:{pacs.port}") as client,
    ):
        yield client


def dcmtk(program: str, *arguments: str, cwd: Path, status: int = 0) -> str:
    run = subprocess.run(
        [need.program(program, package="dcmtk"), *arguments],
        capture_output=True,
        cwd=cwd,
        env=ENVIRONMENT,
        timeout=60,
        check=False,
    )
    output = (run.stdout + run.stderr).decode(errors="replace")
    assert run.returncode == status, output
    return output


def find(pacs: PacsProcess, level: str, *keys: str, cwd: Path) -> list[Dataset]:
    """C-FIND with findscu; each answer as it was written to a file."""
    arguments = ["-S", "-X", "-aec", AE_TITLE, "127.0.0.1", str(pacs.port), "-k", f"QueryRetrieveLevel={level}"]
    for key in keys:
        arguments += ["-k", key]
    dcmtk("findscu", *arguments, cwd=cwd)
    return [dcmread(path, force=True) for path in sorted(cwd.glob("rsp*.dcm"))]


def get(pacs: PacsProcess, exam: Exam, *, cwd: Path, status: int = 0) -> str:
    uids = "\\".join(study.study_instance_uid for study in exam.studies)
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uids}")
    return dcmtk(
        "getscu", "-v", "-S", "+B", "-aec", AE_TITLE, "127.0.0.1", str(pacs.port), *keys, cwd=cwd, status=status
    )


def sub_operations(output: str) -> tuple[int, int]:
    """Completed and failed sub-operations of the final response, as dcmtk prints them."""
    completed = re.findall(r"Number of Completed Suboperations\s*: (\d+)", output)
    failed = re.findall(r"Number of Failed Suboperations\s*: (\d+)", output)
    return int(completed[-1]), int(failed[-1])


def data_sets(contents: Sequence[bytes]) -> set[bytes]:
    """What follows the file meta information, which every receiver writes anew."""
    return {content[132 + 12 + int.from_bytes(content[140:144], "little") :] for content in contents}


def test_echo_and_a_wrong_called_title(dimse: PacsProcess, tmp_path: Path) -> None:
    dcmtk("echoscu", "-aec", AE_TITLE, "127.0.0.1", str(dimse.port), cwd=tmp_path)
    rejected = dcmtk("echoscu", "-aec", "OTHER", "127.0.0.1", str(dimse.port), cwd=tmp_path, status=1)
    assert "Called AE Title Not Recognized" in rejected


def test_find_by_date_answers_in_gb18030_with_honest_counts(
    dimse: PacsProcess, province: Province, exam: Exam, tmp_path: Path
) -> None:
    day = f"{exam.day:%Y%m%d}"
    keys = ("StudyDate=" + f"{day}-{day}", "StudyInstanceUID", "PatientName", "NumberOfStudyRelatedInstances")
    answers = find(dimse, "STUDY", *keys, "StudyDescription", "ModalitiesInStudy", "InstitutionName", cwd=tmp_path)
    expected = {
        study.study_instance_uid: (one.person.name, sum(series.n_instances for series in study.series))
        for one in province.exams_of(HOSPITAL)
        for study in one.studies
        if one.day == exam.day
    }
    assert {
        ds.StudyInstanceUID: (str(ds.PatientName), int(ds.NumberOfStudyRelatedInstances)) for ds in answers
    } == expected
    for ds in answers:
        assert ds.SpecificCharacterSet == "GB18030"
        assert (ds.QueryRetrieveLevel, ds.RetrieveAETitle) == ("STUDY", AE_TITLE)
        assert "InstitutionName" not in ds  # not a key that this PACS knows
    raw = next(iter(tmp_path.glob("rsp*.dcm"))).read_bytes()
    assert answers[0].StudyDescription.encode("gb18030") in raw


@pytest.mark.parametrize("charset", ["GB18030", "ISO_IR 192"])
def test_find_by_a_chinese_name_in_either_charset(dimse: PacsProcess, exam: Exam, tmp_path: Path, charset: str) -> None:
    """The query is in the charset that it declares, as a workstation sends it."""
    query = Dataset()
    query.SpecificCharacterSet = charset
    query.QueryRetrieveLevel = "STUDY"
    query.PatientName = f"*{exam.person.name.partition('=')[2]}*"
    query.StudyInstanceUID = ""
    query.save_as(tmp_path / "query.dcm", implicit_vr=False, little_endian=True)
    answered = tmp_path / "answers"
    answered.mkdir()
    arguments = ("-S", "-X", "-aec", AE_TITLE, "127.0.0.1", str(dimse.port), str(tmp_path / "query.dcm"))
    dcmtk("findscu", *arguments, cwd=answered)
    found = {dcmread(path, force=True).StudyInstanceUID for path in answered.glob("rsp*.dcm")}
    assert exam.studies[0].study_instance_uid in found


def test_find_walks_down_to_instances(
    dimse: PacsProcess, exam: Exam, contents: dict[str, bytes], tmp_path: Path
) -> None:
    study = exam.studies[0]
    (tmp_path / "series").mkdir()
    key = f"StudyInstanceUID={study.study_instance_uid}"
    series = find(dimse, "SERIES", key, "SeriesInstanceUID", "Modality", cwd=tmp_path / "series")
    assert {ds.SeriesInstanceUID for ds in series} == {one.series_instance_uid for one in study.series}
    (tmp_path / "image").mkdir()
    key = "StudyInstanceUID=" + "\\".join(study.study_instance_uid for study in exam.studies)
    images = find(dimse, "IMAGE", key, "SOPInstanceUID", cwd=tmp_path / "image")
    assert {ds.SOPInstanceUID for ds in images} == set(contents)


def test_a_query_without_a_level_is_refused(dimse: PacsProcess, tmp_path: Path) -> None:
    arguments = ("-v", "-S", "-aec", AE_TITLE, "127.0.0.1", str(dimse.port), "-k", "StudyInstanceUID")
    assert "DataSetDoesNotMatchSOPClass" in dcmtk("findscu", *arguments, cwd=tmp_path).replace(" ", "")


def test_get_sends_the_stored_bytes(dimse: PacsProcess, exam: Exam, contents: dict[str, bytes], tmp_path: Path) -> None:
    output = get(dimse, exam, cwd=tmp_path)
    assert sub_operations(output) == (len(contents), 0)
    received = [path.read_bytes() for path in tmp_path.iterdir()]
    assert len(received) == len(contents)
    assert data_sets(received) == data_sets(list(contents.values()))


def test_move_sends_the_stored_bytes_to_a_known_destination(
    dimse: PacsProcess, exam: Exam, contents: dict[str, bytes], destination_port: int, tmp_path: Path
) -> None:
    uids = "\\".join(study.study_instance_uid for study in exam.studies)
    arguments = ["-v", "-S", "-aec", AE_TITLE, "-aem", "RADLAKE", "+P", str(destination_port), "127.0.0.1"]
    arguments += [str(dimse.port), "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uids}"]
    output = dcmtk("movescu", *arguments, cwd=tmp_path)
    assert "Received Final Move Response (Success)" in output
    received = [path.read_bytes() for path in tmp_path.iterdir()]
    assert len(received) == len(contents)
    assert data_sets(received) == data_sets(list(contents.values()))


def test_move_to_an_unknown_destination_is_refused(dimse: PacsProcess, exam: Exam, tmp_path: Path) -> None:
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={exam.studies[0].study_instance_uid}")
    arguments = ("-v", "-S", "-aec", AE_TITLE, "-aem", "NOBODY", "127.0.0.1", str(dimse.port), *keys)
    assert "MoveDestinationUnknown" in dcmtk("movescu", *arguments, cwd=tmp_path, status=69)


def test_quirks_of_a_bad_pacs(archive: Path, exam: Exam, contents: dict[str, bytes], tmp_path: Path) -> None:
    """Silent caps, missing counts, instances that cannot be sent, a line that breaks once."""
    lost = sorted(contents)[0]
    quirks = {"result_cap": 2, "omit_counts": True, "fail_instances": [lost], "drop_after_n": len(contents) - 1 + 3}
    options = ("--aet", AE_TITLE, "--quirks", json.dumps(quirks))
    folders = [tmp_path / name for name in ("found", "first", "second", "third")]
    for folder in folders:
        folder.mkdir()
    with PacsProcess("dimse", "--archive", str(archive), *options) as pacs:
        answers = find(pacs, "STUDY", "StudyInstanceUID", "NumberOfStudyRelatedInstances", cwd=folders[0])
        assert len(answers) == 2
        assert all("NumberOfStudyRelatedInstances" not in ds for ds in answers)
        output = get(pacs, exam, cwd=folders[1])
        assert sub_operations(output) == (len(contents) - 1, 1)
        assert len(list(folders[1].iterdir())) == len(contents) - 1
        get(pacs, exam, cwd=folders[2], status=1)
        assert len(list(folders[2].iterdir())) == 3
        assert sub_operations(get(pacs, exam, cwd=folders[3])) == (len(contents) - 1, 1)


def parts(response: httpx.Response) -> list[tuple[str, bytes]]:
    """Content type and body of each part of a multipart response."""
    match = re.fullmatch(
        r'multipart/related; type="application/dicom"; boundary=(\w+)', response.headers["content-type"]
    )
    assert match
    delimiter = f"--{match[1]}".encode()
    first, *bodies, last = response.content.split(delimiter)
    assert (first, last) == (b"", b"--\r\n")
    found = []
    for body in bodies:
        header, _, content = body.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        found.append((header.decode(), content.removesuffix(b"\r\n")))
    return found


def test_search_by_date_in_pages(web: httpx.Client, province: Province) -> None:
    expected = {study.study_instance_uid for one in province.exams_of(HOSPITAL) for study in one.studies}
    found: list[str] = []
    while True:
        query = {"StudyDate": "20250101-20251231", "limit": "4", "offset": str(len(found))}
        response = web.get("/studies", params=query)
        if response.status_code == 204:
            break
        assert response.headers["content-type"] == "application/dicom+json"
        page = [Dataset.from_json(item) for item in response.json()]
        assert 1 <= len(page) <= 4
        found += [ds.StudyInstanceUID for ds in page]
    assert len(found) == len(expected)
    assert set(found) == expected


def test_search_by_a_chinese_name_and_by_tag(web: httpx.Client, exam: Exam) -> None:
    family = exam.person.name.partition("=")[2][0]
    for key in ("PatientName", "00100010"):
        answers = web.get("/studies", params={key: f"{family}*", "StudyDate": f"{exam.day:%Y%m%d}"}).json()
        found = {ds.StudyInstanceUID: ds for ds in map(Dataset.from_json, answers)}
        ds = found[exam.studies[0].study_instance_uid]
        assert str(ds.PatientName) == exam.person.name
        assert ds.NumberOfStudyRelatedInstances == sum(s.n_instances for s in exam.studies[0].series)


def test_search_below_a_study(web: httpx.Client, exam: Exam) -> None:
    study = exam.studies[0]
    series = web.get(f"/studies/{study.study_instance_uid}/series").json()
    assert [ds["0020000E"]["Value"][0] for ds in series] == [one.series_instance_uid for one in study.series]
    below = web.get(series[-1]["00081190"]["Value"][0] + "/instances").json()
    assert len(below) == study.series[-1].n_instances
    assert web.get("/studies/1.2.3/series").status_code == 204


def test_retrieve_streams_the_stored_files(web: httpx.Client, exam: Exam, contents: dict[str, bytes]) -> None:
    received: list[tuple[str, bytes]] = []
    for study in exam.studies:
        received += parts(web.get(f"/studies/{study.study_instance_uid}"))
    assert {header for header, _ in received} == {
        "Content-Type: application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    }
    assert sorted(content for _, content in received) == sorted(contents.values())
    ds = dcmread(BytesIO(received[-1][1]))
    path = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}"
    one = parts(web.get(f"{path}/instances/{ds.SOPInstanceUID}"))
    assert one == [received[-1]]
    assert len(parts(web.get(path))) == exam.studies[-1].series[-1].n_instances
    metadata = Dataset.from_json(web.get(f"{path}/instances/{ds.SOPInstanceUID}/metadata").json()[0])
    assert (metadata.PatientName, metadata.StudyDescription) == (ds.PatientName, ds.StudyDescription)
    assert web.get("/studies/1.2.3").status_code == 404
    assert web.get(path, headers={"Accept": "image/jpeg"}).status_code == 406


def test_a_token_is_asked_for_and_a_line_breaks_once(
    archive: Path, exam: Exam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACS_TOKEN", "s3cret")
    url = f"/studies/{exam.studies[0].study_instance_uid}"
    arguments = ("--archive", str(archive), "--token", "env:PACS_TOKEN", "--quirks", '{"drop_after_n": 2}')
    with PacsProcess("dicomweb", *arguments) as pacs, httpx.Client(base_url=f"http://127.0.0.1:{pacs.port}") as client:
        refused = client.get(url)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        client.headers["Authorization"] = "Bearer s3cret"
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(url)
        assert len(parts(client.get(url))) == sum(series.n_instances for series in exam.studies[0].series)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    for _ in range(200):
        if not is_running(pid):
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the simulated PACS outlived its parent")


@pytest.mark.parametrize("kind", ["dimse", "dicomweb"])
def test_a_killed_parent_leaves_no_pacs_behind(archive: Path, kind: str) -> None:
    code = (
        "import sys; from radlake.synth.pacs import PacsProcess\n"
        "pacs = PacsProcess(*sys.argv[1:]); print(pacs.port, pacs.pid, flush=True); sys.stdin.read()"
    )
    arguments = [kind, "--archive", str(archive), *(("--aet", "ANY") if kind == "dimse" else ())]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[1])
        assert is_running(pid)
        parent.kill()
    wait_until_gone(pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_in_silence_until_a_signal(archive: Path, exam: Exam, tmp_path: Path, number: int) -> None:
    """Not a word on what was asked or sent, though instances fail and a name is asked for."""
    quirks = json.dumps({"fail_instances": [f"{exam.studies[0].series[0].series_instance_uid}.1"]})
    command = [sys.executable, "-m", "radlake.synth.pacs", "dimse", "--archive", str(archive), "--aet", AE_TITLE]
    with subprocess.Popen(
        [*command, "--quirks", quirks], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        ready = re.fullmatch(r"ready 127\.0\.0\.1:(\d+)\n", process.stdout.readline())
        assert ready
        uid = f"StudyInstanceUID={exam.studies[0].study_instance_uid}"
        level = ("-k", "QueryRetrieveLevel=STUDY", "-k")
        for program, key in (("findscu", f"PatientName={exam.person.name_spelled}"), ("getscu", uid)):
            dcmtk(program, "-S", "-aec", AE_TITLE, "127.0.0.1", ready[1], *level, key, cwd=tmp_path)
        process.send_signal(number)
        assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0


def test_an_archive_that_is_not_there_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with (
        PacsProcess("dimse", "--archive", str(tmp_path / "none"), "--aet", "ANY") as pacs,
        pytest.raises(NodeUnavailable, match="simulated PACS"),
    ):
        assert pacs.port
    assert "does not exist" in capfd.readouterr().err
