"""MADO: a manifest says the same as KOS and as FHIR, whatever it holds, and both are what the standards ask for."""

from __future__ import annotations

import io
import json
import subprocess
from datetime import date, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread

from radlake.cohort.fhir.export import require_valid
from radlake.cohort.mado import (
    Coded,
    Instance,
    Manifest,
    ManifestInvalid,
    Series,
    bundle_of,
    kos_of,
    manifest_from_bundle,
    manifest_from_kos,
)
from radlake.dicom.part10 import encode_instance
from support.need import program

CT, MR_ENHANCED, ECG, SR, KO = (
    "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.9.1.1",
    "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.88.59",
)  # fmt: skip
KOS_SERIES = "2.25.7"

uids = st.integers(1, 2**128 - 1).map("2.25.{}".format)
texts = st.text(st.sampled_from("abcXYZ 019-_胸部平扫肺&<>é"), min_size=1, max_size=20).map(str.strip).filter(bool)
codes = st.builds(
    Coded, st.from_regex(r"[A-Z0-9]{1,9}", fullmatch=True), st.sampled_from(["DCM", "SCT", "LN", "99JS"]), texts
)
coded_or_text = codes | texts.map(lambda text: Coded("", "", text))
moments = st.datetimes(datetime(1950, 1, 1), datetime(2090, 1, 1)).map(lambda at: at.replace(microsecond=0))
numbers = st.none() | st.integers(0, 2**31 - 1)
instances = st.builds(
    Instance,
    uid=uids,
    sop_class=st.sampled_from([CT, MR_ENHANCED, ECG, SR, KO]),
    number=numbers,
    n_frames=st.none() | st.integers(1, 10_000),
    title=st.none() | codes,
    description=texts | st.just(""),
)
series = st.builds(
    Series,
    uid=uids,
    modality=st.sampled_from(["CT", "MR", "SR", "KO", "US"]),
    number=numbers,
    description=texts | st.just(""),
    started=st.none() | moments,
    body_site=st.none() | coded_or_text,
    laterality=st.none() | codes,
    instances=st.lists(instances, min_size=1, max_size=3, unique_by=lambda one: one.uid).map(tuple),
)
manifests = st.builds(
    Manifest,
    uid=uids,
    created_at=moments,
    study_uid=uids,
    started=st.none() | moments,
    patient_id=texts,
    issuer=uids,
    accession=st.from_regex(r"[0-9a-f]{0,16}", fullmatch=True),
    institution=texts,
    location_uid=uids,
    manufacturer=texts,
    description=texts | st.just(""),
    patient_name=st.sampled_from(["", "0123456789abcdef", "Li^Lei", "Li^Lei=李^雷"]),
    birth_date=st.none() | st.dates(date(1900, 1, 1), date(2026, 1, 1)),
    sex=st.sampled_from(["", "M", "F", "O"]),
    procedures=st.lists(codes, max_size=2).map(tuple),
    regions=st.lists(codes, max_size=3).map(tuple),
    wado_url=st.sampled_from(["", "https://pacs.example/dicom-web"]),
    series=st.lists(series, min_size=1, max_size=3, unique_by=lambda one: one.uid).map(tuple),
)


def written(manifest: Manifest) -> bytes:
    return encode_instance(kos_of(manifest, series_uid=KOS_SERIES))


def read(content: bytes) -> Dataset:
    return dcmread(io.BytesIO(content))


@given(manifests)
@settings(max_examples=60, deadline=None)
def test_kos_to_fhir_and_back_is_the_same_kos(manifest: Manifest) -> None:
    kos = written(manifest)
    assert manifest_from_kos(read(kos)) == manifest
    bundle = bundle_of(manifest_from_kos(read(kos)))
    require_valid(bundle)
    again = manifest_from_bundle(json.loads(json.dumps(bundle)))
    assert again == manifest
    assert written(again) == kos
    assert bundle_of(again) == bundle


SAMPLE = Manifest(
    uid="2.25.1",
    created_at=datetime(2026, 3, 1, 9),
    study_uid="2.25.2",
    started=datetime(2026, 3, 1, 8, 30),
    patient_id="0123456789abcdef",
    patient_name="0123456789abcdef",
    sex="F",
    issuer="2.25.3",
    accession="fedcba9876543210",
    institution="data office",
    location_uid="2.25.4",
    procedures=(Coded("24627-2", "LN", "CT Chest"),),
    regions=(Coded("67734004", "SCT", "Upper trunk"),),
    series=(
        Series(
            uid="2.25.5",
            modality="CT",
            number=2,
            started=datetime(2026, 3, 1, 8, 31),
            body_site=Coded("816094009", "SCT", "CHEST"),
            instances=(Instance(uid="2.25.6", sop_class=CT, number=1), Instance(uid="2.25.8", sop_class=CT, number=2)),
        ),
        Series(uid="2.25.9", modality="SR", instances=(Instance(uid="2.25.10", sop_class=SR),)),
    ),
)


