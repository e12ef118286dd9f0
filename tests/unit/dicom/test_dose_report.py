"""Dose reports of real machines and of TID 10011 and 10001, read into fixed units."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from radlake.dicom.dose_report import dose_report
from support.deid import deidentified
from support.dose import ct_report, xray_report

REAL = "real/ckswilliams+modOpenREM/openrem/remapp/tests/test_files/"


@pytest.mark.corpus
@pytest.mark.parametrize("is_deidentified", [False, True], ids=["as it came", "de-identified"])
@pytest.mark.parametrize("name", ["CT-RDSR-Siemens-Multi-1", "DX-RDSR-Canon_CXDI", "MG-RDSR-Hologic_2D"])
def test_reports_of_real_machines(corpus: Path, name: str, is_deidentified: bool) -> None:
    ds = dcmread(corpus / f"{REAL}{name}.dcm")
    found = dose_report(deidentified(ds) if is_deidentified else ds)
    assert len({event.uid for event in found.events}) == len(found.events) > 0
    assert found.unknown_units == ()
    if found.kind == "CT":
        (event,) = found.events
        assert (found.n_events_stated, found.dlp_total_mgy_cm) == (1, 7.46)
        assert (event.ctdi_vol_mgy, event.phantom_cm, event.dlp_mgy_cm) == (0.15, 32, 7.46)
        assert (event.is_localizer, event.scan_length_mm, event.kvp, event.target) == (
            True, 514.0, 120.0, ("T-D3000", "SRT")
        )  # fmt: skip
    elif found.kind == "DX":
        assert [event.dap_gy_m2 for event in found.events] == [1.07e-05] == [found.dap_total_gy_m2]
    else:
        assert found.kind == "MG"
        assert [(event.laterality, event.agd_mgy) for event in found.events] == [("L", 1.3), ("R", 1.28)]


def test_units_are_brought_to_one() -> None:
    ct = dose_report(ct_report([{"uid": "1.2", "dlp": 0.35, "unit": "Gy.cm"}]))
    assert ct.events[0].dlp_mgy_cm == pytest.approx(350)
    xray = dose_report(xray_report([{"uid": "1.2", "dap": 1.07, "unit": "dGy.cm2"}]))
    assert xray.events[0].dap_gy_m2 == pytest.approx(1.07e-5)


def test_a_unit_that_is_not_known_gives_no_number_and_is_told() -> None:
    found = dose_report(ct_report([{"uid": "1.2", "dlp": 350, "unit": "rad.in"}]))
    assert (found.events[0].dlp_mgy_cm, found.events[0].ctdi_vol_mgy) == (None, 10.0)
    assert found.unknown_units == ("rad.in",)


def test_glandular_dose_makes_a_mammography_of_each_side() -> None:
    events = [{"uid": "1.1", "agd": 1.1, "side": "R"}, {"uid": "1.2", "agd": 1.2, "side": "L"}]
    found = dose_report(xray_report(events))
    assert [(event.kind, event.laterality, event.agd_mgy) for event in found.events] == [
        ("MG", "R", 1.1), ("MG", "L", 1.2)
    ]  # fmt: skip


def test_a_document_that_is_no_dose_report_has_no_events() -> None:
    assert dose_report(Dataset()).events == ()
