"""The objects of one study together: what one tells is hidden in no other, and references point where they pointed."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pydicom
import pytest
from pydicom import Dataset
from pydicom._uid_dict import UID_dictionary
from pydicom.sequence import Sequence
from pydicom.uid import UID

from radlake.deidentify import Deidentifier, Told, identifiers_of, identify_person
from radlake.dicom.part10 import encode_instance, read_bytes
from support.deid import HOSPITAL, KEYS, default_profile, deidentified, occurrences
from support.dicom import ct_study, dicom_bytes, presentation_state, rdsr, sr_document

STORAGE = "1.2.840.10008.5.1.4.1.1."


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def test_what_one_instance_tells_is_searched_for_in_the_others() -> None:
    """Instance 1 names the patient; instance 2 does not, and has the name in its Scan Options."""
    one = ct_study(
        1, patient="Wang^Xiulan=王^秀兰", patient_id="ZY12736053", hospital="样例医院", StationName="ROOMX7"
    )[0]
    two = ct_study(1, patient="", patient_id="", hospital="", birth_date="", accession="")[0]
    two.ScanOptions = r"HELIX\WANG XIULAN"
    two.ImageType = r"ORIGINAL\PRIMARY\12736053"
    two.FilterType = "ROOMX7"
    two.SeriesNumber = 12736053
    datasets = [read_bytes(dicom_bytes(ds)) for ds in (one, two)]
    person = identify_person(datasets, hospital_id=HOSPITAL, keys=KEYS)
    deidentifier = Deidentifier(default_profile(), KEYS)

    def readable(told: Told) -> list[str]:
        out = encode_instance(deidentifier.deidentify(datasets[1], person=person, hospital_id=HOSPITAL, told=told))
        return [text for text in ("WANG XIULAN", "12736053", "ROOMX7") if list(occurrences(text, out))]

    assert readable(identifiers_of(datasets)) == []
    assert readable(frozenset()) != []  # alone, nobody could know


def test_identifiers_of_a_study_are_those_of_its_headers_at_every_depth() -> None:
    ds = ct_study(1, patient="王秀兰", patient_id="P77777")[0]
    ds.RequestAttributesSequence = Sequence([_item(AccessionNumber="A55555", RequestingPhysician="李雷")])
    told = identifiers_of([ds])
    assert {("name", "王秀兰"), ("id", "P77777"), ("id", "A55555"), ("name", "李雷")} <= told
    assert not [text for kind, text in told if kind == "uid"]


def _referring(image: Dataset) -> Iterator[tuple[str, Dataset]]:
    """Objects that refer to an image, in the sequences of their IODs."""
    instance = _item(ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID)
    series = _item(SeriesInstanceUID=image.SeriesInstanceUID, ReferencedSOPSequence=Sequence([instance]))
    study = _item(StudyInstanceUID=image.StudyInstanceUID, ReferencedSeriesSequence=Sequence([series]))
    contour = _item(ContourImageSequence=Sequence([instance]), ContourData=["1", "2", "3"], NumberOfContourPoints="1")

    def of_class(number: str, modality: str, n: int, **attributes: object) -> Dataset:
        ds = ct_study(1, study="refs", Modality=modality, **attributes)[0]
        del ds.PixelData
        ds.SOPInstanceUID = f"1.2.156.77.{n}.20260301"
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UID(STORAGE + number)
        return ds

    yield (
        "SEG",
        of_class(
            "66.4",
            "SEG",
            1,
            ReferencedSeriesSequence=Sequence([_item(ReferencedInstanceSequence=Sequence([instance]))]),
            PerFrameFunctionalGroupsSequence=Sequence(
                [_item(DerivationImageSequence=Sequence([_item(SourceImageSequence=Sequence([instance]))]))]
            ),
        ),
    )
    yield "KO", of_class("88.59", "KO", 2, CurrentRequestedProcedureEvidenceSequence=Sequence([study]))
    yield "PR", presentation_state(of=image)
    report = sr_document()
    report.CurrentRequestedProcedureEvidenceSequence = Sequence([study])
    yield "SR", report
    dose = rdsr()
    dose.PertinentOtherEvidenceSequence = Sequence([study])
    yield "RDSR", dose
    yield (
        "RTSTRUCT",
        of_class(
            "481.3",
            "RTSTRUCT",
            3,
            ROIContourSequence=Sequence([_item(ContourSequence=Sequence([contour]))]),
            ReferencedFrameOfReferenceSequence=Sequence([_item(FrameOfReferenceUID=image.FrameOfReferenceUID)]),
        ),
    )
    yield "RTPLAN", of_class("481.5", "RTPLAN", 4, ReferencedStructureSetSequence=Sequence([instance]))


def _uids(ds: Dataset) -> list[str]:
    """All UIDs of things, in the order of their attributes."""
    return [
        str(uid)
        for elem in ds.iterall()
        if elem.VR == "UI" and elem.value
        for uid in (elem.value if elem.VM > 1 else [elem.value])
        if uid not in UID_dictionary
    ]


@pytest.mark.parametrize("kind", ["SEG", "KO", "PR", "SR", "RDSR", "RTSTRUCT", "RTPLAN"])
def test_references_point_where_they_pointed(kind: str) -> None:
    image = ct_study(1, study="refs")[0]
    referring = dict(_referring(image))[kind]
    before = pydicom.dcmread(io.BytesIO(dicom_bytes(referring)))
    after, new_image = deidentified(referring), deidentified(image)
    assert _uids(after) == [KEYS.uid(uid) for uid in _uids(before)]
    assert new_image.SOPInstanceUID in _uids(after)
    assert image.SOPInstanceUID in _uids(before)