def test_the_kos_is_what_mado_asks_for() -> None:
    ds = read(written(SAMPLE))
    assert (ds.SOPClassUID, ds.Modality, ds.TimezoneOffsetFromUTC, ds.SeriesInstanceUID) == (
        KO,
        "KO",
        "+0800",
        KOS_SERIES,
    )
    [title] = ds.ConceptNameCodeSequence
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("131560", "DCM")
    [study] = ds.CurrentRequestedProcedureEvidenceSequence
    found = {
        one.ReferencedSOPInstanceUID: (one.ReferencedSOPClassUID, part.SeriesInstanceUID)
        for part in study.ReferencedSeriesSequence
        for one in part.ReferencedSOPSequence
    }
    assert found == {"2.25.6": (CT, "2.25.5"), "2.25.8": (CT, "2.25.5"), "2.25.10": (SR, "2.25.9")}
    assert {part.RetrieveLocationUID for part in study.ReferencedSeriesSequence} == {"2.25.4"}
    assert ds.OtherPatientIDsSequence[0].PatientID == ds.PatientID
    assert ds.IssuerOfPatientIDQualifiersSequence[0].UniversalEntityIDType == "ISO"
    tree = [(item.ValueType, item.ConceptNameCodeSequence[0].CodeValue) for item in ds.ContentSequence]
    assert tree == [("CODE", "121023"), ("IMAGE", "260753009"), ("IMAGE", "260753009"), ("COMPOSITE", "260753009"),
                    ("CONTAINER", "111028")]  # fmt: skip
    [*descriptors, first, second] = ds.ContentSequence[-1].ContentSequence
    assert [item.ConceptNameCodeSequence[0].CodeValue for item in descriptors] == [
        "121139",
        "121139",
        "123014",
        "131565",
    ]
    told = [item.ConceptNameCodeSequence[0].CodeValue for item in first.ContentSequence]
    assert told == ["121139", "112002", "131564", "131561", "131562", "113607", "123014", "260753009", "260753009"]
    assert second.ContentSequence[2].MeasuredValueSequence[0].NumericValue == 1


def test_a_validator_finds_nothing_but_what_mado_adds(tmp_path: Path) -> None:
    """dciodvfy knows Key Object Selections without numbers, dates and times, as they were before CP-2595."""
    path = tmp_path / "kos.dcm"
    path.write_bytes(written(SAMPLE))
    dciodvfy = program("dciodvfy", package="dicom3tools")
    told = subprocess.run([dciodvfy, str(path)], capture_output=True, text=True, check=False).stderr
    errors = {line for line in told.splitlines() if line.startswith("Error")}
    value_type = "Error - Unrecognized enumerated value <{}> for value 1 of attribute <Value Type>"
    assert errors == {value_type.format(kind) for kind in ("NUM", "DATE", "TIME")}


def test_the_bundle_is_what_mado_asks_for() -> None:
    bundle = bundle_of(SAMPLE)
    kinds = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
    assert (bundle["type"], kinds) == (
        "document",
        ["Composition", "ImagingStudy", "Patient", "Endpoint", "Device", "Organization"],
    )
    study = bundle["entry"][1]["resource"]
    [identifier] = study["identifier"]
    assert (identifier["system"], identifier["value"]) == ("urn:dicom:uid", "urn:oid:2.25.2")
    urls = {entry["fullUrl"] for entry in bundle["entry"]}
    assert {one["reference"] for part in study["series"] for one in part["endpoint"]} <= urls
    assert study["procedureCode"][0]["text"] == "CT Chest"
    assert study["started"] == "2026-03-01T08:30:00+08:00"


def test_what_is_no_manifest_is_refused() -> None:
    ds = read(written(SAMPLE))
    ds.ConceptNameCodeSequence[0].CodeValue = "113000"
    with pytest.raises(ManifestInvalid, match="title"):
        manifest_from_kos(ds)
    ds = read(written(SAMPLE))
    del ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    with pytest.raises(ManifestInvalid, match=r"series 2\.25\.5"):
        manifest_from_kos(ds)
    for wrong in (Dataset(), read(written(SAMPLE))[0x0040A730][4]):
        with pytest.raises(ManifestInvalid):
            manifest_from_kos(wrong)
    with pytest.raises(ManifestInvalid):
        manifest_from_bundle({"resourceType": "Bundle", "entry": []})
    with pytest.raises(ManifestInvalid, match="no instance"):
        kos_of(Manifest(**{**vars(SAMPLE), "series": ()}), series_uid=KOS_SERIES)
