"""Objects that are not plain images: reports, presentation states, overlays, and what is set aside."""

from __future__ import annotations

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

import radlake.deidentify.walk
from radlake.errors import QuarantineError
from support.deid import (
    CHINESE_NAME,
    HOSPITAL_NAME,
    KEYS,
    PATIENT_ID,
    assert_unreadable,
    ct_of_somebody,
    deidentified,
    deidentified_bytes,
    item_of,
    read_output,
)
from support.dicom import (
    pdf_document,
    presentation_state,
    rdsr,
    sr_document,
)


def test_structured_report() -> None:
    ds = sr_document(text=f"{CHINESE_NAME}，{PATIENT_ID}，胸部平扫", patient=CHINESE_NAME, patient_id=PATIENT_ID)
    content = ds.ContentSequence

    def add(code: str, value_type: str, **value: object) -> None:
        concept = item_of(CodeValue=code, CodingSchemeDesignator="DCM", CodeMeaning="x")
        content.append(
            item_of(
                RelationshipType="HAS OBS CONTEXT", ValueType=value_type, ConceptNameCodeSequence=[concept], **value
            )
        )

    add("121008", "PNAME", PersonName="李^志强")
    add("121029", "PNAME", PersonName="Wang^Xiulan")
    add("121030", "TEXT", TextValue="NO-778899")
    add("121031", "DATE", Date="19700102")
    add("121022", "TEXT", TextValue="ACC778")
    add("111526", "DATETIME", DateTime="20260301083000")
    add("112039", "UIDREF", UID="1.2.156.55.20260301")
    measured = item_of(NumericValue="91", MeasurementUnitsCodeSequence=[])
    add("121033", "NUM", MeasuredValueSequence=[measured])
    deep = item_of(
        RelationshipType="CONTAINS",
        ValueType="TEXT",
        TextValue="Wang Xiulan NO-778899 chest",
        ConceptNameCodeSequence=[],
    )
    content[0].ContentSequence = Sequence([deep])
    ds.VerifyingObserverSequence = Sequence(
        [
            item_of(
                VerifyingObserverName="李^志强",
                VerifyingOrganization=HOSPITAL_NAME,
                VerificationDateTime="20260301083000",
                VerifyingObserverIdentificationCodeSequence=[item_of(CodeValue="L01", CodeMeaning="李志强")],
            )
        ]
    )
    out = deidentified_bytes(ds)
    assert_unreadable(
        out, CHINESE_NAME, PATIENT_ID, "李志强", "Wang Xiulan", "NO-778899", "19700102", "ACC778", HOSPITAL_NAME, "L01"
    )
    ds = read_output(out)
    values = [
        next((str(item[k].value) for k in ("PersonName", "TextValue", "Date", "UID") if k in item), "")
        for item in ds.ContentSequence
    ]
    assert values == [
        "胸部平扫",
        "REMOVED",
        "REMOVED",
        "REMOVED",
        "19000101",
        "REMOVED",
        "",
        KEYS.uid("1.2.156.55.20260301"),
        "",
    ]
    assert ds.ContentSequence[6].DateTime[:8] == ds.StudyDate
    assert list(ds.ContentSequence[8].MeasuredValueSequence) == []
    assert ds.ContentSequence[0].ContentSequence[0].TextValue == "CHEST"
    observer = ds.VerifyingObserverSequence[0]
    assert (observer.VerifyingObserverName, observer.VerifyingOrganization) == ("REMOVED", "REMOVED")
    assert list(observer.VerifyingObserverIdentificationCodeSequence) == []


def test_measurements_of_a_dose_report_stay() -> None:
    out = deidentified(rdsr(dlp=350.0))
    number = out.ContentSequence[0].ContentSequence[0]
    assert number.MeasuredValueSequence[0].NumericValue == 350
    assert number.ConceptNameCodeSequence[0].CodeMeaning == "CT Dose Length Product Total"


def test_presentation_state_keeps_geometry_not_text() -> None:
    image = ct_of_somebody()
    out = deidentified_bytes(presentation_state(of=image, text=f"{CHINESE_NAME} 头颅"))
    assert_unreadable(out, CHINESE_NAME, "王医生")
    ds = read_output(out)
    note = ds.GraphicAnnotationSequence[0].TextObjectSequence[0]
    assert (note.UnformattedTextValue, list(note.AnchorPoint)) == ("头颅", [1.0, 1.0])
    assert ds.ContentDescription == "头颅"


def test_overlays_curves_and_icons_go() -> None:
    ds = ct_of_somebody()
    for tag, vr, value in (
        (0x60003000, "OW", b"\xff" * 32),
        (0x60000022, "LO", CHINESE_NAME),
        (0x60021500, "LO", CHINESE_NAME),
        (0x60004000, "LT", CHINESE_NAME),
        (0x50003000, "OW", b"\0" * 8),
        (0x50002500, "LO", CHINESE_NAME),
    ):
        ds.add_new(tag, vr, value)
    ds.IconImageSequence = Sequence([item_of(Rows=1, Columns=2, BitsAllocated=8, PixelData=b"\0\0")])
    out = deidentified_bytes(ds)
    assert_unreadable(out, CHINESE_NAME)
    ds = read_output(out)
    assert not [elem.tag for elem in ds if elem.tag.group >> 8 in (0x50, 0x60)]
    assert "IconImageSequence" not in ds


@pytest.mark.parametrize(
    ("ds", "reason"),
    [
        (pdf_document(), "document_not_cleanable"),
        (ct_of_somebody(EncapsulatedDocument=b"%PDF"), "document_not_cleanable"),
        (ct_of_somebody(Modality="XC"), "pixel_risk"),
        (ct_of_somebody(BurnedInAnnotation="YES", PixelData=b"", FloatPixelData=b"\0\0\0\0"), "pixel_risk"),
        (ct_of_somebody(SOPClassUID="1.2.840.10008.5.1.4.1.1.9.4.1", PixelData=None), "document_not_cleanable"),
        (ct_of_somebody(SOPClassUID="1.2.840.10008.1.3.10"), "media_directory"),
        (ct_of_somebody(StudyInstanceUID=None), "uid_missing"),
        (ct_of_somebody(SeriesInstanceUID=""), "uid_missing"),
    ],
)
def test_what_cannot_be_cleaned_is_set_aside(ds: Dataset, reason: str) -> None:
    with pytest.raises(QuarantineError) as caught:
        deidentified(ds)
    assert caught.value.reason == reason


def test_failure_is_closed_and_quotes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str) -> str:
        raise ValueError(f"cannot clean {text}")

    monkeypatch.setattr(radlake.deidentify.walk, "clean_description", fail)
    with pytest.raises(QuarantineError) as caught:
        deidentified(ct_of_somebody(StudyDescription=CHINESE_NAME))
    assert (caught.value.reason, caught.value.detail) == ("deidentification_failed", "ValueError")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert CHINESE_NAME not in str(caught.value)
