"""Dose reports, written as PS3.16 TID 10011 (CT) and TID 10001 (projection X-ray, mammography) say."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence

from support.dicom import rdsr

__all__ = ["code", "coded", "container", "ct_report", "number", "xray_report"]


def code(value: str, scheme: str = "DCM", meaning: str = "x") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def number(concept: str, value: float | str, unit: str) -> Dataset:
    measured = Dataset()
    measured.NumericValue = value
    measured.MeasurementUnitsCodeSequence = Sequence([code(unit, "UCUM", unit)])
    item = _item("NUM", concept)
    item.MeasuredValueSequence = Sequence([measured])
    return item


def coded(concept: str, value: str, scheme: str) -> Dataset:
    item = _item("CODE", concept)
    item.ConceptCodeSequence = Sequence([code(value, scheme)])
    return item


def container(concept: str, *items: Dataset) -> Dataset:
    item = _item("CONTAINER", concept)
    item.ContinuityOfContent = "SEPARATE"
    item.ContentSequence = Sequence(items)
    return item


def ct_report(
    events: Items[dict[str, Any]], *, stated: int | None = None, device: str = "", **attributes: Any
) -> Dataset:
    """CT events: uid, start, dlp, ctdi, phantom (113690 head, 113691 body), target (code, scheme), localizer, unit of
    DLP; `device` is the Device Observer UID of the report.
    """
    made = [
        container(
            "113819",
            *([_uidref(event["uid"])] if event.get("uid") else []),
            *([_started(event["start"])] if event.get("start") else []),
            coded("123014", *event.get("target", ("816094009", "SCT"))),
            coded("113820", "113805" if event.get("localizer") else "116152004", "DCM"),
            container(
                "113829",
                number("113830", event.get("ctdi", 10.0), "mGy"),
                coded("113835", event.get("phantom", "113691"), "DCM"),
                number("113838", event["dlp"], event.get("unit", "mGy.cm")),
            ),
        )
        for event in events
    ]
    total = container("113811", number("113812", len(events) if stated is None else stated, "{events}"))
    observer = [_uidref(device, concept="121012")] if device else []
    return _report([coded("121058", "77477000", "SCT"), *observer, total, *made], attributes)


def xray_report(events: Items[dict[str, Any]], *, procedure: str = "113704", **attributes: Any) -> Dataset:
    """X-ray events: uid, dap with unit, agd in mGy, side (L or R)."""
    made = []
    for event in events:
        items = [_uidref(event["uid"])]
        if "dap" in event:
            items.append(number("122130", event["dap"], event.get("unit", "Gy.m2")))
        if "agd" in event:
            items.append(number("111631", event["agd"], "mGy"))
        if "side" in event:
            anatomy = coded("123014", "76752008", "SCT")
            anatomy.ContentSequence = Sequence([coded("272741003", _SIDES[event["side"]], "SCT")])
            items.append(anatomy)
        made.append(container("113706", *items))
    return _report([coded("121058", procedure, "DCM"), *made], attributes)


_SIDES = {"L": "7771000", "R": "24028007"}


def _report(items: list[Dataset], attributes: dict[str, Any]) -> Dataset:
    return rdsr(ContentSequence=Sequence(items), **attributes)


def _item(kind: str, concept: str) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", kind
    item.ConceptNameCodeSequence = Sequence([code(concept)])
    return item


def _uidref(uid: str, *, concept: str = "113769") -> Dataset:
    item = _item("UIDREF", concept)
    item.UID = uid
    return item


def _started(at: str) -> Dataset:
    item = _item("DATETIME", "111526")
    item.DateTime = at
    return item
