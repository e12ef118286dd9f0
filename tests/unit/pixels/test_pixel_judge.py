"""Which pixels may show a name: decided from the header, and the header is not believed when it says NO."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from radlake.pixels import pixel_risk
from support.dicom import SOP_CLASSES, image_study, presentation_state, rdsr, sr_document


@pytest.mark.parametrize("modality", ["CT", "MR", "CR", "DX", "MG", "PT", "NM", "XA"])
@pytest.mark.parametrize("flag", [None, "NO"])
def test_ordinary_images_pass(modality: str, flag: str | None) -> None:
    assert pixel_risk(image_study(modality, BurnedInAnnotation=flag)[0]) is None


@pytest.mark.parametrize("modality", ["CT", "MR", "DX", "US", "OT"])
def test_the_flag_yes_is_believed(modality: str) -> None:
    assert pixel_risk(image_study(modality, BurnedInAnnotation="YES")[0]) == "Burned In Annotation is YES"


@pytest.mark.parametrize("frames", [None, 3])
def test_the_flag_no_of_ultrasound_is_not_believed(frames: int | None) -> None:
    assert pixel_risk(image_study("US", frames=frames, BurnedInAnnotation="NO")[0]) is not None


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
    assert pixel_risk(ds) is not None


def test_embedded_overlay_is_a_risk() -> None:
    ds = image_study("CT")[0]
    ds.add_new(0x60000102, "US", 12)
    assert pixel_risk(ds) == "an overlay is embedded in the pixels"
    ds[0x60000102].value = 0
    assert pixel_risk(ds) is None


def test_computed_pixels_and_no_pixels_pass() -> None:
    segmentation = image_study("CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG")[0]
    assert pixel_risk(segmentation) is None
    for document in (sr_document(), rdsr(), presentation_state(of=image_study("CT")[0])):
        assert pixel_risk(document) is None


def test_slides_pass_and_their_labels_do_not() -> None:
    slide = image_study("CT", Modality="SM", SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6")[0]
    slide.PhotometricInterpretation = "RGB"
    slide.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    assert pixel_risk(slide) is None
    slide.ImageType = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
    assert pixel_risk(slide) is not None
    slide.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    slide.SpecimenLabelInImage = "YES"
    assert pixel_risk(slide) is not None


def test_reason_quotes_no_value() -> None:
    ds = image_study("CT", Modality="王秀兰", SeriesDescription="王秀兰 scanned")[0]
    assert "王" not in str(pixel_risk(ds))


def test_no_pixels_no_risk() -> None:
    ds = Dataset()
    ds.SOPClassUID = SOP_CLASSES["US"]
    assert pixel_risk(ds) is None
