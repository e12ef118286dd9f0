"""From a card to the images over a real socket: consent in each way, links that work once, answers, numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from radlake.config import Settings
from radlake.deidentify import KeyRing
from radlake.ingest.reminders import publish_reminders
from radlake.lake import Lake, duck
from radlake.machine import utc_now, utc_of_shanghai
from radlake.reminder.desk import Desk
from radlake.reminder.opening import Opening
from radlake.vault.trail import AuditTrail
from radlake.web.cds.app import create_cds_app
from radlake.web.cds.issuers import IssuerFile
from radlake.web.cds.words import LANGUAGES
from support.lakes import KEY
from support.reminder import NOW, Caller, hook_request, lake_of_exams, service_request
from support.rows import rows
from support.webserver import running

EXAMS = "\n".join(
    ["number | modality | body_part | date", *(f"P-{n} | CT | CHEST | 2026-03-09 09:00" for n in range(1, 13))]
)
CHEST = service_request("胸部CT平扫")


@dataclass
class Doctor:
    settings: Settings
    desk: Desk
    caller: Caller
    url: str
    late: list[timedelta] = field(default_factory=lambda: [timedelta(0)])

    def card(self, number: str) -> dict:
        [card] = self.caller.post(self.url, hook_request(CHEST, number=number)).json()["cards"]
        return card

    def link(self, number: str) -> str:
        """Path of the page that the card links to."""
        [link] = self.card(number)["links"]
        assert link["type"] == "absolute"
        assert "appContext" not in link
        return urlsplit(link["url"]).path

    def get(self, path: str, **given: object) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", **given)

    def post(self, path: str, **form: str) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", data=form, headers={"origin": self.url})

    def consent(self, link: str, kind: str) -> str:
        answer = self.post(link, kind=kind)
        assert answer.status_code == 303
        return answer.headers["location"]

    def opened(self, path: str, answer: str) -> str:
        granted = self.post(path, answer=answer)
        assert granted.status_code == 303
        return granted.headers["location"]

    def message(self, box: str) -> dict:
        [path] = (self.settings.restricted / "consent" / "outbox" / box).glob("*.json")
        assert path.stat().st_mode & 0o077 == 0
        message = json.loads(path.read_text())
        path.unlink()
        return message

    def feedback(self, *items: dict) -> httpx.Response:
        return self.caller.post(self.url, {"feedback": list(items)}, path="/feedback")


@pytest.fixture(scope="module")
def doctor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doctor]:
    folder = tmp_path_factory.mktemp("opening")
    settings = lake_of_exams(folder / "lake", EXAMS)
    lake = Lake.from_settings(settings)
    series = {"study_instance_uid": KeyRing.from_secret(KEY).uid("1.2.1"), "modality": "CT", "n_instances": 77}
    lake.tables.commit_batch("dicom.series", rows("dicom.series", series), batch_id="test")
    caller = Caller(folder)
    allowed = IssuerFile(caller.issuers)
    late = [timedelta(0)]
    with closing(Desk(settings, clock=lambda: NOW)) as desk:
        opening = Opening(desk, settings, clock=lambda: utc_now() + late[0])
        urls = ["http://nowhere.example"]
        app = create_cds_app(desk, issuers=allowed.current, public_url=urls[0], utc_clock=utc_now, opening=opening)
        with running(app) as url:
            caller.public = urls[0]
            yield Doctor(settings, desk, caller, url, late)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_of_a_card_tells_what_the_card_told_and_no_more(doctor: Doctor, language: str) -> None:
    page = doctor.get(doctor.link("P-1"), headers={"accept-language": language})
    assert page.status_code == 200
    assert ("胸部CT" if language == "zh-CN" else "CT of chest") in page.text
    assert "2.25." not in page.text
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert "default-src 'self'" in page.headers["content-security-policy"]


def test_a_code_by_sms_opens_the_record_once(doctor: Doctor) -> None:
    page = doctor.consent(doctor.link("P-1"), "sms_code")
    message = doctor.message("sms")
    code = re.search(r"\d{6}", message["text"])[0]
    assert "P-1" not in json.dumps(message)
    wrong = doctor.post(page, answer="000000" if code != "000000" else "111111")
    assert wrong.status_code == 403
    images = doctor.opened(page, code)
    shown = doctor.get(images)
    assert shown.status_code == 200
    assert KeyRing.from_secret(KEY).uid("1.2.1") in shown.text
    assert ">77<" in shown.text
    assert doctor.get(images).status_code == 410
    assert doctor.post(page, answer=code).status_code == 410


def test_a_code_cannot_be_guessed(doctor: Doctor) -> None:
    link = doctor.link("P-2")
    page = doctor.consent(link, "sms_code")
    code = re.search(r"\d{6}", doctor.message("sms")["text"])[0]
    wrong = [f"{n:06}" for n in range(6) if f"{n:06}" != code][:5]
    assert [doctor.post(page, answer=one).status_code for one in wrong] == [403] * 5
    assert doctor.post(page, answer=code).status_code == 403  # burnt
    for _ in range(4):
        doctor.consent(link, "sms_code")
    assert doctor.post(link, kind="sms_code").status_code == 429
    for path in (doctor.settings.restricted / "consent" / "outbox" / "sms").glob("*.json"):
        path.unlink()


@pytest.mark.parametrize("is_granted", [True, False])
def test_the_health_app_is_waited_for(doctor: Doctor, is_granted: bool) -> None:
    page = doctor.consent(doctor.link("P-3" if is_granted else "P-4"), "health_app")
    message = doctor.message("app")
    assert 'http-equiv="refresh"' in doctor.get(page).text
    inbox = doctor.settings.restricted / "consent" / "inbox"
    (inbox / f"{message['consent_id']}.json").write_text(json.dumps({"granted": is_granted}))
    answer = doctor.get(page)
    assert answer.status_code == (303 if is_granted else 403)
    assert ("/images/" in answer.headers.get("location", "")) is is_granted


def test_a_doctor_must_declare_it(doctor: Doctor) -> None:
    page = doctor.consent(doctor.link("P-5"), "doctor_assisted")
    assert doctor.post(page).status_code == 200
    assert doctor.get(doctor.opened(page, "declared")).status_code == 200


def test_a_link_ends_after_five_minutes_and_a_card_after_half_a_day(doctor: Doctor) -> None:
    link = doctor.link("P-6")
    images = doctor.opened(doctor.consent(link, "doctor_assisted"), "declared")
    doctor.late[0] = timedelta(minutes=6)
    try:
        assert doctor.get(images).status_code == 410
        doctor.late[0] = timedelta(hours=13)
        assert doctor.get(link).status_code == 410
    finally:
        doctor.late[0] = timedelta(0)


def test_nothing_opens_for_who_has_no_card(doctor: Doctor) -> None:
    assert doctor.get("/open/00000000-0000-4000-8000-000000000000").status_code == 404
    assert doctor.get("/images/guess").status_code == 410
    link = doctor.link("P-7")
    assert doctor.get(f"{link}/00000000-0000-4000-8000-000000000000").status_code == 404
    assert doctor.post(link, kind="telepathy").status_code == 404
    other = httpx.post(f"{doctor.url}{link}", data={"kind": "sms_code"}, headers={"origin": "https://evil.example"})
    assert other.status_code == 403
    # A consent is for its own card.
    page = doctor.consent(doctor.link("P-8"), "doctor_assisted")
    assert doctor.post(f"{link}/{page.rpartition('/')[2]}", answer="declared").status_code == 404


def test_all_of_it_is_audited_by_pseudonyms(doctor: Doctor) -> None:
    trail = AuditTrail(doctor.desk.ledger, doctor.desk.keys, restricted=doctor.settings.restricted)
    entries = [entry for entry in trail.entries() if entry.purpose == "reminder at order entry"]
    assert {entry.action for entry in entries} == {"consent-ask", "consent-answer", "images-open"}
    assert trail.problems() == []
    assert all(re.fullmatch("[0-9a-f]{16}", entry.agent) for entry in entries)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"card": "x", "outcome": "accepted"},
        {"outcome": "ignored"},
        {"outcome": "accepted", "acceptedSuggestions": []},
        {"outcomeTimestamp": "yesterday"},
        {"outcomeTimestamp": "2026-03-20T10:00:00"},
        {"overrideReason": {"reason": {"code": "made-up"}}},
        {"overrideReason": {"reason": {"code": "emergency", "system": "urn:else"}}},
        {"card": "00000000-0000-4000-8000-000000000000"},
    ],
)
def test_feedback_that_means_nothing_is_refused(doctor: Doctor, broken: dict) -> None:
    good = {"card": doctor.card("P-9")["uuid"], "outcome": "overridden", "outcomeTimestamp": "2026-03-20T02:00:00Z"}
    answer = doctor.feedback(good | broken) if broken else doctor.caller.post(doctor.url, {}, path="/feedback")
    assert answer.status_code == 400
    assert "made-up" not in answer.text


def test_answers_silence_the_next_card_and_become_numbers(doctor: Doctor) -> None:
    at = datetime.now(UTC).isoformat()
    yes, no = doctor.card("P-10"), doctor.card("P-11")
    accepted = {
        "card": yes["uuid"],
        "outcome": "accepted",
        "acceptedSuggestions": [{"id": yes["suggestions"][0]["uuid"]}],
        "outcomeTimestamp": at,
    }
    reason = {"reason": {"code": "acute-change", "system": "urn:radlake:override"}, "userComment": "李雷 PLANTED"}
    overridden = {"card": no["uuid"], "outcome": "overridden", "overrideReason": reason, "outcomeTimestamp": at}
    answer = doctor.feedback(accepted, overridden)
    assert (answer.status_code, answer.json()) == (200, {})
    assert doctor.caller.post(doctor.url, hook_request(CHEST, number="P-11")).json() == {"cards": []}
    keys = KeyRing.from_secret(KEY)
    n = publish_reminders(doctor.settings, keys=keys, now=utc_of_shanghai(NOW) + timedelta(hours=1))
    with duck.connect(Lake.from_settings(doctor.settings), zone="restricted", tables=["core", "ops"]) as db:
        answers = dict(db.execute("SELECT answer_code, count(*) FROM ops.reminder GROUP BY ALL").fetchall())
        in_core = db.execute("SELECT answer_code, ground_code FROM core.reminder ORDER BY ALL").fetchall()
        opened = db.execute("SELECT DISTINCT opened_by FROM ops.reminder WHERE opened_at IS NOT NULL ORDER BY ALL")
        assert opened.fetchall() == [("doctor_assisted",), ("sms_code",)]
    assert answers["ACCEPTED"] == answers["OVERRIDDEN"] == 1
    assert answers["OPEN"] == n - 2
    assert in_core == [("ACCEPTED", None), ("OVERRIDDEN", "condition_changed")]
    publish_reminders(doctor.settings, keys=keys, now=utc_of_shanghai(NOW) + timedelta(hours=25))
    with duck.connect(Lake.from_settings(doctor.settings), zone="restricted", tables=["core", "ops"]) as db:
        [(ignored,)] = db.execute("SELECT count(*) FROM core.reminder WHERE answer_code = 'IGNORED'").fetchall()
    assert ignored == n - 2
    assert b"PLANTED" not in b"".join(path.read_bytes() for path in doctor.settings.restricted.glob("reminder.db*"))


def test_a_lake_that_nobody_asks_has_no_reminders(tmp_path: Path) -> None:
    settings = lake_of_exams(tmp_path, EXAMS)
    assert publish_reminders(settings, keys=KeyRing.from_secret(KEY), now=utc_now()) is None
    assert Lake.from_settings(settings).tables.version("core.reminder") is None
