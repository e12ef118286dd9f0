"""The images are built and the whole system is started: three PACS to a number on a page, in containers."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.docker import Docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(2400)]

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "radlake-test"
ONCE = ("airflow-init", "archives", "lake-init")
# A session with Airflow's API from inside its container, where no port has to be published.
DRIVE = """
import json, sys, time, urllib.request as request
BASE = "http://127.0.0.1:8080"
def call(method, path, body=None, token=None):
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    with request.urlopen(request.Request(BASE + path, data=data, headers=headers, method=method), timeout=60) as answer:
        return json.load(answer)
password = json.load(open("/airflow/passwords.json"))["admin"]
token = call("POST", "/auth/token", {"username": "admin", "password": password})["access_token"]
DAGS = ("build_lake", "harvest_studies")
while {dag["dag_id"] for dag in call("GET", "/api/v2/dags", token=token)["dags"]} < set(DAGS):
    time.sleep(1)
# The night that the schedule would begin by itself as soon as it is switched on, with a longer look back: not both.
night = {"logical_date": call("GET", "/api/v2/dags/harvest_studies", token=token)["next_dagrun_logical_date"]}
call("POST", "/api/v2/dags/harvest_studies/dagRuns", night | {"conf": {"look_back_days": 1500}}, token)
for dag in DAGS:
    call("PATCH", f"/api/v2/dags/{dag}", {"is_paused": False}, token)
while True:
    runs = {dag: call("GET", f"/api/v2/dags/{dag}/dagRuns", token=token)["dag_runs"] for dag in DAGS}
    manual = [run for run in runs["harvest_studies"] if run["run_type"] == "manual"]
    states = [run["state"] for run in manual] + [run["state"] for run in runs["build_lake"]]
    if "failed" in states or (len(states) >= 2 and set(states) == {"success"}):
        break
    time.sleep(1)
json.dump(states, sys.stdout)
"""
READ = """
import json, urllib.request as request
with request.urlopen("http://127.0.0.1:8765/", timeout=60) as page:
    print(json.dumps([page.status, len(page.read())]))
"""


# What a program of a researcher asks, with and without a password.
ASK = """
import base64, json, urllib.request as request
from urllib.error import HTTPError
signed_in = {"Authorization": "Basic " + base64.b64encode(b"wang:a password for tests").decode()}
def status(path, headers):
    try:
        with request.urlopen(request.Request("http://127.0.0.1:8765" + path, headers=headers), timeout=60) as answer:
            return answer.status
    except HTTPError as error:
        return error.code
