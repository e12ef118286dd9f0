"""Lakes that order entry asks: exams of persons by a readable table, with the ledger and vault rows that they leave.

    lake_of_exams(folder, '''
        number | hospital | modality | body_part | date             | state
        P-1    | h2       | CT       | CHEST     | 2026-03-01 09:00 | complete
        ''')

`number` is what the hospital calls the patient by; dates are true ones.
"""

from __future__ import annotations

import json
import uuid
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from pydicom import Dataset

from radlake.config import Settings
from radlake.deidentify import KeyRing, identify_person
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import STUDY, TOMBSTONE, VAULT, VAULT_ALIAS
from radlake.machine import utc_now
from radlake.vault.record import patient_alias
from radlake.web.cds.app import SERVICE
from radlake.web.cds.callers import add_caller, signed_token
from support.lakes import KEY, settings_of
from support.rows import rows
from support.statistics import parsed

__all__ = ["ISS", "SYSTEM", "Caller", "hook_request", "lake_of_exams", "patient_key_of", "service_request"]

NOW = datetime(2026, 3, 20, 10)
ISS, SYSTEM = "https://his.h1.example", "urn:h1:mrn"
_KEYS = KeyRing.from_secret(KEY)


def patient_key_of(number: str, hospital: str) -> int:
    asked = Dataset()
    asked.PatientID = number
    return identify_person([asked], hospital_id=hospital, keys=_KEYS).patient_key


def lake_of_exams(folder: Path, table: str, *, began: dict[str, int] | None = None) -> Settings:
    """A lake with these exams.

    Columns: number, hospital, modality, body_part, date; and as they are there: side, contrast, confidence, grounds,
    visit, dose, state (of the study in the ledger; `-` for one that it does not know, `buried` for an expired one).
    """
    settings = settings_of(folder)
    lake = Lake.from_settings(settings)
    exams, orders, doses = [], [], []
    with closing(Ledger(settings.ledger)) as ledger:
        for n, line in enumerate(parsed(table), 1):
            hospital, exam_id = line.get("hospital", "h1"), f"{n:016x}"
            key = patient_key_of(line["number"], hospital)
            at = datetime.fromisoformat(line["date"]) + _KEYS.offset(key)
            names = {"hospital_id": hospital, "exam_pseudo_id": exam_id, "patient_key": key}
            exams.append(
                names
                | {
                    "study_month": at.year * 100 + at.month,
                    "study_at": at,
                    "modality_group": line.get("modality", "CT"),
                    "body_part_code": line.get("body_part", "CHEST"),
                    "laterality_code": line.get("side", "U"),
                    "contrast_code": line.get("contrast", "WITHOUT"),
                    "confidence_code": line.get("confidence", "HIGH"),
                }
            )
            if line.get("grounds") or line.get("visit"):
                visit = _KEYS.pseudo_id("encounter", f"{hospital}|{line['visit']}") if line.get("visit") else None
                orders.append(names | {"ground_codes": line.get("grounds", ""), "encounter_pseudo_id": visit})
            if line.get("dose"):
                month = at.year * 100 + at.month
                doses.append(names | {"study_month": month, "effective_dose_msv": float(line["dose"])})
            _enter(
                ledger, key, number=line["number"], hospital=hospital, exam=exam_id, state=line.get("state", "complete")
            )
    for name, given in (("core.exam", exams), ("ref.exam_order", orders), ("core.exam_dose", doses)):
        if given:
            lake.tables.commit_batch(name, rows(name, *given), batch_id="test")
    hospitals = [{"hospital_id": h, "name_zh": f"{h}医院", "name_en": f"Hospital {h}"} for h in ("h1", "h2")]
    lake.tables.commit_batch("ref.hospital", rows("ref.hospital", *hospitals), batch_id="test")
    steps = [
        {"intervention_code": "order_reminder", "hospital_id": hospital, "began_month": month}
        for hospital, month in (began if began is not None else {"h1": 202601}).items()
    ]
    if steps:
        lake.tables.commit_batch("ref.roll_out", rows("ref.roll_out", *steps), batch_id="test")
    return settings


