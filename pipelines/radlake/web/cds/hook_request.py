"""Read a CDS Hooks request strictly: what is missing and what is wrong is told by place, never by value.

FHIR resources are read by the R4B models of fhir.resources: Patient, Encounter, ServiceRequest and Bundle are the same
in R4 (4.0.1) and R4B (4.3.0) in everything that is read here.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, NoReturn

from pydantic import ValidationError

from radlake.deidentify import KeyRing
from radlake.reminder.decide import Ordered
from radlake.reminder.orders import OrderWords, exam_of_order
from radlake.reminder.persons import Identifier
from radlake.reminder.policy import ReminderPolicy

__all__ = ["HOOKS", "NATIONAL_ID", "HookInvalid", "HookRequest", "PrefetchMissing", "json_from_body", "read_request"]

HOOKS = ("order-select", "order-sign")
NATIONAL_ID = "urn:oid:2.16.156.10011.1.3"  # 居民身份证号码
_LOINC, _SNOMED, _DCM = "http://loinc.org", "http://snomed.info/sct", "http://dicom.nema.org/resources/ontology/DCM"
_ICD10 = ("http://hl7.org/fhir/sid/icd-10", "http://hl7.org/fhir/sid/icd-10-cm", "urn:oid:2.16.840.1.113883.6.3")
_MOST_ORDERS, _MOST_IDENTIFIERS, _LONGEST_TEXT = 50, 20, 1000
# Long String of DICOM (PS3.5 6.2): what a Patient ID can be at all.
_PATIENT_ID = re.compile(r"[^\\\x00-\x1f\x7f]{1,64}")


class HookInvalid(ValueError):
    """The request breaks CDS Hooks or FHIR; `problems` name places, never values."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class PrefetchMissing(ValueError):
    """Data that the service must have were not sent (412); `problems` say which."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, repr=False)
class HookRequest:
    """A request as values; it has no repr, because it holds identifiers."""

    hook: str
    identifiers: tuple[Identifier, ...]
    orders: tuple[Ordered, ...]
    born: date | None = None
    asked_by: str = ""


def json_from_body(body: bytes) -> dict[str, Any]:
    """The JSON object of a body (RFC 8259).

    Raises
    ------
    HookInvalid
    """
    try:
        data = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
        json.dumps(data, ensure_ascii=False).encode("utf-8")  # half of a surrogate pair is no text
    except (ValueError, RecursionError):
        raise HookInvalid("the body is not JSON in UTF-8") from None
    if not isinstance(data, dict):
        raise HookInvalid("the body is not a JSON object")
    return data


def read_request(
    data: Mapping[str, Any], *, hospital_id: str, systems: Mapping[str, str], keys: KeyRing, policy: ReminderPolicy
) -> HookRequest:
    """Read a request of order-select or order-sign.

    Parameters
    ----------
    systems : mapping
        Systems of patient identifiers that the caller is registered with -> Issuer of Patient ID of its DICOM objects.

    Raises
    ------
    HookInvalid, PrefetchMissing
    """
    hook = data.get("hook")
    if hook not in HOOKS:
        raise HookInvalid(f"hook must be {' or '.join(HOOKS)}")
    try:
        uuid.UUID(_text(data, "hookInstance"))
    except ValueError:
        raise HookInvalid("hookInstance must be a UUID") from None
    context = _object(data, "context")
    for name in ("userId", "patientId"):
        if not context.get(name) or not isinstance(context[name], str):
            raise HookInvalid(f"context.{name} is missing")
    if data.get("prefetch") is not None and not isinstance(data["prefetch"], dict):
        raise HookInvalid("prefetch must be an object")
    prefetch = data.get("prefetch") or {}
    resources = _draft_orders(context, hook=hook)
    identifiers, born = _patient(prefetch, context, systems=systems)
    grounds, visits = _encounter(prefetch, policy=policy)
    visit = keys.pseudo_id("encounter", f"{hospital_id}|{visits[0]}") if len(visits) == 1 else ""
    orders = tuple(
        _ordered(resource, place=place, patient_id=context["patientId"], grounds=grounds, visit=visit, policy=policy)
        for place, resource in resources
    )
    asked_by = keys.pseudo_id("cds-user", f"{hospital_id}|{context['userId']}")
    return HookRequest(hook=hook, identifiers=identifiers, orders=orders, born=born, asked_by=asked_by)


def _draft_orders(context: Mapping[str, Any], *, hook: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Service requests of the draft, with their place; of order-select only those that were selected."""
    bundle = _object(context, "draftOrders", within="context.")
    if bundle.get("resourceType") != "Bundle":
        raise HookInvalid("context.draftOrders must be a FHIR Bundle")
    entries = bundle.get("entry", [])
    if not isinstance(entries, list) or len(entries) > _MOST_ORDERS:
        raise HookInvalid(f"context.draftOrders.entry must be a list of at most {_MOST_ORDERS}")
    found = []
    for number, entry in enumerate(entries):
        place = f"context.draftOrders.entry[{number}].resource"
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
            raise HookInvalid(f"{place} must be a FHIR resource")
        if resource["resourceType"] == "ServiceRequest":
            found.append((place, resource))
    if hook != "order-select":
        return found
    selections = context.get("selections")
    if not isinstance(selections, list) or not all(isinstance(one, str) for one in selections):
        raise HookInvalid("context.selections must be a list of references")
    chosen = set(selections)
    return [(place, one) for place, one in found if f"ServiceRequest/{one.get('id')}" in chosen]