export = "/fhir/Group/none/$export", {"Prefer": "respond-async", "Accept": "application/fhir+json"}
print(json.dumps([
    status("/fhir/metadata", {}), status(export[0], export[1]), status(export[0], export[1] | signed_in),
    status("/dicom-web/studies?limit=1", {}), status("/dicom-web/studies?limit=1", signed_in),
]))
"""


@pytest.fixture(scope="module")
def system(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """The compose file of a copy of the repository, with secrets of its own, up and healthy."""
    root = tmp_path_factory.mktemp("checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    subprocess.run([root / "docker" / "make-secrets.sh"], check=True, capture_output=True)
    file = root / "docker" / "compose.yaml"
    docker.env |= {"BUILD_NETWORK": "host", "DEMO_EXAMS": "60", "WEB_PORT": "0", "AIRFLOW_PORT": "0",
                   "RESEARCHERS_PORT": "0"}  # fmt: skip
    docker.compose("build", file=file, project=PROJECT, seconds=1500)
    try:
        docker.compose("up", "--detach", "--no-build", file=file, project=PROJECT)
        yield docker
    finally:
        for line in docker.compose("logs", "--tail", "30", file=file, project=PROJECT).splitlines():
            print(line)  # pytest shows it when a test fails
        docker.compose("down", "--volumes", "--timeout", "5", file=file, project=PROJECT)


def container(service: str) -> str:
    return f"{PROJECT}_{service}_1"


def containers(docker: Docker) -> dict[str, dict]:
    names = docker("ps", "--all", "--filter", f"label=com.docker.compose.project={PROJECT}", "--format", "{{.Names}}")
    return {found["Name"].strip("/"): found for found in json.loads(docker("inspect", *names.split()))}


def test_three_hospitals_are_harvested_and_counted(system: Docker) -> None:
    python = ("exec", "--interactive", container("airflow-api"), "python", "-")
    states = json.loads(system(*python, stdin=DRIVE, seconds=1200))
    assert states
    assert set(states) == {"success"}
    query = "SELECT hospital_id, count(*) AS n FROM dicom.instance GROUP BY ALL ORDER BY ALL"
    rows = json.loads(system("exec", container("web"), "radlake", "sql", "--format", "json", query))
    assert [row["hospital_id"] for row in rows] == ["jsa-provincial", "sza-municipal", "xzb-county"]
    query = "SELECT n_partial, n_quarantined, n_retrieving, n_complete FROM ops.completeness"
    completeness = json.loads(system("exec", container("web"), "radlake", "sql", "--format", "json", query))
    assert all(row["n_complete"] > 0 for row in completeness)
    assert all(row["n_retrieving"] == 0 for row in completeness)
    status, n_bytes = json.loads(system("exec", "--interactive", container("web"), "python", "-", stdin=READ))
    assert status == 200
    assert n_bytes > 1000


def test_every_service_is_up_and_healthy(system: Docker) -> None:
    deadline = time.monotonic() + 120
    while True:
        states = {name: found["State"] for name, found in containers(system).items()}
        ended = {name for name in states if name.removeprefix(f"{PROJECT}_").removesuffix("_1") in ONCE}
        assert {name: states[name]["ExitCode"] for name in ended} == dict.fromkeys(ended, 0)
        ailing = {
            name: (state["Status"], state.get("Health", {}).get("Status", "healthy"))
            for name, state in states.items()
            if name not in ended
            and (state["Status"], state.get("Health", {}).get("Status", "healthy")) != ("running", "healthy")
        }
        if not ailing:
            break
        assert time.monotonic() < deadline, ailing
        time.sleep(1)


def test_nobody_is_root_and_no_secret_is_in_the_environment(system: Docker) -> None:
    found = containers(system)
    assert all(one["Config"]["User"] not in ("", "0", "root") for one in found.values())
    secrets = {
        path.read_text().strip()
        for path in Path(
            next(iter(found.values()))["Config"]["Labels"]["com.docker.compose.project.working_dir"], "secrets"
        ).iterdir()
    }
    assert len(secrets) == 9
    shown = json.dumps(list(found.values()))
    assert not [secret for secret in secrets if secret in shown]


def test_the_web_sees_neither_the_restricted_zone_nor_the_key(system: Docker) -> None:
    web = containers(system)[container("web")]
    assert {mount["Destination"] for mount in web["Mounts"]} == {
        "/run/secrets/s3_access_key",
        "/run/secrets/s3_secret_key",
    }


def test_researchers_sign_in_to_dicomweb_and_fhir(system: Docker) -> None:
    """A service of a profile of its own: it needs an account, and has no key."""
    labels = containers(system)[container("web")]["Config"]["Labels"]
    file = Path(labels["com.docker.compose.project.working_dir"]) / "compose.yaml"
    add = "echo 'a password for tests' | radlake account add wang --role researcher"
    system.compose("run", "--rm", "-T", "--no-deps", "researchers", "sh", "-c", add, file=file, project=PROJECT)
    system.compose("--profile", "researchers", "up", "--detach", "--no-build", "--no-deps", "researchers",
                   file=file, project=PROJECT)  # fmt: skip
    name, deadline = container("researchers"), time.monotonic() + 180
    while containers(system)[name]["State"]["Health"]["Status"] != "healthy":
        assert time.monotonic() < deadline, containers(system)[name]["State"]
        time.sleep(1)
    assert json.loads(system("exec", "--interactive", name, "python", "-", stdin=ASK)) == [401, 401, 404, 401, 200]
    assert "/run/secrets/root_key" not in {mount["Destination"] for mount in containers(system)[name]["Mounts"]}