def _enter(ledger: Ledger, key: int, *, number: str, hospital: str, exam: str, state: str) -> None:
    """What ingest leaves of a study: its state, the vault's row and the alias of the patient's number."""
    uid, at = _KEYS.uid(f"1.2.{int(exam, 16)}"), datetime(2026, 1, 1)
    with ledger.writing() as connection:
        if state != "-":
            connection.execute(
                STUDY.insert().values(
                    hospital_id=hospital,
                    study_uid=f"1.2.{int(exam, 16)}",
                    state="complete" if state == "buried" else state,
                    lake_study_uid=uid,
                    discovered_at=at,
                    updated_at=at,
                )
            )
        if state == "buried":
            connection.execute(
                TOMBSTONE.insert().values(
                    hospital_id=hospital, lake_study_uid=uid, begun_at=at, rule="r", why="w", n_series=1,
                    n_instances=1, n_bytes=1, digest="d",
                )
            )  # fmt: skip
        connection.execute(
            VAULT.insert().values(
                record_id=exam, hospital_id=hospital, lake_study_uid=uid, patient_key=key, exam_pseudo_id=exam,
                key_version=1, record=b"", entered_at=at,
            )
        )  # fmt: skip
        alias = {"alias": patient_alias(_KEYS, hospital_id=hospital, patient_id=number), "patient_key": key}
        if not connection.execute(VAULT_ALIAS.select().filter_by(**alias)).first():
            connection.execute(VAULT_ALIAS.insert().values(**alias))


def service_request(text: str, *, id: str = "order-1", **given: Any) -> dict[str, Any]:
    return {
        "resourceType": "ServiceRequest",
        "id": id,
        "status": "draft",
        "intent": "order",
        "code": {"text": text},
        "subject": {"reference": "Patient/p1"},
        **given,
    }


def hook_request(
    *orders: dict[str, Any], number: str = "P-1", system: str = SYSTEM, hook: str = "order-sign", **prefetch: Any
) -> dict[str, Any]:
    """A request as order entry sends it."""
    context: dict[str, Any] = {
        "userId": "Practitioner/1",
        "patientId": "p1",
        "draftOrders": {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"resource": order} for order in orders],
        },
    }
    if hook == "order-select":
        context["selections"] = [f"ServiceRequest/{order.get('id')}" for order in orders]
    patient = {"resourceType": "Patient", "id": "p1", "identifier": [{"system": system, "value": number}]}
    return {
        "hook": hook,
        "hookInstance": str(uuid.uuid4()),
        "context": context,
        "prefetch": {"patient": patient, **prefetch},
    }


class Caller:
    """A hospital's order entry that calls a running service with tokens of its own."""

    def __init__(self, folder: Path, *, hospital: str = "h1", iss: str = ISS) -> None:
        self.key, self.issuers, self.iss = folder / f"{hospital}.pem", folder / "issuers.yaml", iss
        self.public = ""  # URL that tokens are for, when it is not where the service listens
        add_caller(self.issuers, iss=iss, hospital_id=hospital, systems=[SYSTEM], key=self.key)

    def token(self, url: str, *, age: timedelta = timedelta(0), jti: str = "") -> str:
        return signed_token(self.key, iss=self.iss, audience=url, now=utc_now() - age, jti=jti or uuid.uuid4().hex)

    def post(self, base: str, body: Any, *, language: str = "zh", path: str = "", **headers: str) -> httpx.Response:
        url = f"{base}/cds-services/{SERVICE}{path}"
        sent = {
            "authorization": f"Bearer {self.token(url.replace(base, self.public or base))}",
            "accept-language": language,
        } | headers
        content = body if isinstance(body, bytes | str) else json.dumps(body)
        return httpx.post(url, content=content, headers=sent, timeout=30)
