"""Irradiation events of X-Ray Radiation Dose SR documents (PS3.16 TID 10001 projection X-ray, TID 10011 CT).

Reads content trees only: what a machine reported, in fixed units. Nothing is estimated here, no text and no name is
read. A value in a unit that is not known is left out and told, never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pydicom import Dataset

__all__ = ["DOSE_REPORT_CLASSES", "DoseReport", "IrradiationEvent", "dose_report"]

# X-Ray Radiation Dose SR, Enhanced X-Ray Radiation Dose SR (PS3.4 B.5); older systems use the general SR classes,
# which cost a look at every report of a hospital: they are not read.
DOSE_REPORT_CLASSES = ("1.2.840.10008.5.1.4.1.1.88.67", "1.2.840.10008.5.1.4.1.1.88.76")

Kind = Literal["CT", "MG", "DX"]
_CT_ACQUISITION, _XRAY_EVENT = "113819", "113706"
_EVENT_UID, _DEVICE = "113769", "121012"
_ACCUMULATED = ("113811", "113702")
_MAMMOGRAPHY = {"P5-40010", "71651007"}
_LEFT = {"G-A101", "7771000", "T-04030", "80248007"}
_RIGHT = {"G-A100", "24028007", "T-04020", "73056007"}
_PHANTOMS_CM = {"113690": 16, "113691": 32}
_MGY = {"mGy": 1.0, "Gy": 1000.0, "cGy": 10.0, "dGy": 100.0, "uGy": 0.001}
_MGY_CM = {"mGy.cm": 1.0, "mGycm": 1.0, "mGy*cm": 1.0, "Gy.cm": 1000.0, "uGy.m": 0.1, "mGy.m": 100.0}
_GY_M2 = {"Gy.m2": 1.0, "Gy.cm2": 1e-4, "dGy.cm2": 1e-5, "cGy.cm2": 1e-6, "mGy.cm2": 1e-7, "uGy.m2": 1e-6,
          "mGy.m2": 1e-3, "uGy.cm2": 1e-10}  # fmt: skip
_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
_KV = {"kV": 1.0, "V": 0.001}

Code = tuple[str, str]  # value, scheme


@dataclass(frozen=True, kw_only=True)
class IrradiationEvent:
    """One irradiation event (TID 10003, TID 10013); None where the machine reported nothing.

    Attributes
    ----------
    number : int
        Place in its report, from 1.
    uid : str
        Irradiation Event UID; empty when the report has none.
    device : str
        Device Observer UID of the event, else of the report, else the serial number in the header; empty when untold.
    target : tuple or None
        Code and scheme of the target region.
    is_localizer : bool
        A CT scout (Constant Angle Acquisition): it counts for DLP, not for CTDIvol of the exam.
    phantom_cm : int or None
        Diameter of the phantom that CTDIvol and DLP refer to.
    dap_gy_m2 : float or None
        Dose area product.
    agd_mgy : float or None
        Average glandular dose of the breast of `laterality`.
    """

    number: int
    uid: str
    kind: Kind
    device: str = ""
    started: str = ""
    target: Code | None = None
    laterality: Literal["L", "R", ""] = ""
    is_localizer: bool = False
    ctdi_vol_mgy: float | None = None
    phantom_cm: int | None = None
    dlp_mgy_cm: float | None = None
    scan_length_mm: float | None = None
    dap_gy_m2: float | None = None
    dose_rp_mgy: float | None = None
    agd_mgy: float | None = None
    kvp: float | None = None


@dataclass(frozen=True, kw_only=True)
class DoseReport:
    """Events of a report, the totals that it states itself, and units that are not known.

    Attributes
    ----------
    n_events_stated : int or None
        Total Number of Irradiation Events (CT).
    dlp_total_mgy_cm, dap_total_gy_m2
        Accumulated dose; one sum over all planes and tubes.
    """

    kind: Kind
    events: tuple[IrradiationEvent, ...]
    n_events_stated: int | None
    dlp_total_mgy_cm: float | None
    dap_total_gy_m2: float | None
    unknown_units: tuple[str, ...]


def dose_report(ds: Dataset) -> DoseReport:
    """Read a dose report; a document that is none gives no events."""
    reader = _Reader(device=_uid(_items(ds), _DEVICE) or str(ds.get("DeviceSerialNumber", "") or ""))
    items = [(_code(item, "ConceptNameCodeSequence"), item) for item in _items(ds)]
    procedure = {_code(item, "ConceptCodeSequence") for name, item in items if name == "121058"}
    containers = [(name, item) for name, item in items if name in (_CT_ACQUISITION, _XRAY_EVENT)]
    is_ct = any(name == _CT_ACQUISITION for name, _ in containers) or any(name == "113811" for name, _ in items)
    kind: Kind = "CT" if is_ct else "MG" if procedure & _MAMMOGRAPHY else "DX"
    events = tuple(
        reader.ct_event(item, number) if name == _CT_ACQUISITION else reader.xray_event(item, number, kind)
        for number, (name, item) in enumerate(containers, 1)
    )
    totals = [item for name, item in items if name in _ACCUMULATED]
    stated = reader.total(totals, "113812", {"{events}": 1.0, "1": 1.0})
    return DoseReport(
        kind=kind,
        events=events,
        n_events_stated=None if stated is None else int(stated),
        dlp_total_mgy_cm=reader.total(totals, "113813", _MGY_CM),
        dap_total_gy_m2=reader.total(totals, "113722", _GY_M2),
        unknown_units=tuple(sorted(reader.unknown_units)),
    )


class _Reader:
    """Numbers of content items in fixed units; collects the units that it does not know."""

    def __init__(self, *, device: str) -> None:
        self.unknown_units: set[str] = set()
        self._device = device

    def ct_event(self, event: Dataset, number: int) -> IrradiationEvent:
        return IrradiationEvent(
            number=number,
            uid=_uid(_items(event), _EVENT_UID),
            device=_uid(_below(event), _DEVICE) or self._device,
            kind="CT",
            started=_started(event),
            target=_coded(event, "123014"),
            is_localizer=_value(event, "113820") == "113805",
            ctdi_vol_mgy=self.number(event, "113830", _MGY),
            phantom_cm=_PHANTOMS_CM.get(_value(event, "113835")),
            dlp_mgy_cm=self.number(event, "113838", _MGY_CM),
            scan_length_mm=self.number(event, "113825", _MM),
            kvp=self.number(event, "113733", _KV),
        )

    def xray_event(self, event: Dataset, number: int, kind: Kind) -> IrradiationEvent:
        agd = self.number(event, "111631", _MGY)
        return IrradiationEvent(
            number=number,
            uid=_uid(_items(event), _EVENT_UID),
            device=_uid(_below(event), _DEVICE) or self._device,
            kind="MG" if agd is not None else kind,
            started=_started(event),
            target=_coded(event, "123014"),
            laterality=_side(event),
            dap_gy_m2=self.number(event, "122130", _GY_M2),
            dose_rp_mgy=self.number(event, "113738", _MGY),
            agd_mgy=agd,
            kvp=self.number(event, "113733", _KV),
        )

    def number(self, within: Dataset, concept: str, units: Mapping[str, float]) -> float | None:
        """The first number of a concept anywhere below an item; None when there is none or its unit is not known."""
        return next(self._numbers(within, concept, units), None)

    def total(self, containers: Iterable[Dataset], concept: str, units: Mapping[str, float]) -> float | None:
        """Sum of a concept over containers (planes, tubes); None when none states it."""
        found = [value for item in containers if (value := self.number(item, concept, units)) is not None]
        return math.fsum(found) if found else None

    def _numbers(self, within: Dataset, concept: str, units: Mapping[str, float]) -> Iterator[float]:
        for item in _below(within):
            if _code(item, "ConceptNameCodeSequence") != concept:
                continue
            for measured in item.get("MeasuredValueSequence") or ():
                unit = _code(measured, "MeasurementUnitsCodeSequence")
                if unit not in units:
                    self.unknown_units.add(unit)
                    continue
                try:
                    value = float(measured.NumericValue) * units[unit]
                except (AttributeError, TypeError, ValueError):
                    continue
                if math.isfinite(value) and value >= 0:
                    yield value


def _items(ds: Dataset) -> Iterator[Dataset]:
    yield from ds.get("ContentSequence") or ()


def _below(ds: Dataset) -> Iterator[Dataset]:
    for item in _items(ds):
        yield item
        yield from _below(item)


def _code(ds: Dataset, keyword: str) -> str:
    return next((str(code.get("CodeValue", "")) for code in ds.get(keyword) or ()), "")


def _coded(event: Dataset, concept: str) -> Code | None:
    for item in _below(event):
        if _code(item, "ConceptNameCodeSequence") == concept:
            for code in item.get("ConceptCodeSequence") or ():
                return str(code.get("CodeValue", "")), str(code.get("CodingSchemeDesignator", ""))
    return None


def _value(event: Dataset, concept: str) -> str:
    found = _coded(event, concept)
    return found[0] if found else ""


def _uid(items: Iterable[Dataset], concept: str) -> str:
    named = (item for item in items if _code(item, "ConceptNameCodeSequence") == concept)
    return next((str(item.get("UID", "") or "") for item in named), "")


def _started(event: Dataset) -> str:
    named = (item for item in _items(event) if _code(item, "ConceptNameCodeSequence") == "111526")
    return next((str(item.get("DateTime", "") or "") for item in named), "")


def _side(event: Dataset) -> Literal["L", "R", ""]:
    codes = {_code(item, "ConceptCodeSequence") for item in _below(event)}
    sides = [side for side, known in (("L", _LEFT), ("R", _RIGHT)) if codes & known]
    return sides[0] if len(sides) == 1 else ""  # pyright: ignore[reportReturnType]
