"""The CDS Hooks service over a real socket: what is shown, what is refused, and that nothing that was sent stays."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from fhir.resources.R4B.operationoutcome import OperationOutcome
from jwt.algorithms import RSAAlgorithm

from radlake import log
from radlake.config import Settings
from radlake.errors import ConfigInvalid
from radlake.machine import utc_now
from radlake.reminder.desk import Desk
from radlake.web.cds.app import SERVICE, create_cds_app
from radlake.web.cds.callers import key_id
from radlake.web.cds.issuers import IssuerFile, read_issuers
from radlake.web.cds.words import LANGUAGES, words_of
from support.reminder import ISS, NOW, SYSTEM, Caller, hook_request, lake_of_exams, service_request
from support.webserver import running

EXAMS = """
    number | hospital | modality | body_part | date             | state    | dose
    P-1    | h1       | CT       | CHEST     | 2026-03-09 09:00 | complete | 6.1
    P-1    | h1       | DX       | KNEE      | 2026-03-17 09:00 | partial  |
    P-2    | h1       | CT       | HEAD      | 2026-03-15 09:00 | buried   |
    P-3    | h1       | MR       | HEAD      | 2026-03-15 09:00 | complete |
    P-4    | h1       | CT       | CHEST     | 2026-03-15 09:00 | -        |
    P-5    | h2       | CT       | CHEST     | 2026-03-15 09:00 | complete |
    """
CHEST = service_request("胸部CT平扫", id="ct-chest-1")


@dataclass
class Service:
    settings: Settings
    desk: Desk
    caller: Caller
    url: str

    def post(self, body: object, **given: str) -> httpx.Response:
        return self.caller.post(self.url, body, **given)

    def kept(self, sql: str) -> list[tuple]:
        with closing(sqlite3.connect(self.settings.restricted / "reminder.db")) as db:
            return db.execute(sql).fetchall()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("cds")
    settings = lake_of_exams(folder / "lake", EXAMS, began={"h1": 202601, "h2": 202604})
    caller = Caller(folder)
    Caller(folder, hospital="h2", iss="https://his.h2.example")
    allowed = IssuerFile(caller.issuers)
    with closing(Desk(settings, clock=lambda: NOW)) as desk:
        app = create_cds_app(desk, issuers=allowed.current, public_url="http://cds.example", utc_clock=utc_now)
        with running(app) as url:
            yield Service(settings, desk, _At(caller, "http://cds.example"), url)


class _At(Caller):
    """The same caller, for the public URL; it may become another one."""

    def __init__(self, caller: Caller, public: str) -> None:
        self.key, self.issuers, self.iss, self.public = caller.key, caller.issuers, caller.iss, public


def problems(answer: httpx.Response) -> str:
    outcome = OperationOutcome.model_validate(answer.json())
    return " ".join(issue.diagnostics or "" for issue in outcome.issue)


@pytest.mark.parametrize("language", LANGUAGES)
def test_discovery_tells_both_hooks_and_what_to_prefetch(service: Service, language: str) -> None:
    answer = httpx.get(f"{service.url}/cds-services", headers={"accept-language": language})
    assert answer.status_code == 200
    services = answer.json()["services"]
    assert [one["hook"] for one in services] == ["order-select", "order-sign"]
    for one in services:
        assert one["id"] == SERVICE
        assert one["prefetch"]["patient"] == "Patient/{{context.patientId}}"
        assert one["title"] == words_of(language)("service.title")


def test_a_card_tells_what_when_where_and_what_to_do(service: Service) -> None:
    answer = service.post(hook_request(CHEST))
    assert answer.status_code == 200
    [card] = answer.json()["cards"]
    assert card["summary"] == "该患者11天前在h1医院做过胸部CT，影像可调阅"
    assert "2026-03-09" in card["detail"]
    assert "6.1 mSv" in card["detail"]
    assert card["indicator"] == "warning"
    assert card["source"]["topic"]["code"] == "duplicate-imaging"
    assert card["selectionBehavior"] == "at-most-one"
    [suggestion] = card["suggestions"]
    [action] = suggestion["actions"]
    assert action["type"] == "delete"
    assert action["resourceId"] == "ServiceRequest/ct-chest-1"
    assert action["description"]
    assert "resource" not in action
    assert [one["code"] for one in card["overrideReasons"]] == [
        "acute-change", "rapid-evolution", "pre-op", "emergency", "forensic", "quality", "other",
    ]  # fmt: skip
    assert all(one["display"] for one in card["overrideReasons"])


def test_a_card_speaks_the_language_that_is_asked_for(service: Service) -> None:
    [card] = service.post(hook_request(CHEST), language="en-GB,en;q=0.8").json()["cards"]
    assert card["summary"] == "11 days ago this patient had CT of chest at Hospital h1; the images can be opened"
    assert not any(char > "\u2e80" for char in str(card))


def test_order_select_looks_at_what_is_selected_only(service: Service) -> None:
    asked = hook_request(CHEST, service_request("头颅CT", id="other"), hook="order-select")
    asked["context"]["selections"] = ["ServiceRequest/other"]
    assert service.post(asked).json() == {"cards": []}
    asked["context"]["selections"] = ["ServiceRequest/ct-chest-1"]
    assert len(service.post(asked).json()["cards"]) == 1


@pytest.mark.parametrize(
    ("number", "text", "why"),
    [
        ("P-1", "左膝关节正侧位DR", "not all of it is here"),
        ("P-2", "头颅CT平扫", "it has expired"),
        ("P-4", "胸部CT平扫", "the ledger does not know it"),
        ("P-9", "胸部CT平扫", "nobody knows the patient"),
        ("P-1", "血常规", "no imaging"),
        ("P-1", "胸部CT增强", "contrast is new"),
        ("UNKNOWN", "胸部CT平扫", "the number names nobody"),
    ],
    ids=lambda value: value if not value.startswith("P-") else "",
)
def test_what_cannot_be_acted_upon_is_silence(service: Service, number: str, text: str, why: str) -> None:
    assert service.post(hook_request(service_request(text), number=number)).json() == {"cards": []}


def test_an_emergency_is_silence(service: Service) -> None:
    stat = service_request("胸部CT平扫", priority="stat")
    assert service.post(hook_request(stat)).json() == {"cards": []}
    encounter = {"resourceType": "Encounter", "status": "in-progress", "class": {"code": "EMER"}}
    assert service.post(hook_request(CHEST, encounter=encounter)).json() == {"cards": []}


def test_two_drafts_of_one_exam_and_both_hooks_are_one_reminder(service: Service) -> None:
    asked = [service_request("头颅MR平扫", id="a"), service_request("头颅MRI平扫", id="b")]
    [first] = service.post(hook_request(*asked, number="P-3", hook="order-select")).json()["cards"]
    [second] = service.post(hook_request(*asked, number="P-3")).json()["cards"]
    assert first["uuid"] == second["uuid"]


def test_a_hospital_that_has_not_begun_is_counted_and_sees_nothing(service: Service) -> None:
    caller = _At(service.caller, "http://cds.example")
    caller.iss, caller.key = "https://his.h2.example", service.caller.key.with_name("h2.pem")
    answer = caller.post(service.url, hook_request(CHEST, number="P-5"))
    assert answer.json() == {"cards": []}
    assert service.kept("SELECT hospital_id, is_muted FROM reminder WHERE hospital_id = 'h2'") == [("h2", 1)]
    assert ("h2", "MUTED", 1) in service.kept("SELECT hospital_id, verdict, n FROM reminder_order")


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        (lambda body: body.pop("prefetch"), 412, "prefetch.patient"),
        (lambda body: body["prefetch"]["patient"].pop("identifier"), 412, SYSTEM),
        (lambda body: body["prefetch"]["patient"]["identifier"][0].update(system="urn:else"), 412, SYSTEM),
        (lambda body: body.update(hook="patient-view"), 400, "hook"),
        (lambda body: body.update(hookInstance="1"), 400, "hookInstance"),
        (lambda body: body.pop("context"), 400, "context"),
        (lambda body: body["context"].pop("patientId"), 400, "patientId"),
        (lambda body: body["context"].pop("draftOrders"), 400, "draftOrders"),
        (lambda body: body["context"]["draftOrders"].update(entry=[{}] * 51), 400, "at most 50"),
        (lambda body: body["prefetch"]["patient"].update(id="p2"), 400, "context.patientId"),
        (lambda body: body["prefetch"].update(patient=[]), 400, "prefetch.patient"),
        (lambda body: body["prefetch"].update(encounter={"resourceType": "Encounter"}), 400, "prefetch.encounter"),
    ],
)
def test_what_is_missing_or_wrong_is_told_by_its_place(service: Service, change, status: int, told: str) -> None:
    body = hook_request(CHEST)
    change(body)
    answer = service.post(body)
    assert answer.status_code == status
    assert told in problems(answer)


def test_a_body_that_is_too_large_is_refused(service: Service) -> None:
    answer = service.post(b"[" * (1 << 20) + b"]")
    assert answer.status_code == 413
    assert "1 MiB" in problems(answer)


def _forged(caller: Caller, url: str, *, algorithm: str = "ES384", header: dict | None = None, **claims: object) -> str:
    key = load_pem_private_key(caller.key.read_bytes(), password=None)
    now = utc_now().timestamp()
    given = {"iss": ISS, "aud": url, "iat": int(now), "exp": int(now) + 60, "jti": "j" * 20} | claims
    given = {name: value for name, value in given.items() if value is not None}
    signs = {"ES384": key, "HS384": "s" * 48, "none": None, "ES256": ec.generate_private_key(ec.SECP256R1())}
    return jwt.encode(given, signs[algorithm], algorithm=algorithm, headers={"kid": key_id(key)} | (header or {}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"algorithm": "none"}, "ES384"),
        ({"algorithm": "HS384"}, "ES384"),
        ({"algorithm": "ES256"}, "ES384"),
        ({"iss": "https://else.example"}, "allow-list"),
        ({"iss": None}, "allow-list"),
        ({"aud": "http://cds.example/cds-services"}, "aud"),
        ({"aud": None}, "claims"),
        ({"exp": 1}, "expired"),
        ({"exp": "soon"}, "seconds since 1970"),
        ({"iat": 99_999_999_999}, "seconds|future"),
        ({"exp": None}, "claims"),
        ({"jti": None}, "claims"),
        ({"jti": 7}, "jti|signature"),
        ({"jti": ""}, "jti"),
        ({"header": {"kid": "else"}}, "kid"),
        ({"header": {"jku": "https://evil.example/keys"}}, "jku"),
    ],
    ids=str,
)
def test_a_token_that_is_not_for_this_call_is_refused(service: Service, changes: dict, told: str) -> None:
    url = f"http://cds.example/cds-services/{SERVICE}"
    token = _forged(service.caller, url, **changes)
    answer = service.post(hook_request(CHEST), authorization=f"Bearer {token}")
    assert answer.status_code == 401
    assert any(one in problems(answer) for one in told.split("|"))
    assert "Bearer" in answer.headers["www-authenticate"]


def test_a_token_works_once_and_not_for_long(service: Service) -> None:
    url = f"http://cds.example/cds-services/{SERVICE}"
    token = service.caller.token(url)
    assert service.post(hook_request(CHEST), authorization=f"Bearer {token}").status_code == 200
    again = service.post(hook_request(CHEST), authorization=f"Bearer {token}")
    assert again.status_code == 401
    assert "jti" in problems(again)
    old = service.caller.token(url, age=timedelta(minutes=6))
    assert "expired" in problems(service.post(hook_request(CHEST), authorization=f"Bearer {old}"))
    assert service.post(hook_request(CHEST), authorization="Basic eDp5").status_code == 401


def test_a_signature_of_another_key_is_refused(service: Service, tmp_path: Path) -> None:
    thief = Caller(tmp_path)
    stolen = jwt.encode(
        jwt.decode(
            service.caller.token(f"http://cds.example/cds-services/{SERVICE}"), options={"verify_signature": False}
        ),
        load_pem_private_key(thief.key.read_bytes(), password=None),
        algorithm="ES384",
        headers={"kid": key_id(load_pem_private_key(service.caller.key.read_bytes(), password=None))},
    )
    answer = service.post(hook_request(CHEST), authorization=f"Bearer {stolen}")
    assert answer.status_code == 401
    assert "signature" in problems(answer)


def test_rs384_is_let_in_and_weak_keys_are_not(service: Service, tmp_path: Path) -> None:
    for bits, is_good in ((2048, True), (1024, False)):
        private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        public = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True) | {"kid": key_id(private)}
        (tmp_path / "keys.json").write_text(json.dumps({"keys": [public]}))
        row = {"iss": ISS, "hospital": "h1", "keys": "keys.json", "identifiers": [{"system": SYSTEM}]}
        file = tmp_path / "issuers.yaml"
        file.write_text(yaml.safe_dump({"issuers": [row]}))
        if not is_good:
            with pytest.raises(ConfigInvalid, match="2048"):
                read_issuers(file)
            continue
        pem = tmp_path / "rsa.pem"
        pem.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        app = create_cds_app(
            service.desk, issuers=IssuerFile(file).current, public_url="http://cds.example", utc_clock=utc_now
        )
        caller = _At(service.caller, "http://cds.example")
        caller.key = pem
        with running(app) as url:
            assert caller.post(url, hook_request(CHEST)).status_code == 200


def test_what_a_caller_sends_of_a_patient_stays_nowhere(service: Service, capfd: pytest.CaptureFixture[str]) -> None:
    log.configure(level="debug", strict=True)
    planted = ["PLANTED7731", "329900197012294442", "李明哲", "13851234567"]
    patient = {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [
            {"system": SYSTEM, "value": planted[0]},
            {"system": "urn:oid:2.16.156.10011.1.3", "value": planted[1]},
        ],
        "name": [{"text": planted[2]}],
        "telecom": [{"system": "phone", "value": planted[3]}],
    }
    told = []
    for change in (
        {},
        {"birthDate": planted[3]},
        {planted[0]: {"x": 1}},
        {"identifier": [{"system": SYSTEM, "value": {planted[1]: 1}}]},
        {"identifier": [{"system": planted[0], "value": planted[1]}]},
        {"gender": planted},
        {"id": planted[0]},
        {"resourceType": planted[2]},
    ):
        body = hook_request(service_request(f"胸部CT平扫 {planted[2]} {planted[0]}"), patient=patient | change)
        answer = service.post(body)
        assert answer.status_code in (200, 400, 412)
        told.append(answer.text + str(answer.headers))
    for broken in (f'{{"hook": "{planted[1]}', f'"{planted[2]}"', '{"hook":"\\ud800' + planted[0] + '"}'):
        answer = service.post(broken.encode())
        assert answer.status_code == 400
        told.append(answer.text)
    service.desk.journal.close()  # what lies in the journal of SQLite is in its file then
    files = {
        path: path.read_bytes()
        for path in Path(service.settings.lake).rglob("*")
        if path.is_file() and path.suffix != ".pem"
    }
    written = capfd.readouterr()
    for text in planted:
        assert not [answer for answer in told if text in answer]
        assert text not in written.out + written.err
        assert not [path for path, content in files.items() if text.encode() in content]


def test_every_text_is_there_in_both_languages() -> None:
    zh, en = (words_of(language).texts for language in ("zh", "en"))
    assert zh.keys() == en.keys()
    assert all(zh.values())
    assert all(en.values())
