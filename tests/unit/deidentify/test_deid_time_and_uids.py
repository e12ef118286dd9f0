"""Dates and UIDs: moved and replaced everywhere alike, and nowhere left."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from pydicom.sequence import Sequence

from radlake.deidentify import identify_person
from support.deid import (
    HOSPITAL,
    KEYS,
    assert_unreadable,
    ct_of_somebody,
    deidentified,
    deidentified_bytes,
    item_of,
    profile_of,
    read_output,
)
from support.dicom import (
    ct_study,
    dicom_bytes,
    image_study,
)
from support.planting import sent_with


def test_dates_move_together() -> None:
    isotope = item_of(RadiopharmaceuticalStartTime="230000", RadionuclideHalfLife="6586.2")
    ds = image_study(
        "PT",
        study_date="20260301",
        study_time="235950.250",
        AcquisitionDateTime="20260302001000.5+0800",
        DateOfGainCalibration="20260201",  # not in the table: by its VR
        RadiopharmaceuticalInformationSequence=Sequence([isotope]),
    )[0]
    out = deidentified(ds)
    key = identify_person([ds], hospital_id=HOSPITAL, keys=KEYS).patient_key
    expected = datetime(2026, 3, 1, 23, 59, 50) + KEYS.offset(key)
    assert out.StudyDate + out.StudyTime == f"{expected:%Y%m%d%H%M%S}.250"
    acquired = datetime(2026, 3, 2, 0, 10) + KEYS.offset(key)
    assert out.AcquisitionDateTime == f"{acquired:%Y%m%d%H%M%S}.5+0800"
    assert (
        datetime(2026, 2, 1) - datetime.strptime(out.DateOfGainCalibration, "%Y%m%d")
    ).days == -KEYS.date_offset_days(key)
    start = datetime(2026, 3, 1, 23) + KEYS.offset(key)
    assert out.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartTime == f"{start:%H%M%S}"


@pytest.mark.parametrize("bad", ["***", "二〇二六", "2026", "20261399"])
def test_bad_dates_do_not_stay(bad: str) -> None:
    dates = dict.fromkeys(("SeriesDate", "StudyDate", "ContentDate"), ("DA", bad.encode()))
    out = deidentified_bytes(sent_with(ct_of_somebody(), **dates, StudyTime=("TM", b"***140450.")))
    assert_unreadable(out, "***", "二〇二六", "20261399")
    assert {str(read_output(out).get(keyword) or "") for keyword in (*dates, "StudyTime")} == {""}


def test_full_dates_stay_when_a_profile_says_so(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, "extends: basic\noptions: [retain_full_dates]")
    data = sent_with(ct_of_somebody(AcquisitionDateTime="20260301235959.9"), SeriesDate=("DA", b"Wang Xiu"))
    out = deidentified(data, profile=profile)
    assert (out.StudyDate, out.StudyTime, out.AcquisitionDateTime) == ("20260301", "083000", "20260301235959.9")
    assert not out.get("SeriesDate")
    assert out.LongitudinalTemporalInformationModified == "UNMODIFIED"


def test_all_studies_of_a_person_move_by_the_same_days() -> None:
    first, second = (
        deidentified(ct_study(1, patient_id="P7", study=n, study_date=day)[0])
        for n, day in ((1, "20260301"), (2, "20260311"))
    )
    days = [datetime.strptime(ds.StudyDate, "%Y%m%d") for ds in (first, second)]
    assert (days[1] - days[0]).days == 10


def test_age_stays_and_the_date_of_birth_goes() -> None:
    out = deidentified(ct_of_somebody())
    assert out.PatientBirthDate == ""
    assert out.PatientAge == "056Y"
    assert deidentified(ct_study(1, birth_date="19200101")[0]).PatientAge == "090Y"
    assert deidentified(ct_of_somebody(PatientAge="101Y")).PatientAge == "090Y"
    assert deidentified(ct_of_somebody(PatientAge="012M")).PatientAge == "012M"
    assert "PatientAge" not in deidentified(ct_study(1, birth_date="")[0])


def test_uids_are_replaced_everywhere_alike() -> None:
    talairach = "1.2.840.10008.1.4.1.1"
    ds = ct_of_somebody(
        FrameOfReferenceUID=talairach,
        FailedSOPInstanceUIDList=["1.2.156.1.20260301.1", "1.2.156.1.20260301.2"],
        ReferencedImageSequence=Sequence(
            [
                item_of(
                    ReferencedSOPClassUID=ct_of_somebody().SOPClassUID,
                    ReferencedSOPInstanceUID=ct_of_somebody().SOPInstanceUID,
                )
            ]
        ),
    )
    out = deidentified(ds)
    assert out.SOPInstanceUID == KEYS.uid(ds.SOPInstanceUID) == out.file_meta.MediaStorageSOPInstanceUID
    assert out.ReferencedImageSequence[0].ReferencedSOPInstanceUID == out.SOPInstanceUID
    assert out.ReferencedImageSequence[0].ReferencedSOPClassUID == out.SOPClassUID == ds.SOPClassUID
    assert out.FrameOfReferenceUID == talairach
    assert list(out.FailedSOPInstanceUIDList) == [KEYS.uid("1.2.156.1.20260301.1"), KEYS.uid("1.2.156.1.20260301.2")]


def test_uid_in_a_text_goes() -> None:
    ds = ct_of_somebody()
    ds.SoftwareVersions = f"made {ds.StudyInstanceUID}"
    assert_unreadable(deidentified_bytes(ds), str(ds.StudyInstanceUID))


def test_broken_class_uid_is_replaced() -> None:
    ds = ct_of_somebody(
        ReferencedImageSequence=Sequence([item_of(ReferencedSOPInstanceUID="1.2.3.4", ReferencedSOPClassUID="1.2.99")])
    )
    data = dicom_bytes(ds).replace(b"1.2.99", b"Wang_X")
    assert_unreadable(deidentified_bytes(data), "Wang_X")


def test_uids_stay_when_a_profile_says_so(tmp_path: Path) -> None:
    ds = ct_of_somebody(FailedSOPInstanceUIDList=["1.2.156.1.20260301.1"])
    out = deidentified(ds, profile=profile_of(tmp_path, "extends: basic\noptions: [retain_uids]"))
    assert (out.SOPInstanceUID, out.StudyInstanceUID) == (ds.SOPInstanceUID, ds.StudyInstanceUID)
    assert out.FailedSOPInstanceUIDList == "1.2.156.1.20260301.1"
    assert "113110" in [code.CodeValue for code in out.DeidentificationMethodCodeSequence]


@pytest.mark.parametrize(
    ("uid", "stays"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", True),
        ("1.3.12.2.1107.5.9.1", True),
        ("1.2.156.112605.66.1", True),
        ("1.2.156.112605.20240305.1", False),
        ("1.2.156.112605.12736053", False),
        ("1964.2.24", False),
    ],
)
def test_class_uids_have_no_room_for_a_number(uid: str, stays: bool) -> None:
    item = item_of(ReferencedSOPInstanceUID="1.2.3.4", ReferencedSOPClassUID=uid)
    (out,) = deidentified(ct_of_somebody(ReferencedImageSequence=Sequence([item]))).ReferencedImageSequence
    assert (out.ReferencedSOPClassUID == uid) == stays
