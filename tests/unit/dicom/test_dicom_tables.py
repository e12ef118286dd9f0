"""The small tables: reason codes, UIDs, single values."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, AllTransferSyntaxes, CTImageStorage

from radlake.contracts.reasons import reasons, reference_page
from radlake.dicom import uids, values
from radlake.dicom.part10 import NotDicom
from radlake.errors import QuarantineError

ROOT = Path(__file__).resolve().parents[3]


def test_every_reason_says_what_it_is_and_what_to_do() -> None:
    for code, reason in reasons().items():
        assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", code)
        assert reason.code == code
        assert reason.stage in ("read", "validate", "deidentify", "verify", "gate", "fetch")
        for text in (reason.meaning_zh, reason.remedy_zh):
            assert re.fullmatch(r"[^,;()]*[\u4e00-\u9fff][^,;()]*。", text), text
        for text in (reason.meaning_en, reason.remedy_en):
            assert re.fullmatch(r"[A-Z].*\.", text), text


def test_every_reason_that_is_raised_is_in_the_table() -> None:
    raised = set()
    for path in (ROOT / "pipelines").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("QuarantineError", "NotDicom"):
                codes = [word.value for word in node.keywords if word.arg == "reason"]
                raised |= {code.value for code in codes if isinstance(code, ast.Constant)}

    assert {"part10_truncated", "uid_missing", "not_dicom"} <= raised <= set(reasons())


def test_the_page_for_people_is_the_table() -> None:
    page = ROOT / "docs" / "reference" / "quarantine-reasons.md"

    assert page.read_text(encoding="utf-8") == reference_page(), (
        "run python -m radlake.contracts.reasons > " + page.name
    )


def test_quarantine_errors_survive_the_way_back_from_a_worker() -> None:
    error = pickle.loads(pickle.dumps(NotDicom(reason="not_dicom", detail="9 bytes")))

    assert (type(error), error.reason, error.detail) == (NotDicom, "not_dicom", "9 bytes")
    assert isinstance(error, QuarantineError)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.2.840.10008.1.2", True),
        ("2.25." + "9" * 39, True),
        ("1." + "2" * 62, True),
        ("1." + "2" * 63, False),
        ("1.2.03", True),
        ("1", False),
        ("", False),
        ("1..2", False),
        (".1.2", False),
        ("1.2.", False),
        ("1.2.x", False),
        ("1.2 ", False),
        ("1.2\n", False),
        ("1.２", False),
    ],
)
def test_is_uid(text: str, expected: bool) -> None:
    assert uids.is_uid(text) is expected


def test_leading_zeros_are_seen() -> None:
    assert [uids.has_leading_zero(uid) for uid in ("1.2.03", "01.2", "1.0.2", "1.20.0")] == [True, True, False, False]


def test_transfer_syntaxes_agree_with_pydicom() -> None:
    for uid in AllTransferSyntaxes:
        found = uids.transfer_syntax(str(uid))
        if "JPIP" in uid.name or "SMPTE" in uid.name:
            assert found is None
            continue
        assert found is not None, uid.name
        assert found.is_implicit is uid.is_implicit_VR
        assert found.is_big_endian is not uid.is_little_endian
        assert found.is_deflated is uid.is_deflated
        assert found.is_encapsulated is uid.is_encapsulated


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.8.1"])
def test_transfer_syntaxes_younger_than_pydicom(uid: str) -> None:
    found = uids.transfer_syntax(uid)
    assert found is not None
    assert found.is_encapsulated


@pytest.mark.parametrize(
    ("uid", "is_storage", "is_image"),
    [
        (str(CTImageStorage), True, True),
        ("1.2.840.10008.5.1.4.1.1.66.4", True, True),
        ("1.2.840.10008.5.1.4.1.1.88.67", True, False),
        ("1.2.840.10008.5.1.4.1.1.481.2", True, False),
        ("1.2.840.10008.5.1.4.1.1.104.1", True, False),
        ("1.2.840.10008.5.1.4.1.1.999.1", True, False),
        ("1.2.840.10008.1.1", False, False),
        ("1.2.840.10008.1.20.1", False, False),
        ("1.2.840.10008.5.1.4.1.2.2.1", False, False),
        ("1.3.12.2.1107.5.9.1", False, False),
    ],
    ids=["CT", "SEG", "RDSR", "RT Dose", "PDF", "future", "Verification", "Commitment", "C-FIND", "private"],
)
def test_storage_and_image_classes(uid: str, is_storage: bool, is_image: bool) -> None:
    assert (uids.is_storage_class(uid), uids.is_image_class(uid)) == (is_storage, is_image)


def raw(vr: str, value: bytes) -> RawDataElement:
    return RawDataElement(BaseTag(0x00280010), vr, len(value), value, 0, False, True)


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [("US", b"\0\2", 512), ("SS", b"\xff\xff", -1), ("UL", b"\1\0\1\0", 65537), ("IS", b" 12 ", 12), ("IS", b"", None)],
)
def test_number(vr: str, value: bytes, expected: int | None) -> None:
    ds = Dataset()
    ds[0x00280010] = raw(vr, value)

    assert values.number(ds, 0x00280010) == expected
    if expected is not None:
        built = Dataset()
        built.Rows = expected
        assert values.number(built, 0x00280010) == expected


@pytest.mark.parametrize(
    ("vr", "value"), [("US", b"\0\2\0\2"), ("IS", b"1A"), ("IS", b"1\\2"), ("IS", "１".encode()), ("IS", b"+-1")]
)
def test_no_number(vr: str, value: bytes) -> None:
    ds = Dataset()
    ds[0x00280010] = raw(vr, value)

    with pytest.raises(ValueError, match="not one number"):
        values.number(ds, 0x00280010)


def test_texts() -> None:
    ds = Dataset()
    assert (values.first_text(ds, 0x0020000D), values.texts(ds, 0x0020000D)) == ("", [])
    ds.StudyInstanceUID = ["1.2", "3.4"]
    assert (values.first_text(ds, 0x0020000D), values.texts(ds, 0x0020000D)) == ("1.2", ["1.2", "3.4"])
    ds.StudyInstanceUID = UID("1.2")
    assert (values.first_text(ds, 0x0020000D), values.is_present(ds, 0x0020000D)) == ("1.2", True)
    ds.StudyInstanceUID = ""
    assert values.is_present(ds, 0x0020000D) is False
    ds.InstanceNumber = 0
    assert values.texts(ds, 0x00200013) == ["0"]
    assert values.is_present(ds, 0x00200013) is True
