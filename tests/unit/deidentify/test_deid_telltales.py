"""Texts that look like somebody, and texts of the field that look a little like it."""

from __future__ import annotations

import pytest

from radlake.deidentify.telltales import betrays_somebody


@pytest.mark.parametrize(
    "text", ["SZSLDYYY", "SZSLDYYY_CT1", "CT_SZSLDYYY", "SZSLDYYY2", "YLYY_A", "12 Tran Phu, Hue", "Aishan Maimaiti"]
)
def test_found(text: str) -> None:
    assert betrays_somebody(text)


@pytest.mark.parametrize(
    "text",
    ["YYYY", "YYYYMMDD", "DDMMYY", "MMYY", "2 VIEWS CHEST, LATERAL", "12 LEAD ECG, REST", "3 PLANE LOC, FAST",
     "Sternum", "Restricted diffusion", "Midazolam", "Left Ventricular Outflow Tract"],
)  # fmt: skip
def test_left_alone(text: str) -> None:
    assert not betrays_somebody(text)