def _patient(
    prefetch: Mapping[str, Any], context: Mapping[str, Any], *, systems: Mapping[str, str]
) -> tuple[tuple[Identifier, ...], date | None]:
    """Identifiers, and the day of birth when it is told to the day."""
    if prefetch.get("patient") is None:
        raise PrefetchMissing("prefetch.patient is missing: send the Patient that context.patientId names")
    from fhir.resources.R4B.patient import Patient

    patient = _read(Patient, prefetch["patient"], place="prefetch.patient")
    if patient.id is not None and patient.id != context["patientId"].removeprefix("Patient/"):
        raise HookInvalid("prefetch.patient is not the Patient that context.patientId names")
    known = {NATIONAL_ID: "", **systems}
    given = [one for one in patient.identifier or [] if one.system in known and one.use != "old"]
    found = [
        Identifier(one.value, known[one.system]) for one in given if one.value and _PATIENT_ID.fullmatch(one.value)
    ]
    if not found:
        raise PrefetchMissing(
            f"prefetch.patient has no identifier of 1 to 64 characters in a system that is registered for this caller: "
            f"{', '.join(sorted(known))}"
        )
    born = patient.birthDate if type(patient.birthDate) is date else None
    return tuple(found[:_MOST_IDENTIFIERS]), born


def _encounter(prefetch: Mapping[str, Any], *, policy: ReminderPolicy) -> tuple[frozenset[str], list[str]]:
    """Grounds and the number of the visit; a caller need not send the encounter."""
    if prefetch.get("encounter") is None:
        return frozenset(), []
    from fhir.resources.R4B.encounter import Encounter

    encounter = _read(Encounter, prefetch["encounter"], place="prefetch.encounter")
    ground = policy.encounter_classes.get(encounter.class_fhir.code or "") if encounter.class_fhir else None
    visits = [one.value for one in encounter.identifier or [] if one.value and len(one.value) <= _LONGEST_TEXT]
    return frozenset({ground} if ground else ()), visits


def _ordered(
    resource: Mapping[str, Any],
    *,
    place: str,
    patient_id: str,
    grounds: frozenset[str],
    visit: str,
    policy: ReminderPolicy,
) -> Ordered:
    from fhir.resources.R4B.servicerequest import ServiceRequest

    request = _read(ServiceRequest, resource, place=place)
    subject = request.subject.reference or ""
    if subject.startswith("Patient/") and subject != f"Patient/{patient_id.removeprefix('Patient/')}":
        raise HookInvalid(f"{place}.subject is not the Patient that context.patientId names")
    concepts = [one for one in (request.code, *(request.bodySite or ())) if one]
    codings = [coding for concept in concepts for coding in concept.coding or ()]
    texts = [concept.text for concept in concepts] + [coding.display for coding in codings]
    kinds = codings + [coding for one in request.category or () for coding in one.coding or ()]
    facts = exam_of_order(
        OrderWords(
            texts=tuple(dict.fromkeys(text[:_LONGEST_TEXT] for text in texts if text)),
            modalities=tuple(coding.code for coding in kinds if coding.system == _DCM and coding.code),
            loinc=tuple(coding.code for coding in codings if coding.system == _LOINC and coding.code),
            sites=tuple(coding.code for coding in codings if coding.system == _SNOMED and coding.code),
        )
    )
    reasons = [coding for concept in request.reasonCode or () for coding in concept.coding or ()]
    told = policy.grounds_of_reasons([one.code for one in reasons if one.system in _ICD10 and one.code])
    if ground := policy.priorities.get(request.priority or ""):
        told.add(ground)
    return Ordered(
        resource_id=f"ServiceRequest/{request.id}" if request.id else "",
        modality_group=facts.modality_group,
        body_part_code=facts.body_part_code,
        laterality_code=facts.laterality_code,
        contrast_code=facts.contrast_code,
        confidence_code=facts.confidence_code,
        ground_codes=grounds | told,
        encounter_pseudo_id=visit,
    )


def _read(model: Any, data: Any, *, place: str) -> Any:
    """A resource by its model; an error tells names of the model's elements and kinds of faults, no values."""
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        problems = exc.errors(include_url=False, include_input=False, include_context=False)
    except Exception:  # of a validator of the model, whose text may hold a value
        raise HookInvalid(f"{place} is not a valid FHIR R4 {model.__name__}") from None
    known = _elements(model)
    told = []
    for problem in problems[:5]:
        where = ".".join(str(one) for one in problem["loc"] if isinstance(one, int) or one in known)
        told.append(f"{place}{'.' if where else ''}{where}: {problem['type']}")
    raise HookInvalid(*dict.fromkeys(told))


def _elements(model: Any) -> set[str]:
    """Names of elements that FHIR gives; what a caller made up is not repeated."""
    inner = "code coding display end extension reference start system text use value"
    return {field.alias or name for name, field in model.model_fields.items()}.union(inner.split())


def _object(data: Mapping[str, Any], name: str, *, within: str = "") -> Mapping[str, Any]:
    value = data.get(name)
    if not isinstance(value, dict):
        raise HookInvalid(f"{within}{name} must be an object")
    return value


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _no_constant(_: str) -> NoReturn:
    raise ValueError
