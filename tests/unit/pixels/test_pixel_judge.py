"""Which pixels may show a name: decided from the header, and the header is not believed when it says NO."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from radlake.pixels import HEADER_TAGS, Verdict, judge
from support.dicom import SOP_CLASSES, image_study, presentation_state, rdsr, sr_document


@pytest.mark.parametrize("modality", ["CT", "MR", "CR", "DX", "MG", "PT", "NM", "XA"])
@pytest.mark.parametrize("flag", [None, "NO"])
def test_ordinary_images_pass(modality: str, flag: str | None) -> None:
    ds = image_study(modality, BurnedInAnnotation=flag)[0]
    assert judge(ds).verdict is (Verdict.LOOK if (modality, flag) == ("CR", None) else Verdict.CLEAN)


@pytest.mark.parametrize(
    "changes",
    [
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"ImageType": ["DERIVED", "SECONDARY", "MPR"], "ImagePositionPatient": None},
        {"BitsStored": 8},
    ],
    ids=str,
)
def test_slices_that_may_be_annotated_are_looked_at(changes: dict[str, object]) -> None:
    ds = image_study("CT", BurnedInAnnotation=None)[0]
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    assert judge(ds).verdict is Verdict.LOOK
    ds.BurnedInAnnotation = "NO"
    assert judge(ds).verdict is Verdict.CLEAN


@pytest.mark.parametrize(
    "changes",
    [
        {"ImageType": ["DERIVED", "SECONDARY", "SCANNED"]},
        {"ConversionType": "SD"},
        {"Modality": "XC"},
        {"SpecimenLabelInImage": "YES"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.4"},
    ],
    ids=str,
)
def test_paper_labels_and_photographs_are_for_a_person(changes: dict[str, object]) -> None:
    ds = image_study("OT")[0]
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    assert judge(ds).verdict is Verdict.HUMAN


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.103", "1.2.840.10008.1.2.4.108"])
def test_videos_are_for_a_person(syntax: str) -> None:
    ds = image_study("US", frames=3)[0]
    ds.file_meta.TransferSyntaxUID = syntax
    assert judge(ds).verdict is Verdict.HUMAN


@pytest.mark.parametrize("modality", ["CT", "CR", "DX", "US", "OT"])
def test_the_verdict_depends_on_nothing_but_the_header_tags(modality: str) -> None:
    ds = image_study(modality)[0]
    told = Dataset()
    told.file_meta = ds.file_meta
    told.update({elem.tag: elem for elem in ds if int(elem.tag) in HEADER_TAGS or elem.keyword == "PixelData"})
    assert judge(told) == judge(ds)


@pytest.mark.parametrize("modality", ["CT", "MR", "DX", "US", "OT"])
def test_the_flag_yes_is_believed(modality: str) -> None:
    assert judge(image_study(modality, BurnedInAnnotation="YES")[0]).reason == "Burned In Annotation is YES"


@pytest.mark.parametrize("frames", [None, 3])
def test_the_flag_no_of_ultrasound_is_not_believed(frames: int | None) -> None:
    assert judge(image_study("US", frames=frames, BurnedInAnnotation="NO")[0]).verdict is not Verdict.CLEAN


@pytest.mark.parametrize(
    "changes",
    [
        {"SOPClassUID": SOP_CLASSES["OT"]},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.1"},
        {"SOPClassUID": "1.2.276.0.7230010.3.1.0.1"},
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
        {"ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"]},
        {"SeriesDescription": "Dose Report"},
        {"SeriesDescription": "Patient_Protocol"},
        {"SeriesDescription": "剂量报告"},
        {"ConversionType": "DF"},
        {"Modality": "OT"},
        {"Modality": "DX"},
        {"PhotometricInterpretation": "RGB"},
    ],
    ids=str,
)
def test_screens_cameras_and_scans_are_a_risk(changes: dict[str, object]) -> None:
    ds = image_study("CT")[0]
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    assert judge(ds).verdict is not Verdict.CLEAN


def test_embedded_overlay_is_a_risk() -> None:
    ds = image_study("CT")[0]
    ds.add_new(0x60000102, "US", 12)
    assert judge(ds).reason == "an overlay is embedded in the pixels"
    ds[0x60000102].value = 0
    assert judge(ds).verdict is Verdict.CLEAN


def test_computed_pixels_and_no_pixels_pass() -> None:
    segmentation = image_study("CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG")[0]
    assert judge(segmentation).verdict is Verdict.CLEAN
    for document in (sr_document(), rdsr(), presentation_state(of=image_study("CT")[0])):
        assert judge(document).verdict is Verdict.CLEAN


def test_slides_pass_and_their_labels_do_not() -> None:
    slide = image_study("CT", Modality="SM", SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6")[0]
    slide.PhotometricInterpretation = "RGB"
    slide.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    assert judge(slide).verdict is Verdict.CLEAN
    slide.ImageType = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
    assert judge(slide).verdict is not Verdict.CLEAN
    slide.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    slide.SpecimenLabelInImage = "YES"
    assert judge(slide).verdict is not Verdict.CLEAN


def test_reason_quotes_no_value() -> None:
    ds = image_study("CT", Modality="王秀兰", SeriesDescription="王秀兰 scanned")[0]
    assert "王" not in judge(ds).reason


def test_no_pixels_no_risk() -> None:
    ds = Dataset()
    ds.SOPClassUID = SOP_CLASSES["US"]
    assert judge(ds).verdict is Verdict.CLEAN
